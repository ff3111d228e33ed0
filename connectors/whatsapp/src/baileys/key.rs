//! The key of a message: its id, its chat, and who wrote it, in phone or LID form.

use serde_json::Value;
use sluice_schemas::Status;

use crate::json;

/// Key of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// Id in WhatsApp.
    pub id: Option<&'a str>,
    /// Chat as the provider writes it.
    pub chat: Option<&'a str>,
    /// Whether the session's own account wrote it; `None` if not told.
    pub from_me: Option<bool>,
    /// Sender inside a group, as the provider writes it.
    pub participant: Option<&'a str>,
    value: &'a Value,
}

/// Who wrote a message, in every form that is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    /// `+` and digits.
    pub e164: Option<String>,
    /// `…@lid`.
    pub lid: Option<String>,
}

impl<'a> Key<'a> {
    /// Reads a key object. Missing parts are `None`, never an error.
    pub fn read(value: &'a Value) -> Self {
        Self {
            id: json::text(value, &["id"]),
            chat: json::text(value, &["remoteJid", "remoteId", "remote_jid"]),
            from_me: value.get("fromMe").and_then(Value::as_bool),
            participant: json::text(
                value,
                &["participant", "participantPn", "participantAlt", "participantLid"],
            ),
            value,
        }
    }

    /// Whether the chat is a group.
    pub fn is_group(&self) -> bool {
        self.chat.is_some_and(|chat| chat.ends_with("@g.us"))
    }

    /// The chat by its phone number if that is told beside a LID, else as it is. Requests name people by
    /// number, so this is what they can be compared with.
    pub fn chat_by_phone(&self) -> Option<&'a str> {
        let chat = self.chat?;
        if chat.ends_with("@lid") {
            let alternative = json::text(self.value, &["remoteJidAlt", "recipientPn"]);
            return alternative.filter(|other| other.ends_with("@s.whatsapp.net")).or(Some(chat));
        }
        Some(chat)
    }

    /// Who wrote it. Nothing is told of our own account.
    pub fn sender(&self) -> Sender {
        if self.from_me == Some(true) {
            return Sender::default();
        }
        // In a group the chat is not the sender; `participant…` is.
        let names: &[&str] = if self.is_group() {
            &[
                "participantPn",
                "cleanedParticipantPn",
                "participantAlt",
                "participant",
                "participantLid",
                "senderPn",
                "cleanedSenderPn",
                "senderLid",
            ]
        } else {
            &["senderPn", "cleanedSenderPn", "remoteJidAlt", "remoteJid", "remoteId", "senderLid"]
        };
        let mut sender = Sender::default();
        for id in names.iter().filter_map(|name| json::text(self.value, &[name])) {
            if sender.lid.is_none() && id.ends_with("@lid") {
                sender.lid = Some(without_device(id));
            }
            if sender.e164.is_none() {
                sender.e164 = phone(id);
            }
        }
        sender
    }
}

/// `+` and digits of a phone JID or of bare digits; nothing for LIDs, groups and the rest.
fn phone(id: &str) -> Option<String> {
    let (user, domain) = id.split_once('@').unwrap_or((id, "s.whatsapp.net"));
    if !matches!(domain, "s.whatsapp.net" | "c.us") {
        return None;
    }
    let digits = user.split(':').next().unwrap_or(user).trim_start_matches('+');
    let is_number =
        !digits.is_empty() && digits.len() <= 15 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("+{digits}"))
}

fn without_device(id: &str) -> String {
    match id.split_once('@') {
        Some((user, domain)) => format!("{}@{domain}", user.split(':').next().unwrap_or(user)),
        None => id.to_owned(),
    }
}

/// The status of a receipt: Baileys' number 0 to 5, the same as text, or its name. `Some(Accepted)` stands for
/// "pending", which is less than `SENT`; `None` for what is no status.
pub fn status_of(value: &Value) -> Option<Status> {
    if let Some(number) = json::count(value) {
        return match number {
            0 => Some(Status::Failed),
            1 => Some(Status::Accepted),
            2 => Some(Status::Sent),
            3 => Some(Status::Delivered),
            4 => Some(Status::Read),
            5 => Some(Status::Played),
            _ => None,
        };
    }
    match value.as_str()?.to_ascii_lowercase().as_str() {
        "error" | "failed" => Some(Status::Failed),
        "pending" | "in_progress" | "queued" => Some(Status::Accepted),
        "sent" | "server_ack" | "server" => Some(Status::Sent),
        "delivered" | "delivery_ack" | "device" => Some(Status::Delivered),
        "read" => Some(Status::Read),
        "played" => Some(Status::Played),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sender_is_known_by_phone_and_by_lid() {
        let direct =
            json!({"remoteJid": "99@lid", "senderPn": "15550001111:3@s.whatsapp.net", "fromMe": false});
        let expected = Sender { e164: Some("+15550001111".into()), lid: Some("99@lid".into()) };
        assert_eq!(Key::read(&direct).sender(), expected);
        let group =
            json!({"remoteJid": "1-2@g.us", "participant": "99@lid", "cleanedParticipantPn": "15550001111"});
        assert_eq!(Key::read(&group).sender(), expected);
        let by_lid =
            json!({"remoteJid": "99@lid", "remoteJidAlt": "15550001111@s.whatsapp.net", "fromMe": true});
        assert_eq!(Key::read(&by_lid).chat_by_phone(), Some("15550001111@s.whatsapp.net"));
        let mine = json!({"remoteJid": "15550001111@s.whatsapp.net", "fromMe": true});
        assert_eq!(Key::read(&mine).sender(), Sender::default());
    }

    #[test]
    fn a_status_is_read_from_number_text_and_name() {
        for form in [json!(4), json!("4"), json!("READ"), json!("read"), json!(4.0)] {
            assert_eq!(status_of(&form), Some(Status::Read), "{form}");
        }
        assert_eq!(status_of(&json!("DELIVERY_ACK")), Some(Status::Delivered));
        for form in [json!(9), json!(-1), json!("maybe"), json!(null), json!({})] {
            assert_eq!(status_of(&form), None, "{form}");
        }
    }
}
