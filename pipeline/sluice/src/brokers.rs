//! Whether Kafka is as it must be: checked at start, and looked at all the time after.
//!
//! A broker that does not answer is no reason to end: the process stays live, is not ready, and goes on when
//! the broker does. Topics that do not fit are: every session would be in the wrong place.

use std::time::Duration;

use sluice_kafka::topics::{self, Topics};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Ending, Latch};

/// What roles can know of the brokers without asking them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Brokers {
    state: watch::Receiver<State>,
    doubt: std::sync::Arc<tokio::sync::Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    partitions: Option<i32>,
    up: bool,
}

impl Brokers {
    /// Partitions of the session-placed topics; none until they have been checked.
    pub fn partitions(&self) -> Option<i32> {
        self.state.borrow().partitions
    }

    /// Whether the brokers answered when last asked, and the topics are as they must be.
    pub fn are_up(&self) -> bool {
        self.state.borrow().up
    }

    /// Waits until the topics have been checked, and gives the partitions of the session-placed ones.
    ///
    /// # Errors
    /// If the watching has ended.
    pub async fn checked(&self) -> anyhow::Result<i32> {
        let mut state = self.state.clone();
        let checked = state.wait_for(|state| state.partitions.is_some()).await;
        checked
            .ok()
            .and_then(|state| state.partitions)
            .ok_or_else(|| anyhow::anyhow!("stopped before Kafka was checked"))
    }

    /// Says that a write was not acknowledged, so that the brokers are asked at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }
}

/// How the brokers are watched.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often they are asked.
    pub probe_interval: Duration,
    /// How long they may take to answer.
    pub probe_timeout: Duration,
    /// How long topics may be missing at start: brokers learn of new ones a little later than the one that
    /// was asked to create them.
    pub topics_grace: Duration,
    /// Whether replicas and the settings that keep records safe are checked at start.
    pub check_durability: bool,
}

/// Watches the brokers.
#[derive(Debug)]
pub struct Watcher {
    topics: Topics,
    options: Options,
    latch: Latch,
    state: watch::Sender<State>,
    doubt: std::sync::Arc<tokio::sync::Notify>,
}

/// A watcher, and what it tells.
///
/// # Errors
/// If a Kafka setting is wrong.
pub fn watch(
    settings: &sluice_kafka::settings::Settings,
    options: Options,
    latch: Latch,
) -> Result<(Watcher, Brokers), topics::Error> {
    let (sender, state) = watch::channel(State { partitions: None, up: false });
    let doubt = std::sync::Arc::new(tokio::sync::Notify::new());
    let watcher =
        Watcher { topics: Topics::open(settings)?, options, latch, state: sender, doubt: doubt.clone() };
    Ok((watcher, Brokers { state, doubt }))
}

impl Watcher {
    /// Watches until `shutdown`.
    ///
    /// # Errors
    /// If the topics are not as they must be when they are first seen.
    pub async fn run(self, shutdown: CancellationToken) -> Ending {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = self.watch() => ended,
        }
    }

    async fn watch(self) -> Ending {
        let mut unfit_since = None;
        let mut ticks = tokio::time::interval(self.options.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.doubt.notified() => {}
            }
            let asked = tokio::time::timeout(self.options.probe_timeout, self.ask()).await;
            let known = self.state.borrow().partitions;
            match asked {
                Ok(Ok(partitions)) if known.is_none_or(|known| known == partitions) => {
                    self.say(State { partitions: Some(partitions), up: true });
                }
                Ok(Ok(partitions)) => {
                    anyhow::bail!("session-placed topics had {known:?} partitions and now have {partitions}");
                }
                Ok(Err(error @ topics::Error::Unfit(_))) if known.is_none() => {
                    let since = *unfit_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.options.topics_grace {
                        return Err(error.into());
                    }
                    self.down(&error.to_string());
                }
                Ok(Err(error)) => self.down(&error.to_string()),
                Err(_) => self.down("no answer in time"),
            }
        }
    }

    async fn ask(&self) -> Result<i32, topics::Error> {
        if self.options.check_durability && self.state.borrow().partitions.is_none() {
            self.topics.durability().await?;
        }
        self.topics.session_partitions().await
    }

    fn down(&self, why: &str) {
        if self.state.borrow().up || self.state.borrow().partitions.is_none() {
            tracing::warn!(why, "kafka does not answer");
        }
        let partitions = self.state.borrow().partitions;
        self.say(State { partitions, up: false });
    }

    fn say(&self, state: State) {
        self.latch.set(state.up);
        self.state.send_if_modified(|old| std::mem::replace(old, state) != state);
    }
}
