//! Operations between two of ours, packed: by column, compressed. What a `sync-response` or an `op` says, in a tenth of its bytes.
//!
//! ```text
//! message   = extent, ids, [covers], size, method, body       ids: the replicas that are named; body: LZ4 where that is shorter
//! body      = names, transactions, shapes, operations, cells  names: of tables and columns
//! shape     = kind, table, columns of pk, values and prev     operations of one shape stand in one set of columns
//! operation = shape, transaction, index                       each a column of differences to the operation before
//! ```
//!
//! An operation's clock value is that of its transaction and its index, and a key that stands in the values is not repeated. Cells are laid out as
//! [`cells`] says. Both sides say in `hello` that they read [`VERSION`]; without that they speak JSON, which means the same.
//!
//! Invariant: whatever the bytes are, reading them takes no more memory than `size`, which is bounded and is known before anything is unpacked.

mod cells;
mod read;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use crate::frame::MAX_MESSAGE_BYTES;
use crate::{MAX_ORIGINS, MAX_RANGES, MAX_SEQ, Operation, ReplicaId, SeqRanges, VersionVector};
use wire::{Reader, Writer};

/// Version of this encoding.
pub const VERSION: u32 = 1;

/// Most memory that the operations of one message may take, in bytes: one row of 16 MB as key, new and old values fits twice.
pub const MAX_SIZE_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// What an operation takes beside its cells, and a cell beside its content, in bytes.
const OPERATION_BYTES: usize = 256;
const CELL_BYTES: usize = 48;

/// Most replicas that one message names: as many as a vector has, and as many again who wrote what others adopted.
const MAX_IDS: usize = 2 * MAX_ORIGINS;

/// A byte of LZ4 stands for no more than these.
const LZ4_MOST: usize = 255;

const STORED: u8 = 0;
const LZ4: u8 = 1;

/// Shorter bodies are not worth compressing, in bytes.
const COMPRESS_FROM_BYTES: usize = 256;

/// How the operations of a message belong to those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// They are all, and stand for these dots.
    Whole(VersionVector),
    /// Others of the series follow.
    Part,
    /// They are the last of the series, which stands for these dots.
    End(VersionVector),
}

/// Why bytes are no packed operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// They end too early, go on too long, or name what is not there.
    #[error("packed operations that cannot be read")]
    Malformed,
    /// They would take more memory than they say, or than may be.
    #[error("packed operations that take more memory than they say, or than {MAX_SIZE_BYTES} bytes")]
    TooLarge,
}

/// A message whose operations are still packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    extent: Extent,
    size_bytes: usize,
    ids: Vec<ReplicaId>,
    bytes: Vec<u8>,
    body_at: usize,
}

/// Packs operations. `None` where they are too large for a message, or one of them does not say which transaction it belongs to: they travel as
/// JSON, where that is told.
#[must_use]
pub fn pack(operations: &[Operation], extent: &Extent) -> Option<Vec<u8>> {
    let (covers, mark) = match extent {
        Extent::Whole(covers) => (Some(covers), 0),
        Extent::Part => (None, 1),
        Extent::End(covers) => (Some(covers), 2),
    };
    let (body, size_bytes, mut ids) = write::body(operations)?;
    let covers = covers.map(|covers| write_vector(covers, &mut ids));
    if ids.list().len() > MAX_IDS || size_bytes > MAX_SIZE_BYTES {
        return None;
    }
    let mut out = Writer::default();
    out.byte(mark);
    out.count(ids.list().len());
    ids.list().iter().for_each(|id| out.id(id));
    out.raw(&covers.unwrap_or_default());
    out.count(size_bytes);
    let compressed = (body.len() >= COMPRESS_FROM_BYTES).then(|| lz4_flex::block::compress(&body));
    match compressed.filter(|compressed| compressed.len() < body.len()) {
        Some(compressed) => {
            out.byte(LZ4);
            out.count(body.len());
            out.raw(&compressed);
        }
        None => {
            out.byte(STORED);
            out.raw(&body);
        }
    }
    Some(out.bytes)
}

