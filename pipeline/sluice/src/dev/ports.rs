//! Where the listeners of `sluice dev` are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::settings::Settings;

/// Where the registry endpoint listens unless told otherwise.
const REGISTRY_PORT: u16 = 8085;
/// Where the simulated provider listens unless told otherwise.
const SIMULATOR_PORT: u16 = 8090;

/// Which ports to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ports {
    /// Those of the settings, 8085 for the registry and 8090 for the simulated provider.
    #[default]
    Usual,
    /// This one and the four after it.
    From(u16),
    /// Any that are free.
    Any,
}

/// The addresses to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) api: SocketAddr,
    pub(super) webhooks: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) registry: SocketAddr,
    pub(super) simulator: SocketAddr,
}

impl Ports {
    /// The addresses.
    pub(super) fn listen(self, settings: &Settings) -> Listen {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match self {
            Self::Usual => Listen {
                api: settings.edge.listen,
                webhooks: settings.edge.webhook_listen,
                admin: settings.admin.listen,
                registry: local(REGISTRY_PORT),
                simulator: local(SIMULATOR_PORT),
            },
            Self::From(base) => {
                let local = |offset| local(base.saturating_add(offset));
                Listen {
                    api: local(0),
                    webhooks: local(1),
                    admin: local(2),
                    registry: local(3),
                    simulator: local(4),
                }
            }
            Self::Any => {
                let any = local(0);
                Listen { api: any, webhooks: any, admin: any, registry: any, simulator: any }
            }
        }
    }
}

/// Where everything turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// API and reads.
    pub api: SocketAddr,
    /// Webhook listener.
    pub webhooks: SocketAddr,
    /// `/metrics`, `/livez`, `/readyz`.
    pub admin: SocketAddr,
    /// Brokers, for producers and consumers of one's own.
    pub kafka: String,
    /// URL of the schema registry.
    pub registry: String,
    /// URL of what steers the simulated provider.
    pub simulator: String,
}
