//! Cursor paging: a cursor names the last entry shown, so new entries at the head move nothing.

use crate::error::Error;
use crate::timeline::Position;

/// Most items of a page.
pub const LIMIT_MAX: usize = 200;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items wanted; moved into 1..=[`LIMIT_MAX`].
    pub limit: usize,
    /// [`Page::next`] of the page before; nothing for the first page.
    pub cursor: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: 50, cursor: None }
    }
}

impl PageRequest {
    pub(crate) fn limit(&self) -> usize {
        self.limit.clamp(1, LIMIT_MAX)
    }

    pub(crate) fn position(&self) -> Result<Option<Position>, Error> {
        self.cursor.as_deref().map(read_position).transpose()
    }

    /// The id after which a list by id goes on.
    pub(crate) fn id(&self) -> Result<String, Error> {
        Ok(self.position()?.map(|position| position.id).unwrap_or_default())
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items. There may be fewer than asked for although more follow.
    pub items: Vec<T>,
    /// Cursor of the next page; nothing at the end of the list.
    pub next: Option<String>,
}

/// The cursor after `position`. Opaque to callers.
pub(crate) fn cursor(position: &Position) -> String {
    hex::encode(format!("1.{}.{}", position.at_ms, position.id))
}

fn read_position(cursor: &str) -> Result<Position, Error> {
    let bytes = hex::decode(cursor).map_err(|_| Error::Cursor)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Cursor)?;
    let (at_ms, id) = text.strip_prefix("1.").and_then(|rest| rest.split_once('.')).ok_or(Error::Cursor)?;
    Ok(Position { at_ms: at_ms.parse().map_err(|_| Error::Cursor)?, id: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_the_position_it_was_made_of() {
        for (at_ms, id) in [(0, ""), (1_790_000_000_123, "a.b.c"), (-5, "ü"), (i64::MAX, "x")] {
            let position = Position { at_ms, id: id.to_owned() };
            let request = PageRequest { limit: 1, cursor: Some(cursor(&position)) };
            assert_eq!(request.position().unwrap(), Some(position));
        }
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let foreign =
            ["", "zz", "00", "ff", &hex::encode("2.1.a"), &hex::encode("1.x.a"), &hex::encode("1.1")];
        for cursor in foreign {
            let request = PageRequest { limit: 1, cursor: Some(cursor.to_owned()) };
            assert!(matches!(request.position(), Err(Error::Cursor)), "{cursor}");
        }
    }

    #[test]
    fn limits_are_moved_into_range() {
        let limit = |limit| PageRequest { limit, cursor: None }.limit();
        assert_eq!((limit(0), limit(7), limit(usize::MAX)), (1, 7, LIMIT_MAX));
    }
}
