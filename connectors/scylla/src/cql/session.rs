//! Opening a driver session.

use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
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
    Ok(builder.build().await?)
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

fn tls(settings: &Settings) -> Result<TlsContext, Error> {
    let refused = |error: openssl::error::ErrorStack| Error::settings("tls_ca_file", error.to_string());
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(refused)?;
    connector.set_verify(SslVerifyMode::PEER);
    if !settings.tls_ca_file.as_os_str().is_empty() {
        connector.set_ca_file(&settings.tls_ca_file).map_err(refused)?;
    }
    Ok(TlsContext::from(connector))
}
