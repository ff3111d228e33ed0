//! Whether the books balance: what the topics tell, what the reads tell and what the provider knows must be
//! one story. Pure.

use sluice_schemas::Status;
use uuid::Uuid;

use super::books::Entry;
use super::post::View;

/// One message, from every side.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The message.
    pub(super) id: Uuid,
    /// Its session.
    pub(super) session: String,
    /// From the answers and the topics.
    pub(super) entry: Entry,
    /// From the reads.
    pub(super) view: Option<View>,
    /// How often the provider took it.
    pub(super) taken: u64,
    /// Whether the provider took it first and could not send it then.
    pub(super) failed_later: bool,
}

/// What the provider counts over all sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Provider {
    /// Requests over a rate limit.
    pub(super) breaches: u64,
    /// Requests over the cap of requests at once.
    pub(super) over_concurrency: u64,
    /// Texts it took that nobody asked for.
    pub(super) strange: u64,
}

/// The counts of the summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: usize,
    pub(super) submitted: usize,
    pub(super) sent: usize,
    pub(super) delivered: usize,
    pub(super) read: usize,
    pub(super) failed: usize,
    pub(super) expired: usize,
    pub(super) canceled: usize,
    /// With an IN_DOUBT on record, whatever came of it.
    pub(super) were_in_doubt: usize,
    /// Still in doubt.
    pub(super) in_doubt: usize,
    /// Accepted by the provider more than once.
    pub(super) doubles: usize,
}

/// Counts the messages.
pub(super) fn count(lines: &[Line]) -> Counts {
    let mut counts = Counts::default();
    for line in lines.iter().filter(|line| line.entry.accepted > 0) {
        counts.accepted += 1;
        counts.doubles += usize::from(line.taken > 1);
        let Some(state) = &line.entry.state else { continue };
        let in_doubt = state.in_doubt && !state.terminal;
        counts.were_in_doubt += usize::from(state.in_doubt_at.is_some());
        counts.in_doubt += usize::from(in_doubt);
        counts.submitted += usize::from(state.submitted_at.is_some());
        counts.sent += usize::from(state.sent_at.is_some());
        counts.delivered += usize::from(state.delivered_at.is_some());
        counts.read += usize::from(state.read_at.is_some());
        counts.failed += usize::from(state.status == Status::Failed);
        counts.expired += usize::from(state.status == Status::Expired);
        counts.canceled += usize::from(state.status == Status::Canceled);
    }
    counts
}

/// Everything that does not fit, one line each. Empty: the books balance.
pub(super) fn findings(lines: &[Line], provider: &Provider) -> Vec<String> {
    let mut findings: Vec<String> = lines.iter().flat_map(of_message).collect();
    for (count, what) in [
        (provider.breaches, "requests came to the provider over a session's rate limit"),
        (provider.over_concurrency, "requests came to the provider over a session's cap of requests at once"),
        (provider.strange, "messages were taken by the provider that nobody asked for"),
    ] {
        if count > 0 {
            findings.push(format!("{count} {what}"));
        }
    }
    findings
}

