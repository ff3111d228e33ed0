//! W3C trace context: taken over from the caller, else begun here.

use axum::http::HeaderMap;
use rand::RngCore as _;
use sluice_schemas::headers::TRACEPARENT;

/// The caller's `traceparent` if it is valid, else a fresh one (sampled).
///
/// Source: W3C Trace Context, section 3.2: version, trace-id, parent-id and flags in lower-case hex; ids of
/// zeros are invalid, version ff is forbidden. Later versions may have more after the flags, which is cut.
pub(super) fn parent(headers: &HeaderMap) -> String {
    let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    given.and_then(valid).map_or_else(fresh, str::to_owned)
}

fn valid(text: &str) -> Option<&str> {
    const LENGTH: usize = 55;
    let head = text.get(..LENGTH)?;
    let is_whole = text.len() == LENGTH || (!text.starts_with("00") && text[LENGTH..].starts_with('-'));
    let parts: Vec<&str> = head.split('-').collect();
    let [version, trace_id, parent_id, flags] = parts[..] else { return None };
    let lengths = [(version, 2), (trace_id, 32), (parent_id, 16), (flags, 2)];
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let fits = lengths.iter().all(|(part, length)| part.len() == *length && is_hex(part));
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    (is_whole && fits && version != "ff" && !is_zero(trace_id) && !is_zero(parent_id)).then_some(head)
}

fn fresh() -> String {
    let mut bytes = [0_u8; 24];
    rand::rng().fill_bytes(&mut bytes);
    // Ids of zeros are invalid; one set bit rules them out.
    bytes[0] |= 1;
    bytes[16] |= 1;
    format!("00-{}-{}-01", hex::encode(&bytes[..16]), hex::encode(&bytes[16..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_goes_on_and_anything_else_begins_a_new_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let with = |text: &str| {
            parent(&HeaderMap::from_iter([(TRACEPARENT.parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(with(good), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            let made = with(bad);
            assert_ne!(made, bad);
            assert_eq!(valid(&made), Some(&made[..]), "{bad}");
        }
        assert_eq!(with("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").len(), 55);
    }
}
