//! What a demo shows: a line of progress, and the summary.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use sluice_whatsapp::wasender::simulator::Simulator;

use super::Told;
use super::books::Books;
use crate::dev::{Shared, lock};

/// Findings shown.
const FINDINGS_SHOWN_MAX: usize = 20;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// One line, written over.
    Line,
    /// A line now and then.
    Lines,
    /// Not at all.
    Nothing,
}

impl Show {
    /// As fits standard error.
    pub(crate) fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Line } else { Self::Lines }
    }

    /// Shows progress until dropped.
    pub(super) async fn progress(
        self,
        books: &Shared<Books>,
        simulator: &Simulator,
        messages: u32,
        began: Instant,
    ) {
        let pause = match self {
            Self::Line => Duration::from_millis(250),
            Self::Lines => Duration::from_secs(5),
            Self::Nothing => return std::future::pending().await,
        };
        loop {
            tokio::time::sleep(pause).await;
            let now = lock(books).progress();
            let line = format!(
                "{:>4} s  accepted {}/{messages} · submitted {} · delivered {} · read {} · in doubt {} · \
                 ended {} · taken by the provider {}",
                began.elapsed().as_secs(),
                now.accepted,
                now.submitted,
                now.delivered,
                now.read,
                now.in_doubt,
                now.settled,
                simulator.summary().total.accepted,
            );
            match self {
                Self::Line => eprint!("\r\x1b[2K{line}"),
                _ => eprintln!("{line}"),
            }
            std::io::stderr().flush().ok();
        }
    }

    /// Leaves the line of progress behind.
    pub(super) fn end(self) {
        if self == Self::Line {
            eprintln!();
        }
    }
}

/// The summary.
pub(super) fn summary(told: &Told<'_>) -> String {
    let (counts, truth) = (&told.counts, &told.truth);
    let hooks = &truth.webhooks;
    let mut text = format!(
        "\
Demo of {} messages, {} s

  accepted   {:>6}        failed     {:>6}
  submitted  {:>6}        expired    {:>6}
  sent       {:>6}        canceled   {:>6}
  delivered  {:>6}        in doubt   {:>6}   (were in doubt: {})
  read       {:>6}

  provider   {} requests, {} taken, {} refused; doubles {}, rate breaches {}
  webhooks   {} delivered, {} doubled, {} lost
  faults     {}
",
        told.plan.len(),
        told.took.as_secs(),
        counts.accepted,
        counts.failed,
        counts.submitted,
        counts.expired,
        counts.sent,
        counts.canceled,
        counts.delivered,
        counts.in_doubt,
        counts.were_in_doubt,
        counts.read,
        truth.total.received,
        truth.total.accepted,
        truth.total.refused,
        truth.total.doubles,
        truth.total.breaches,
        hooks.delivered,
        hooks.doubled,
        hooks.lost,
        faults(told),
    );
    text.push('\n');
    if told.findings.is_empty() {
        text.push_str(
            "The books balance: every accepted message has one end or is in doubt, the provider got none \
             twice without an IN_DOUBT on record, and no rate limit was broken.\n",
        );
        return text;
    }
    text.push_str(&format!("The books do NOT balance, {} findings:\n", told.findings.len()));
    for finding in told.findings.iter().take(FINDINGS_SHOWN_MAX) {
        text.push_str(&format!("  {finding}\n"));
    }
    if told.findings.len() > FINDINGS_SHOWN_MAX {
        text.push_str("  …\n");
    }
    text
}

/// Scripted faults by kind.
fn faults(told: &Told<'_>) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for fault in told.plan.iter().filter_map(|planned| planned.fault.as_ref()) {
        let value = serde_json::to_value(fault).unwrap_or_default();
        let kind = value.get("kind").and_then(serde_json::Value::as_str).unwrap_or("other").to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    let list: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
