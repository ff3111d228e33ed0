//! Lists by time, cut into buckets so that no partition grows without bound.

/// A list of things by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timeline {
    /// Messages of a session.
    Messages {
        /// The session.
        session_id: String,
    },
    /// Received messages of a session.
    Received {
        /// The session.
        session_id: String,
    },
    /// Received messages of one chat.
    Chat {
        /// The session.
        session_id: String,
        /// The chat as the provider writes it.
        chat_id: String,
    },
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

impl Timeline {
    /// Width of a bucket, milliseconds: a session sends at most 1,000 a second (Meta's highest), in rows of
    /// some 50 bytes; it receives far less, in rows of some 1,000; a chat less again.
    pub(crate) fn bucket_ms(&self) -> i64 {
        match self {
            Self::Messages { .. } | Self::Received { .. } => 15 * MINUTE_MS,
            Self::Chat { .. } => 7 * DAY_MS,
        }
    }

    /// The bucket of a time.
    pub(crate) fn bucket(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.bucket_ms())
    }

    /// The first time after a bucket.
    pub(crate) fn bucket_end_ms(&self, bucket: i64) -> i64 {
        bucket.saturating_add(1).saturating_mul(self.bucket_ms())
    }

    /// The word for it in rows.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Messages { .. } => "messages",
            Self::Received { .. } => "received",
            Self::Chat { .. } => "chat",
        }
    }

    /// The session.
    pub(crate) fn session_id(&self) -> &str {
        match self {
            Self::Messages { session_id } | Self::Received { session_id } | Self::Chat { session_id, .. } => {
                session_id
            }
        }
    }

    /// The chat; empty where the list is not of one.
    pub(crate) fn chat_id(&self) -> &str {
        match self {
            Self::Chat { chat_id, .. } => chat_id,
            Self::Messages { .. } | Self::Received { .. } => "",
        }
    }
}

/// A place in a list: entries are ordered by time, then id, newest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Time, milliseconds.
    pub(crate) at_ms: i64,
    /// Id of the entry.
    pub(crate) id: String,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its place.
    pub(crate) position: Position,
    /// What is kept with it; empty for messages, whose facts are elsewhere.
    pub(crate) body: String,
}
