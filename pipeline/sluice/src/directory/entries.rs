//! What is kept of a session and an account. There may be a hundred thousand sessions, most of them idle, so what is
//! asked for with every message stands ready, names that many share are kept once, and the rest is packed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use sluice_core::pool::Pool;
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::Reader;
use sluice_schemas::{Account, Connection, Facet, Provider, Session, SessionStatus};

use crate::sealing::Secret;

/// A record in its binary form, which takes a small part of the memory.
#[derive(Clone, PartialEq)]
pub(super) struct Packed<T> {
    bytes: Box<[u8]>,
    of: PhantomData<T>,
}

/// Only the size: there are sealed credentials among the bytes.
impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<T: Datum + Default> Packed<T> {
    pub(super) fn new(record: &T) -> Self {
        let mut bytes = Vec::with_capacity(256);
        record.put(&mut bytes);
        Self { bytes: bytes.as_slice().into(), of: PhantomData }
    }

    pub(super) fn unpack(&self) -> T {
        T::read(&mut Reader::new(&self.bytes)).unwrap_or_else(|error| {
            // What the codec wrote it reads, so this cannot be.
            tracing::error!(%error, "a record of the directory cannot be read");
            T::default()
        })
    }
}

/// The opened credentials of a session or account, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secrets(Box<[(Arc<str>, Secret)]>);

impl Secrets {
    pub(super) fn new(opened: Vec<(&str, Secret)>, names: &mut Pool<str>) -> Self {
        Self(opened.into_iter().map(|(name, secret)| (names.share(name), secret)).collect())
    }

    /// The credential of this name; of several the last.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.iter().rev().find(|(known, _)| **known == *name).map(|(_, secret)| secret)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A session as roles see it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEntry {
    /// Its id.
    pub session_id: Arc<str>,
    /// Its tenant.
    pub tenant_id: Arc<str>,
    /// The account it is bound to.
    pub account_id: Arc<str>,
    /// Its provider.
    pub provider: Provider,
    /// The provider's id of it.
    pub provider_session_id: Option<Box<str>>,
    /// Its own credentials, opened; those that did not open are missing.
    pub secrets: Secrets,
    packed: Packed<Session>,
}

impl SessionEntry {
    pub(super) fn new(record: &Session, opened: Vec<(&str, Secret)>, names: &mut Pool<str>) -> Self {
        Self {
            session_id: record.session_id.as_str().into(),
            tenant_id: names.share(record.tenant_id.as_str()),
            account_id: names.share(record.account_id.as_str()),
            provider: record.provider,
            provider_session_id: record.provider_session_id.as_deref().map(Into::into),
            secrets: Secrets::new(opened, names),
            packed: Packed::new(record),
        }
    }

    /// Its record, unpacked: some microseconds.
    pub fn record(&self) -> Session {
        self.packed.unpack()
    }
}

/// An account as roles see it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountEntry {
    /// Its record.
    pub record: Account,
    /// Its credentials, opened; those that did not open are missing.
    pub secrets: Secrets,
}

/// One facet of a session's condition.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) facet: Facet,
    pub(super) connection: Connection,
    pub(super) held: bool,
    packed: Packed<SessionStatus>,
}

impl Standing {
    pub(super) fn new(record: &SessionStatus) -> Self {
        Self {
            facet: record.facet,
            connection: record.connection,
            held: record.held,
            packed: Packed::new(record),
        }
    }

    pub(super) fn record(&self) -> SessionStatus {
        self.packed.unpack()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_whole_and_does_not_show() {
        let record = Session { session_id: "shop-1".to_owned(), ..Session::default() };
        let packed = Packed::new(&record);
        assert_eq!(packed.unpack(), record);
        let size = packed.bytes.len();
        assert_eq!(format!("{packed:?}"), format!("Packed {{ bytes: {size}, .. }}"));
    }
}
