//! Deterministic ids: any producer can compute the id of its message, and the same fact always has the
//! same event id.

use uuid::Uuid;

/// Namespace of message ids. Published; never changes.
pub const MESSAGE_NAMESPACE: Uuid = Uuid::from_u128(0x3f0c_9a1e_7d52_5b8e_9b64_51d0_c2a7_e8f1);

/// Namespace of event ids. Never changes.
pub const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x8a6e_0b57_21c4_5f3d_8d19_4e7b_90f6_3ac2);

/// The id of a message: `UUIDv5(MESSAGE_NAMESPACE, session_id ‖ 0x00 ‖ idempotency_key)`.
pub fn message_id(session_id: &str, idempotency_key: &str) -> Uuid {
    let mut name = Vec::with_capacity(session_id.len() + 1 + idempotency_key.len());
    name.extend_from_slice(session_id.as_bytes());
    name.push(0);
    name.extend_from_slice(idempotency_key.as_bytes());
    Uuid::new_v5(&MESSAGE_NAMESPACE, &name)
}

/// The id of a fact, from the parts that make it that fact and no other.
///
/// Parts are joined with 0x1f, so no two lists of parts give the same name unless a part holds that byte.
pub fn event_id(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&EVENT_NAMESPACE, parts.join("\u{1f}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These vectors are published in `schemas/README.md`: they must never change.
    #[test]
    fn message_id_vectors_hold() {
        let vectors = [
            ("demo-01", "order-1", "9d59d6c6-fdc0-5ae7-a88d-4054d84997f2"),
            ("s", "k", "b7bc79d3-ae87-5556-931f-4c2fc6b0cd0c"),
            ("", "", "3f0fd838-e4f2-5fc1-a8ea-4c774e250a83"),
            ("sesión", "🔑", "7265c8f3-0860-56d7-ac2a-45a8cffa48ab"),
        ];
        for (session, key, expected) in vectors {
            assert_eq!(message_id(session, key).to_string(), expected, "{session} {key}");
        }
    }

    #[test]
    fn session_and_key_cannot_run_together() {
        assert_ne!(message_id("ab", "c"), message_id("a", "bc"));
    }
}
