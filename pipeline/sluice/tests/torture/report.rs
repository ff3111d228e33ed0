//! What a run came to, for people.

use std::path::Path;

use sluice_schemas::Status;

use crate::handover::{self, Way};
use crate::run::Outcome;

/// Ids of a broken law that are printed; all are kept in files.
const SHOWN: usize = 10;

/// Every law, so that one that holds is told, too.
const LAWS: [&str; 6] = [
    "nothing is lost",
    "what is told is true",
    "no double is unexplained",
    "no rate is breached",
    "chats are in order",
    "the books balance",
];

/// Prints faults, books, hand-over and laws.
pub fn print(outcome: &Outcome) {
    println!("\nfaults ({} to processes; {} steps found nobody)", outcome.process_faults, outcome.skipped);
    for (name, count) in &outcome.faults {
        println!("  {count:>5}  {name}");
    }
    let ends = &outcome.ends;
    println!(
        "  {} starts, {} stops in good order, {} ended by themselves {:?}, {} did not stop well {:?}",
        ends.starts,
        ends.stops,
        ends.by_itself.len(),
        ends.by_itself,
        ends.bad_stops.len(),
        ends.bad_stops
    );
    books(outcome);
    doubts(outcome);
    gaps(outcome);
    println!("\nlaws (settled {:.1} s after the last fault)", outcome.settled_after.as_secs_f64());
    for law in LAWS {
        let broken = outcome.broken.get(law).map(Vec::as_slice).unwrap_or_default();
        println!("  {:>5}  broken: {law}", broken.len());
        broken.iter().take(SHOWN).for_each(|what| println!("         {what}"));
    }
}

fn books(outcome: &Outcome) {
    println!(
        "\nbooks        acked unacked on topic |  sent failed expired canceled  open | taken doubles | calls refused"
    );
    let mut total = [0; 12];
    for (session, sums) in &outcome.sums {
        let row = [
            sums.acked,
            sums.not_acked,
            sums.on_topic,
            sums.sent,
            sums.failed,
            sums.expired,
            sums.canceled,
            sums.open,
            sums.taken,
            sums.doubles,
            usize::try_from(sums.calls).unwrap_or(usize::MAX),
            usize::try_from(sums.refused).unwrap_or(usize::MAX),
        ];
        total.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        line(session, row);
    }
    line("all", total);
    let mut receipts = std::collections::BTreeMap::<_, usize>::new();
    for (status, count) in outcome.sums.iter().flat_map(|(_, sums)| &sums.receipts) {
        *receipts.entry(*status).or_default() += count;
    }
    let asked = outcome.books.asked.values();
    let (repeated, canceled) = asked.fold((0, 0), |(repeated, canceled), asked| {
        (repeated + usize::from(asked.repeated), canceled + usize::from(asked.canceled))
    });
    let (count, shown) = outcome.books.details();
    if let Some(shown) = shown {
        println!("  {count} messages differ in a detail between facts and store, the first:\n    {shown}");
    }
    println!("  sent ones now: {receipts:?}; {repeated} asked for twice, {canceled} cancels acknowledged");
}

fn line(name: &str, row: [usize; 12]) {
    let [acked, unacked, topic, sent, failed, expired, canceled, open, taken, doubles, calls, refused] = row;
    println!(
        "  {name:<10} {acked:>6} {unacked:>7} {topic:>8} | {sent:>5} {failed:>6} {expired:>7} {canceled:>8} {open:>5} | \
         {taken:>5} {doubles:>7} | {calls:>5} {refused:>7}"
    );
}

fn doubts(outcome: &Outcome) {
    let told = outcome.books.told.values();
    let (mut claims, mut messages, mut by_evidence) = (0, 0, 0);
    for steps in told {
        let mut doubts: Vec<_> =
            steps.iter().filter(|step| step.status == Status::InDoubt).map(|step| step.claim).collect();
        doubts.sort_unstable();
        doubts.dedup();
        claims += doubts.len();
        messages += usize::from(!doubts.is_empty());
        let settles = |claim: &(Option<i64>, Option<i64>)| {
            let mut ends = steps.iter().filter(|step| step.claim == *claim);
            ends.any(|step| step.status == Status::Submitted && step.by_evidence)
        };
        by_evidence += doubts.iter().filter(|claim| settles(claim)).count();
    }
    let doubles: usize = outcome.sums.iter().map(|(_, sums)| sums.doubles).sum();
    let unsent: usize = outcome.sums.iter().map(|(_, sums)| sums.unsent_taken).sum();
    println!(
        "\ndoubts       {claims} attempts of {messages} messages in doubt, {by_evidence} settled by evidence, \
         {doubles} doubles, {unsent} told as unsent after a doubt and sent"
    );
}

fn gaps(outcome: &Outcome) {
    println!(
        "\nhand-over    partitions  min / median / p95 / max ms from the old owner's last call to the new one's first"
    );
    let ways = [
        (Way::Released, "given back"),
        (Way::Fenced, "killed or frozen"),
        (Way::BrokerAway, "broker away meanwhile"),
    ];
    for (way, name) in ways {
        let of_way = outcome.books.gaps.iter().filter(|gap| gap.way == way).map(|gap| gap.ms);
        let ms: Vec<i64> = of_way.collect();
        let count = ms.len();
        if let Some([min, median, p95, max]) = handover::spread(ms) {
            println!("  {name:<22} {count:>6}  {min} / {median} / {p95} / {max}");
        }
    }
}

/// Keeps what the laws were judged by, for looking.
pub fn keep(outcome: &Outcome, dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("the outcome is kept");
    write("journal.txt", outcome.journal.clone());
    let lines =
        outcome.broken.iter().flat_map(|(law, all)| all.iter().map(move |what| format!("{law}: {what}\n")));
    write("broken.txt", lines.collect());
    let truth = outcome.books.truth.iter().map(|entry| format!("{entry:?}\n"));
    write("truth.txt", truth.collect());
    let told = outcome.books.asked.iter().map(|(id, asked)| {
        let place = outcome.books.places.get(id);
        format!("{id} {asked:?}\n  {place:?}\n  {:?}\n", outcome.books.steps(id))
    });
    write("messages.txt", told.collect());
}
