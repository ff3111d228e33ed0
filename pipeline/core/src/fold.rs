//! The join of a message's facts: what [`MessageStatus`] records, in any order and however often, come to.
//!
//! A message is the *set* of the facts known of it ([`MessageFacts`]); its [`MessageState`] is a pure function
//! of that set ([`state`]). Adding facts is commutative, associative and idempotent, so replays, disorder and
//! two readers of one topic can do no harm. The message store keeps the same set, one row per fact, and folds
//! it with this module.

mod fact;
mod facts;
mod state;

pub use fact::{Claim, Fact};
pub use facts::{FACTS_MAX, MessageFacts};
