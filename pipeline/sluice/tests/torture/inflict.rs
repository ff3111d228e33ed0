//! Does what the plan says to broker, provider, link and processes, and ends what has lasted long enough.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_kafka::clock::wall_ms;
use sluice_testkit::OwnKafka;
use sluice_whatsapp::wasender::simulator::{Fault as Mishap, FaultRule, Simulator};
use tokio::task::JoinHandle;

use crate::fleet::Fleet;
use crate::link::Link;
use crate::load::NOBODY;
use crate::plan::{Fault, Step, Storm};
use crate::world::World;

/// Every call takes so long at the provider.
const CALL_MS: u64 = 40;
/// Longer than a call may take (`sender.client.call_timeout_ms` of the world).
const HANG_MS: u64 = 4_000;
/// Share of calls that meet a storm.
const STORM: f64 = 0.6;
/// Share of calls whose connection breaks, storm or not.
const EVER: f64 = 0.01;

/// Whatever can be broken.
pub struct Hands<'a> {
    pub world: &'a World,
    pub kafka: &'a OwnKafka,
    pub link: &'a Link,
    pub fleet: &'a mut Fleet,
    seed: u64,
    storm_until: Option<Instant>,
    slow_until: Option<Instant>,
    broker: Option<JoinHandle<()>>,
    away: Arc<Mutex<Vec<(i64, i64)>>>,
}

impl<'a> Hands<'a> {
    pub fn new(
        world: &'a World,
        kafka: &'a OwnKafka,
        link: &'a Link,
        fleet: &'a mut Fleet,
        seed: u64,
    ) -> Self {
        mishaps(&world.provider, seed, None);
        let away = Arc::default();
        Self { world, kafka, link, fleet, seed, storm_until: None, slow_until: None, broker: None, away }
    }

    /// Does it; says to whom, or nothing if there was nobody it could be done to.
    pub fn inflict(&mut self, step: &Step) -> Option<String> {
        let after = |ms| Some(Instant::now() + Duration::from_millis(ms));
        let whom = match step.fault {
            fault if fault.hits_a_process() => return self.fleet.hit(fault, step.kind, step.pick),
            Fault::Storm { storm, ms } => {
                self.storm_until = after(ms);
                mishaps(&self.world.provider, self.seed ^ step.at_ms, Some(storm));
                "provider"
            }
            Fault::SlowLink { delay_ms, ms } => {
                self.slow_until = after(ms);
                self.link.slow(delay_ms);
                "link"
            }
            Fault::CutLink => {
                self.link.cut();
                "link"
            }
            Fault::BrokerKill => self.broker(true, 0)?,
            Fault::BrokerAway { ms } => self.broker(false, ms)?,
            _ => return None,
        };
        *self.fleet.done.entry(step.fault.name()).or_default() += 1;
        Some(whom.to_owned())
    }

    /// Takes the broker away, unless it is.
    fn broker(&mut self, kill: bool, ms: u64) -> Option<&'static str> {
        if self.broker.as_ref().is_some_and(|task| !task.is_finished()) {
            return None;
        }
        let (kafka, away) = (self.kafka.clone(), Arc::clone(&self.away));
        self.broker = Some(tokio::spawn(async move {
            let from = wall_ms();
            if kill {
                kafka.kill().await;
            } else {
                kafka.stop().await;
            }
            tokio::time::sleep(Duration::from_millis(ms)).await;
            kafka.start_again().await;
            away.lock().unwrap().push((from, wall_ms()));
        }));
        Some("broker")
    }

    /// Ends what has lasted long enough.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.storm_until.take_if(|due| *due <= now).is_some() {
            mishaps(&self.world.provider, self.seed, None);
        }
        if self.slow_until.take_if(|due| *due <= now).is_some() {
            self.link.slow(0);
        }
        self.fleet.tick(self.world);
    }

    /// Ends everything; when the broker was away.
    pub async fn end(mut self) -> Vec<(i64, i64)> {
        mishaps(&self.world.provider, self.seed, None);
        self.link.slow(0);
        if let Some(broker) = self.broker.take() {
            broker.await.expect("the broker comes back");
        }
        self.fleet.whole_again(self.world).await;
        self.away.lock().unwrap().clone()
    }
}

/// What the provider does from now on. The first rule that strikes decides.
fn mishaps(provider: &Simulator, seed: u64, storm: Option<Storm>) {
    provider.clear_faults();
    provider.add_fault(FaultRule {
        recipient: Some(NOBODY.to_owned()),
        ..FaultRule::always(Mishap::NotOnWhatsapp)
    });
    let share =
        |share: f64, fault: Mishap| FaultRule { probability: Some(share), seed, ..FaultRule::always(fault) };
    let rules = match storm {
        None => vec![],
        Some(Storm::Hang) => vec![
            share(STORM / 2.0, Mishap::HangThenSent { ms: HANG_MS }),
            share(STORM / 2.0, Mishap::HangThenNotSent { ms: HANG_MS }),
        ],
        Some(Storm::Reset) => vec![
            share(STORM / 3.0, Mishap::ResetBeforeAccepting),
            share(STORM / 3.0, Mishap::ResetAfterAccepting),
            share(STORM / 3.0, Mishap::ResetMidAnswer),
        ],
        Some(Storm::Throttle) => vec![share(STORM, Mishap::Throttle { retry_after_s: 1 })],
        Some(Storm::Broken) => vec![
            share(STORM / 2.0, Mishap::Status { status: 500, body: None }),
            share(STORM / 2.0, Mishap::Html502),
        ],
    };
    let always = [
        share(EVER, Mishap::ResetAfterAccepting),
        share(EVER, Mishap::ResetBeforeAccepting),
        share(EVER, Mishap::NoWebhooks),
        FaultRule::always(Mishap::Slow { ms: CALL_MS }),
    ];
    rules.into_iter().chain(always).for_each(|rule| provider.add_fault(rule));
}
