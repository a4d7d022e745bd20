//! Framing between two of ours: a message larger than one frame travels as several binary ones, and one that is no text in one or more of them.
//!
//! Without message interleaving a DataChannel message above 16 KiB holds up everything behind it (RFC 8831 6.6), and above the peer's
//! `maxMessageSize` it cannot be sent at all. The channel is ordered and reliable, so one leading byte is enough: 1 = more follows, 0 = the last
//! of a text, 2 = the last of [packed](crate::packed) operations.

/// Largest frame, in bytes, its leading byte included.
pub const FRAME_BYTES: usize = 16 * 1024;

/// Largest message that is put together again, in bytes: a row of 16 MB as base64, as key, new and old values of one operation.
pub const MAX_MESSAGE_BYTES: usize = 80 * 1024 * 1024;

const LAST: u8 = 0;
const MORE: u8 = 1;
const LAST_PACKED: u8 = 2;

/// A message as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// JSON.
    Text(String),
    /// [Packed](crate::packed) operations.
    Packed(Vec<u8>),
}

impl Body {
    /// How long it is, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes().len()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Packed(bytes) => bytes,
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Cuts a message into frames.
pub fn split(message: &Body) -> impl Iterator<Item = Vec<u8>> + '_ {
    let last = if matches!(message, Body::Text(_)) { LAST } else { LAST_PACKED };
    let mut chunks = message.bytes().chunks(FRAME_BYTES - 1).peekable();
    std::iter::from_fn(move || {
        let chunk = chunks.next()?;
        let mut frame = Vec::with_capacity(chunk.len() + 1);
        frame.push(if chunks.peek().is_some() { MORE } else { last });
        frame.extend_from_slice(chunk);
        Some(frame)
    })
}

/// Why frames make no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Empty, too long, or with an unknown leading byte.
    #[error("a binary frame of {0} bytes that is none of ours")]
    Shape(usize),
    /// More than [`MAX_MESSAGE_BYTES`].
    #[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    /// The bytes of a text are not UTF-8.
    #[error("a message that is not UTF-8")]
    NotText,
}

/// Puts the frames of one channel together again.
#[derive(Debug, Default)]
pub struct Reassembly {
    bytes: Vec<u8>,
}

impl Reassembly {
    /// How much of an unfinished message is held, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next frame; gives the message that it ends.
    ///
    /// # Errors
    /// [`FrameError`]; the channel's frames cannot be trusted after one, so close it.
    pub fn push(&mut self, frame: &[u8]) -> Result<Option<Body>, FrameError> {
        let (mark, chunk) = match frame {
            [mark @ (LAST | LAST_PACKED), chunk @ ..] => (*mark, chunk),
            [MORE, chunk @ ..] if !chunk.is_empty() => (MORE, chunk),
            _ => return Err(FrameError::Shape(frame.len())),
        };
        if frame.len() > FRAME_BYTES {
            return Err(FrameError::Shape(frame.len()));
        }
        if self.bytes.len() + chunk.len() > MAX_MESSAGE_BYTES {
            return Err(FrameError::TooLarge);
        }
        self.bytes.extend_from_slice(chunk);
        if mark == MORE {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        if mark == LAST_PACKED {
            return Ok(Some(Body::Packed(bytes)));
        }
        String::from_utf8(bytes).map(|text| Some(Body::Text(text))).map_err(|_| FrameError::NotText)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_make_the_message_again(text in ".{1,20}", times in 1..6000usize, packed in any::<bool>()) {
            let text = text.repeat(times);
            let message = if packed { Body::Packed(text.into_bytes()) } else { Body::Text(text) };
            let mut reassembly = Reassembly::default();
            let mut whole = None;
            for frame in split(&message) {
                prop_assert!(frame.len() <= FRAME_BYTES && whole.is_none());
                whole = reassembly.push(&frame).unwrap();
            }
            prop_assert_eq!(whole, Some(message));
        }

        #[test]
        fn any_frames_are_refused_or_taken(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut reassembly = Reassembly::default();
            for frame in frames {
                let _ = reassembly.push(&frame);
            }
        }
    }

    #[test]
    fn reassembly_is_capped() {
        let mut reassembly = Reassembly::default();
        let mut frame = vec![b'x'; FRAME_BYTES];
        frame[0] = MORE;
        let error = (0..=MAX_MESSAGE_BYTES / (FRAME_BYTES - 1)).find_map(|_| reassembly.push(&frame).err());
        assert_eq!(error, Some(FrameError::TooLarge));
        assert_eq!(reassembly.push(&[9, 9]), Err(FrameError::Shape(2)));
        assert_eq!(reassembly.push(&[0u8; FRAME_BYTES + 1]), Err(FrameError::Shape(FRAME_BYTES + 1)));
    }
}
