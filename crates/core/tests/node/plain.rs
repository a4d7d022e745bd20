//! Peers that speak only the specification, message by message: what they are told, and what becomes of what they say.

use std::collections::VecDeque;

use rtc_battery_core::Now;
use rtc_battery_core::node::{Config, Effect, ErrorCode, Event, Input, LinkId, MeshLimits, Node, Output};
use rtc_battery_core::replica::{Params, Replica, Scope};
use rtc_battery_proto::ReplicaId;
use rusqlite::Connection;
use serde_json::{Value, json};

/// One of ours, and what it does.
struct Ours {
    node: Node,
    now: Now,
    events: Vec<Event>,
    said: VecDeque<(LinkId, Value)>,
    opened: Option<LinkId>,
}

impl Ours {
    fn new() -> Self {
        let replica =
            Replica::open(Connection::open_in_memory().unwrap(), "room", &ReplicaId::new("ours").unwrap()).unwrap();
        let config = Config {
            signaling_url: "ws://x/signal".into(),
            token: "room".into(),
            sealed: false,
            mesh: MeshLimits::default(),
            seed: [7; 32],
        };
        let now = Now { wall_ms: 1_700_000_000_000, mono_ms: 1000 };
        let mut ours =
            Self { node: Node::new(config, replica, now), now, events: vec![], said: VecDeque::new(), opened: None };
        ours.node.connect(now);
        ours.poll();
        ours.input(Input::SignalingOpened);
        ours.input(Input::SignalingText { text: json!({"type": "peers", "peerIds": []}).to_string() });
        ours.exec("CREATE TABLE t (id TEXT PRIMARY KEY, x)");
        ours
    }

    /// A plain peer that came later and does not offer, so it is offered to; its channel takes messages of `max` bytes.
    fn meet(&mut self, name: &str, max: u32) -> LinkId {
        self.input(Input::SignalingText { text: json!({"type": "peer-join", "peerId": name}).to_string() });
        self.pass(3_000);
        let link = self.opened.take().unwrap();
        self.input(Input::ChannelOpened { link, max_message_bytes: Some(max) });
        assert_eq!(self.hear_all().pop().unwrap()["type"], "hello");
        link
    }

    fn input(&mut self, input: Input) {
        self.node.handle_input(input, self.now).unwrap();
        self.poll();
    }

    fn say(&mut self, link: LinkId, message: &Value) {
        self.input(Input::ChannelText { link, text: message.to_string() });
    }

    fn exec(&mut self, sql: &str) -> Vec<Vec<String>> {
        let result = self.node.exec(sql, &Params::None, Scope::Synced, self.now).unwrap();
        self.input(Input::Saved { version: self.node.replica().version() });
        result.values.iter().map(|row| row.iter().map(|value| format!("{value:?}")).collect()).collect()
    }

    fn save(&mut self) {
        self.input(Input::Saved { version: self.node.replica().version() });
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.poll();
    }

    fn poll(&mut self) {
        loop {
            match self.node.poll_output(self.now).unwrap() {
                Output::Effect(Effect::SendText { link, text }) => {
                    self.said.push_back((link, serde_json::from_str(&text).unwrap()));
                }
                Output::Effect(Effect::SendBinary { .. }) => panic!("a frame to a plain peer"),
                Output::Effect(Effect::OpenLink { link, .. }) => self.opened = Some(link),
                Output::Effect(_) => {}
                Output::Event(event) => self.events.push(event),
                Output::Idle(_) => return,
            }
        }
    }

    fn hear(&mut self) -> Value {
        self.said.pop_front().expect("something is said").1
    }

    fn hear_all(&mut self) -> Vec<Value> {
        self.said.drain(..).map(|(_, value)| value).collect()
    }
}

fn op(ts: u64, id: &str, x: i64) -> Value {
    json!({"hlc": {"ts": ts, "counter": 0, "nodeId": "stranger"}, "type": "INSERT", "table": "t", "pk": {"id": id}, "values": {"id": id, "x": x}})
}

#[test]
fn it_is_asked_for_everything_and_what_it_gives_is_kept_and_passed_on() {
    let mut ours = Ours::new();
    let (one, two) = (ours.meet("one", 262_144), ours.meet("two", 262_144));
    ours.say(two, &json!({"type": "pong"}));
    assert_eq!(ours.hear_all(), [json!({"type": "sync-request", "fromVersion": 0})]);
    assert_eq!(ours.node.peers().len(), 2);
    ours.say(one, &json!({"type": "sync-response", "operations": [op(1, "a", 1), op(2, "b", 2)]}));
    ours.say(one, &json!({"type": "op", "payload": op(3, "c", 3)}));
    assert!(ours.said.is_empty(), "nothing is told before it is saved");
    ours.save();
    let told: Vec<_> = ours.said.drain(..).collect();
    assert!(told.iter().all(|(link, value)| *link == two && value["type"] == "op"), "no echo: {told:?}");
    let clocks: Vec<_> = told.iter().map(|(_, value)| value["payload"]["hlc"].clone()).collect();
    assert_eq!(clocks, [1, 2, 3].map(|ts| json!({"ts": ts, "counter": 0, "nodeId": "stranger"})));
    assert_eq!(ours.exec("SELECT id, x FROM t").len(), 3);
    // The other one passes it back: known, and nobody is told again.
    ours.say(two, &json!({"type": "op", "payload": op(3, "c", 3)}));
    ours.save();
    assert_eq!(ours.hear_all(), Vec::<Value>::new());
}

