//! What processes say to each other, as text: words with a space between them, and a message at the end.
//!
//! Neither names nor digests have spaces in them. A line that cannot be read is from a later version, and is ignored.

use rtc_battery_proto::{PeerId, signaling::ServerMessage};

use crate::{ConnectionId, Notice, Place, ProcessId, Token};

/// What everything of ours in Redis begins with. The number is of the form in which it is kept.
pub(super) const PREFIX: &str = "rtc-signal:1:";

/// What a process tells itself, to know that it is heard.
pub(super) const BEAT: &str = "beat";

pub(super) fn name(process: ProcessId) -> String {
    format!("{:032x}", process.0)
}

pub(super) fn inbox(process: ProcessId) -> String {
    format!("{PREFIX}inbox:{}", name(process))
}

pub(super) fn lease(process: ProcessId) -> String {
    format!("{PREFIX}process:{}", name(process))
}

pub(super) fn relay(process: ProcessId, token: Token, to: &PeerId, message: &ServerMessage) -> String {
    format!("relay {} {} {to} {}", name(process), token.digest(), message.encode())
}

pub(super) fn unknown(token: Token, from: &PeerId, to: &PeerId) -> String {
    format!("unknown {} {from} {to}", token.digest())
}

/// Reads what the scripts and the functions above write.
pub(super) fn read(line: &str) -> Option<Notice> {
    let (kind, rest) = line.split_once(' ')?;
    let mut words = rest.split_ascii_whitespace();
    Some(match kind {
        "entered" => {
            let (token, connection) = (token(words.next())?, connection(words.next())?);
            Notice::Entered { token, connection, others: members(words)? }
        }
        "in-use" => Notice::InUse(connection(words.next())?),
        "full" => Notice::Full(connection(words.next())?),
        "join" => {
            let (token, name, place) = (token(words.next())?, peer(words.next())?, place(&mut words)?);
            Notice::Join { token, name, place }
        }
        "leave" => {
            let (token, name, place) = (token(words.next())?, peer(words.next())?, place(&mut words)?);
            Notice::Leave { token, name, place }
        }
        "present" => Notice::Present { token: token(words.next())?, members: members(words)? },
        "relay" => {
            let mut parts = rest.splitn(4, ' ');
            let (process, token, to) = (process(parts.next())?, token(parts.next())?, peer(parts.next())?);
            Notice::Relay { process, token, to, message: ServerMessage::decode(parts.next()?).ok()? }
        }
        "unknown" => {
            Notice::Unknown { token: token(words.next())?, from: peer(words.next())?, to: peer(words.next())? }
        }
        _ => return None,
    })
}

fn members<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Vec<(PeerId, Place)>> {
    let mut members = Vec::new();
    while let Some(name) = words.next() {
        members.push((peer(Some(name))?, place(&mut words)?));
    }
    Some(members)
}

fn place<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Place> {
    Some(Place { process: process(words.next())?, connection: connection(words.next())? })
}

fn process(word: Option<&str>) -> Option<ProcessId> {
    u128::from_str_radix(word?, 16).ok().map(ProcessId)
}

fn token(word: Option<&str>) -> Option<Token> {
    Token::from_digest(word?)
}

fn peer(word: Option<&str>) -> Option<PeerId> {
    PeerId::new(word?).ok()
}

fn connection(word: Option<&str>) -> Option<ConnectionId> {
    word?.parse().ok().map(ConnectionId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let token = Token::from_query(Some("token=t"), 10).unwrap();
        let peer = |name| PeerId::new(name).unwrap();
        let text = r#"{"type":"ice","from":"a","candidate":{ "two":  "spaces" }}"#;
        let line = relay(ProcessId(7), token, &peer("b"), &ServerMessage::decode(text).unwrap());
        match read(&line) {
            Some(Notice::Relay { process: ProcessId(7), token: room, to, message }) => {
                assert_eq!((room, to, message.encode().as_str()), (token, peer("b"), text));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read(&unknown(token, &peer("a"), &peer("b"))),
            Some(Notice::Unknown { from, to, .. }) if from == peer("a") && to == peer("b")
        ));
        let empty = format!("entered {} 7 ", token.digest());
        assert!(matches!(read(&empty), Some(Notice::Entered { others, .. }) if others.is_empty()));
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        let digest = Token::from_query(Some("token=t"), 10).unwrap().digest();
        for line in [BEAT, "", "entered", "join x", "in-use -1", "later on", "relay 1 2 3 4"].map(str::to_owned) {
            assert!(read(&line).is_none(), "{line}");
        }
        assert!(read(&format!("present {digest} a 1")).is_none(), "half a member");
    }
}
