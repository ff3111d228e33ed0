//! The processes of the pipeline, with a supervisor that starts again whatever ended, as a cluster would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::plan::{Fault, Kind};
use crate::world::{LIMIT, Role, World};

/// Senders at once, at most.
const SENDERS_MAX: usize = 4;
/// Senders of a run that nobody scales.
const SENDERS: usize = 3;
/// Senders at once, at least.
const SENDERS_MIN: usize = 2;
/// A process that ends by itself is started again after this.
const RESTART: Duration = Duration::from_secs(1);
/// A stop that takes longer did not work.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Where a process is.
enum State {
    /// Not there; started when this time has come, if it is wanted.
    Down(Instant),
    Up(Role),
    /// Stopped by a signal until then.
    Frozen(Role, Instant),
    /// Asked to stop at that time; away for so long when it is gone.
    Leaving(Role, Instant, Duration),
}

/// A place for one process, with what outlives the process.
struct Slot {
    kind: Kind,
    name: String,
    log: PathBuf,
    /// The disk store's directory.
    store: PathBuf,
    wanted: bool,
    state: State,
}

/// What happened to processes beside what was done to them.
#[derive(Debug, Default)]
pub struct Ends {
    /// Ended by themselves: who, status.
    pub by_itself: Vec<(String, i32)>,
    /// Asked to stop and did not end well: who, what happened.
    pub bad_stops: Vec<(String, String)>,
    /// Stopped in good order.
    pub stops: usize,
    /// Started.
    pub starts: usize,
}

/// All processes.
pub struct Fleet {
    dir: PathBuf,
    slots: Vec<Slot>,
    pub ends: Ends,
    /// What was done, how often.
    pub done: BTreeMap<&'static str, usize>,
}

impl Fleet {
    /// Everything, down. Logs and disk stores are below `dir`.
    pub fn new(dir: &Path) -> Self {
        let senders = (0..SENDERS_MAX).map(|n| (Kind::Sender, format!("sender-{n}"), n < SENDERS));
        let others =
            [Kind::Edge, Kind::Processor, Kind::Reducer].map(|kind| (kind, kind.role().to_owned(), true));
        let slot = |(kind, name, wanted): (Kind, String, bool)| Slot {
            kind,
            log: dir.join(format!("{name}.log")),
            store: dir.join(format!("{name}.store")),
            name,
            wanted,
            state: State::Down(Instant::now()),
        };
        Self {
            dir: dir.to_owned(),
            slots: senders.chain(others).map(slot).collect(),
            ends: Ends::default(),
            done: BTreeMap::new(),
        }
    }

    /// Starts what is due, thaws what is due, and notices what has ended.
    pub fn tick(&mut self, world: &World) {
        for slot in &mut self.slots {
            slot.tick(world, &mut self.ends);
        }
    }

    /// Does `fault` to a process, if there is one it can be done to; who it was.
    pub fn hit(&mut self, fault: Fault, kind: Kind, pick: usize) -> Option<String> {
        let wanted = fault != Fault::ScaleUp;
        let senders = self.slots.iter().filter(|slot| slot.kind == Kind::Sender && slot.wanted).count();
        if fault == Fault::ScaleDown && senders <= SENDERS_MIN {
            return None;
        }
        let fits = |slot: &&mut Slot| {
            let there = matches!(slot.state, State::Up(_)) || fault == Fault::ScaleUp;
            slot.kind == kind && slot.wanted == wanted && there
        };
        let mut fitting: Vec<_> = self.slots.iter_mut().filter(fits).collect();
        let count = fitting.len();
        let slot = fitting.get_mut(pick.checked_rem(count)?)?;
        slot.hit(fault);
        *self.done.entry(fault.name()).or_default() += 1;
        Some(slot.name.clone())
    }

    /// Thaws everything and wants the usual processes, all of them up.
    pub async fn whole_again(&mut self, world: &World) {
        let now = Instant::now();
        for (n, slot) in self.slots.iter_mut().enumerate() {
            slot.wanted |= n < SENDERS;
            match &mut slot.state {
                State::Down(due) => *due = now,
                State::Frozen(_, due) => *due = now,
                State::Up(_) | State::Leaving(..) => {}
            }
        }
        let end = now + LIMIT;
        while self.slots.iter().any(|slot| slot.wanted && !matches!(slot.state, State::Up(_))) {
            assert!(Instant::now() < end, "the processes do not come back: see {}", self.dir.display());
            self.tick(world);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks everything of these kinds to stop and waits until it has.
    pub async fn stop(&mut self, world: &World, kinds: &[Kind]) {
        for slot in self.slots.iter_mut().filter(|slot| kinds.contains(&slot.kind)) {
            slot.wanted = false;
            if matches!(slot.state, State::Up(_)) {
                slot.hit(Fault::Stop { down_ms: 0 });
            }
        }
        let down = |slot: &Slot| !kinds.contains(&slot.kind) || matches!(slot.state, State::Down(_));
        while !self.slots.iter().all(down) {
            self.tick(world);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Slot {
    fn tick(&mut self, world: &World, ends: &mut Ends) {
        let now = Instant::now();
        let down = || State::Down(now + RESTART);
        let state = std::mem::replace(&mut self.state, down());
        self.state = match state {
            State::Down(due) if self.wanted && due <= now => {
                ends.starts += 1;
                State::Up(self.start(world))
            }
            State::Up(mut role) => match role.process.exit_code() {
                Some(code) => {
                    ends.by_itself.push((self.name.clone(), code));
                    down()
                }
                None => State::Up(role),
            },
            State::Frozen(mut role, due) if due <= now => {
                role.process.sigcont();
                State::Up(role)
            }
            State::Leaving(mut role, since, away) => match role.process.exit_code() {
                Some(code) => {
                    match code {
                        0 => ends.stops += 1,
                        code => ends.bad_stops.push((self.name.clone(), format!("status {code}"))),
                    }
                    State::Down(now + away)
                }
                None if now - since > STOP_MAX => {
                    role.process.kill9();
                    ends.bad_stops.push((self.name.clone(), format!("killed after {STOP_MAX:?}")));
                    State::Down(now + away)
                }
                None => State::Leaving(role, since, away),
            },
            other => other,
        };
    }

    fn hit(&mut self, fault: Fault) {
        let now = Instant::now();
        let state = std::mem::replace(&mut self.state, State::Down(now));
        self.state = match (state, fault) {
            (State::Up(mut role), Fault::Kill { down_ms } | Fault::Wipe { down_ms }) => {
                role.process.kill9();
                if matches!(fault, Fault::Wipe { .. }) {
                    // It may never have been made.
                    let _ = std::fs::remove_dir_all(&self.store);
                }
                State::Down(now + Duration::from_millis(down_ms))
            }
            (State::Up(mut role), Fault::Freeze { ms }) => {
                role.process.sigstop();
                State::Frozen(role, now + Duration::from_millis(ms))
            }
            (State::Up(mut role), Fault::Stop { down_ms }) => {
                role.process.sigterm();
                State::Leaving(role, now, Duration::from_millis(down_ms))
            }
            (State::Up(mut role), Fault::ScaleDown) => {
                self.wanted = false;
                role.process.sigterm();
                State::Leaving(role, now, Duration::ZERO)
            }
            (state, Fault::ScaleUp) => {
                self.wanted = true;
                state
            }
            (state, _) => state,
        };
    }

    fn start(&self, world: &World) -> Role {
        let store = self.store.display().to_string();
        let own = [("sender.store.directory", &*store)];
        let own = if self.kind == Kind::Sender { &own[..] } else { &[] };
        world.run_as(self.kind.role(), own, &self.log)
    }
}