impl Packed {
    /// Reads all but the operations.
    ///
    /// # Errors
    /// [`PackedError`]; never panics, whatever the bytes.
    pub fn read(bytes: Vec<u8>) -> Result<Self, PackedError> {
        let mut reader = Reader::new(&bytes);
        let mark = reader.byte()?;
        let mut ids = Vec::new();
        let id_count = reader.count()?;
        if id_count > MAX_IDS {
            return Err(PackedError::TooLarge);
        }
        for _ in 0..id_count {
            ids.push(reader.id()?);
        }
        let extent = match mark {
            0 => Extent::Whole(read_vector(&mut reader, &ids)?),
            1 => Extent::Part,
            2 => Extent::End(read_vector(&mut reader, &ids)?),
            _ => return Err(PackedError::Malformed),
        };
        let size_bytes = usize::try_from(reader.varint()?).map_err(|_| PackedError::TooLarge)?;
        if size_bytes > MAX_SIZE_BYTES {
            return Err(PackedError::TooLarge);
        }
        let body_at = bytes.len() - reader.rest().len();
        Ok(Self { extent, size_bytes, ids, bytes, body_at })
    }

    /// How the operations belong to those of others.
    #[must_use]
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// The most memory that the operations take, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The message as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The operations.
    ///
    /// # Errors
    /// [`PackedError`]; never panics, whatever the bytes.
    pub fn operations(&self) -> Result<Vec<Operation>, PackedError> {
        let mut reader = Reader::new(&self.bytes[self.body_at..]);
        match reader.byte()? {
            STORED => read::body(reader.rest(), &self.ids, self.size_bytes),
            LZ4 => {
                let body_bytes = usize::try_from(reader.varint()?).map_err(|_| PackedError::TooLarge)?;
                if body_bytes > self.size_bytes || body_bytes / LZ4_MOST > reader.rest().len() {
                    return Err(PackedError::TooLarge);
                }
                let body =
                    lz4_flex::block::decompress(reader.rest(), body_bytes).map_err(|_| PackedError::Malformed)?;
                read::body(&body, &self.ids, self.size_bytes)
            }
            _ => Err(PackedError::Malformed),
        }
    }
}

/// Origins as numbers of ids, ranges as gap and length.
fn write_vector<'a>(vector: &'a VersionVector, ids: &mut write::Numbered<'a, ReplicaId>) -> Vec<u8> {
    let mut out = Writer::default();
    out.count(vector.origin_count());
    for (origin, ranges) in vector.iter() {
        out.count(ids.number(origin));
        out.count(ranges.count());
        let mut next = 1;
        for (first, last) in ranges.iter() {
            out.varint(first - next);
            out.varint(last - first);
            next = last + 1;
        }
    }
    out.bytes
}

fn read_vector(reader: &mut Reader<'_>, ids: &[ReplicaId]) -> Result<VersionVector, PackedError> {
    let (mut vector, mut range_count) = (VersionVector::default(), 0);
    let origin_count = reader.count()?;
    if origin_count > MAX_ORIGINS {
        return Err(PackedError::TooLarge);
    }
    for _ in 0..origin_count {
        let origin = ids.get(reader.index()?).ok_or(PackedError::Malformed)?;
        let (mut ranges, mut next) = (SeqRanges::default(), 1u64);
        for _ in 0..reader.count()? {
            range_count += 1;
            if range_count > MAX_RANGES {
                return Err(PackedError::TooLarge);
            }
            let first = next.checked_add(reader.varint()?).ok_or(PackedError::Malformed)?;
            let last =
                first.checked_add(reader.varint()?).filter(|last| *last <= MAX_SEQ).ok_or(PackedError::Malformed)?;
            ranges.insert(first, last);
            next = last + 1;
        }
        if vector.origin(origin).is_some() {
            return Err(PackedError::Malformed);
        }
        vector.replace_origin(origin.clone(), ranges);
    }
    Ok(vector)
}
