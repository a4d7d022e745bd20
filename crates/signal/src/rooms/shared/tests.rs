//! What notices change, without Redis and without a socket.

use rtc_battery_proto::signaling::ClientMessage;

use super::*;

const ME: ProcessId = ProcessId(1);
const OTHER: ProcessId = ProcessId(2);

fn token() -> Token {
    Token::from_query(Some("token=t"), 10).unwrap()
}

fn peer(name: &str) -> PeerId {
    PeerId::new(name).unwrap()
}

fn there(connection: u64) -> Place {
    Place { process: OTHER, connection: ConnectionId(connection) }
}

fn lines(outputs: Vec<Output>) -> Vec<String> {
    let line = |output| match output {
        Output::Deliver { to, message } => {
            format!("{:?} {}", to.iter().map(|it| it.0).collect::<Vec<_>>(), message.encode())
        }
        Output::Replace(connection) => format!("[{}] replaced", connection.0),
        Output::Share(Share::Claim { connection, name, .. }) => format!("claim {} {name}", connection.0),
        Output::Share(Share::Release { connection, name, .. }) => format!("release {} {name}", connection.0),
        Output::Share(Share::Relay { process, to, message, .. }) => {
            format!("relay {} {to} {}", process.0, message.encode())
        }
        Output::Share(Share::Unknown { process, from, to, .. }) => format!("unknown {} {from} {to}", process.0),
    };
    outputs.into_iter().map(line).collect()
}

fn say(rooms: &mut Rooms, connection: u64, text: &str) -> Vec<String> {
    lines(rooms.handle(ConnectionId(connection), ClientMessage::decode(text).unwrap()))
}

fn hear(rooms: &mut Rooms, notice: Notice) -> Vec<String> {
    lines(rooms.handle_notice(notice))
}

