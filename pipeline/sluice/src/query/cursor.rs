//! Paging cursors: opaque to the caller, good for one list only.
//!
//! A cursor is the store's position with a check over the list it belongs to, so that a cursor of another
//! list, or a mistyped one, is refused instead of giving a wrong page. It is no credential: the list itself
//! is checked against the caller's tenant on every page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 8;
/// Longest cursor that is looked at, characters.
const LENGTH_MAX: usize = 2_048;

/// The cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of this list; leave it out to begin again")]
pub(crate) struct Invalid;

/// The cursor for `position` in the list named `list`.
pub(crate) fn encode(list: &str, position: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(1 + CHECK_BYTES + position.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&check(list, position));
    bytes.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position that `cursor` stands for in the list named `list`.
pub(crate) fn decode(list: &str, cursor: &str) -> Result<Vec<u8>, Invalid> {
    if cursor.len() > LENGTH_MAX {
        return Err(Invalid);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Invalid)?;
    let (version, rest) = bytes.split_first().ok_or(Invalid)?;
    if *version != VERSION || rest.len() < CHECK_BYTES {
        return Err(Invalid);
    }
    let (sum, position) = rest.split_at(CHECK_BYTES);
    if sum == check(list, position) { Ok(position.to_vec()) } else { Err(Invalid) }
}

fn check(list: &str, position: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(list.as_bytes());
    hash.update([0]);
    hash.update(position);
    let mut sum = [0; CHECK_BYTES];
    sum.copy_from_slice(&hash.finalize()[..CHECK_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let cursor = encode("messages/s1", b"pos");
        assert_eq!(decode("messages/s1", &cursor).as_deref(), Ok(&b"pos"[..]));
        assert_eq!(decode("messages/s2", &cursor), Err(Invalid));
    }

    proptest! {
        #[test]
        fn any_position_comes_back(list in ".{0,40}", position in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&list, &encode(&list, &position)), Ok(position));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = decode("list", &text);
        }
    }
}
