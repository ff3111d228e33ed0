//! The directory: accounts, sessions and their condition, in memory.
//!
//! It is fed by the compacted topics `accounts`, `sessions` and `sessions.status`, and every role reads it
//! without ever leaving memory. Credentials are opened when a record is applied, so that no request waits for
//! that. Who must act on changes subscribes to them.

mod entries;
mod follow;

pub use entries::{AccountEntry, Secrets, SessionEntry};
pub use follow::{Source, follow};

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sluice_core::pool::Pool;
use sluice_schemas::{Account, Connection, Facet, Provider, Session, SessionStatus};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use self::entries::Standing;
use crate::sealing::{self, Sealer, Secret};
use crate::telemetry::metrics::Metrics;

/// Changes a subscriber may be behind before it has to look at everything anew.
const CHANGES_MAX: usize = 4_096;

/// Something that changed; look it up for what it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session was put or deleted.
    Session(String),
    /// An account was put or deleted.
    Account(String),
    /// A facet of a session's condition changed.
    Status(String, Facet),
}

/// What a webhook path can name.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A session, and its account if that is known.
    Session(Arc<SessionEntry>, Option<Arc<AccountEntry>>),
    /// An account.
    Account(Arc<AccountEntry>),
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<Arc<str>, Arc<AccountEntry>>,
    sessions: HashMap<Arc<str>, Arc<SessionEntry>>,
    /// How many sessions refer to an account; none: no entry.
    session_counts: HashMap<Arc<str>, usize>,
    statuses: HashMap<Arc<str>, Box<[Standing]>>,
    /// Names that many entries share.
    names: Pool<str>,
}

impl State {
    /// A session went from one account to another; those of them whose sessions have another share of their limits
    /// by that.
    fn count_sessions(&mut self, before: Option<Arc<str>>, after: Option<Arc<str>>) -> Vec<Arc<str>> {
        if before == after {
            return Vec::new();
        }
        if let Some(account_id) = &before {
            let count = self.session_counts.remove(account_id).unwrap_or(0);
            if count > 1 {
                self.session_counts.insert(account_id.clone(), count - 1);
            }
        }
        if let Some(account_id) = &after {
            *self.session_counts.entry(account_id.clone()).or_default() += 1;
        }
        let is_limited = |account_id: &Arc<str>| {
            self.accounts.get(account_id).is_some_and(|account| !account.record.limits.is_empty())
        };
        before.into_iter().chain(after).filter(is_limited).collect()
    }

    fn standing(&self, session_id: &str, facet: Facet) -> Option<&Standing> {
        self.statuses.get(session_id)?.iter().find(|standing| standing.facet == facet)
    }

    /// Takes what is now known of a facet; what the connection was said to be before.
    fn put_standing(&mut self, session_id: &str, facet: Facet, now: Option<Standing>) -> Option<Connection> {
        let mut all = self.statuses.remove(session_id).unwrap_or_default().into_vec();
        let before = all.iter().position(|standing| standing.facet == facet);
        let before = before.map(|at| all.swap_remove(at).connection);
        all.extend(now);
        if !all.is_empty() {
            let known = self.sessions.get_key_value(session_id).map(|(id, _)| id.clone());
            let session_id = known.unwrap_or_else(|| session_id.into());
            self.statuses.insert(session_id, all.into_boxed_slice());
        }
        before
    }
}

#[derive(Debug)]
struct Inner {
    state: RwLock<State>,
    sealer: Arc<Sealer>,
    metrics: Arc<Metrics>,
    changes: broadcast::Sender<Change>,
    loaded: watch::Sender<Option<Instant>>,
}

/// The directory. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

