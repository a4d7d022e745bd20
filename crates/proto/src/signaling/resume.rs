//! The secret by which a client takes back its own name from a socket of its own that died without a word.

use std::fmt;

/// A secret that a client chose. Compared, never looked into; nothing here prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeKey(Box<str>);

impl ResumeKey {
    /// Fewest characters: as many hexadecimal digits as make 64 bits.
    pub const MIN_CHARS: usize = 16;
    /// Most characters.
    pub const MAX_CHARS: usize = 128;

    /// A key of printable ASCII characters without spaces. None: too short, too long, or others among them.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let long_enough = (Self::MIN_CHARS..=Self::MAX_CHARS).contains(&text.len());
        (long_enough && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The secret itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey(secret)")
    }
}
