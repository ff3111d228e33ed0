//! Every decision Sluice makes, with no IO, no clock and no runtime: inputs in, effects out.

pub mod fold;
