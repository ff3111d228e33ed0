//! Credentials at rest: sealed with AES-256-GCM under a named key, or a reference to where they are kept.
//!
//! A sealed value is bound to its owner and name (as associated data), so that it cannot be copied into
//! another session's record. Several keys may be known for opening; one is active for sealing: rotation is
//! adding a key, making it active, writing the records anew, and then removing the old key.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use rand::RngCore as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::settings::Credentials;

/// Bytes of a nonce of AES-GCM.
const NONCE_BYTES: usize = 12;
/// Largest file a reference may name, bytes: a credential, not a disk.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A text that must not be seen: `Debug` and serialisation show a mask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value` out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text itself: for the call it is made for, never for a log, header or label.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// What is shown instead of a secret.
pub const MASK: &str = "********";

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { MASK })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Why a credential could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No active key is configured.
    #[error("no sealing key is active: set credentials.active_key and credentials.keys")]
    NoActiveKey,
    /// The record names a key this process does not have.
    #[error("sealing key {key_id:?} is not known here: add it to credentials.keys")]
    UnknownKey {
        /// Its id.
        key_id: String,
    },
    /// The key is not 32 bytes of base64.
    #[error("sealing key {key_id:?} is not 32 bytes in base64 (make one with: openssl rand -base64 32)")]
    BadKey {
        /// Its id.
        key_id: String,
    },
    /// The sealed value was changed, belongs to another record, or the key is wrong.
    #[error("the sealed value of {name:?} does not open with key {key_id:?}")]
    DoesNotOpen {
        /// Name of the credential.
        name: String,
        /// Id of the key.
        key_id: String,
    },
    /// Neither sealed nor a reference.
    #[error("the credential {name:?} is neither sealed nor a reference")]
    Malformed {
        /// Name of the credential.
        name: String,
    },
    /// The reference leads nowhere, or to something that cannot be used.
    #[error("the reference {reference:?} cannot be read: {what}")]
    Reference {
        /// The reference.
        reference: String,
        /// Why.
        what: String,
    },
}

/// Seals and opens credentials. Knows its keys; cheap to share behind an `Arc`.
pub struct Sealer {
    keys: BTreeMap<String, Aes256Gcm>,
    active: Option<String>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.keys()).field("active", &self.active).finish()
    }
}

impl Sealer {
    /// Reads the keys of the settings.
    ///
    /// # Errors
    /// If a key cannot be read or the active key is not among them.
    pub fn new(settings: &Credentials) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for (key_id, text) in &settings.keys {
            let text = match text.expose() {
                reference if is_reference(reference) => resolve(reference)?,
                _ => text.clone(),
            };
            let bad = || Error::BadKey { key_id: key_id.clone() };
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text.expose().trim()).map_err(|_| bad())?;
            keys.insert(key_id.clone(), Aes256Gcm::new_from_slice(&bytes).map_err(|_| bad())?);
        }
        let active = Some(settings.active_key.clone()).filter(|id| !id.is_empty());
        if let Some(key_id) = active.as_ref().filter(|id| !keys.contains_key(*id)) {
            return Err(Error::UnknownKey { key_id: key_id.clone() });
        }
        Ok(Self { keys, active })
    }

    /// Whether new credentials can be sealed here.
    pub fn can_seal(&self) -> bool {
        self.active.is_some()
    }

    /// Seals `value` as the credential `name` of `owner` with the active key. See [`session_owner`].
    ///
    /// # Errors
    /// If no key is active.
    pub fn seal(&self, owner: &str, name: &str, value: &Secret) -> Result<sluice_schemas::Secret, Error> {
        let key_id = self.active.clone().ok_or(Error::NoActiveKey)?;
        let key = self.keys.get(&key_id).ok_or(Error::NoActiveKey)?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let aad = associated(owner, name);
        let ciphertext = key
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: value.expose().as_bytes(), aad: &aad })
            .map_err(|_| Error::Malformed { name: name.to_owned() })?;
        Ok(sluice_schemas::Secret {
            name: name.to_owned(),
            key_id: Some(key_id),
            nonce: Some(nonce.to_vec()),
            ciphertext: Some(ciphertext),
            reference: None,
        })
    }

    /// Opens a credential of `owner`, or reads what it refers to.
    ///
    /// # Errors
    /// If the key is not known, the value does not open, or the reference leads nowhere.
    pub fn open(&self, owner: &str, sealed: &sluice_schemas::Secret) -> Result<Secret, Error> {
        if let Some(reference) = &sealed.reference {
            return resolve(reference);
        }
        let malformed = || Error::Malformed { name: sealed.name.clone() };
        let key_id = sealed.key_id.as_ref().ok_or_else(malformed)?;
        let nonce = sealed.nonce.as_deref().filter(|n| n.len() == NONCE_BYTES).ok_or_else(malformed)?;
        let ciphertext = sealed.ciphertext.as_deref().ok_or_else(malformed)?;
        let key = self.keys.get(key_id).ok_or_else(|| Error::UnknownKey { key_id: key_id.clone() })?;
        let aad = associated(owner, &sealed.name);
        key.decrypt(Nonce::from_slice(nonce), Payload { msg: ciphertext, aad: &aad })
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Secret)
            .ok_or_else(|| Error::DoesNotOpen { name: sealed.name.clone(), key_id: key_id.clone() })
    }
}

