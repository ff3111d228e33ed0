//! Opening a driver session.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;

use crate::error::Error;
use crate::settings::Settings;

/// Connects without naming a keyspace, which may not exist yet.
pub(crate) async fn connect_without_keyspace(settings: &Settings) -> Result<Session, Error> {
    let profile = ExecutionProfile::builder()
        .consistency(settings.consistency.into())
        .request_timeout(Some(Duration::from_millis(settings.request_timeout_ms)))
        .load_balancing_policy(load_balancing(settings))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.contact_points)
        .connection_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .default_execution_profile_handle(profile.into_handle());
    if !settings.user.is_empty() {
        builder = builder.user(&settings.user, &settings.password);
    }
    if settings.tls {
        builder = builder.tls_context(Some(tls(settings)?));
    }
    let session = builder.build().await?;
    check_datacenter(&session, &settings.datacenter)?;
    Ok(session)
}

/// A preferred datacenter that does not exist would leave every statement without a node to ask.
fn check_datacenter(session: &Session, wanted: &str) -> Result<(), Error> {
    let cluster = session.get_cluster_state();
    let known = cluster.replica_locator().datacenter_names();
    if wanted.is_empty() || known.is_empty() || known.iter().any(|name| name == wanted) {
        return Ok(());
    }
    Err(Error::settings("datacenter", format!("the cluster has no {wanted}, but {}", known.join(", "))))
}

fn load_balancing(
    settings: &Settings,
) -> std::sync::Arc<dyn scylla::policies::load_balancing::LoadBalancingPolicy> {
    let policy = scylla::policies::load_balancing::DefaultPolicy::builder().token_aware(true);
    match settings.datacenter.as_str() {
        "" => policy.build(),
        datacenter => policy.prefer_datacenter(datacenter.to_owned()).build(),
    }
}

/// The node's certificate must be of a trusted authority and, as the driver adds, for the address connected to.
fn tls(settings: &Settings) -> Result<TlsContext, Error> {
    let refused = |error: ErrorStack| Error::settings("tls_ca_file", error.to_string());
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(refused)?;
    connector.set_verify(SslVerifyMode::PEER);
    if settings.tls_ca_file.as_os_str().is_empty() {
        // The vendored OpenSSL does not know where this system keeps its authorities.
        if let Some(system) = openssl_probe::probe().cert_file {
            connector.set_ca_file(system).map_err(refused)?;
        }
    } else {
        let pem = std::fs::read(&settings.tls_ca_file)
            .map_err(|error| Error::settings("tls_ca_file", error.to_string()))?;
        let mut trusted = X509StoreBuilder::new().map_err(refused)?;
        for authority in X509::stack_from_pem(&pem).map_err(refused)? {
            trusted.add_cert(authority).map_err(refused)?;
        }
        connector.set_cert_store(trusted.build());
    }
    Ok(TlsContext::from(connector))
}
