//! What every fact and every received message must have to be kept at all.

use sluice_schemas::{DeadLetterReason, MessageStatus, ReceivedMessage, Status};

use crate::dead_letters::Cause;

/// Checks a fact.
///
/// # Errors
/// The cause of its death, if a field is missing that every fact has.
pub(crate) fn status(fact: &MessageStatus) -> Result<(), Cause> {
    present("event_id", &fact.event_id)?;
    present("session_id", &fact.session_id)?;
    if fact.status == Status::Unknown {
        return Err(Cause::new(
            DeadLetterReason::MissingField,
            "status: it is UNKNOWN; either it was not given, or a newer version wrote a status that this one \
             does not know",
        ));
    }
    Ok(())
}

/// Checks a received message.
///
/// # Errors
/// As for [`status`].
pub(crate) fn received(message: &ReceivedMessage) -> Result<(), Cause> {
    present("event_id", &message.event_id)?;
    present("session_id", &message.session_id)?;
    present("chat_id", &message.chat_id)
}

fn present(field: &str, value: &str) -> Result<(), Cause> {
    if value.is_empty() {
        return Err(Cause::new(DeadLetterReason::MissingField, format!("{field}: it is empty")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_without_a_field_that_every_fact_has_is_dead_and_the_field_is_named() {
        let good = MessageStatus {
            event_id: "e".into(),
            session_id: "s".into(),
            status: Status::Sent,
            ..Default::default()
        };
        assert_eq!(status(&good), Ok(()));
        for (broken, field) in [
            (MessageStatus { event_id: String::new(), ..good.clone() }, "event_id"),
            (MessageStatus { session_id: String::new(), ..good.clone() }, "session_id"),
            (MessageStatus { status: Status::Unknown, ..good }, "status"),
        ] {
            let cause = status(&broken).unwrap_err();
            assert_eq!(cause.reason, DeadLetterReason::MissingField);
            assert!(cause.detail.starts_with(field), "{}", cause.detail);
        }
    }

    #[test]
    fn a_received_message_needs_its_chat() {
        let message = ReceivedMessage { event_id: "e".into(), session_id: "s".into(), ..Default::default() };
        assert!(received(&message).unwrap_err().detail.starts_with("chat_id"));
        assert_eq!(received(&ReceivedMessage { chat_id: "c".into(), ..message }), Ok(()));
    }
}