impl Directory {
    /// An empty directory, not loaded.
    pub fn new(sealer: Arc<Sealer>, metrics: Arc<Metrics>) -> Self {
        let inner = Inner {
            state: RwLock::default(),
            sealer,
            metrics,
            changes: broadcast::channel(CHANGES_MAX).0,
            loaded: watch::Sender::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The session of this id.
    pub fn session(&self, session_id: &str) -> Option<Arc<SessionEntry>> {
        self.read().sessions.get(session_id).cloned()
    }

    /// The account of this id.
    pub fn account(&self, account_id: &str) -> Option<Arc<AccountEntry>> {
        self.read().accounts.get(account_id).cloned()
    }

    /// One facet of a session's condition.
    pub fn status(&self, session_id: &str, facet: Facet) -> Option<SessionStatus> {
        self.read().standing(session_id, facet).map(Standing::record)
    }

    /// Every facet known of a session's condition.
    pub fn statuses(&self, session_id: &str) -> Vec<SessionStatus> {
        self.read().statuses.get(session_id).into_iter().flatten().map(Standing::record).collect()
    }

    /// Whether an operator has paused the session.
    pub fn is_paused(&self, session_id: &str) -> bool {
        self.read().standing(session_id, Facet::Operator).is_some_and(|standing| standing.held)
    }

    /// What the provider last said of the session's connection; `Unknown` if nothing.
    pub fn connection(&self, session_id: &str) -> Connection {
        let state = self.read();
        state
            .standing(session_id, Facet::Connection)
            .map_or(Connection::Unknown, |standing| standing.connection)
    }

    /// The credential `name` of a session: its own, else its account's.
    pub fn secret(&self, session_id: &str, name: &str) -> Option<Secret> {
        let session = self.session(session_id)?;
        if let Some(secret) = session.secrets.get(name) {
            return Some(secret.clone());
        }
        self.account(&session.account_id)?.secrets.get(name).cloned()
    }

    /// What `id` in a webhook path of `provider` names: a session, else an account.
    pub fn webhook_target(&self, provider: Provider, id: &str) -> Option<Target> {
        let state = self.read();
        if let Some(session) = state.sessions.get(id).filter(|session| session.provider == provider) {
            let account = state.accounts.get(&session.account_id).cloned();
            return Some(Target::Session(session.clone(), account));
        }
        let account = state.accounts.get(id).filter(|account| account.record.provider == provider)?;
        Some(Target::Account(account.clone()))
    }

    /// Every session there is now, in no order.
    pub fn sessions(&self) -> Vec<Arc<SessionEntry>> {
        self.read().sessions.values().cloned().collect()
    }

    /// Every account there is now, in no order.
    pub fn accounts(&self) -> Vec<Arc<AccountEntry>> {
        self.read().accounts.values().cloned().collect()
    }

    /// Ids of the sessions that refer to an account.
    pub fn sessions_of(&self, account_id: &str) -> Vec<Arc<str>> {
        let state = self.read();
        let of = state.sessions.values().filter(|session| *session.account_id == *account_id);
        of.map(|session| session.session_id.clone()).collect()
    }

    /// How many sessions refer to an account.
    pub fn session_count(&self, account_id: &str) -> usize {
        self.read().session_counts.get(account_id).copied().unwrap_or(0)
    }

    /// Changes from now on. A subscriber that lags behind gets `Lagged` and must look at everything anew.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Since when the topics have been read to their ends; none: not yet.
    pub fn loaded_at(&self) -> Option<Instant> {
        *self.inner.loaded.borrow()
    }

    /// Whether the topics have been read to their ends.
    pub fn is_loaded(&self) -> bool {
        self.loaded_at().is_some()
    }

    /// Waits until the topics have been read to their ends.
    pub async fn loaded(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.inner.loaded.subscribe().wait_for(Option::is_some).await;
    }

    /// Says that the topics have been read to their ends. Later calls change nothing.
    pub fn set_loaded(&self) {
        self.inner.loaded.send_if_modified(|at| at.is_none() && at.replace(Instant::now()).is_none());
    }

    /// Waits until `holds`, looking again at every change. The caller limits the time.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.changes();
        while !holds(self) {
            if let Err(broadcast::error::RecvError::Closed) = changes.recv().await {
                return;
            }
        }
    }

    /// Applies a record of `accounts`; none is a tombstone.
    pub fn apply_account(&self, account_id: &str, record: Option<Account>) {
        let opened =
            record.as_ref().map(|record| self.open(&sealing::account_owner(account_id), &record.secrets));
        let count = {
            let mut state = self.write();
            let secrets = opened.map(|opened| Secrets::new(opened, &mut state.names));
            let entry = record.zip(secrets);
            let entry = entry.map(|(record, secrets)| Arc::new(AccountEntry { record, secrets }));
            put(&mut state.accounts, account_id.into(), entry);
            state.accounts.len()
        };
        self.count("account", count);
        self.tell(Change::Account(account_id.to_owned()));
    }

    /// Applies a record of `sessions`; none is a tombstone.
    pub fn apply_session(&self, session_id: &str, record: Option<Session>) {
        let opened = record
            .as_ref()
            .map(|record| (record, self.open(&sealing::session_owner(session_id), &record.secrets)));
        let (count, shared) = {
            let mut state = self.write();
            let entry =
                opened.map(|(record, opened)| Arc::new(SessionEntry::new(record, opened, &mut state.names)));
            let after = entry.as_ref().map(|entry| entry.account_id.clone());
            let before = state.sessions.get(session_id).map(|entry| entry.account_id.clone());
            put(&mut state.sessions, session_id.into(), entry);
            (state.sessions.len(), state.count_sessions(before, after))
        };
        self.count("session", count);
        self.tell(Change::Session(session_id.to_owned()));
        for account_id in shared {
            self.tell(Change::Account(account_id.as_ref().to_owned()));
        }
    }

    /// Applies a record of `sessions.status` with this key (`session_id/facet`); none is a tombstone. A key
    /// that is not of this form is counted and left out.
    pub fn apply_status(&self, key: &str, record: Option<SessionStatus>) {
        let Some((session_id, facet)) = status_key_parts(key) else {
            self.unreadable("status");
            return;
        };
        let standing = record.map(|record| Standing::new(&SessionStatus { facet, ..record }));
        let connection = standing.as_ref().map(|standing| standing.connection);
        let before = self.write().put_standing(session_id, facet, standing);
        if facet == Facet::Connection {
            self.count_connection(before, -1);
            self.count_connection(connection, 1);
        }
        self.tell(Change::Status(session_id.to_owned(), facet));
    }

    /// Counts a record that could not be decoded.
    pub fn unreadable(&self, kind: &str) {
        self.inner.metrics.directory_unreadable.with_label_values(&[kind]).inc();
    }

    fn open<'a>(&self, owner: &str, sealed: &'a [sluice_schemas::Secret]) -> Vec<(&'a str, Secret)> {
        let mut secrets = Vec::with_capacity(sealed.len());
        for one in sealed {
            match self.inner.sealer.open(owner, one) {
                Ok(secret) => secrets.push((one.name.as_str(), secret)),
                Err(error) => {
                    tracing::error!(owner, credential = one.name, %error, "credential cannot be opened");
                    self.unreadable("credential");
                }
            }
        }
        secrets
    }

