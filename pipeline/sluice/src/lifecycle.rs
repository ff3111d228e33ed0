//! Life and death of a process: named components, one shutdown token, readiness latches.
//!
//! The laws: a component that ends before shutdown was asked for has died, and the whole process stops in
//! good order (returning early, an error and a panic are all deaths). Each component has its own time to
//! stop, and all of them together have one; who exceeds it is cut off and named. Nothing here is global.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A component's end: `Ok` when it stopped because it was told to.
pub type Ending = anyhow::Result<()>;

/// Why a process stopped in bad order.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A component returned, failed or panicked before shutdown was asked for.
    #[error("component {component} died: {cause:#}")]
    Died {
        /// Its name.
        component: &'static str,
        /// What it said.
        cause: anyhow::Error,
    },
    /// A component failed while stopping.
    #[error("component {component} failed while stopping: {cause:#}")]
    FailedToStop {
        /// Its name.
        component: &'static str,
        /// What it said.
        cause: anyhow::Error,
    },
    /// Components did not stop in time and were cut off.
    #[error("cut off because they did not stop in time: {}", components.join(", "))]
    CutOff {
        /// Their names.
        components: Vec<&'static str>,
    },
}

#[derive(Debug)]
struct Component {
    name: &'static str,
    stop_limit: Duration,
    abort: AbortHandle,
}

/// The components of one process and what they share.
#[derive(Debug)]
pub struct Lifecycle {
    shutdown: CancellationToken,
    readiness: Readiness,
    stop_limit: Duration,
    tasks: JoinSet<Ending>,
    components: HashMap<Id, Component>,
}

impl Lifecycle {
    /// A process whose components have `stop_limit` together to stop.
    pub fn new(stop_limit: Duration) -> Self {
        let shutdown = CancellationToken::new();
        Self {
            readiness: Readiness::new(shutdown.clone()),
            shutdown,
            stop_limit,
            tasks: JoinSet::new(),
            components: HashMap::new(),
        }
    }

    /// The token that is cancelled when the process is to stop. Cancelling it stops the process.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// The readiness latches of the process.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Starts `component`. It must end soon after the shutdown token is cancelled, at the latest within
    /// `stop_limit`, and never before.
    pub fn spawn(
        &mut self,
        name: &'static str,
        stop_limit: Duration,
        component: impl Future<Output = Ending> + Send + 'static,
    ) {
        let abort = self.tasks.spawn(component);
        self.components.insert(abort.id(), Component { name, stop_limit, abort });
    }

    /// Runs until shutdown is asked for or a component dies, then stops the rest in good order.
    ///
    /// # Errors
    /// The first thing that went wrong; everything that did is logged.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut first = None;
        tokio::select! {
            // First, because a component that has ended when both are ready may have been told to.
            biased;
            () = self.shutdown.cancelled() => tracing::info!("stopping"),
            Some(ended) = self.tasks.join_next_with_id() => {
                let (component, ending) = self.ended(ended);
                let cause = ending.err().unwrap_or_else(|| anyhow::anyhow!("it ended while the process was running"));
                tracing::error!(component, cause = format!("{cause:#}"), "component died; stopping the rest");
                first = Some(Error::Died { component, cause });
            }
        }
        self.shutdown.cancel();
        match (first, self.stop().await) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(()),
        }
    }

    async fn stop(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        let mut first = None;
        let mut cut_off = Vec::new();
        while !self.components.is_empty() {
            let next = self.components.values().map(|c| start + c.stop_limit.min(self.stop_limit)).min();
            let Some(deadline) = next else { break };
            match tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(ended)) => {
                    let (component, ending) = self.ended(ended);
                    if let Err(cause) = ending {
                        tracing::error!(
                            component,
                            cause = format!("{cause:#}"),
                            "component failed while stopping"
                        );
                        first.get_or_insert(Error::FailedToStop { component, cause });
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let limit = self.stop_limit;
                    self.components.retain(|_, component| {
                        let over = start + component.stop_limit.min(limit) <= Instant::now();
                        if over {
                            tracing::error!(
                                component = component.name,
                                "component did not stop in time; cut off"
                            );
                            component.abort.abort();
                            cut_off.push(component.name);
                        }
                        !over
                    });
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None if cut_off.is_empty() => Ok(()),
            None => Err(Error::CutOff { components: cut_off }),
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ending), JoinError>) -> (&'static str, Ending) {
        let (id, ending) = match ended {
            Ok((id, ending)) => (id, ending),
            // A component that was cut off is no longer in the map, and its cancelled end is no news.
            Err(error) if error.is_cancelled() && !self.components.contains_key(&error.id()) => {
                return ("cut off", Ok(()));
            }
            Err(error) => (error.id(), Err(anyhow::Error::new(error))),
        };
        (self.components.remove(&id).map_or("cut off", |component| component.name), ending)
    }
}

