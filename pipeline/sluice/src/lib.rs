//! The sluice binary: roles, settings, telemetry, commands and the one-process dev mode.
