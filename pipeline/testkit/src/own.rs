//! A broker for one test that breaks it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::Kafka;

/// A Kafka broker that belongs to one test, which may stop, kill and start it. Stopped when dropped.
#[derive(Debug, Clone)]
pub struct OwnKafka {
    kafka: Arc<Mutex<Kafka>>,
    bootstrap: String,
}

impl OwnKafka {
    /// An empty broker.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// An empty broker with more settings, which win over those of the testkit.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let settings: Vec<_> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let kafka = blocking(move || Kafka::start(&settings)).await;
        let bootstrap = kafka.bootstrap();
        Self { kafka: Arc::new(Mutex::new(kafka)), bootstrap }
    }

    /// The value for `bootstrap.servers`; the same after [`Self::start_again`].
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Its private directory: settings, `data`, `log.txt`.
    pub fn dir(&self) -> std::path::PathBuf {
        self.with_dir(Path::to_owned)
    }

    fn with_dir<T>(&self, use_dir: impl FnOnce(&Path) -> T) -> T {
        use_dir(self.kafka.lock().unwrap_or_else(PoisonError::into_inner).dir())
    }

    /// Its pid while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.kafka.lock().unwrap_or_else(PoisonError::into_inner).pid()
    }

    /// Stops it in good order and returns when it is gone.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub async fn stop(&self) {
        self.change(Kafka::stop).await;
    }

    /// Kills it with -9 and returns when it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&self) {
        self.change(Kafka::kill).await;
    }

    /// Starts it on its old port with its old data, and returns when it serves.
    ///
    /// # Panics
    /// When it runs or cannot be started.
    pub async fn start_again(&self) {
        self.change(Kafka::start_again).await;
    }

    async fn change(&self, change: fn(&mut Kafka) -> anyhow::Result<()>) {
        let kafka = Arc::clone(&self.kafka);
        blocking(move || change(&mut kafka.lock().unwrap_or_else(PoisonError::into_inner))).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("a Kafka of the test: {error:#}"),
        Err(error) => panic!("a Kafka of the test: {error}"),
    }
}
