//! Records as they come from Kafka and as they go to it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Physical name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub number: i32,
}

impl Partition {
    /// The partition `number` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// A record read from Kafka, free of librdkafka's buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970; of the broker where the topic says so. 0 if it has none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none in a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Record {
    pub(crate) fn copy(message: &BorrowedMessage<'_>, topic: Arc<str>) -> Self {
        Self {
            partition: Partition { topic, number: message.partition() },
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: message.headers().map(Headers::copy).unwrap_or_default(),
        }
    }

    /// Bytes it holds, for budgets.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.packed.len()
    }

    /// Its key as text.
    pub fn key_str(&self) -> Option<&str> {
        self.key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// Value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name)
    }

    /// Value of the first header of this name, if it is text.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// Headers of a record, packed into one allocation: looking one up is a walk over a few dozen bytes.
///
/// Per header: length of the name (u32), length of the value (u32, `u32::MAX` for null), name, value.
#[derive(Clone, PartialEq, Default)]
pub struct Headers {
    packed: Box<[u8]>,
}

impl Headers {
    /// Packs headers given by name and value.
    pub fn pack<'a>(items: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut packed = Vec::new();
        for (name, value) in items {
            put(&mut packed, name, value);
        }
        Self { packed: packed.into_boxed_slice() }
    }

    fn copy(borrowed: &BorrowedHeaders) -> Self {
        let count = borrowed.count();
        let mut packed = Vec::with_capacity(count * 48);
        for index in 0..count {
            // The binding panics on a header whose name is not UTF-8; a hostile producer must not be able
            // to stop a partition with one, so such a header is as if it were not there.
            let header = std::panic::catch_unwind(AssertUnwindSafe(|| borrowed.try_get(index)));
            if let Ok(Some(header)) = header {
                put(&mut packed, header.key, header.value);
            }
        }
        Self { packed: packed.into_boxed_slice() }
    }

    /// Value of the first header of this name; none also for a null value.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value)
    }

    /// Every header in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut rest = &self.packed[..];
        std::iter::from_fn(move || {
            let (name_len, tail) = rest.split_first_chunk::<4>()?;
            let (value_len, tail) = tail.split_first_chunk::<4>()?;
            let (name, tail) = tail.split_at_checked(u32::from_ne_bytes(*name_len) as usize)?;
            let value_len = u32::from_ne_bytes(*value_len);
            let (value, tail) = match value_len {
                u32::MAX => (None, tail),
                len => tail.split_at_checked(len as usize).map(|(value, tail)| (Some(value), tail))?,
            };
            rest = tail;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }
}

fn put(packed: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    packed.extend_from_slice(&(name.len() as u32).to_ne_bytes());
    packed.extend_from_slice(&value.map_or(u32::MAX, |value| value.len() as u32).to_ne_bytes());
    packed.extend_from_slice(name.as_bytes());
    packed.extend_from_slice(value.unwrap_or_default());
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.map(String::from_utf8_lossy))))
            .finish()
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Physical name of the topic.
    pub topic: &'a str,
    /// Partition; none places it by murmur2 of the key.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; none writes a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_packed() {
        let headers =
            Headers::pack([("a", Some(&b"1"[..])), ("b", None), ("a", Some(b"2")), ("c", Some(b""))]);
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("a", Some(&b"1"[..])), ("b", None), ("a", Some(b"2")), ("c", Some(b""))]);
        assert_eq!(headers.get("a"), Some(&b"1"[..]));
        assert_eq!(headers.get("b"), None);
        assert_eq!(headers.get("c"), Some(&b""[..]));
        assert_eq!(headers.get("d"), None);
        assert!(Headers::default().is_empty());
    }
}