#[test]
fn whatever_version_it_names_it_is_sent_everything_in_messages_that_it_takes() {
    let mut ours = Ours::new();
    for n in 0..50 {
        ours.exec(&format!("INSERT INTO t VALUES ('{n}', '{}')", "y".repeat(200)));
    }
    ours.exec(&format!("INSERT INTO t VALUES ('large', '{}')", "z".repeat(5000)));
    let link = ours.meet("one", 4000);
    ours.say(link, &json!({"type": "sync-request", "fromVersion": 40}));
    let said = ours.hear_all();
    let responses: Vec<_> = said.iter().filter(|message| message["type"] == "sync-response").collect();
    assert!(responses.len() > 4 && responses.iter().all(|message| message.to_string().len() <= 4000));
    let operations: Vec<&Value> = responses.iter().flat_map(|r| r["operations"].as_array().unwrap()).collect();
    assert_eq!(operations.len(), 50, "all but the one that does not fit, and no schema of ours");
    assert!(operations.iter().all(|operation| operation["table"] == "t"));
    let told = |event: &Event| matches!(event, Event::Error { code: ErrorCode::TooLarge, peer: Some(_), .. });
    assert_eq!(ours.events.iter().filter(|event| told(event)).count(), 1);
    // An empty answer is one too.
    ours.exec("DELETE FROM t");
    ours.hear_all();
    ours.say(link, &json!({"type": "sync-request", "fromVersion": 0}));
    assert_eq!(ours.hear()["type"], "sync-response");
}

/// Found by the simulator: the other kept what it had of the answer, and waited for its end.
#[test]
fn an_answer_to_one_that_turns_out_to_be_ours_is_ended() {
    let mut ours = Ours::new();
    for n in 0..10 {
        ours.exec(&format!("INSERT INTO t VALUES ('{n}', '{}')", "y".repeat(60_000)));
    }
    let link = ours.meet("one", 262_144);
    ours.say(link, &json!({"type": "sync-request", "fromVersion": 0}));
    let parts = ours.hear_all();
    assert_eq!(parts.last().unwrap()["more"], json!(true), "it waits for credit");
    ours.say(link, &json!({"type": "hello", "protocol": 1, "nodeId": "other", "vector": {}}));
    let sent_bytes = parts.iter().map(|part| part.to_string().len() as u64).sum();
    ours.input(Input::ChannelDrained { link, sent_bytes });
    assert!(ours.hear_all().contains(&json!({"type": "sync-response", "operations": []})));
}

/// The same from the other side: what came is dropped, nobody is blamed, and it is asked for again.
#[test]
fn the_end_of_an_answer_that_covers_nothing_is_borne() {
    let mut ours = Ours::new();
    let link = ours.meet("one", 262_144);
    ours.say(link, &json!({"type": "hello", "protocol": 1, "nodeId": "other", "vector": {"stranger": [[1, 1]]}}));
    ours.say(link, &json!({"type": "sync-response", "operations": [op(1, "a", 1)], "more": true}));
    assert_eq!(ours.exec("SELECT count(*) FROM temp.rtc_staged"), [["1"]]);
    ours.say(link, &json!({"type": "sync-response", "operations": []}));
    assert_eq!(ours.exec("SELECT count(*) FROM temp.rtc_staged"), [["0"]]);
    assert!(!ours.events.iter().any(|event| matches!(event, Event::Error { .. })), "{:?}", ours.events);
}

