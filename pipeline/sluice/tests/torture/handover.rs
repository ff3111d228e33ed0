//! How long a partition sends nothing when it changes hands.

use std::collections::HashMap;

use sluice_kafka::record::Record;
use sluice_schemas::{EntryKind, LedgerEntry};

/// One call that the provider took.
#[derive(Debug, Clone)]
pub struct Taken {
    pub partition: i32,
    pub at_ms: i64,
    /// Epoch of the claim, if a fact tells it.
    pub epoch: Option<i64>,
    /// When its request was written; none if it could not be sent at once then.
    pub waiting_since_ms: Option<i64>,
}

/// How a partition came to its next owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its owner gave it back.
    Released,
    /// Its owner died, froze, or lost its group.
    Fenced,
    /// The broker was away meanwhile.
    BrokerAway,
}

/// One hand-over of a partition with backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub way: Way,
    pub ms: i64,
}

/// A partition's owner.
#[derive(Debug, Clone)]
struct Reign {
    epoch: i64,
    from_ms: i64,
    owner: String,
    released: bool,
}

/// The hand-overs told by the ledger, each with the time between the last call under the old owner and the first
/// under the new one, where the new one's first message had been waiting before. Owners that sent nothing lengthen
/// the gap of the next that did.
pub fn gaps(ledger: &[(Record, LedgerEntry)], taken: &[Taken], away: &[(i64, i64)]) -> Vec<Gap> {
    let mut reigns: HashMap<i32, Vec<Reign>> = HashMap::new();
    for (record, entry) in ledger {
        let of = reigns.entry(record.partition.number).or_default();
        match entry.kind {
            EntryKind::Fence => of.push(Reign {
                epoch: record.offset,
                from_ms: record.timestamp_ms,
                owner: entry.owner.clone().unwrap_or_default(),
                released: false,
            }),
            EntryKind::Released => {
                of.iter_mut()
                    .filter(|reign| reign.epoch == entry.epoch)
                    .for_each(|reign| reign.released = true);
            }
            _ => {}
        }
    }
    reigns.iter().flat_map(|(partition, reigns)| of_partition(*partition, reigns, taken, away)).collect()
}

fn of_partition(partition: i32, reigns: &[Reign], taken: &[Taken], away: &[(i64, i64)]) -> Vec<Gap> {
    let mut calls: Vec<Vec<&Taken>> = vec![Vec::new(); reigns.len()];
    for call in taken.iter().filter(|call| call.partition == partition) {
        let told = call.epoch.and_then(|epoch| reigns.iter().position(|reign| reign.epoch == epoch));
        let by_time = || reigns.iter().rposition(|reign| reign.from_ms <= call.at_ms);
        if let Some(reign) = told.or_else(by_time) {
            calls[reign].push(call);
        }
    }
    let mut gaps = Vec::new();
    let mut before: Option<(usize, i64)> = None;
    for (n, calls) in calls.iter().enumerate() {
        let Some(first) = calls.iter().min_by_key(|call| call.at_ms) else { continue };
        if let Some((old, last_ms)) = before
            && reigns[old].owner != reigns[n].owner
            && first.waiting_since_ms.is_some_and(|since| since < last_ms)
        {
            let broken = away.iter().any(|(from, to)| *from < first.at_ms && last_ms < *to);
            let way = match reigns[old..n].iter().all(|reign| reign.released) {
                _ if broken => Way::BrokerAway,
                true => Way::Released,
                false => Way::Fenced,
            };
            // A former owner's last call may end after the new one's first began, in another chat.
            gaps.push(Gap { way, ms: (first.at_ms - last_ms).max(0) });
        }
        before = calls.iter().map(|call| call.at_ms).max().map(|last| (n, last));
    }
    gaps
}

/// Least, median, 95th percentile and most, ms.
pub fn spread(mut values: Vec<i64>) -> Option<[i64; 4]> {
    values.sort_unstable();
    let at = |part: usize| values[(values.len() - 1) * part / 100];
    (!values.is_empty()).then(|| [at(0), at(50), at(95), at(100)])
}

#[cfg(test)]
mod tests {
    use sluice_kafka::record::Partition;

    use super::*;

    fn entry(kind: EntryKind, offset: i64, epoch: i64, at_ms: i64, owner: &str) -> (Record, LedgerEntry) {
        let record = Record {
            partition: Partition::new("ledger", 3),
            offset,
            timestamp_ms: at_ms,
            key: None,
            value: None,
            headers: Default::default(),
        };
        let owner = (kind == EntryKind::Fence).then(|| owner.to_owned());
        (record, LedgerEntry { kind, epoch, owner, ..LedgerEntry::default() })
    }

    fn call(at_ms: i64, epoch: Option<i64>, waiting_since_ms: i64) -> Taken {
        Taken { partition: 3, at_ms, epoch, waiting_since_ms: Some(waiting_since_ms) }
    }

    #[test]
    fn a_gap_is_from_the_last_call_of_one_owner_to_the_first_of_the_next_that_had_to_wait() {
        let ledger = [
            entry(EntryKind::Fence, 0, -1, 100, "a"),
            entry(EntryKind::Released, 10, 0, 1_000, ""),
            entry(EntryKind::Fence, 11, -1, 1_100, "b"),
            // It sent nothing.
            entry(EntryKind::Fence, 20, -1, 2_500, "c"),
            entry(EntryKind::Fence, 30, -1, 3_000, "d"),
            entry(EntryKind::Fence, 40, -1, 9_000, "e"),
        ];
        let taken = [
            call(500, Some(0), 1),
            call(900, None, 1),
            call(1_300, Some(11), 2),
            call(2_000, Some(11), 3),
            call(3_200, Some(30), 4),
            // Nothing had been waiting.
            call(9_500, Some(40), 9_400),
        ];
        let gap = |way, ms| Gap { way, ms };
        assert_eq!(gaps(&ledger, &taken, &[]), [gap(Way::Released, 400), gap(Way::Fenced, 1_200)]);
        let away = [(2_100, 2_200)];
        assert_eq!(gaps(&ledger, &taken, &away)[1], gap(Way::BrokerAway, 1_200));
    }

    #[test]
    fn a_spread_is_least_median_and_most() {
        assert_eq!(spread(Vec::new()), None);
        assert_eq!(spread((1..=101).rev().collect()), Some([1, 51, 96, 101]));
    }
}
