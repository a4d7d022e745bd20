//! An answer to a sync-request on its way: the parts of a delta, read from the log when a channel takes one, and its end as soon as what it stands for is
//! saved.

use rtc_battery_proto::VersionVector;
use rtc_battery_proto::frame::{Body, FRAME_BYTES};
use rtc_battery_proto::packed::Extent;

use super::live::{encode, progress};
use super::session::Saved;
use super::{MAX_PACKED_PART_BYTES, PART_BYTES};
use crate::Replica;
use crate::replica::{DeltaEnd, DeltaReader, StorageError};

#[derive(Debug)]
pub(super) struct Answer {
    reader: DeltaReader,
    /// About how much is read for the next part, in bytes of JSON.
    part_bytes: usize,
    /// The next part, when it was said how far the answer is with it.
    part: Option<Body>,
    /// Whether the peer has a part of it.
    is_begun: bool,
    /// The last part, while what it stands for is not saved.
    end: Option<(Body, DeltaEnd)>,
    /// Whether the floor was told for it.
    tells_floor: bool,
    /// Operations of the parts that were read.
    done: u64,
    /// About how many there are in all, where they are more than one part.
    total: Option<u64>,
}

/// What is to be said next.
#[derive(Debug)]
pub(super) enum Next {
    /// It waits until more is saved.
    Nothing,
    Part(Body),
    /// Up to where we have forgotten.
    Floor,
    /// The last word of it, and what the peer has then.
    End(Body, VersionVector),
}

impl Answer {
    /// For a peer that has `since`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn begin(replica: &Replica, since: &VersionVector) -> Result<Self, StorageError> {
        let (part, end, total) = Default::default();
        let reader = replica.delta(since)?;
        Ok(Self { reader, part_bytes: PART_BYTES, part, is_begun: false, end, tells_floor: false, done: 0, total })
    }

    /// Whether it cannot be ended as it was begun.
    pub(super) fn is_cut(&self, replica: &Replica) -> bool {
        replica.is_cut(&self.reader)
    }

    pub(super) fn since(&self) -> &VersionVector {
        self.reader.since()
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// # Errors
    /// [`StorageError`].
    pub(super) fn next(&mut self, replica: &Replica, saved: &Saved, reads_packed: bool) -> Result<Next, StorageError> {
        if let Some(part) = self.part.take() {
            self.is_begun = true;
            return Ok(Next::Part(part));
        }
        if self.end.is_none() {
            let part = replica.read_delta(&mut self.reader, self.part_bytes)?;
            let count = part.operations.len() as u64;
            let extent = part.end.as_ref().map_or(Extent::Part, |end| Extent::End(end.covers.clone()));
            let message = encode(part.operations, extent, reads_packed);
            if reads_packed {
                self.part_bytes = fitting(self.part_bytes, message.len_bytes());
            }
            let Some(end) = part.end else {
                let total = match self.total {
                    Some(total) => total,
                    None => count + replica.rest_of_delta(&self.reader)?,
                };
                let progress = progress(self.done, total);
                self.done += count;
                self.total = Some(total);
                self.part = Some(message);
                return Ok(Next::Part(progress));
            };
            self.end = Some((message, end));
        }
        if self.end.as_ref().is_some_and(|(_, end)| end.version > saved.version) {
            return Ok(Next::Nothing);
        }
        if self.since().is_empty() && !replica.floor().is_empty() && !std::mem::replace(&mut self.tells_floor, true) {
            // What is not in it may have been deleted and forgotten. Said over the same channel, or it could come later than the end.
            return Ok(Next::Floor);
        }
        Ok(self.end.take().map_or(Next::Nothing, |(message, end)| Next::End(message, end.covers)))
    }
}

/// How much to read where `read_bytes` of JSON came to `sent_bytes`, so that one frame holds it.
fn fitting(read_bytes: usize, sent_bytes: usize) -> usize {
    let fitting_bytes = read_bytes.saturating_mul(FRAME_BYTES) / sent_bytes.max(1);
    fitting_bytes.clamp(PART_BYTES, MAX_PACKED_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_longer_where_it_packs_well_and_no_longer_than_a_frame_otherwise() {
        // Rows that are alike; rows of text; bytes at random.
        assert_eq!(fitting(PART_BYTES, 1_000), MAX_PACKED_PART_BYTES);
        assert_eq!(fitting(MAX_PACKED_PART_BYTES, 2 * FRAME_BYTES), MAX_PACKED_PART_BYTES / 2);
        assert_eq!(fitting(PART_BYTES, 40_000), PART_BYTES);
        assert_eq!(fitting(MAX_PACKED_PART_BYTES, 0), MAX_PACKED_PART_BYTES);
    }
}
