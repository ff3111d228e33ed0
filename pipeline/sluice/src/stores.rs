//! The message store of a process: connected when the first role asks for it, shared by all.

use std::sync::Arc;
use std::time::Duration;

use sluice_scylla::{Error, MessageStore, Settings};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where the message store is. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct Stores {
    settings: Arc<Settings>,
    opened: Arc<OnceCell<MessageStore>>,
}

impl Stores {
    /// A cluster.
    pub fn cql(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), opened: Arc::default() }
    }

    /// A store that is open already, for example one in memory.
    pub fn of(store: MessageStore) -> Self {
        Self { settings: Arc::default(), opened: Arc::new(OnceCell::new_with(Some(store))) }
    }

    /// The store, connecting to it once.
    ///
    /// # Errors
    /// As [`MessageStore::connect`].
    pub async fn open(&self) -> Result<MessageStore, Error> {
        self.opened.get_or_try_init(|| MessageStore::connect(&self.settings)).await.cloned()
    }

    /// The store, waiting for as long as it does not answer; none when `shutdown` comes first.
    ///
    /// # Errors
    /// What waiting cannot mend: settings, rights, missing migrations.
    pub async fn wait(&self, shutdown: &CancellationToken) -> Result<Option<MessageStore>, Error> {
        let mut backoff = RETRY_FIRST;
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = shutdown.cancelled() => return Ok(None),
            };
            match opened {
                Ok(store) => return Ok(Some(store)),
                Err(error) if error.is_transient() => tracing::warn!(%error, "waiting for the message store"),
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
            backoff = (backoff * 2).min(RETRY_MAX);
        }
    }
}
