//! What is done to the pipeline, and when: drawn from a seed before anything runs.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The pipeline is left alone for so long first.
const FIRST_MS: u64 = 4_000;
/// Time between two steps: at least, at most.
const PAUSE_MS: std::ops::Range<u64> = 2_000..6_000;
/// A consumer that says nothing for so long is out of its group (`kafka.session_timeout_ms` of the world).
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// Runs shorter than this have a shorter outage of the broker.
const LONG_RUN: Duration = Duration::from_secs(300);

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Sender,
    Edge,
    Processor,
    Reducer,
}

impl Kind {
    pub fn role(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Edge => "edge",
            Self::Processor => "processor",
            Self::Reducer => "reducer",
        }
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Killed with -9, and started again after a while.
    Kill { down_ms: u64 },
    /// Killed with -9; its disk store is gone when it starts again.
    Wipe { down_ms: u64 },
    /// Frozen for longer than its group waits, then thawed.
    Freeze { ms: u64 },
    /// Asked to stop, and started again after a while.
    Stop { down_ms: u64 },
    /// One sender more.
    ScaleUp,
    /// One sender less.
    ScaleDown,
    /// The broker is killed with -9 and started again.
    BrokerKill,
    /// The broker stops in good order, and is away for a while.
    BrokerAway { ms: u64 },
    /// The provider misbehaves for a while.
    Storm { storm: Storm, ms: u64 },
    /// Every byte between senders and provider takes so much longer, for a while.
    SlowLink { delay_ms: u64, ms: u64 },
    /// Every connection between senders and provider is cut.
    CutLink,
}

/// How the provider misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storm {
    /// Takes messages and answers after the caller has given up.
    Hang,
    /// Cuts connections, before or after it has taken the message.
    Reset,
    /// Answers 429.
    Throttle,
    /// Answers 500 and 502.
    Broken,
}

/// A fault and when it comes.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Since the start.
    pub at_ms: u64,
    pub fault: Fault,
    /// Whom it hits, of what can be hit.
    pub kind: Kind,
    pub pick: usize,
}

impl Fault {
    /// Whether it is done to a process of Sluice.
    pub fn hits_a_process(self) -> bool {
        matches!(
            self,
            Self::Kill { .. }
                | Self::Wipe { .. }
                | Self::Freeze { .. }
                | Self::Stop { .. }
                | Self::ScaleUp
                | Self::ScaleDown
        )
    }

    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill -9",
            Self::Wipe { .. } => "kill -9, disk store deleted",
            Self::Freeze { .. } => "frozen past the session timeout",
            Self::Stop { .. } => "stopped in good order",
            Self::ScaleUp => "scaled up",
            Self::ScaleDown => "scaled down",
            Self::BrokerKill => "broker killed and restarted",
            Self::BrokerAway { .. } => "broker away",
            Self::Storm { storm: Storm::Hang, .. } => "provider hangs",
            Self::Storm { storm: Storm::Reset, .. } => "provider resets",
            Self::Storm { storm: Storm::Throttle, .. } => "provider throttles",
            Self::Storm { storm: Storm::Broken, .. } => "provider answers 5xx",
            Self::SlowLink { .. } => "slow link",
            Self::CutLink => "link cut",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.1} s  ", self.at_ms as f64 / 1e3)?;
        if self.fault.hits_a_process() {
            write!(f, "{}: ", self.kind.role())?
        }
        write!(f, "{}", self.fault.name())
    }
}

/// The steps of a run, in order.
pub fn draw(seed: u64, length: Duration) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let end = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let away = Fault::BrokerAway { ms: if length >= LONG_RUN { 60_000 } else { 10_000 } };
    // Once, past the middle, so that it is in every run.
    let mut outage = Some(end * 3 / 5);
    let mut steps = Vec::new();
    let mut at_ms = FIRST_MS;
    while at_ms < end {
        let fault = match outage {
            Some(due) if due <= at_ms => {
                outage = None;
                away
            }
            _ => fault(&mut random),
        };
        steps.push(Step {
            at_ms,
            fault,
            kind: kind(&mut random, fault),
            pick: random.random_range(0..1_000),
        });
        at_ms += random.random_range(PAUSE_MS);
    }
    steps
}

fn fault(random: &mut StdRng) -> Fault {
    let down_ms = random.random_range(0..3_000);
    let ms = random.random_range(4_000..9_000);
    match random.random_range(0..100) {
        0..26 => Fault::Kill { down_ms },
        26..33 => Fault::Wipe { down_ms },
        33..49 => Fault::Freeze { ms: SESSION_TIMEOUT_MS + random.random_range(2_000..5_000) },
        49..67 => Fault::Stop { down_ms },
        67..73 => Fault::ScaleUp,
        73..78 => Fault::ScaleDown,
        78..80 => Fault::BrokerKill,
        80..84 => Fault::Storm { storm: Storm::Hang, ms },
        84..88 => Fault::Storm { storm: Storm::Reset, ms },
        88..91 => Fault::Storm { storm: Storm::Throttle, ms },
        91..94 => Fault::Storm { storm: Storm::Broken, ms },
        94..98 => Fault::SlowLink { delay_ms: random.random_range(100..800), ms },
        _ => Fault::CutLink,
    }
}

/// Most faults hit senders.
fn kind(random: &mut StdRng, fault: Fault) -> Kind {
    let any = random.random_range(0..100);
    match fault {
        Fault::Wipe { .. } | Fault::ScaleUp | Fault::ScaleDown => Kind::Sender,
        _ if any < 70 => Kind::Sender,
        _ if any < 80 => Kind::Edge,
        _ if any < 90 => Kind::Processor,
        _ => Kind::Reducer,
    }
}

#[test]
fn ten_minutes_have_sixty_process_faults_of_every_kind_and_the_same_for_the_same_seed() {
    for seed in 0..200 {
        let steps = draw(seed, Duration::from_secs(600));
        let hits: Vec<_> = steps.iter().filter(|step| step.fault.hits_a_process()).collect();
        assert!(hits.len() >= 80, "seed {seed}: {}", hits.len());
        assert!(hits.iter().filter(|step| step.kind == Kind::Sender).count() * 2 > hits.len());
        assert_eq!(steps.iter().filter(|s| matches!(s.fault, Fault::BrokerAway { ms: 60_000 })).count(), 1);
        let again: Vec<_> = draw(seed, Duration::from_secs(600)).iter().map(ToString::to_string).collect();
        assert_eq!(steps.iter().map(ToString::to_string).collect::<Vec<_>>(), again);
    }
}
