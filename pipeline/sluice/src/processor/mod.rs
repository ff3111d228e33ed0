//! The processor: provider webhooks in, facts about messages and sessions out.

pub(crate) mod address;
