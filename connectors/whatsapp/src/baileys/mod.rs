//! What providers on WhatsApp Web have in common: the JSON names of WhatsApp's protobuf messages, as the
//! Baileys library writes them. Wasender, Evolution and WAHA (NOWEB) all pass them on.

mod content;
mod key;

pub use content::{Content, read as read_content};
pub use key::{Key, Sender, status_of};
