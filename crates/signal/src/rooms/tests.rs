//! The rules of a room, without a socket; and random lives of rooms against a naive model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn token(text: &str) -> Token {
    Token::from_query(Some(&format!("token={text}")), 100).unwrap()
}

fn rooms(max_room_peers: usize) -> Rooms {
    Rooms::new(max_room_peers, 3, 7)
}

/// Rooms with connections 1, 2, ... that have joined the room `t` under these names.
fn room_of(names: &[&str]) -> Rooms {
    let mut rooms = rooms(1_000);
    for (number, name) in (1..).zip(names) {
        rooms.connect(ConnectionId(number), token("t"));
        say(&mut rooms, number, &join(name));
    }
    rooms
}

fn join(name: &str) -> String {
    format!(r#"{{"type":"join","peerId":"{name}"}}"#)
}

fn ice(to: &str) -> String {
    format!(r#"{{"type":"ice","to":"{to}","candidate":{{"n":1}}}}"#)
}

/// One line an output: whom, and the JSON.
fn lines(outputs: Vec<Output>) -> Vec<String> {
    let line = |output: Output| match output {
        Output::Deliver { to, message } => {
            let to: Vec<u64> = to.iter().map(|connection| connection.0).collect();
            format!("{to:?} {}", message.encode())
        }
        Output::Replace(connection) => format!("[{}] replaced", connection.0),
        Output::Share(share) => format!("{share:?}"),
    };
    outputs.into_iter().map(line).collect()
}

fn say(rooms: &mut Rooms, connection: u64, text: &str) -> Vec<String> {
    lines(rooms.handle(ConnectionId(connection), ClientMessage::decode(text).unwrap()))
}

fn leave(rooms: &mut Rooms, connection: u64) -> Vec<String> {
    lines(rooms.disconnect(ConnectionId(connection)))
}

fn assert_refused(said: &[String], connection: u64, code: &str) {
    let start = format!(r#"[{connection}] {{"type":"error","code":"{code}","#);
    assert!(said.len() == 1 && said[0].starts_with(&start), "wanted {code} for {connection}: {said:?}");
}

#[test]
fn a_joiner_learns_who_is_there_and_they_learn_of_it() {
    let mut rooms = rooms(10);
    for number in 1..=3 {
        rooms.connect(ConnectionId(number), token("t"));
    }
    assert_eq!(say(&mut rooms, 1, &join("b")), [r#"[1] {"type":"peers","peerIds":[]}"#]);
    let said = say(&mut rooms, 2, &join("a"));
    assert_eq!(said, [r#"[2] {"type":"peers","peerIds":["b"]}"#, r#"[1] {"type":"peer-join","peerId":"a"}"#]);
    let said = say(&mut rooms, 3, &join("c"));
    assert_eq!(said, [r#"[3] {"type":"peers","peerIds":["a","b"]}"#, r#"[2, 1] {"type":"peer-join","peerId":"c"}"#]);
}

#[test]
fn a_message_goes_to_its_addressee_alone_and_says_who_sent_it() {
    let mut rooms = room_of(&["a", "b", "c"]);
    let offer = r#"{"type":"offer","from":"c","to":"b","sdp":{"type":"offer"}}"#;
    assert_eq!(say(&mut rooms, 1, offer), [r#"[2] {"type":"offer","from":"a","sdp":{"type":"offer"}}"#]);
    let answer = r#"{"type":"answer","to":"a","sdp":{"type":"answer"}}"#;
    assert_eq!(say(&mut rooms, 2, answer), [r#"[1] {"type":"answer","from":"b","sdp":{"type":"answer"}}"#]);
    assert_eq!(say(&mut rooms, 3, &ice("a")), [r#"[1] {"type":"ice","from":"c","candidate":{"n":1}}"#]);
}

#[test]
fn rooms_are_apart() {
    let mut rooms = room_of(&["a", "b"]);
    rooms.connect(ConnectionId(7), token("other"));
    assert_eq!(say(&mut rooms, 7, &join("a")), [r#"[7] {"type":"peers","peerIds":[]}"#]);
    assert_refused(&say(&mut rooms, 7, &ice("b")), 7, code::UNKNOWN_PEER);
    assert_eq!(rooms.len(), 2);
    assert!(leave(&mut rooms, 7).is_empty());
    assert_eq!(rooms.len(), 1);
}

#[test]
fn what_cannot_be_done_is_told_to_the_sender_and_changes_nothing() {
    let mut rooms = room_of(&["a", "b"]);
    assert_refused(&say(&mut rooms, 1, &ice("nobody")), 1, code::UNKNOWN_PEER);
    assert_refused(&say(&mut rooms, 1, &join("a")), 1, code::ALREADY_JOINED);
    assert_refused(&say(&mut rooms, 1, &join("z")), 1, code::ALREADY_JOINED);
    assert_refused(&say(&mut rooms, 2, &ice("z")), 2, code::UNKNOWN_PEER);

    rooms.connect(ConnectionId(3), token("t"));
    assert_refused(&say(&mut rooms, 3, &ice("a")), 3, code::NOT_JOINED);
    assert_refused(&say(&mut rooms, 3, &join("a")), 3, code::PEER_ID_IN_USE);
    assert!(!rooms.has_joined(ConnectionId(3)));
    // The socket is none the worse: another name is welcome.
    assert_eq!(say(&mut rooms, 3, &join("c")).len(), 2);
    assert!(rooms.has_joined(ConnectionId(3)));
    assert_eq!(say(&mut rooms, 2, &ice("a")), [r#"[1] {"type":"ice","from":"b","candidate":{"n":1}}"#]);
}

#[test]
fn a_full_room_takes_nobody_until_somebody_leaves() {
    let mut rooms = rooms(2);
    for number in 1..=3 {
        rooms.connect(ConnectionId(number), token("t"));
    }
    say(&mut rooms, 1, &join("a"));
    say(&mut rooms, 2, &join("b"));
    assert_refused(&say(&mut rooms, 3, &join("c")), 3, code::ROOM_FULL);
    leave(&mut rooms, 1);
    assert_eq!(say(&mut rooms, 3, &join("c")).len(), 2);
}

#[test]
fn a_departure_is_told_once_and_frees_the_name() {
    let mut rooms = room_of(&["a", "b", "c"]);
    assert_eq!(leave(&mut rooms, 2), [r#"[1, 3] {"type":"peer-leave","peerId":"b"}"#]);
    assert!(leave(&mut rooms, 2).is_empty());
    assert!(say(&mut rooms, 2, &join("b")).is_empty(), "a socket that is gone cannot join");
    rooms.connect(ConnectionId(9), token("t"));
    assert_eq!(say(&mut rooms, 9, &join("b")).len(), 2);
    // The old socket's departure, told late a second time, does not evict the new one.
    assert!(leave(&mut rooms, 2).is_empty());
    assert_eq!(say(&mut rooms, 1, &ice("b")), [r#"[9] {"type":"ice","from":"a","candidate":{"n":1}}"#]);
}

#[test]
fn nothing_remains_of_empty_rooms() {
    let mut rooms = room_of(&["a", "b"]);
    rooms.connect(ConnectionId(3), token("t"));
    for number in 1..=3 {
        leave(&mut rooms, number);
    }
    assert!(rooms.is_empty() && rooms.connections.is_empty());
}

const KEY: &str = "0123456789abcdef";

fn join_with(name: &str, key: &str) -> String {
    format!(r#"{{"type":"join","peerId":"{name}","resume":"{key}"}}"#)
}

#[test]
fn a_key_replaces_its_own_socket_at_once_and_no_others() {
    let mut rooms = rooms(2);
    for number in 1..=5 {
        rooms.connect(ConnectionId(number), token("t"));
    }
    say(&mut rooms, 1, &join_with("a", KEY));
    say(&mut rooms, 2, &join("b"));
    for other in [join("a"), join_with("a", "another key of mine".replace(' ', "-").as_str()), join_with("b", KEY)] {
        assert_refused(&say(&mut rooms, 3, &other), 3, code::PEER_ID_IN_USE);
    }
    // In a full room, too: nobody comes to it.
    let said = say(&mut rooms, 3, &join_with("a", KEY));
    assert_eq!(said, [r#"[3] {"type":"peers","peerIds":["b"]}"#, "[1] replaced"]);
    assert_eq!(say(&mut rooms, 2, &ice("a")), [r#"[3] {"type":"ice","from":"b","candidate":{"n":1}}"#]);
    // What the old socket says and that it goes is nobody's business.
    assert_refused(&say(&mut rooms, 1, &ice("b")), 1, code::NOT_JOINED);
    assert!(leave(&mut rooms, 1).is_empty());
    // The key goes on being what takes the name.
    assert_refused(&say(&mut rooms, 4, &join("a")), 4, code::PEER_ID_IN_USE);
    assert_eq!(say(&mut rooms, 4, &join_with("a", KEY)).len(), 2);
}

#[test]
fn who_asks_for_a_sample_gets_some_and_the_count() {
    let mut rooms = room_of(&["a", "b", "c"]);
    let mut asked = 10;
    let mut ask = |rooms: &mut Rooms| {
        asked += 1;
        rooms.connect(ConnectionId(asked), token("t"));
        let text = r#"{"type":"join","peerId":"x","sample":true}"#;
        let said = rooms.handle(ConnectionId(asked), ClientMessage::decode(text).unwrap());
        rooms.disconnect(ConnectionId(asked));
        match said.into_iter().next() {
            Some(Output::Deliver { message: ServerMessage::Peers { peer_ids, count }, .. }) => (peer_ids, count),
            other => panic!("{other:?}"),
        }
    };
    let names = |text: &str| text.chars().map(|c| PeerId::new(&c.to_string()).unwrap()).collect::<Vec<_>>();
    assert_eq!(ask(&mut rooms), (names("abc"), Some(3)));
    rooms.connect(ConnectionId(4), token("t"));
    rooms.connect(ConnectionId(5), token("t"));
    say(&mut rooms, 4, &join("d"));
    // Others get the specification's list.
    assert_eq!(say(&mut rooms, 5, &join("e"))[0], r#"[5] {"type":"peers","peerIds":["a","b","c","d"]}"#);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let (sample, count) = ask(&mut rooms);
        assert_eq!((sample.iter().collect::<BTreeSet<_>>().len(), count), (3, Some(5)), "{sample:?}");
        seen.extend(sample);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), names("abcde"), "everybody is drawn sometimes");
}

#[test]
fn who_is_in_gets_another_sample_without_itself() {
    let mut rooms = room_of(&["a", "b", "c"]);
    assert_eq!(
        say(&mut rooms, 1, r#"{"type":"sample"}"#),
        [r#"[1] {"type":"peers","peerIds":["b","c"],"count":2}"#],
        "nobody else hears of it"
    );
    for number in 4..=6 {
        rooms.connect(ConnectionId(number), token("t"));
    }
    assert_refused(&say(&mut rooms, 4, r#"{"type":"sample"}"#), 4, code::NOT_JOINED);
    (4..=6).zip(["d", "e", "f"]).for_each(|(number, name)| drop(say(&mut rooms, number, &join(name))));
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let said = rooms.handle(ConnectionId(1), ClientMessage::Sample);
        let Some(Output::Deliver { message: ServerMessage::Peers { peer_ids, count }, .. }) = said.first() else {
            panic!("{said:?}")
        };
        assert_eq!((peer_ids.len(), *count), (3, Some(5)));
        seen.extend(peer_ids.iter().map(ToString::to_string));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["b", "c", "d", "e", "f"], "everybody else is drawn sometimes");
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u64, u8),
    Join(u64, u8),
    Send(u64, u8),
    Leave(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let connection = 0..6u64;
    prop_oneof![
        (connection.clone(), 0..2u8).prop_map(|(c, room)| Step::Connect(c, room)),
        (connection.clone(), 0..4u8).prop_map(|(c, name)| Step::Join(c, name)),
        (connection.clone(), 0..4u8).prop_map(|(c, name)| Step::Send(c, name)),
        connection.prop_map(Step::Leave),
    ]
}

/// Rooms as a list of connections; every rule is a search through it.
#[derive(Default)]
struct Model(Vec<(u64, u8, Option<u8>)>);

impl Model {
    const ROOM_PEERS: usize = 3;

    fn members(&self, room: u8) -> BTreeMap<u8, u64> {
        self.0.iter().filter(|it| it.1 == room).filter_map(|&(c, _, name)| Some((name?, c))).collect()
    }

    /// What is to be said, with errors as the word `error`.
    fn expect(&mut self, step: &Step) -> Vec<String> {
        let position = |c: u64| self.0.iter().position(|it| it.0 == c);
        match *step {
            Step::Connect(c, room) => {
                self.0.push((c, room, None));
                Vec::new()
            }
            Step::Join(c, name) => {
                let Some(at) = position(c) else { return Vec::new() };
                let members = self.members(self.0[at].1);
                if self.0[at].2.is_some() || members.contains_key(&name) || members.len() == Self::ROOM_PEERS {
                    return vec![format!("[{c}] error")];
                }
                self.0[at].2 = Some(name);
                let names: Vec<String> = members.keys().map(|name| format!("\"{name}\"")).collect();
                let peers = format!(r#"[{c}] {{"type":"peers","peerIds":[{}]}}"#, names.join(","));
                [peers].into_iter().chain(Self::tell(&members, "peer-join", name)).collect()
            }
            Step::Send(c, name) => {
                let Some(at) = position(c) else { return Vec::new() };
                let (_, room, from) = self.0[at];
                match (from, self.members(room).get(&name)) {
                    (Some(from), Some(to)) => {
                        vec![format!(r#"[{to}] {{"type":"ice","from":"{from}","candidate":{{"n":1}}}}"#)]
                    }
                    _ => vec![format!("[{c}] error")],
                }
            }
            Step::Leave(c) => {
                let Some(at) = position(c) else { return Vec::new() };
                let (_, room, name) = self.0.remove(at);
                name.and_then(|name| Self::tell(&self.members(room), "peer-leave", name)).into_iter().collect()
            }
        }
    }

    fn tell(members: &BTreeMap<u8, u64>, kind: &str, name: u8) -> Option<String> {
        let to: Vec<u64> = members.values().copied().collect();
        (!to.is_empty()).then(|| format!(r#"{to:?} {{"type":"{kind}","peerId":"{name}"}}"#))
    }
}

fn perform(rooms: &mut Rooms, step: &Step) -> Vec<String> {
    let said = match *step {
        Step::Connect(c, room) => {
            rooms.connect(ConnectionId(c), token(&room.to_string()));
            Vec::new()
        }
        Step::Join(c, name) => say(rooms, c, &join(&name.to_string())),
        Step::Send(c, name) => say(rooms, c, &ice(&name.to_string())),
        Step::Leave(c) => leave(rooms, c),
    };
    said.into_iter()
        .map(|line| match line.split_once(r#" {"type":"error","#) {
            Some((to, _)) => format!("{to} error"),
            None => line,
        })
        .collect()
}

proptest! {
    #[test]
    fn rooms_agree_with_a_list(steps in prop::collection::vec(step(), 0..80)) {
        let mut rooms = rooms(Model::ROOM_PEERS);
        let mut model = Model::default();
        for step in steps {
            // A connection is opened once.
            if matches!(step, Step::Connect(c, _) if model.0.iter().any(|it| it.0 == c)) {
                continue;
            }
            prop_assert_eq!(perform(&mut rooms, &step), model.expect(&step), "{:?}", step);
            let occupied: BTreeSet<u8> = model.0.iter().filter(|it| it.2.is_some()).map(|it| it.1).collect();
            prop_assert_eq!(rooms.len(), occupied.len());
        }
    }
}
