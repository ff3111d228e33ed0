//! One session of the simulated provider.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::settings::{Plan, SessionSettings, SimulatorSettings};
use super::truth::SessionTruth;
use super::window::{Arrivals, Window};
use super::world::lock;

/// A session.
pub(super) struct Session {
    pub(super) id: Arc<str>,
    pub(super) api_key: String,
    pub(super) webhook_url: Option<String>,
    pub(super) webhook_secret: String,
    pub(super) windows: Vec<Window>,
    pub(super) concurrency_max: u32,
    in_flight: AtomicU32,
    status: Mutex<String>,
    pub(super) book: Mutex<Book>,
}

/// What changes with each request.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) arrivals: Arrivals,
    pub(super) counts: SessionTruth,
}

/// A request in work; gives its place back when dropped.
pub(super) struct InFlight<'a>(&'a AtomicU32);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    /// A session as set, with what `settings` says of all sessions. Counts of a session it replaces go on.
    pub(super) fn new(own: SessionSettings, settings: &SimulatorSettings, counts: SessionTruth) -> Self {
        let windows =
            own.limits.or_else(|| own.plan.map(Plan::windows)).unwrap_or_else(|| settings.limits.clone());
        Self {
            id: own.session_id.into(),
            api_key: own.api_key,
            webhook_url: own.webhook_url,
            webhook_secret: own.webhook_secret,
            windows,
            concurrency_max: own.concurrency_max.unwrap_or(settings.concurrency_max),
            in_flight: AtomicU32::new(0),
            status: Mutex::new(own.status.unwrap_or_else(|| "connected".to_owned())),
            book: Mutex::new(Book { counts, ..Book::default() }),
        }
    }

    pub(super) fn status(&self) -> String {
        lock(&self.status).clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        lock(&self.status).eq_ignore_ascii_case("connected")
    }

    pub(super) fn set_status(&self, status: &str) {
        *lock(&self.status) = status.to_owned();
    }

    /// A place among the requests at once, if one is free.
    pub(super) fn enter(&self) -> Option<InFlight<'_>> {
        let place = InFlight(&self.in_flight);
        (self.in_flight.fetch_add(1, Ordering::AcqRel) < self.concurrency_max).then_some(place)
    }
}
