//! What putting and deleting sessions and accounts have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sluice_schemas::Provider;
use utoipa::ToSchema;

use super::Shared;
use crate::api::problem::FieldError;
use crate::api::{Caller, Kind, Problem};
use crate::directory::Directory;
use crate::sealing::{self, Secret};

/// Longest id of a session or account, bytes.
const ID_BYTES_MAX: usize = 128;
/// How long an answer waits for this process's own view of what it wrote.
const VIEW_WAIT: Duration = Duration::from_secs(1);

/// A session or account stands in the log as asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// Its id.
    pub(super) id: String,
    /// Its tenant.
    pub(super) tenant_id: String,
    /// `created`, `updated` or `deleted`.
    #[schema(example = "updated")]
    pub(super) status: &'static str,
    /// Of a session: rises when it moves to another account or provider session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) binding_epoch: Option<i64>,
}

/// The credentials of a record: those given sealed or referred to, those not named as they were.
pub(super) fn seal(
    edge: &Shared,
    caller: &Caller,
    owner: &str,
    given: BTreeMap<String, Option<Secret>>,
    before: Option<&[sluice_schemas::Secret]>,
    errors: &mut Vec<FieldError>,
) -> Vec<sluice_schemas::Secret> {
    let kept = before.unwrap_or_default().iter().filter(|secret| !given.contains_key(&secret.name));
    let mut secrets: Vec<_> = kept.cloned().collect();
    for (name, value) in given {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let pointer = format!("/secrets/{}", name.replace('~', "~0").replace('/', "~1"));
        if sealing::is_reference(value.expose()) {
            // A tenant could otherwise have our files and variables sent to a server of its own.
            if !caller.is_operator() {
                errors.push(FieldError::new(pointer, "not_allowed", "only operators may give references"));
                continue;
            }
            let reference = Some(value.expose().to_owned());
            secrets.push(sluice_schemas::Secret { name, reference, ..Default::default() });
            continue;
        }
        match edge.sealer.seal(owner, &name, &value) {
            Ok(sealed) => secrets.push(sealed),
            Err(error) => errors.push(FieldError::new(pointer, "cannot_seal", error.to_string())),
        }
    }
    secrets
}

/// The tenant of what is put: an operator names it, a tenant's token is it; what exists keeps its own for
/// ever.
pub(super) fn tenant(caller: &Caller, given: Option<&str>, before: Option<&str>) -> Result<String, Problem> {
    const POINTER: &str = "/tenant_id";
    let tenant_id = match (&caller.tenant_id, given.filter(|id| !id.is_empty()), before) {
        (Some(own), Some(given), _) if own != given => {
            return Err(Problem::new(Kind::Forbidden).error(
                POINTER,
                "not_allowed",
                "the token acts for another tenant",
            ));
        }
        (Some(own), _, _) => own.as_str(),
        (None, Some(given), _) => given,
        (None, None, Some(before)) => before,
        (None, None, None) => {
            let detail = "an operator must say whose it is";
            return Err(Problem::new(Kind::InvalidRequest).error(POINTER, "missing", detail));
        }
    };
    match before {
        Some(before) if before != tenant_id => Err(Problem::new(Kind::IdTaken)),
        _ => Ok(tenant_id.to_owned()),
    }
}

pub(super) fn check_id(id: &str) -> Result<(), Problem> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:+@~".contains(&byte);
    if !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(is_good) {
        return Ok(());
    }
    let detail = "an id has 1 to 128 characters of A-Z a-z 0-9 . _ - : + @ ~";
    Err(Problem::new(Kind::InvalidRequest).error("path:id", "invalid", detail))
}

/// The provider of this name, in any case.
pub(super) fn provider_named(name: &str) -> Option<Provider> {
    let known = Provider::ALL.iter().copied().filter(|provider| *provider != Provider::Unknown);
    known.into_iter().find(|provider| provider.as_str().eq_ignore_ascii_case(name))
}

/// Waits a moment until this process sees what it wrote, so that the caller's next request does too. What was
/// written stands in the log either way.
pub(super) async fn view(directory: &Directory, holds: impl Fn(&Directory) -> bool) {
    if tokio::time::timeout(VIEW_WAIT, directory.until(holds)).await.is_err() {
        tracing::warn!("the directory is behind what was written");
    }
}
