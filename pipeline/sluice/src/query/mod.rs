//! The query role: reads of the message store over HTTP.

pub(crate) mod cursor;
pub(crate) mod view;
