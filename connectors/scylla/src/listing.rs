//! Reading a list page by page, across its buckets.

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::Error;
use crate::page::PageRequest;
use crate::tables::Tables;
use crate::timeline::{Entry, Position, Timeline};

/// Buckets read at once after the first. The first alone fills the page of a busy list.
const BUCKETS_AT_ONCE: usize = 16;

/// Most buckets read for one page; a page may be short instead.
const BUCKETS_MAX: usize = 256;

/// Entries of a list with the place after which the next page begins.
pub(crate) struct Entries {
    /// The entries, newest first.
    pub(crate) entries: Vec<Entry>,
    /// Where the next page begins; nothing at the end of the list.
    pub(crate) next: Option<Position>,
}

/// Reads the entries of a page.
pub(crate) async fn entries<T: Tables>(
    tables: &T,
    timeline: &Timeline,
    request: &PageRequest,
) -> Result<Entries, Error> {
    let limit = request.limit();
    let after = request.position()?;
    let mut from = after.as_ref().map_or(i64::MAX, |position| timeline.bucket(position.at_ms));
    let mut found: Vec<Entry> = Vec::with_capacity(limit + 1);
    let mut scanned = 0;
    let mut at_once = 1;
    loop {
        let buckets = tables.buckets(timeline, from, at_once).await?;
        let Some(oldest) = buckets.last().copied() else { return Ok(Entries { entries: found, next: None }) };
        scanned += buckets.len();
        let reads = buckets.into_iter().map(|bucket| {
            let head = Position { at_ms: timeline.bucket_end_ms(bucket), id: String::new() };
            let after = after.clone().filter(|position| *position < head).unwrap_or(head);
            // One more than the page holds tells whether more follow.
            async move { tables.entries(timeline, bucket, &after, limit + 1).await }
        });
        let read: Vec<Vec<Entry>> = stream::iter(reads).buffered(BUCKETS_AT_ONCE).try_collect().await?;
        found.extend(read.into_iter().flatten());
        if found.len() > limit {
            found.truncate(limit);
            let next = found.last().map(|entry| entry.position.clone());
            return Ok(Entries { entries: found, next });
        }
        from = oldest.saturating_sub(1);
        if scanned >= BUCKETS_MAX {
            let next = Position { at_ms: timeline.bucket_end_ms(from), id: String::new() };
            return Ok(Entries { entries: found, next: Some(next) });
        }
        at_once = BUCKETS_AT_ONCE;
    }
}