#[test]
fn live_operations_go_one_by_one_and_pings_are_answered() {
    let mut ours = Ours::new();
    let link = ours.meet("one", 262_144);
    ours.say(link, &json!({"type": "ping"}));
    let types = |said: Vec<Value>| said.iter().map(|m| m["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(types(ours.hear_all()), ["pong", "sync-request"]);
    ours.exec("INSERT INTO t VALUES ('a', 1), ('b', 2)");
    let said = ours.hear_all();
    assert_eq!(types(said.clone()), ["op", "op"]);
    assert_eq!(said[1]["payload"]["values"], json!({"id": "b", "x": 2}));
    ours.say(link, &json!({"type": "something-later", "x": 1}));
    assert_eq!((ours.hear_all(), ours.node.peers().len()), (vec![], 1));
}

#[test]
fn a_silent_peer_is_taken_for_a_plain_one_after_two_seconds() {
    let mut ours = Ours::new();
    ours.meet("one", 262_144);
    assert_eq!(ours.node.peers().len(), 0);
    ours.pass(2_000);
    assert_eq!(ours.hear()["type"], "sync-request");
    assert_eq!(ours.node.peers().len(), 1);
}

/// Chromium drops what is said too early on a channel that the peer opened.
#[test]
fn who_did_not_open_the_channel_lets_the_other_speak_first() {
    for speaks in [true, false] {
        let mut ours = Ours::new();
        let sdp = "v=0\r\no=- 123 1 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n";
        let offer = json!({"type": "offer", "from": "one", "sdp": {"type": "offer", "sdp": sdp}});
        ours.input(Input::SignalingText { text: json!({"type": "peer-join", "peerId": "one"}).to_string() });
        ours.input(Input::SignalingText { text: offer.to_string() });
        let link = ours.opened.take().unwrap();
        ours.input(Input::ChannelOpened { link, max_message_bytes: None });
        ours.pass(999);
        assert_eq!(ours.hear_all(), Vec::<Value>::new());
        if speaks {
            ours.say(link, &json!({"type": "ping"}));
            assert_eq!(ours.hear()["type"], "hello");
            assert_eq!(ours.hear()["type"], "pong");
        } else {
            ours.pass(1);
            assert_eq!(ours.hear()["type"], "hello");
        }
    }
}

#[test]
fn a_whole_file_fills_gaps_and_a_bad_one_is_told() {
    use base64::Engine as _;
    let mut file = Connection::open_in_memory().unwrap();
    file.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('a', 'theirs'), ('b', 2)")
        .unwrap();
    let bytes = file.serialize("main").unwrap().to_vec();
    let mut ours = Ours::new();
    ours.exec("INSERT INTO t VALUES ('a', 'ours')");
    let link = ours.meet("one", 262_144);
    let full = |bytes: &[u8]| json!({"type": "sync-full", "database": base64::engine::general_purpose::STANDARD.encode(bytes)});
    ours.say(link, &full(&bytes));
    assert_eq!(ours.exec("SELECT x FROM t ORDER BY id"), [[r#""ours""#], ["2"]]);
    ours.say(link, &full(b"not a database, but long enough to look like one"));
    let blamed = |event: &Event| matches!(event, Event::Error { code: ErrorCode::BadMessage, peer: Some(_), .. });
    assert_eq!(ours.events.iter().filter(|event| blamed(event)).count(), 1);
    assert_eq!(ours.exec("SELECT count(*) FROM t"), [["2"]]);
}

/// It knows tables and columns by what they are called; between ours operations call them by the names they were made by.
#[test]
fn what_was_renamed_is_told_and_heard_by_its_name() {
    let mut ours = Ours::new();
    let link = ours.meet("one", 262_144);
    ours.say(link, &json!({"type": "ping"}));
    ours.exec("ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME COLUMN x TO y; ALTER TABLE u ADD COLUMN x");
    ours.hear_all();
    ours.exec("INSERT INTO u VALUES ('a', 1, 2)");
    let told = |ours: &mut Ours| ours.hear_all().pop().unwrap();
    let expected = json!({"id": "a", "x": 2, "y": 1});
    let said = told(&mut ours);
    assert_eq!((&said["payload"]["table"], &said["payload"]["values"]), (&json!("u"), &expected));
    ours.say(link, &json!({"type": "sync-request", "fromVersion": 0}));
    let said = told(&mut ours);
    assert_eq!((&said["operations"][0]["table"], &said["operations"][0]["values"]), (&json!("u"), &expected));
    let mut theirs = op(1_800_000_000, "b", 5);
    (theirs["table"], theirs["values"]) = (json!("u"), json!({"id": "b", "x": 6, "y": 5}));
    ours.say(link, &json!({"type": "op", "payload": theirs}));
    ours.save();
    assert_eq!(ours.exec("SELECT y, x FROM u WHERE id = 'b'"), [["5", "6"]]);
    // What one of ours tells whom it takes for such a peer is never taken for what was written: it is told again in other words.
    let mut named = op(1_800_000_001, "c", 5);
    (named["table"], named["seq"]) = (json!("u"), json!(3));
    ours.say(link, &json!({"type": "op", "payload": named}));
    ours.say(link, &json!({"type": "sync-response", "operations": [named]}));
    ours.save();
    assert_eq!(ours.exec("SELECT count(*) FROM u WHERE id = 'c'"), [["0"]]);
}
