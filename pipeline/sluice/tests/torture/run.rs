//! One run: load and faults, then rest, then the books.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_schemas::InDoubtPolicy;
use sluice_testkit::OwnKafka;
use sluice_whatsapp::wasender::simulator::{SimulatorSettings, WebhookSettings};

use crate::books::{self, Books, Broken, Sums, told_of};
use crate::fleet::{Ends, Fleet};
use crate::inflict::Hands;
use crate::link::Link;
use crate::load::Load;
use crate::plan::{self, Kind};
use crate::world::{World, end_of};

const SESSIONS: usize = 12;
/// The last of them do not want to be sent again after a doubt.
const SESSIONS_FAIL: usize = 2;
/// The limit of each, at the provider and in its record.
const LIMIT_COUNT: u32 = 8;
const LIMIT_PER_MS: u64 = 1_000;
const TICK: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_secs(2);
/// Progress is printed so often.
const TELL: Duration = Duration::from_secs(15);
/// Longest rest until everything has an end, and until the store has it all.
const SETTLE_MAX: Duration = Duration::from_secs(240);
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
/// No chat lets a later message pass: order is a law here.
const ORDER_HOLD_MAX_MS: u64 = 3_600_000;

/// What a run came to.
pub struct Outcome {
    pub books: Books,
    pub broken: Broken,
    pub sums: Vec<(String, Sums)>,
    pub ends: Ends,
    pub faults: Vec<(&'static str, usize)>,
    pub process_faults: usize,
    /// Steps that found nobody they could be done to.
    pub skipped: usize,
    pub settled_after: Duration,
    pub journal: String,
}

/// Runs it for `length`; logs go below `dir`.
pub async fn run(seed: u64, length: Duration, dir: &Path) -> Outcome {
    let kafka = OwnKafka::start().await;
    let (world, policies) = world(&kafka, seed).await;
    let link = Link::to(&world.provider.base_url()).await;
    world.put_account(link.url()).await;
    let mut fleet = Fleet::new(dir);
    let load = Load::new(&world);
    let mut stage = Stage { load: &load, journal: String::new(), process_faults: 0, skipped: 0 };
    let hands = Hands::new(&world, &kafka, &link, &mut fleet, seed);
    let tasks = load.start(seed);
    let away = stage.play(hands, seed, length).await;
    for task in tasks {
        task.await.expect("the load met only what it may meet");
    }
    println!("torture: the faults are over; {} requests, {} with an end", load.count(), load.ended());

    let rest = Instant::now();
    settle(&world, &load, &mut fleet).await;
    fleet.stop(&world, &[Kind::Sender, Kind::Edge, Kind::Processor]).await;
    catch_up(&world, &load, &mut fleet).await;
    fleet.stop(&world, &[Kind::Reducer]).await;
    let settled_after = rest.elapsed();
    let books = Books::read(&world, load.asked(), policies, &away).await;
    Outcome {
        broken: books.broken(&world),
        sums: books.by_session(&world).into_iter().collect(),
        books,
        faults: fleet.done.iter().map(|(name, count)| (*name, *count)).collect(),
        ends: fleet.ends,
        process_faults: stage.process_faults,
        skipped: stage.skipped,
        settled_after,
        journal: stage.journal,
    }
}

async fn world(kafka: &OwnKafka, seed: u64) -> (Arc<World>, HashMap<String, InDoubtPolicy>) {
    let webhooks = WebhookSettings { loss: 0.1, disorder: 0.2, doubling: 0.1, ..WebhookSettings::default() };
    let provider = SimulatorSettings {
        webhooks: Some(webhooks),
        truth_max: 10_000_000,
        messages_kept_max: 1_000_000,
        seed,
        ..SimulatorSettings::default()
    };
    let world = World::builder("torture")
        .sessions(SESSIONS)
        .limit(LIMIT_COUNT, LIMIT_PER_MS)
        .on(kafka)
        .with_store()
        .provider(provider)
        .setting("sender.decisions.order_hold_max_ms", ORDER_HOLD_MAX_MS)
        .start()
        .await;
    let mut policies = HashMap::new();
    for (n, session) in world.sessions.iter().enumerate() {
        let policy = if n < SESSIONS - SESSIONS_FAIL { InDoubtPolicy::Resend } else { InDoubtPolicy::Fail };
        world.put_session(session, policy).await;
        policies.insert(session.clone(), policy);
    }
    (Arc::new(world), policies)
}

/// The part with faults.
struct Stage<'a> {
    load: &'a Load,
    journal: String,
    process_faults: usize,
    skipped: usize,
}

impl Stage<'_> {
    /// Plays the plan to its end; when the broker was away.
    async fn play(&mut self, mut hands: Hands<'_>, seed: u64, length: Duration) -> Vec<(i64, i64)> {
        let mut steps = plan::draw(seed, length).into_iter().peekable();
        let start = Instant::now();
        let (mut looked, mut told) = (start, start);
        let mut tick = tokio::time::interval(TICK);
        while start.elapsed() < length {
            tick.tick().await;
            hands.tick();
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            while let Some(step) = steps.next_if(|step| step.at_ms <= now_ms) {
                let whom = hands.inflict(&step);
                self.process_faults += usize::from(whom.is_some() && step.fault.hits_a_process());
                self.skipped += usize::from(whom.is_none());
                // Writing to a String cannot fail.
                let _ = writeln!(self.journal, "{step}: {}", whom.as_deref().unwrap_or("nobody"));
            }
            if looked.elapsed() >= Duration::from_millis(200) {
                self.load.look();
                looked = Instant::now();
            }
            if told.elapsed() >= TELL {
                let (asked, ended) = (self.load.count(), self.load.ended());
                let faults = self.process_faults;
                println!(
                    "torture: {:>4} s: {asked} requests, {ended} with an end, {faults} process faults",
                    now_ms / 1_000
                );
                told = Instant::now();
            }
        }
        self.load.end();
        hands.end().await
    }
}

/// Waits until everything that was acknowledged has an end, and every webhook has arrived; what does not come is
/// told by the books.
async fn settle(world: &World, load: &Load, fleet: &mut Fleet) {
    let end = Instant::now() + SETTLE_MAX;
    loop {
        let told = books::told(world);
        let asked = load.asked();
        let open = asked
            .iter()
            .filter(|(id, asked)| asked.acked && told.get(id).and_then(|steps| end_of(steps)).is_none())
            .count();
        let pending = world.provider.summary().webhooks.pending;
        if (open == 0 && pending == 0) || Instant::now() > end {
            return;
        }
        println!("torture: at rest: {open} without an end, {pending} webhooks on their way");
        wait(world, fleet).await;
    }
}

/// Waits until the store has what the facts come to.
async fn catch_up(world: &World, load: &Load, fleet: &mut Fleet) {
    let end = Instant::now() + CATCH_UP_MAX;
    world.facts.at_its_end().await;
    let asked = load.asked();
    let folded = books::folded(world, &asked).await;
    loop {
        let stored = books::stored(world, asked.keys()).await;
        let behind = folded.iter().any(|(id, folded)| stored.get(id).map(told_of) != Some(told_of(folded)));
        if !behind || Instant::now() > end {
            return;
        }
        println!("torture: the store is behind");
        wait(world, fleet).await;
    }
}

/// A while, in which what ends is started again.
async fn wait(world: &World, fleet: &mut Fleet) {
    let end = Instant::now() + LOOK;
    while Instant::now() < end {
        fleet.tick(world);
        tokio::time::sleep(TICK).await;
    }
}
