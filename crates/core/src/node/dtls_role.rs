//! Which side of a connection began its DTLS handshake: what the first answer says (`a=setup`, RFC 8842), for as long as the connection lasts.
//!
//! Later descriptions are sent with it. Browsers offer `actpass` again, a choice that there no longer is; Firefox takes it up and answers `active` where
//! it is passive, which Chromium refuses, and with it the connection.

use super::io::SessionDescription;

const SETUP: &str = "a=setup:";

/// The part that one side has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DtlsRole {
    Active,
    Passive,
}

impl DtlsRole {
    /// The part that whoever sends this answer takes.
    pub(super) fn of(answer: &SessionDescription) -> Option<Self> {
        match answer.sdp.lines().find_map(|line| line.strip_prefix(SETUP))?.trim_end() {
            "active" => Some(Self::Active),
            "passive" => Some(Self::Passive),
            _ => None,
        }
    }

    /// The part of the other side.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
        }
    }

    /// The same description, sent by whoever has this part.
    pub(super) fn state(self, description: SessionDescription) -> SessionDescription {
        let role = match self {
            Self::Active => "active",
            Self::Passive => "passive",
        };
        let mut sdp = String::with_capacity(description.sdp.len());
        for line in description.sdp.split_inclusive('\n') {
            if line.starts_with(SETUP) {
                sdp.push_str(SETUP);
                sdp.push_str(role);
                sdp.push_str(&line[line.trim_end().len()..]);
            } else {
                sdp.push_str(line);
            }
        }
        SessionDescription { sdp, ..description }
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::DescriptionKind;
    use super::*;

    fn answer(setup: &str) -> SessionDescription {
        let sdp = format!("v=0\r\n{setup}a=mid:0\r\n{setup}");
        SessionDescription { kind: DescriptionKind::Answer, sdp }
    }

    #[test]
    fn an_answer_says_who_begins() {
        let role = |setup: &str| DtlsRole::of(&answer(setup));
        assert_eq!(role("a=setup:active\r\n"), Some(DtlsRole::Active));
        assert_eq!(role("a=setup:passive\n"), Some(DtlsRole::Passive));
        for none in ["", "a=setup:actpass\r\n", "a=setup:holdconn\r\n", "b=setup:active\r\n"] {
            assert_eq!(role(none), None, "{none}");
        }
    }

    #[test]
    fn every_section_states_it_and_nothing_else_changes() {
        let stated = DtlsRole::Passive.state(answer("a=setup:active\r\n"));
        assert_eq!(stated, answer("a=setup:passive\r\n"));
        assert_eq!(DtlsRole::Active.state(answer("a=setup:actpass\n")), answer("a=setup:active\n"));
        assert_eq!(DtlsRole::Active.state(answer("")), answer(""));
    }
}