fn of_message(line: &Line) -> Vec<String> {
    if line.entry.accepted == 0 {
        return match line.taken {
            0 => Vec::new(),
            _ => vec![told(line, "was sent though its request was not accepted")],
        };
    }
    let Some(state) = &line.entry.state else {
        return vec![told(line, "was accepted, and messages.state does not know it: lost")];
    };
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(told(line, &what));
    let doubted = line.entry.kinds.contains(&Status::InDoubt);
    let status = state.status.as_str();
    if !state.terminal && !state.in_doubt {
        find(format!("has come to no end: it is {status}"));
    }
    if state.terminal && line.entry.ends.is_empty() {
        find(format!("is {status}, and the sender never said how it ended"));
    }
    if line.entry.ends.len() > 1 && !doubted {
        let ends: Vec<&str> = line.entry.ends.iter().map(|(_, kind)| kind.as_str()).collect();
        find(format!("has several ends without having been in doubt: {}", ends.join(", ")));
    }
    if line.taken > 1 && !doubted {
        find(format!("was taken by the provider {} times without an IN_DOUBT on record", line.taken));
    }
    let submitted = state.submitted_at.is_some();
    if line.taken == 0 && submitted && !line.failed_later {
        find(format!("is {status}, and the provider never took it"));
    }
    if line.taken > 0 && !submitted && state.terminal && !doubted {
        find(format!("is {status}, and the provider took it"));
    }
    match &line.view {
        None => find("is not known to GET /v1/messages".to_owned()),
        Some(view) if view.status != status || view.revision != state.revision => find(format!(
            "is {status} (revision {}) in messages.state and {} (revision {}) in GET /v1/messages",
            state.revision, view.status, view.revision
        )),
        Some(_) => {}
    }
    findings
}

fn told(line: &Line, what: &str) -> String {
    format!("{} of {} {what}", line.id, line.session)
}

#[cfg(test)]
mod tests {
    use sluice_schemas::MessageState;

    use super::*;

    fn line(status: Status) -> Line {
        let at = |kind| (status == kind).then_some(1);
        let state = MessageState {
            status,
            terminal: super::super::books::is_end(status),
            in_doubt: status == Status::InDoubt,
            submitted_at: at(Status::Submitted),
            failed_at: at(Status::Failed),
            in_doubt_at: at(Status::InDoubt),
            revision: 2,
            ..MessageState::default()
        };
        let mut entry = Entry { accepted: 1, state: Some(state), ..Entry::default() };
        entry.kinds.extend([Status::Accepted, status]);
        if super::super::books::is_end(status) {
            entry.ends.insert(("e".to_owned(), status));
        }
        Line {
            id: Uuid::nil(),
            session: "demo-01".to_owned(),
            entry,
            view: Some(View { status: status.as_str().to_owned(), revision: 2 }),
            taken: u64::from(status == Status::Submitted),
            failed_later: false,
        }
    }

    fn only_finding(line: Line) -> String {
        let findings = findings(&[line], &Provider::default());
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.into_iter().next().unwrap_or_default()
    }

    #[test]
    fn one_end_or_doubt_balances() {
        for status in [Status::Submitted, Status::Failed, Status::Expired, Status::Canceled, Status::InDoubt]
        {
            let found = findings(&[line(status)], &Provider::default());
            assert!(found.is_empty(), "{status:?}: {found:?}");
        }
    }

    #[test]
    fn a_double_needs_a_doubt_on_record() {
        let mut double = line(Status::Submitted);
        double.taken = 2;
        assert!(only_finding(double.clone()).contains("2 times"));
        double.entry.kinds.insert(Status::InDoubt);
        assert!(findings(&[double], &Provider::default()).is_empty());
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut lost = line(Status::Submitted);
        lost.taken = 0;
        assert!(only_finding(lost).contains("never took it"));
        let mut lost = line(Status::Accepted);
        assert!(only_finding(lost.clone()).contains("no end"));
        lost.entry.state = None;
        assert!(only_finding(lost).contains("lost"));
    }

    #[test]
    fn a_message_told_as_not_sent_must_not_have_been_sent() {
        let mut sent = line(Status::Expired);
        sent.taken = 1;
        assert!(only_finding(sent).contains("the provider took it"));
    }

    #[test]
    fn the_reads_must_tell_what_the_topic_tells() {
        let mut stale = line(Status::Submitted);
        stale.view = Some(View { status: "ACCEPTED".to_owned(), revision: 1 });
        assert!(only_finding(stale).contains("GET /v1/messages"));
    }

    #[test]
    fn a_breach_of_a_rate_does_not_balance() {
        let provider = Provider { breaches: 1, ..Provider::default() };
        assert_eq!(findings(&[line(Status::Submitted)], &provider).len(), 1);
    }
}
