//! Requests as they come from the topic.

use std::sync::Arc;

use sluice_core::sender::{BadRequest, Request};
use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, DecodeError};
use sluice_schemas::codec::SchemaRef;
use sluice_schemas::topics::REQUEST_BYTES_MAX;
use sluice_schemas::{DeadLetterReason, OutboundCommand, headers};

/// A record as a request, or the schema that has to be looked up first.
pub(super) fn request(commands: &Codec<OutboundCommand>, record: &Record) -> Result<Request, SchemaRef> {
    let command = match commands.decode(record) {
        Err(DecodeError::Unknown(name) | DecodeError::RegistryDown { schema: name, .. }) => return Err(name),
        Err(error) => Err(BadRequest {
            reason: error.dead_letter_reason().unwrap_or(DeadLetterReason::Undecodable),
            detail: error.to_string(),
        }),
        Ok(_) if record.bytes() > REQUEST_BYTES_MAX as usize => Err(BadRequest {
            reason: DeadLetterReason::TooLarge,
            detail: format!(
                "the request has {} bytes; at most {REQUEST_BYTES_MAX} are allowed",
                record.bytes()
            ),
        }),
        Ok(command) => Ok(Arc::new(command)),
    };
    Ok(with_command(record, command))
}

/// A record whose schema the registry does not know.
pub(super) fn unregistered(record: &Record, name: SchemaRef) -> Request {
    let bad = BadRequest {
        reason: DeadLetterReason::UnknownSchema,
        detail: format!("the registry does not know schema {name}; register the producer's schema there"),
    };
    with_command(record, Err(bad))
}

fn with_command(record: &Record, command: Result<Arc<OutboundCommand>, BadRequest>) -> Request {
    Request {
        partition: record.partition.number,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        hops: record.header_str(headers::HOPS).and_then(|text| text.parse().ok()).unwrap_or(0),
        traceparent: record.header_str(headers::TRACEPARENT).map(str::to_owned),
        raw: record.value.clone().unwrap_or_default(),
        command,
    }
}