fn join(rooms: &mut Rooms, connection: u64, name: &str) -> Vec<String> {
    rooms.connect(ConnectionId(connection), token());
    say(rooms, connection, &format!(r#"{{"type":"join","peerId":"{name}"}}"#))
}

fn entered(connection: u64, others: &[(&str, Place)]) -> Notice {
    let others = others.iter().map(|(name, place)| (peer(name), *place)).collect();
    Notice::Entered { token: token(), connection: ConnectionId(connection), others }
}

fn present(members: &[(&str, Place)]) -> Notice {
    Notice::Present { token: token(), members: members.iter().map(|(name, place)| (peer(name), *place)).collect() }
}

/// `a` is here as 1, `b` at the other process as 7.
fn a_here_and_b_there() -> Rooms {
    let mut rooms = Rooms::new(10, 3, 7);
    rooms.share(ME);
    join(&mut rooms, 1, "a");
    hear(&mut rooms, entered(1, &[("b", there(7))]));
    rooms
}

const ICE_TO_B: &str = r#"{"type":"ice","to":"b","candidate":1}"#;

#[test]
fn a_name_is_claimed_before_its_owner_is_in() {
    let mut rooms = Rooms::new(10, 3, 7);
    rooms.share(ME);
    assert_eq!(join(&mut rooms, 1, "a"), ["claim 1 a"]);
    assert!(!rooms.has_joined(ConnectionId(1)) && rooms.is_empty());
    assert!(say(&mut rooms, 1, ICE_TO_B)[0].contains("not-joined"));
    assert!(say(&mut rooms, 1, r#"{"type":"join","peerId":"z"}"#)[0].contains("already-joined"));
    assert_eq!(hear(&mut rooms, entered(1, &[("b", there(7))])), [r#"[1] {"type":"peers","peerIds":["b"]}"#]);
    assert!(rooms.has_joined(ConnectionId(1)));
    assert!(hear(&mut rooms, entered(1, &[])).is_empty(), "told twice without harm");
    assert_eq!(say(&mut rooms, 1, ICE_TO_B), [r#"relay 2 b {"type":"ice","from":"a","candidate":1}"#]);
    assert_eq!(lines(rooms.disconnect(ConnectionId(1))), ["release 1 a"]);
    assert!(rooms.is_empty());
}

#[test]
fn a_refused_claim_leaves_the_socket_as_it_was() {
    let mut rooms = Rooms::new(10, 3, 7);
    rooms.share(ME);
    for (connection, notice, code) in
        [(1, Notice::InUse(ConnectionId(1)), "peer-id-in-use"), (2, Notice::Full(ConnectionId(2)), "room-full")]
    {
        join(&mut rooms, connection, "a");
        assert!(hear(&mut rooms, notice.clone())[0].contains(code));
        assert!(hear(&mut rooms, notice).is_empty());
        assert_eq!(say(&mut rooms, connection, r#"{"type":"join","peerId":"z"}"#), [format!("claim {connection} z")]);
    }
}

#[test]
fn a_claim_that_nobody_answers_is_decided_here() {
    let mut rooms = a_here_and_b_there();
    join(&mut rooms, 2, "c");
    join(&mut rooms, 3, "a");
    let mut said = lines(rooms.go_alone());
    said.sort();
    assert!(said[0].starts_with(r#"[1] {"type":"peer-join","peerId":"c"}"#), "{said:?}");
    assert_eq!(said[1], r#"[2] {"type":"peers","peerIds":["a","b"]}"#);
    assert!(said[2].contains("peer-id-in-use"), "{said:?}");
    assert!(say(&mut rooms, 1, ICE_TO_B)[0].contains("unknown-peer"), "it cannot be reached");
    assert_eq!(lines(rooms.forget_others()), [r#"[1, 2] {"type":"peer-leave","peerId":"b"}"#]);
}

#[test]
fn comings_and_goings_elsewhere_are_told_once() {
    let mut rooms = a_here_and_b_there();
    let join = |connection| Notice::Join { token: token(), name: peer("c"), place: there(connection) };
    let leave = |connection| Notice::Leave { token: token(), name: peer("c"), place: there(connection) };
    assert_eq!(hear(&mut rooms, join(8)), [r#"[1] {"type":"peer-join","peerId":"c"}"#]);
    assert!(hear(&mut rooms, join(8)).is_empty());
    // It moved to another socket; that the old one goes is nobody's business.
    assert!(hear(&mut rooms, join(9)).is_empty());
    assert!(hear(&mut rooms, leave(8)).is_empty());
    assert_eq!(hear(&mut rooms, leave(9)), [r#"[1] {"type":"peer-leave","peerId":"c"}"#]);
    assert!(hear(&mut rooms, leave(9)).is_empty());
    let elsewhere = Token::from_query(Some("token=u"), 10).unwrap();
    assert!(hear(&mut rooms, Notice::Join { token: elsewhere, name: peer("c"), place: there(8) }).is_empty());
    assert_eq!(rooms.len(), 1, "a room without anybody here is none");
}

#[test]
fn a_name_that_moved_elsewhere_replaces_its_socket_here() {
    let mut rooms = a_here_and_b_there();
    join(&mut rooms, 2, "c");
    hear(&mut rooms, entered(2, &[]));
    let moved = Notice::Join { token: token(), name: peer("c"), place: there(9) };
    assert_eq!(hear(&mut rooms, moved), ["[2] replaced"]);
    assert!(lines(rooms.disconnect(ConnectionId(2))).is_empty());
    let to_c = r#"{"type":"ice","to":"c","candidate":1}"#;
    assert!(say(&mut rooms, 1, to_c)[0].starts_with("relay 2 c"));
}

#[test]
fn one_list_may_lack_a_member_two_may_not() {
    let mut rooms = a_here_and_b_there();
    assert!(hear(&mut rooms, present(&[])).is_empty());
    assert!(hear(&mut rooms, present(&[("b", there(7))])).is_empty());
    assert!(hear(&mut rooms, present(&[])).is_empty(), "the count begins anew");
    assert_eq!(hear(&mut rooms, present(&[])), [r#"[1] {"type":"peer-leave","peerId":"b"}"#]);
    assert_eq!(hear(&mut rooms, present(&[("c", there(8))])), [r#"[1] {"type":"peer-join","peerId":"c"}"#]);
    // What lists say of those who are here counts for nothing.
    let here = Place { process: ME, connection: ConnectionId(99) };
    assert!(hear(&mut rooms, present(&[("c", there(8)), ("a", here), ("ghost", here)])).is_empty());
}

#[test]
fn a_message_from_elsewhere_finds_who_is_here_or_goes_back() {
    let mut rooms = a_here_and_b_there();
    let message = || ServerMessage::decode(r#"{"type":"ice","from":"b","candidate":1}"#).unwrap();
    let relay = |to| Notice::Relay { process: OTHER, token: token(), to: peer(to), message: message() };
    assert_eq!(hear(&mut rooms, relay("a")), [r#"[1] {"type":"ice","from":"b","candidate":1}"#]);
    assert_eq!(hear(&mut rooms, relay("nobody")), ["unknown 2 b nobody"]);
    let back = Notice::Unknown { token: token(), from: peer("a"), to: peer("b") };
    assert!(hear(&mut rooms, back)[0].contains("unknown-peer"));
}
