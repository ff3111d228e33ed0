//! Shared secrets of webhooks: checked in constant time, and never kept.

use sha2::{Digest, Sha256};
use sluice_schemas::Signature;
use subtle::ConstantTimeEq;

use crate::connector::{RawWebhook, Refused};

/// Header that carries the webhook secret itself.
const SIGNATURE_HEADER: &str = "x-webhook-signature";

/// JSON names whose text is a credential. `sessionId` and `session_id` are the session's API key.
const SECRET_NAMES: [&[u8]; 4] = [b"\"sessionId\"", b"\"session_id\"", b"\"api_key\"", b"\"apiKey\""];

/// The header or the secret part of the path must equal one of `secrets`. An empty secret matches nothing.
pub(super) fn verify(webhook: RawWebhook<'_>, secrets: &[&str]) -> Result<Signature, Refused> {
    let header = webhook.headers.get(SIGNATURE_HEADER).map(String::as_str);
    if header.is_none() && webhook.path_secret.is_none() {
        return Err(Refused::Unsigned("neither X-Webhook-Signature nor a secret in the path"));
    }
    let mut matches = subtle::Choice::from(0);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for offered in [header, webhook.path_secret].into_iter().flatten() {
            matches |= secret.as_bytes().ct_eq(offered.as_bytes());
        }
    }
    if bool::from(matches) { Ok(Signature::SharedSecret) } else { Err(Refused::WrongSignature) }
}

/// Replaces the text under each secret name by `sha256:` and 12 hex digits of its hash, so that two webhooks
/// of one session can still be told to be so. Nothing else changes, and a second pass changes nothing.
///
/// Works on bytes, so that a body that is not quite JSON is stripped as well: inside a JSON string a quote is
/// written `\"`, hence a bare quoted name is always a name.
pub(super) fn strip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(quote) = rest.iter().position(|byte| *byte == b'"') {
        let (before, from_quote) = rest.split_at(quote);
        out.extend_from_slice(before);
        let Some(name) = SECRET_NAMES.iter().find(|name| from_quote.starts_with(name)) else {
            out.push(b'"');
            rest = &from_quote[1..];
            continue;
        };
        let after_name = &from_quote[name.len()..];
        match value_of(after_name) {
            Some((start, end)) => {
                out.extend_from_slice(name);
                out.extend_from_slice(&after_name[..start]);
                out.extend_from_slice(&disguise(&after_name[start..end]));
                rest = &after_name[end..];
            }
            None => {
                out.extend_from_slice(name);
                rest = after_name;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Where the text value begins and ends, after `:` and its quote; an unclosed one runs to the end.
fn value_of(after_name: &[u8]) -> Option<(usize, usize)> {
    let mut at = skip_blank(after_name, 0);
    if after_name.get(at) != Some(&b':') {
        return None;
    }
    at = skip_blank(after_name, at + 1);
    if after_name.get(at) != Some(&b'"') {
        return None;
    }
    let start = at + 1;
    let mut end = start;
    while let Some(byte) = after_name.get(end) {
        match byte {
            b'"' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    Some((start, end.min(after_name.len())))
}

fn skip_blank(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn disguise(secret: &[u8]) -> Vec<u8> {
    let already = secret.strip_prefix(b"sha256:").is_some_and(|hex| hex.len() == 12);
    if already || secret.is_empty() {
        return secret.to_vec();
    }
    let hash = hex::encode(Sha256::digest(secret));
    format!("sha256:{}", &hash[..12]).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(header: Option<&str>, path: Option<&str>, secrets: &[&str]) -> Result<Signature, Refused> {
        let headers: BTreeMap<String, String> =
            header.map(|value| (SIGNATURE_HEADER.to_owned(), value.to_owned())).into_iter().collect();
        verify(RawWebhook { headers: &headers, body: b"{}", path_secret: path }, secrets)
    }

    #[test]
    fn only_a_known_secret_opens() {
        assert_eq!(check(Some("s1"), None, &["s0", "s1"]), Ok(Signature::SharedSecret));
        assert_eq!(check(None, Some("s1"), &["s1"]), Ok(Signature::SharedSecret));
        assert_eq!(check(Some("s2"), None, &["s1"]), Err(Refused::WrongSignature));
        assert_eq!(check(Some(""), None, &[""]), Err(Refused::WrongSignature));
        assert_eq!(check(Some("s1"), None, &[]), Err(Refused::WrongSignature));
        assert!(matches!(check(None, None, &["s1"]), Err(Refused::Unsigned(_))));
    }

    #[test]
    fn the_session_key_is_gone_and_all_else_stays() {
        let body = br#"{"event":"x","sessionId" : "k\"ey1","data":{"session_id":"k2","text":"\"sessionId\":\"mine\""}}"#;
        let stripped = String::from_utf8(strip(body)).unwrap();
        assert!(!stripped.contains("ey1") && !stripped.contains("k2"), "{stripped}");
        assert!(stripped.contains(r#""text":"\"sessionId\":\"mine\"""#), "{stripped}");
        let value: serde_json::Value = serde_json::from_str(&stripped).unwrap();
        assert!(value["sessionId"].as_str().unwrap().starts_with("sha256:"));
        assert_eq!(strip(stripped.as_bytes()), stripped.as_bytes(), "a second pass changes nothing");
    }

    #[test]
    fn a_broken_body_is_stripped_as_well() {
        assert!(!String::from_utf8(strip(br#"{"sessionId":"secretkey"#)).unwrap().contains("secretkey"));
        assert_eq!(strip(br#"{"sessionId":7}"#), br#"{"sessionId":7}"#);
        assert_eq!(strip(b"\"sessionId\""), b"\"sessionId\"");
    }
}
