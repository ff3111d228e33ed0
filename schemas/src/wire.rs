//! Avro's binary encoding for the shapes our schemas use.
//!
//! The record types in [`crate::generated`] call these functions field by field, without a tree of values in
//! between. Every record is also checked against `apache-avro` in the tests: same bytes out, same values in.
//! Encoding rules: Avro 1.11 specification, "Binary Encoding".

use std::collections::BTreeMap;

/// Why bytes are not the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("the record ends inside field {field}")]
    Truncated {
        /// Field being read.
        field: &'static str,
    },
    /// A length, index or text is not valid Avro.
    #[error("field {field} is not valid: {what}")]
    Invalid {
        /// Field being read.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Bytes are left after the last field.
    #[error("{bytes} bytes are left after the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Reads one datum from a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

type Read<T> = Result<T, Error>;

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Refuses bytes after the last field.
    pub fn finish(self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Trailing { bytes: self.rest.len() }) }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, n: usize, field: &'static str) -> Read<&'a [u8]> {
        if n > self.rest.len() {
            return Err(Error::Truncated { field });
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    /// A zig-zag variable-length integer.
    pub fn long(&mut self, field: &'static str) -> Read<i64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1, field)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Error::Invalid { field, what: "an integer of more than 10 bytes" })
    }

    /// A 32-bit integer.
    pub fn int(&mut self, field: &'static str) -> Read<i32> {
        i32::try_from(self.long(field)?)
            .map_err(|_| Error::Invalid { field, what: "an int of more than 32 bits" })
    }

    /// A boolean.
    pub fn boolean(&mut self, field: &'static str) -> Read<bool> {
        match self.take(1, field)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Invalid { field, what: "a boolean that is neither 0 nor 1" }),
        }
    }

    /// A double.
    pub fn double(&mut self, field: &'static str) -> Read<f64> {
        let bytes: [u8; 8] = self.take(8, field)?.try_into().map_err(|_| Error::Truncated { field })?;
        Ok(f64::from_le_bytes(bytes))
    }

    fn length(&mut self, field: &'static str) -> Read<usize> {
        usize::try_from(self.long(field)?).map_err(|_| Error::Invalid { field, what: "a negative length" })
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self, field: &'static str) -> Read<Vec<u8>> {
        let n = self.length(field)?;
        Ok(self.take(n, field)?.to_vec())
    }

    /// UTF-8 text.
    pub fn string(&mut self, field: &'static str) -> Read<String> {
        let n = self.length(field)?;
        let bytes = self.take(n, field)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Error::Invalid { field, what: "text that is not UTF-8" })
    }

    /// Index of a union or enum, below `end`.
    pub fn index(&mut self, end: usize, field: &'static str) -> Read<usize> {
        let n = self.length(field)?;
        if n < end { Ok(n) } else { Err(Error::Invalid { field, what: "an index past the schema" }) }
    }

    /// A nullable value: null is the first branch.
    pub fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        if self.index(2, field)? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// Number of items of the next block of an array or map; 0 ends it.
    fn block(&mut self, field: &'static str) -> Read<usize> {
        let n = self.long(field)?;
        if n >= 0 {
            return Ok(n as usize);
        }
        let _size_bytes = self.long(field)?;
        usize::try_from(n.unsigned_abs()).map_err(|_| Error::Invalid { field, what: "a block too long" })
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        let mut items = Vec::new();
        loop {
            let n = self.block(field)?;
            if n == 0 {
                return Ok(items);
            }
            // An item is at least one byte in all our schemas, so a lying count cannot make us reserve.
            if n > self.rest.len() {
                return Err(Error::Truncated { field });
            }
            for _ in 0..n {
                items.push(read(self)?);
            }
        }
    }

    /// A map of text to text.
    pub fn map(&mut self, field: &'static str) -> Read<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        loop {
            let n = self.block(field)?;
            if n == 0 {
                return Ok(map);
            }
            if n > self.rest.len() {
                return Err(Error::Truncated { field });
            }
            for _ in 0..n {
                let key = self.string(field)?;
                map.insert(key, self.string(field)?);
            }
        }
    }
}

/// Appends a zig-zag variable-length integer.
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push((zigzag as u8) | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_long(out, value.len() as i64);
    out.extend_from_slice(value);
}

/// Appends a nullable value.
pub fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            put(out, value);
        }
    }
}

/// Appends an array as one block.
pub fn put_array<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        put_long(out, items.len() as i64);
        for item in items {
            put(out, item);
        }
    }
    out.push(0);
}

/// Appends a map of text to text as one block.
pub fn put_map(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    if !map.is_empty() {
        put_long(out, map.len() as i64);
        for (key, value) in map {
            put_bytes(out, key.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    out.push(0);
}
