//! `sluice dev --demo N`: sends N messages with mixed faults, waits until all has settled, and checks the
//! books.

mod audit;
mod books;
mod follow;
mod plan;
mod post;
mod show;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_kafka::clock;
use sluice_whatsapp::wasender::simulator::{Summary, Verdict};
use uuid::Uuid;

use self::audit::{Counts, Line};
use self::books::Books;
use self::plan::Planned;
pub use self::show::Show;
use super::{Dev, Shared, lock};

/// Most messages on the in-process cluster. It keeps 5 MiB of a partition, none of which may be lost before
/// it is read, and looks records up in a list: 10,000 were measured to balance (230 s), beyond that it is
/// slow.
pub const MESSAGES_MAX: u32 = 10_000;
/// How long nothing may have come in before all counts as settled.
const QUIET: Duration = Duration::from_secs(2);
/// Beyond the sender's own wait, how old a doubt must be to count as one that stays.
const DOUBT_SLACK_MS: i64 = 3_000;
/// How often is looked whether all has settled.
const LOOK: Duration = Duration::from_millis(200);

/// What a demo does.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages.
    pub messages: u32,
    /// Seed of all that is random.
    pub seed: u64,
    /// How long the messages may take to settle once all are sent.
    pub settle_within: Duration,
}

/// How long so many messages may take to settle: the time of doubts and retries, and of the sessions' rate.
pub fn settle_within(messages: u32) -> Duration {
    Duration::from_secs(u64::from(120 + messages / 40))
}

/// How a demo ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// For people.
    pub text: String,
    /// What does not fit; empty if the books balance.
    pub findings: Vec<String>,
}

/// Runs a demo.
///
/// # Errors
/// If it cannot be carried out, or the messages do not settle in time.
pub async fn run(dev: &Dev, options: Options, show: Show) -> anyhow::Result<Report> {
    anyhow::ensure!(
        !dev.is_on_mock_kafka() || options.messages <= MESSAGES_MAX,
        "--demo {} is more than the in-process Kafka can hold; send at most {MESSAGES_MAX}, or use --kafka",
        options.messages
    );
    let began = Instant::now();
    let run = format!("{:x}", clock::wall_ms());
    let plan = Arc::new(plan::messages(options.messages, options.seed, &run));
    let books: Shared<Books> = Arc::new(Mutex::new(Books::new(plan.iter().map(|planned| planned.id))));
    dev.simulator.set_webhooks(Some(plan::webhooks()));
    plan.iter().filter_map(plan::rule).for_each(|rule| dev.simulator.add_fault(rule));
    let mut readers = follow::follow(dev, &books)?;
    let demo = async {
        post::post(dev, &plan, &books).await?;
        let settled = settle(dev, &books, options.settle_within).await;
        anyhow::Ok((settled, lines(dev, &plan, &books).await?))
    };
    let shown = show.progress(&books, &dev.simulator, options.messages, began);
    let (settled, lines) = tokio::select! {
        done = demo => done?,
        () = shown => anyhow::bail!("the progress ended"),
        Some(ended) = readers.join_next() => {
            ended??;
            anyhow::bail!("the reader of the demo's topics has ended");
        }
    };
    show.end();
    let truth = dev.simulator.summary();
    let provider = audit::Provider {
        breaches: truth.total.breaches,
        over_concurrency: truth.total.over_concurrency,
        strange: strange(dev, &plan, &run),
    };
    let mut findings = audit::findings(&lines, &provider);
    findings.extend(lock(&books).refusals().iter().map(|(id, why)| format!("{id} was refused: {why}")));
    if !settled {
        findings.push(format!(
            "not all had settled {} s after the last was sent",
            options.settle_within.as_secs()
        ));
    }
    let counts = audit::count(&lines);
    let text =
        show::summary(&Told { counts, truth, plan: &plan, took: began.elapsed(), findings: &findings });
    Ok(Report { text, findings })
}

/// What the summary tells.
struct Told<'a> {
    counts: Counts,
    truth: Summary,
    plan: &'a [Planned],
    took: Duration,
    findings: &'a [String],
}

/// Waits until every message has an end or stays in doubt, no webhook is on its way and nothing more comes
/// in.
async fn settle(dev: &Dev, books: &Shared<Books>, within: Duration) -> bool {
    let decisions = dev.deps.settings.sender.decisions(&dev.deps.settings.deployment);
    let doubt_ms = decisions.doubt_wait_ms() + DOUBT_SLACK_MS;
    let settled = async {
        loop {
            let (ended, changed) = {
                let books = lock(books);
                (books.are_settled(clock::wall_ms() - doubt_ms), books.changed())
            };
            if ended && dev.simulator.summary().webhooks.pending == 0 && changed.elapsed() > QUIET {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(within, settled).await.is_ok()
}

async fn lines(dev: &Dev, plan: &[Planned], books: &Shared<Books>) -> anyhow::Result<Vec<Line>> {
    let accepted = lock(books).accepted();
    let mut views: HashMap<Uuid, _> = post::read_all(dev, &accepted).await?.into_iter().collect();
    let mut taken: HashMap<String, u64> = HashMap::new();
    let mut failed_later: HashMap<String, bool> = HashMap::new();
    for entry in dev.simulator.truth(0) {
        if entry.verdict == Verdict::Accepted {
            *taken.entry(entry.text).or_default() += 1;
        } else if entry.why.as_deref() == Some("fault: failed_later") {
            failed_later.insert(entry.text, true);
        }
    }
    let books = lock(books);
    Ok(plan
        .iter()
        .map(|planned| Line {
            id: planned.id,
            session: planned.session.clone(),
            entry: books.get(&planned.id),
            view: views.remove(&planned.id).flatten(),
            taken: taken.get(&planned.text).copied().unwrap_or_default(),
            failed_later: failed_later.contains_key(&planned.text),
        })
        .collect())
}

/// Texts of this run that the provider took and nobody planned. What others send meanwhile is none of ours.
fn strange(dev: &Dev, plan: &[Planned], run: &str) -> u64 {
    let texts: HashSet<&str> = plan.iter().map(|planned| planned.text.as_str()).collect();
    let end = plan::text_end(run);
    let truth = dev.simulator.truth(0);
    let taken = truth.iter().filter(|entry| entry.verdict == Verdict::Accepted && entry.text.ends_with(&end));
    taken.filter(|entry| !texts.contains(entry.text.as_str())).count() as u64
}
