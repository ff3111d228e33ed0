//! The laws, by what they are about. `README.md` lists them.

mod acceptance;
mod call;
mod ledger;
mod memory;
mod rest;
mod status;

use sluice_schemas::{MessageStatus, Status};
use uuid::Uuid;

fn is_of(status: &MessageStatus, id: Uuid) -> bool {
    status.message_id.as_deref() == Some(id.to_string().as_str())
}

fn is_end(status: Status) -> bool {
    matches!(status, Status::Submitted | Status::Failed | Status::Expired | Status::Canceled)
}
