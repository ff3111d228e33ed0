//! What waits, per session and per tenant, and how much of it is too much.
//!
//! Only requests that come in are refused; what is accepted is never thrown away. The caps of a tenant are those of
//! one process: no process knows what others hold.

use std::sync::Arc;

use super::session::{SessionIndex, Sessions};
use super::{Planted, Sender, SessionConfig};

/// Messages that wait, and their requests' bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Backlog {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Backlog {
    pub(super) const fn one(bytes: usize) -> Self {
        Self { count: 1, bytes }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    pub(super) fn take(&mut self, less: Self) {
        self.count = self.count.saturating_sub(less.count);
        self.bytes = if self.count == 0 { 0 } else { self.bytes.saturating_sub(less.bytes) };
    }
}

impl Sessions {
    /// More waits in a session.
    pub(super) fn wait(&mut self, session: SessionIndex, more: Backlog) {
        let state = self.get_mut(session);
        state.work().backlog.add(more);
        let tenant = state.tenant.clone();
        self.add_to_tenant(tenant, more);
    }

    /// Less waits in a session.
    pub(super) fn wait_no_more(&mut self, session: SessionIndex, less: Backlog) {
        let state = self.get_mut(session);
        if let Some(work) = state.at_work_mut() {
            work.backlog.take(less);
        }
        let tenant = state.tenant.clone();
        self.remove_from_tenant(&tenant, less);
    }

    /// Forgets everything about messages of a session; limits stay.
    pub(super) fn clear(&mut self, session: SessionIndex) {
        let backlog = self.get(session).backlog();
        self.wait_no_more(session, backlog);
        if let Some(work) = self.get_mut(session).at_work_mut() {
            work.clear();
        }
    }

    /// Takes a new configuration of a session, which may be that of another tenant than was thought.
    pub(super) fn configure(&mut self, session: SessionIndex, config: Option<Box<SessionConfig>>) {
        let (config, tenant) = config.map(|config| self.shared(config)).unzip();
        let state = self.get_mut(session);
        let (before, backlog) = (state.tenant.clone(), state.backlog());
        state.configure(config, tenant);
        let after = state.tenant.clone();
        if before != after {
            self.remove_from_tenant(&before, backlog);
            self.add_to_tenant(after, backlog);
        }
    }

    /// What waits in all sessions of a tenant.
    pub(super) fn of_tenant(&self, tenant: &str) -> Backlog {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    fn add_to_tenant(&mut self, tenant: Arc<str>, more: Backlog) {
        if more.count > 0 {
            self.tenants.entry(tenant).or_default().add(more);
        }
    }

    fn remove_from_tenant(&mut self, tenant: &str, less: Backlog) {
        if let Some(backlog) = self.tenants.get_mut(tenant) {
            backlog.take(less);
            if backlog.count == 0 {
                self.tenants.remove(tenant);
            }
        }
    }
}

impl Sender {
    /// Why a session takes no request of `bytes` more, if so: the cap and the remedy.
    pub(super) fn why_full(&self, session: SessionIndex, bytes: usize) -> Option<String> {
        if self.planted(Planted::BacklogUnbounded) {
            return None;
        }
        let settings = &self.settings;
        let state = self.sessions.get(session);
        let tenant = match &state.config {
            Some(_) => self.sessions.of_tenant(&state.tenant),
            None => Backlog::default(),
        };
        let wait_s = state.wait_us().div_euclid(1_000_000);
        let wait_s = usize::try_from(wait_s).unwrap_or(usize::MAX);
        let wait_s_max = usize::try_from(settings.session_backlog_s_max).unwrap_or(usize::MAX);
        let caps = [
            (
                "session_backlog_max",
                "messages wait in this session",
                state.backlog().count + 1,
                settings.session_backlog_max,
            ),
            (
                "session_backlog_bytes_max",
                "bytes wait in this session",
                state.backlog().bytes + bytes,
                settings.session_backlog_bytes_max,
            ),
            (
                "session_backlog_s_max",
                "seconds at its limits is how long this session needs for what waits",
                wait_s,
                wait_s_max,
            ),
            (
                "tenant_backlog_max",
                "messages wait in this tenant's sessions",
                tenant.count + 1,
                settings.tenant_backlog_max,
            ),
            (
                "tenant_backlog_bytes_max",
                "bytes wait in this tenant's sessions",
                tenant.bytes + bytes,
                settings.tenant_backlog_bytes_max,
            ),
        ];
        let (name, what, _, most) = caps.into_iter().find(|(_, _, would_be, most)| would_be > most)?;
        Some(format!("more than {most} {what} ({name}); send later with a new key, or raise it"))
    }
}