    fn count(&self, kind: &str, entries: usize) {
        self.inner.metrics.directory_entries.with_label_values(&[kind]).set(entries as i64);
    }

    fn count_connection(&self, connection: Option<Connection>, change: i64) {
        if let Some(connection) = connection {
            let label = connection.as_str().to_ascii_lowercase();
            self.inner.metrics.sessions.with_label_values(&[&label]).add(change);
        }
    }

    fn tell(&self, change: Change) {
        // An error only says that nobody listens.
        let _ = self.inner.changes.send(change);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key is replaced as well: it is the entry's own, if that has one.
fn put<T>(map: &mut HashMap<Arc<str>, Arc<T>>, id: Arc<str>, entry: Option<Arc<T>>) {
    map.remove(&id);
    if let Some(entry) = entry {
        map.insert(id, entry);
    }
}

/// The key of a facet in `sessions.status`, for example `shop-1/operator`.
pub fn status_key(session_id: &str, facet: Facet) -> String {
    format!("{session_id}/{}", facet.as_str().to_ascii_lowercase())
}

fn status_key_parts(key: &str) -> Option<(&str, Facet)> {
    let (session_id, name) = key.rsplit_once('/')?;
    let facet = Facet::ALL.iter().find(|facet| facet.as_str().eq_ignore_ascii_case(name))?;
    (!session_id.is_empty()).then_some((session_id, *facet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Credentials;
    use base64::Engine as _;

    fn sealer() -> Arc<Sealer> {
        let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let keys = [("k1".to_owned(), Secret::new(key))].into();
        Arc::new(Sealer::new(&Credentials { active_key: "k1".into(), keys }).unwrap())
    }

    fn directory() -> Directory {
        Directory::new(sealer(), Arc::new(Metrics::new().unwrap()))
    }

    fn session(id: &str, account: &str) -> Session {
        Session {
            session_id: id.into(),
            tenant_id: "acme".into(),
            account_id: account.into(),
            provider: Provider::Wasender,
            ..Default::default()
        }
    }

    #[test]
    fn a_session_uses_its_own_credential_before_its_accounts() {
        let directory = directory();
        let seal =
            |owner: &str, name: &str, value: &str| sealer().seal(owner, name, &Secret::new(value)).unwrap();
        directory.apply_account(
            "a",
            Some(Account {
                account_id: "a".into(),
                provider: Provider::Wasender,
                secrets: vec![
                    seal("account/a", "api_key", "of-account"),
                    seal("account/a", "personal_token", "pat"),
                ],
                ..Default::default()
            }),
        );
        directory.apply_session(
            "s",
            Some(Session { secrets: vec![seal("session/s", "api_key", "of-session")], ..session("s", "a") }),
        );
        assert_eq!(directory.secret("s", "api_key").unwrap().expose(), "of-session");
        assert_eq!(directory.secret("s", "personal_token").unwrap().expose(), "pat");
        assert_eq!(directory.secret("s", "none"), None);
        assert_eq!(directory.sessions_of("a"), ["s".into()]);
    }

    #[test]
    fn the_sessions_of_a_limited_account_are_told_of_each_other() {
        let directory = directory();
        let limited = |id: &str| Account {
            account_id: id.into(),
            limits: vec![sluice_schemas::RateLimit { count: 10, per_ms: 1_000, burst: 1 }],
            ..Default::default()
        };
        directory.apply_account("a", Some(limited("a")));
        directory.apply_account("b", Some(limited("b")));
        for id in ["s1", "s2", "s3"] {
            directory.apply_session(id, Some(session(id, "a")));
        }
        let mut changes = directory.changes();
        directory.apply_session("s1", Some(session("s1", "b")));
        directory.apply_session("s2", Some(session("s2", "a")));
        directory.apply_session("s3", None);
        let mut told = Vec::new();
        while let Ok(change) = changes.try_recv() {
            told.push(change);
        }
        let (s, a) = (|id: &str| Change::Session(id.into()), |id: &str| Change::Account(id.into()));
        assert_eq!(told, [s("s1"), a("a"), a("b"), s("s2"), s("s3"), a("a")]);
        assert_eq!((directory.session_count("a"), directory.session_count("b")), (1, 1));
        assert_eq!(directory.session_count("none"), 0);
    }

    #[test]
    fn a_credential_that_does_not_open_leaves_the_session_known() {
        let directory = directory();
        let stolen = sealer().seal("session/other", "api_key", &Secret::new("x")).unwrap();
        directory.apply_session("s", Some(Session { secrets: vec![stolen], ..session("s", "a") }));
        assert!(directory.session("s").unwrap().secrets.is_empty());
    }

    #[test]
    fn a_pause_outlives_a_put_of_the_session() {
        let directory = directory();
        directory.apply_session("s", Some(session("s", "a")));
        let pause = SessionStatus { held: true, facet: Facet::Operator, ..Default::default() };
        directory.apply_status(&status_key("s", Facet::Operator), Some(pause));
        directory.apply_session("s", Some(session("s", "b")));
        assert!(directory.is_paused("s"));
        directory.apply_status("s/operator", None);
        assert!(!directory.is_paused("s"));
    }

    #[test]
    fn sessions_are_counted_once_under_their_last_connection() {
        let directory = directory();
        let is = |connection| Some(SessionStatus { connection, ..Default::default() });
        directory.apply_status("a/connection", is(Connection::Connected));
        directory.apply_status("b/connection", is(Connection::Connected));
        directory.apply_status("a/connection", is(Connection::LoggedOut));
        directory.apply_status("b/connection", None);
        directory.apply_status("a/load", is(Connection::Connected));
        let count = |label| directory.inner.metrics.sessions.with_label_values(&[label]).get();
        assert_eq!((count("connected"), count("logged_out")), (0, 1));
    }

    #[test]
    fn a_session_id_may_hold_a_slash() {
        assert_eq!(status_key_parts(&status_key("a/b", Facet::Load)), Some(("a/b", Facet::Load)));
        assert_eq!(status_key_parts("a/nonsense"), None);
        assert_eq!(status_key_parts("operator"), None);
    }

    #[tokio::test]
    async fn who_subscribes_is_told_of_every_change() {
        let directory = directory();
        let mut changes = directory.changes();
        directory.apply_session("s", Some(session("s", "a")));
        directory.apply_session("s", None);
        assert_eq!(changes.recv().await.unwrap(), Change::Session("s".into()));
        assert_eq!(changes.recv().await.unwrap(), Change::Session("s".into()));
        assert_eq!(directory.session("s"), None);
    }

    #[test]
    fn a_webhook_path_names_a_session_or_account_of_its_provider() {
        let directory = directory();
        directory.apply_session("s", Some(session("s", "a")));
        assert!(matches!(directory.webhook_target(Provider::Wasender, "s"), Some(Target::Session(_, None))));
        assert_eq!(directory.webhook_target(Provider::Cloud, "s"), None);
    }
}
