//! Settings of the schema registry.

use serde::{Deserialize, Serialize};

use super::MASK;

/// Where schemas are registered.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Base URL of the Confluent-compatible API, for Apicurio with `/apis/ccompat/v7`. None: the fixed
    /// registry inside this process, for dev.
    pub url: Option<String>,
    /// User of basic authentication.
    pub username: Option<String>,
    /// Password of basic authentication.
    pub password: Option<String>,
    /// PEM file with further certificate authorities to trust.
    pub ca_file: Option<std::path::PathBuf>,
    /// Time limit of a request, milliseconds.
    pub request_timeout_ms: u64,
    /// How long a schema that was not found is not asked for again, milliseconds.
    pub negative_cache_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: None,
            ca_file: None,
            request_timeout_ms: 5_000,
            negative_cache_ms: 5_000,
        }
    }
}

impl RegistrySettings {
    /// The same with every secret replaced, for showing.
    pub fn masked(&self) -> Self {
        Self { password: self.password.as_ref().map(|_| MASK.to_owned()), ..self.clone() }
    }
}

/// Shows everything but the password.
impl std::fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| MASK))
            .field("ca_file", &self.ca_file)
            .field("request_timeout_ms", &self.request_timeout_ms)
            .field("negative_cache_ms", &self.negative_cache_ms)
            .finish()
    }
}
