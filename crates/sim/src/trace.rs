//! What happened, for people. Off unless somebody will read it: a seed that failed is simply run again with its trace on.

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What.
    pub text: String,
}

/// The course of events.
#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    lines: Vec<Line>,
}

/// Longer texts are cut.
const MAX_TEXT: usize = 600;

impl Trace {
    /// One that keeps what it is told.
    #[must_use]
    pub fn on() -> Self {
        Self { on: true, lines: Vec::new() }
    }

    /// Keeps a line; the text is made only if somebody will read it.
    pub fn note(&mut self, at_ms: u64, text: impl FnOnce() -> String) {
        if self.on {
            let mut text = text();
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
                text.push('…');
            }
            self.lines.push(Line { at_ms, text });
        }
    }

    /// What happened, in order.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}