/// The owner of a session's credentials, for [`Sealer::seal`] and [`Sealer::open`].
pub fn session_owner(session_id: &str) -> String {
    format!("session/{session_id}")
}

/// The owner of an account's credentials.
pub fn account_owner(account_id: &str) -> String {
    format!("account/{account_id}")
}

/// Whether `text` has the form of a reference: `env:NAME` or `file:/path`.
pub fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:/")
}

/// Reads what a reference names. Line ends at the end of a file are no part of the credential.
///
/// # Errors
/// If there is no such variable or file, or it is no text of a credential's size.
pub fn resolve(reference: &str) -> Result<Secret, Error> {
    let failed = |what: String| Error::Reference { reference: reference.to_owned(), what };
    if let Some(name) = reference.strip_prefix("env:") {
        // Our own settings are not for handing out.
        if name.to_ascii_uppercase().starts_with("SLUICE__") {
            return Err(failed("a SLUICE__ variable is a setting, not a credential".to_owned()));
        }
        return std::env::var(name).map(Secret).map_err(|error| failed(error.to_string()));
    }
    let path = reference
        .strip_prefix("file:")
        .ok_or_else(|| failed("it begins with neither env: nor file:".into()))?;
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(format!("the file has {size} bytes; at most {FILE_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn associated(owner: &str, name: &str) -> Vec<u8> {
    [owner.as_bytes(), &[0], name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: &[(&str, u8)], active: &str) -> Sealer {
        let keys = keys
            .iter()
            .map(|(id, byte)| {
                let text = base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
                ((*id).to_owned(), Secret::new(text))
            })
            .collect();
        Sealer::new(&Credentials { active_key: active.into(), keys }).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_also_after_the_active_key_changed() {
        let sealed = sealer(&[("k1", 1)], "k1").seal("session/a", "api_key", &Secret::new("s3cret")).unwrap();
        assert!(!format!("{sealed:?}").contains("s3cret"));
        let rotated = sealer(&[("k1", 1), ("k2", 2)], "k2");
        assert_eq!(rotated.open("session/a", &sealed).unwrap().expose(), "s3cret");
        assert!(matches!(
            sealer(&[("k2", 2)], "k2").open("session/a", &sealed),
            Err(Error::UnknownKey { .. })
        ));
    }

    #[test]
    fn a_sealed_value_opens_for_its_owner_and_name_only() {
        let sealer = sealer(&[("k1", 1)], "k1");
        let sealed = sealer.seal("session/a", "api_key", &Secret::new("s3cret")).unwrap();
        assert!(matches!(sealer.open("session/b", &sealed), Err(Error::DoesNotOpen { .. })));
        let renamed = sluice_schemas::Secret { name: "webhook_secret".into(), ..sealed };
        assert!(matches!(sealer.open("session/a", &renamed), Err(Error::DoesNotOpen { .. })));
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let sealer = sealer(&[("k1", 1)], "k1");
        let seal = || sealer.seal("session/a", "api_key", &Secret::new("x")).unwrap();
        assert_ne!(seal().ciphertext, seal().ciphertext);
    }

    #[test]
    fn a_reference_is_read_where_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "from-a-file\n").unwrap();
        let reference = format!("file:{}", path.display());
        let record = sluice_schemas::Secret {
            name: "api_key".into(),
            reference: Some(reference),
            ..Default::default()
        };
        assert_eq!(sealer(&[], "").open("session/a", &record).unwrap().expose(), "from-a-file");
        assert!(matches!(resolve("env:SLUICE__AUTH__X"), Err(Error::Reference { .. })));
        assert!(matches!(resolve("file:/no/such/file"), Err(Error::Reference { .. })));
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_printed() {
        let secret = Secret::new("s3cret");
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{MASK}\""));
    }
}
