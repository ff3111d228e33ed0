//! Where reading requests begins when a partition was taken over.

use sluice_kafka::group::StartAt;

/// The higher of the group's committed offset and the position in the ledger: below the position every request is in
/// the ledger, so an offset that was reset or lost leads to nothing being read again. Going back below it needs the
/// operator's setting `sender.rewind_allowed`; then the group's offset counts alone.
pub(super) fn at(partition: i32, committed: Option<i64>, position: Option<i64>, rewind: Rewind) -> StartAt {
    let behind = position.is_some_and(|position| committed.is_none_or(|committed| committed < position));
    if rewind == Rewind::Allowed {
        if behind {
            tracing::warn!(
                partition,
                committed,
                position,
                "requests are read again: sender.rewind_allowed is on"
            );
        }
        return committed.map_or(StartAt::Beginning, StartAt::Offset);
    }
    if behind && committed.is_some() {
        tracing::info!(
            partition,
            committed,
            position,
            "the group's offset is below the position in the ledger; beginning there"
        );
    }
    committed.max(position).map_or(StartAt::Beginning, StartAt::Offset)
}

/// Whether requests below the position in the ledger may be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewind {
    /// An operator wants the group's offset to count.
    Allowed,
    /// Never below the position.
    Forbidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_or_lost_offset_goes_back_only_when_an_operator_allows_it() {
        let cases = [
            (Some(7), Some(5), StartAt::Offset(7), StartAt::Offset(7)),
            (Some(0), Some(5), StartAt::Offset(5), StartAt::Offset(0)),
            (None, Some(5), StartAt::Offset(5), StartAt::Beginning),
            (Some(3), None, StartAt::Offset(3), StartAt::Offset(3)),
            (None, None, StartAt::Beginning, StartAt::Beginning),
        ];
        for (committed, position, forbidden, allowed) in cases {
            assert_eq!(
                at(0, committed, position, Rewind::Forbidden),
                forbidden,
                "{committed:?} {position:?}"
            );
            assert_eq!(at(0, committed, position, Rewind::Allowed), allowed, "{committed:?} {position:?}");
        }
    }
}
