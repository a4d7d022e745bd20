//! Numbers and names as bytes: LEB128, zigzag, and replica ids, of which those that are 32 hexadecimal digits take 16 bytes.

use super::PackedError;
use crate::{MAX_ID_BYTES, ReplicaId};

/// Bytes being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.varint(count as u64);
    }

    /// A number from `before` to `after`, either of which may be the larger.
    pub(super) fn step(&mut self, before: u64, after: u64) {
        let step = after.wrapping_sub(before).cast_signed();
        self.varint((step << 1 ^ step >> 63).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.raw(text);
    }

    pub(super) fn id(&mut self, id: &ReplicaId) {
        match unhex(id.as_str().as_bytes()) {
            Some(bits) => {
                self.byte(0);
                self.raw(&bits);
            }
            None => self.text(id.as_str().as_bytes()),
        }
    }
}

/// Bytes being read, none of them trusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], PackedError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(PackedError::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PackedError> {
        let (byte, rest) = self.bytes.split_first().ok_or(PackedError::Malformed)?;
        self.bytes = rest;
        Ok(*byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, PackedError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(PackedError::Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(PackedError::Malformed)
    }

    /// A place in a list.
    pub(super) fn index(&mut self) -> Result<usize, PackedError> {
        usize::try_from(self.varint()?).map_err(|_| PackedError::Malformed)
    }

    /// How many things follow, each of one byte at least: nobody is made to wait for more than can be there.
    pub(super) fn count(&mut self) -> Result<usize, PackedError> {
        self.index().and_then(|count| if count <= self.bytes.len() { Ok(count) } else { Err(PackedError::Malformed) })
    }

    pub(super) fn step(&mut self, before: u64) -> Result<u64, PackedError> {
        let zigzag = self.varint()?;
        let step = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Ok(before.wrapping_add(step))
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], PackedError> {
        let count = self.count()?;
        self.take(count)
    }

    pub(super) fn id(&mut self) -> Result<ReplicaId, PackedError> {
        let length = self.count()?;
        let id = if length == 0 {
            let bits = self.take(16)?.try_into().map_err(|_| PackedError::Malformed)?;
            Ok(ReplicaId::from_random(u128::from_be_bytes(bits)))
        } else if length <= MAX_ID_BYTES {
            ReplicaId::new(std::str::from_utf8(self.take(length)?).map_err(|_| PackedError::Malformed)?)
        } else {
            return Err(PackedError::Malformed);
        };
        id.map_err(|_| PackedError::Malformed)
    }
}

/// The 16 bytes that are written as these 32 digits.
pub(super) fn unhex(digits: &[u8]) -> Option<[u8; 16]> {
    let digits: &[u8; 32] = digits.try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bits = [0; 16];
    for (byte, pair) in bits.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bits)
}