/// Cancels `shutdown` on the first SIGTERM or SIGINT, and resolves on the second: the caller then exits at
/// once.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub async fn signals(shutdown: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for _ in 0..2 {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, again = shutdown.is_cancelled(), "signal received");
        shutdown.cancel();
    }
    Ok(())
}

/// Whether the process can do its work: every latch set, and not stopping. Cheap to clone and to read.
#[derive(Debug, Clone)]
pub struct Readiness {
    latches: Arc<Mutex<BTreeMap<&'static str, bool>>>,
    shutdown: CancellationToken,
}

impl Readiness {
    /// No latches yet; `shutdown` makes it not ready.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { latches: Arc::default(), shutdown }
    }

    /// Adds a latch, not set. Names are of the form `role.condition`, for example `edge.kafka`.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.lock().entry(name).or_insert(false);
        Latch { name, readiness: self.clone() }
    }

    /// Whether every latch is set and the process is not stopping.
    pub fn is_ready(&self) -> bool {
        !self.shutdown.is_cancelled() && self.lock().values().all(|set| *set)
    }

    /// Names of what is missing; `stopping` when the process stops.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> =
            self.lock().iter().filter(|(_, set)| !**set).map(|(name, _)| *name).collect();
        if self.shutdown.is_cancelled() {
            missing.push("stopping");
        }
        missing
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        // A panic while holding it cannot leave the map half changed.
        self.latches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of readiness.
#[derive(Debug, Clone)]
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Latch {
    /// Says whether the condition holds.
    pub fn set(&self, holds: bool) {
        let before = self.readiness.lock().insert(self.name, holds);
        if before != Some(holds) {
            tracing::info!(latch = self.name, holds, "readiness changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    async fn until_told(shutdown: CancellationToken) -> Ending {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn components_that_stop_when_told_are_a_good_end() {
        let mut life = Lifecycle::new(LONG);
        let shutdown = life.shutdown();
        life.spawn("a", LONG, until_told(shutdown.clone()));
        life.spawn("b", LONG, until_told(shutdown.clone()));
        let running = tokio::spawn(life.run());
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_component_that_returns_early_or_panics_stops_all_the_others() {
        for panics in [false, true] {
            let mut life = Lifecycle::new(LONG);
            let shutdown = life.shutdown();
            let (stopped, told) = tokio::sync::oneshot::channel();
            life.spawn("good", LONG, async move {
                shutdown.cancelled().await;
                stopped.send(()).ok();
                Ok(())
            });
            life.spawn("bad", LONG, async move {
                assert!(!panics, "as asked");
                Ok(())
            });
            let error = life.run().await.unwrap_err();
            assert!(matches!(error, Error::Died { component: "bad", .. }), "{error}");
            told.await.expect("the good component was told to stop and did");
        }
    }

    #[tokio::test]
    async fn a_component_that_does_not_stop_is_cut_off_alone() {
        let mut life = Lifecycle::new(LONG);
        let shutdown = life.shutdown();
        let (stopped, told) = tokio::sync::oneshot::channel();
        life.spawn("stuck", SHORT, std::future::pending());
        let token = shutdown.clone();
        life.spawn("slow", LONG, async move {
            token.cancelled().await;
            tokio::time::sleep(SHORT * 5).await;
            stopped.send(()).ok();
            Ok(())
        });
        shutdown.cancel();
        let error = life.run().await.unwrap_err();
        assert!(matches!(&error, Error::CutOff { components } if components == &["stuck"]), "{error}");
        told.await.expect("the slow component had its time");
    }

    #[tokio::test]
    async fn the_global_limit_holds_for_all() {
        let mut life = Lifecycle::new(SHORT);
        let shutdown = life.shutdown();
        life.spawn("stuck", LONG, std::future::pending());
        shutdown.cancel();
        assert!(matches!(life.run().await, Err(Error::CutOff { .. })));
    }

    #[test]
    fn ready_means_every_latch_set_and_not_stopping() {
        let shutdown = CancellationToken::new();
        let readiness = Readiness::new(shutdown.clone());
        let (kafka, directory) = (readiness.latch("kafka"), readiness.latch("directory"));
        kafka.set(true);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), ["directory"]);
        directory.set(true);
        assert!(readiness.is_ready());
        kafka.set(false);
        assert!(!readiness.is_ready());
        kafka.set(true);
        shutdown.cancel();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), ["stopping"]);
    }
}
