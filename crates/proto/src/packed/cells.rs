//! One column's values: what type each has, then all integers, all reals, all UUIDs, all texts, all blobs.
//!
//! Each kind is laid out so that LZ4, which finds repeated bytes and no patterns, has something to find: integers as differences, reals byte by
//! byte (all first bytes, all second ones), texts as their lengths and then their bytes. A text that is a UUID in lower case is its 16 bytes, which
//! nothing makes shorter.

use super::wire::{Reader, Writer, unhex};
use super::{CELL_BYTES, PackedError};
use crate::SqlValue;

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const UUID: u8 = 5;
/// Types differ: each is told.
const MIXED: u8 = 0xff;

/// Where a UUID has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// What a value takes in memory, in bytes.
pub(super) fn size_bytes(value: &SqlValue) -> usize {
    CELL_BYTES + value.size_bytes()
}

/// Memory that is left for what is being read.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    pub(super) fn take(&mut self, count: usize, each_bytes: usize) -> Result<(), PackedError> {
        let left = count.checked_mul(each_bytes).and_then(|bytes| self.0.checked_sub(bytes));
        self.0 = left.ok_or(PackedError::TooLarge)?;
        Ok(())
    }
}

pub(super) fn write(values: &[&SqlValue], out: &mut Writer) {
    let kinds: Vec<u8> = values.iter().map(|value| kind(value)).collect();
    match kinds.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => out.byte(*first),
        _ => {
            out.byte(MIXED);
            out.raw(&kinds);
        }
    }
    let mut before = 0;
    for value in values {
        if let SqlValue::Integer(integer) = value {
            out.step(before, integer.cast_unsigned());
            before = integer.cast_unsigned();
        }
    }
    let reals: Vec<[u8; 8]> = values.iter().filter_map(|value| real_bytes(value)).collect();
    for place in 0..8 {
        out.bytes.extend(reals.iter().map(|bytes| bytes[place]));
    }
    values.iter().filter_map(|value| uuid(value)).for_each(|bits| out.raw(&bits));
    for wanted in [TEXT, BLOB] {
        let contents = || {
            let of_kind = values.iter().zip(&kinds).filter(move |(_, kind)| **kind == wanted);
            of_kind.filter_map(|(value, _)| match value {
                SqlValue::Text(bytes) | SqlValue::Blob(bytes) => Some(bytes),
                _ => None,
            })
        };
        contents().for_each(|bytes| out.count(bytes.len()));
        contents().for_each(|bytes| out.raw(bytes));
    }
}

/// Reads `count` values.
pub(super) fn read(reader: &mut Reader<'_>, count: usize, budget: &mut Budget) -> Result<Vec<SqlValue>, PackedError> {
    budget.take(count, CELL_BYTES)?;
    let first = reader.byte()?;
    let kinds = if first == MIXED { reader.take(count)? } else { &[] };
    let is_one_of_them = |kind: u8| kind <= UUID;
    if !(first == MIXED || is_one_of_them(first)) || !kinds.iter().copied().all(is_one_of_them) {
        return Err(PackedError::Malformed);
    }
    let kind_of = |n: usize| kinds.get(n).copied().unwrap_or(first);
    let count_of = |kind: u8| {
        if first == MIXED {
            kinds.iter().filter(|other| **other == kind).count()
        } else if first == kind {
            count
        } else {
            0
        }
    };
    budget.take(count_of(INTEGER) + count_of(REAL), 8)?;
    let (mut integers, mut before) = (Vec::new(), 0);
    for _ in 0..count_of(INTEGER) {
        before = reader.step(before)?;
        integers.push(before.cast_signed());
    }
    let real_count = count_of(REAL);
    let planes = reader.take(real_count.checked_mul(8).ok_or(PackedError::TooLarge)?)?;
    budget.take(count_of(UUID), 36)?;
    let mut uuids = reader.take(count_of(UUID).checked_mul(16).ok_or(PackedError::TooLarge)?)?.chunks_exact(16);
    let mut texts = contents(reader, count_of(TEXT), budget)?.into_iter();
    let mut blobs = contents(reader, count_of(BLOB), budget)?.into_iter();
    let (mut integers, mut reals) = (integers.into_iter(), 0..real_count);
    let mut values = Vec::with_capacity(count);
    for n in 0..count {
        let value = match kind_of(n) {
            INTEGER => integers.next().map(SqlValue::Integer),
            REAL => reals.next().map(|n| real(planes, real_count, n)).transpose()?,
            TEXT => texts.next().map(|bytes| SqlValue::Text(bytes.to_vec())),
            BLOB => blobs.next().map(|bytes| SqlValue::Blob(bytes.to_vec())),
            UUID => uuids.next().map(|bits| SqlValue::Text(uuid_text(bits))),
            _ => Some(SqlValue::Null),
        };
        values.push(value.ok_or(PackedError::Malformed)?);
    }
    Ok(values)
}

fn contents<'a>(reader: &mut Reader<'a>, count: usize, budget: &mut Budget) -> Result<Vec<&'a [u8]>, PackedError> {
    let lengths = (0..count).map(|_| reader.index()).collect::<Result<Vec<_>, _>>()?;
    let mut contents = Vec::with_capacity(count);
    for length in lengths {
        budget.take(1, length)?;
        contents.push(reader.take(length)?);
    }
    Ok(contents)
}

fn kind(value: &SqlValue) -> u8 {
    match value {
        SqlValue::Null => NULL,
        SqlValue::Integer(_) => INTEGER,
        SqlValue::Real(_) => REAL,
        SqlValue::Text(_) if uuid(value).is_some() => UUID,
        SqlValue::Text(_) => TEXT,
        SqlValue::Blob(_) => BLOB,
    }
}

fn real_bytes(value: &SqlValue) -> Option<[u8; 8]> {
    match value {
        SqlValue::Real(real) => Some(real.to_be_bytes()),
        _ => None,
    }
}

/// The `n`th of `count` reals. NaN is none that SQLite knows.
fn real(planes: &[u8], count: usize, n: usize) -> Result<SqlValue, PackedError> {
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = planes[place * count + n];
    }
    let real = f64::from_be_bytes(bytes);
    if real.is_nan() { Err(PackedError::Malformed) } else { Ok(SqlValue::Real(real)) }
}

fn uuid(value: &SqlValue) -> Option<[u8; 16]> {
    let SqlValue::Text(text) = value else { return None };
    let text: &[u8; 36] = text.as_slice().try_into().ok()?;
    if DASHES.iter().any(|place| text[*place] != b'-') {
        return None;
    }
    let mut digits = [0; 32];
    let rest = text.iter().enumerate().filter(|(place, _)| !DASHES.contains(place));
    digits.iter_mut().zip(rest).for_each(|(digit, (_, byte))| *digit = *byte);
    unhex(&digits)
}

fn uuid_text(bits: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(36);
    for byte in bits {
        if DASHES.contains(&text.len()) {
            text.push(b'-');
        }
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}
