//! The bridge from Wasender's `msgId` to the WhatsApp id: `GET /messages/{msgId}/info`.

use serde_json::Value;

use crate::connector::{Answer, Credential, HttpCall, LookedUp, Method};
use crate::json;

pub(super) fn call(provider_message_id: &str) -> Option<HttpCall> {
    // Digits only: the id becomes a part of the path.
    let id: u64 = provider_message_id.parse().ok()?;
    Some(HttpCall {
        method: Method::Get,
        path: format!("/messages/{id}/info"),
        credential: Credential::SessionKey,
        body: None,
    })
}

pub(super) fn read(answer: &Answer) -> LookedUp {
    let (status, body) = match answer {
        Answer::Http { status, body, .. } => (*status, body),
        Answer::NotConnected { detail } | Answer::Broken { detail, .. } => {
            return LookedUp::Failed { detail: detail.clone() };
        }
    };
    // The provider knows the message only some time after it took it.
    if status == 404 {
        return LookedUp::NotYet;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return LookedUp::Failed { detail: format!("HTTP {status} with a body that is not JSON") };
    };
    if !(200..300).contains(&status) || value.get("success") == Some(&Value::Bool(false)) {
        let said = json::text(&value, &["message", "error"]).unwrap_or("no reason given");
        if said.to_lowercase().contains("not found") {
            return LookedUp::NotYet;
        }
        return LookedUp::Failed { detail: format!("HTTP {status}: {}", json::clipped(said, 200)) };
    }
    let data = value.get("data").unwrap_or(&value);
    let key = data.get("key").unwrap_or(&Value::Null);
    match json::text(key, &["id"]).or_else(|| json::text(data, &["id"])) {
        None => LookedUp::NotYet,
        Some(id) => LookedUp::Found {
            whatsapp_message_id: id.to_owned(),
            chat_id: json::text(key, &["remoteJid"])
                .or_else(|| json::text(data, &["remoteJid"]))
                .map(str::to_owned),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str) -> Answer {
        Answer::Http { status, headers: Default::default(), body: body.as_bytes().to_vec().into() }
    }

    #[test]
    fn a_look_up_finds_waits_or_fails() {
        assert_eq!(call("12").unwrap().path, "/messages/12/info");
        assert_eq!(call("3EB0/../x"), None);
        let found =
            r#"{"success":true,"data":{"msgId":12,"key":{"id":"3EB0A","fromMe":true,"remoteJid":"1@lid"}}}"#;
        assert_eq!(
            read(&http(200, found)),
            LookedUp::Found { whatsapp_message_id: "3EB0A".into(), chat_id: Some("1@lid".into()) }
        );
        assert_eq!(read(&http(404, "nope")), LookedUp::NotYet);
        assert_eq!(read(&http(200, r#"{"success":true,"data":null}"#)), LookedUp::NotYet);
        assert_eq!(read(&http(400, r#"{"success":false,"error":"Message not found"}"#)), LookedUp::NotYet);
        assert!(matches!(read(&http(429, r#"{"message":"slow down"}"#)), LookedUp::Failed { .. }));
        assert!(matches!(read(&http(502, "<html>")), LookedUp::Failed { .. }));
    }
}
