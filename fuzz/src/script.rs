//! Bytes as what peers and the signaling server do to a node: one thing a line.
//!
//! Raw lines are what comes over the wire; random changes seldom leave them readable. So operations can also be *drawn* from the bytes of a
//! line: those always read, and from few tables, keys and clocks, so that they meet.
//!
//! | line | what happens |
//! |---|---|
//! | `{...` | the peer says this text |
//! | `=` text | the peer says it, in two frames |
//! | `~` bytes | a frame, as it stands |
//! | `s` text | the signaling server says it |
//! | `o` bytes | the peer says an operation that is drawn |
//! | `r` bytes | ... a sync-response with several, and what it covers |
//! | `h` | the peer says `hello`: it speaks our language |
//! | `g` | the peer says that it has the same transactions and other data |
//! | `2` | it is the other peer's turn to speak |
//! | `c` | the channel closes |
//! | `w` byte | the user's program runs a statement |
//! | `v`, `d` | everything is saved; channels drain |
//! | `t` byte, `k` byte | time passes; the wall clock is set |

use libfuzzer_sys::arbitrary::{self, Unstructured};
use rtc_battery_core::node::Input;
use rtc_battery_proto::{Digest, Message, PeerId};
use serde_json::{Value, json};

use crate::replicas::Sql as _;
use crate::world::World;

/// Lines of a script beyond this are not read: an execution should take a millisecond or two.
const MAX_LINES: usize = 24;

/// What the user's program does; transactions stay open over what comes meanwhile.
const STATEMENTS: [&str; 8] = [
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "INSERT OR REPLACE INTO t VALUES (1, 'ours')",
    "UPDATE t SET x = 'ours' WHERE id = 9",
    "DELETE FROM s",
    "SAVEPOINT p; DELETE FROM t; ROLLBACK TO p; RELEASE p",
    "CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY, x)",
];

/// Plays a script.
pub fn play(world: &mut World, script: &[u8]) {
    let mut peers = ["p", "q"].map(|name| PeerId::new(name).expect("an id"));
    for line in script.split(|byte| *byte == b'\n').take(MAX_LINES) {
        let Some((what, rest)) = line.split_first() else { continue };
        let text = || String::from_utf8_lossy(rest).into_owned();
        let [peer, _] = &peers;
        match what {
            b'{' => world.say(peer, String::from_utf8_lossy(line).into_owned()),
            b'=' => {
                let (first, last) = rest.split_at(rest.len() / 2);
                frame(world, peer, [&[1], first].concat());
                frame(world, peer, [&[0], last].concat());
            }
            b'~' => frame(world, peer, rest.to_vec()),
            b's' => world.feed(Input::SignalingText { text: text() }),
            b'o' => {
                if let Ok(operation) = operation(&mut Unstructured::new(rest)) {
                    world.say(peer, json!({"type": "op", "payload": operation}).to_string());
                }
            }
            b'r' => {
                if let Ok(response) = response(&mut Unstructured::new(rest)) {
                    world.say(peer, response.to_string());
                }
            }
            b'h' => world.say(peer, json!({"type": "hello", "protocol": 1, "nodeId": "z", "vector": {}}).to_string()),
            b'g' => contradict(world, peer),
            b'2' => peers.reverse(),
            b'c' => {
                if let Some(link) = world.link(peer) {
                    world.feed(Input::ChannelClosed { link });
                }
            }
            b'w' => {
                let statement = STATEMENTS[usize::from(rest.first().copied().unwrap_or_default()) % STATEMENTS.len()];
                // COMMIT without BEGIN fails; that is its right.
                let _ = world.node.try_sql(statement, world.now);
                world.poll();
            }
            b'v' => world.save(),
            b'd' => world.drain(),
            b't' => world.pass(1 << (rest.first().copied().unwrap_or_default() % 20)),
            b'k' => {
                world.now.wall_ms = 1 << (rest.first().copied().unwrap_or_default() % 47);
                world.poll();
            }
            _ => {}
        }
    }
}

/// A digest beside the one that the node last told, if it told one.
fn contradict(world: &mut World, peer: &PeerId) {
    let told = world.heard(peer).filter_map(|message| match message {
        Message::Digest { vector, registers, floor } => Some((*vector, *registers, *floor)),
        _ => None,
    });
    if let Some((vector, registers, floor)) = told.last() {
        world.say(peer, Message::Digest { vector, registers: Digest(!registers.0), floor }.encode());
    }
}

fn frame(world: &mut World, peer: &PeerId, bytes: Vec<u8>) {
    if let Some(link) = world.link(peer) {
        world.feed(Input::ChannelBinary { link, bytes });
    }
}

fn response(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    let mut response = json!({"type": "sync-response"});
    match bytes.int_in_range(0..=3)? {
        0 => response["more"] = json!(true),
        1 => {}
        _ => {
            let origin = *bytes.choose(&ORIGINS)?;
            response["covers"] = json!({origin: [[1, bytes.int_in_range(1..=9)?]]});
        }
    }
    let mut operations = Vec::new();
    while !bytes.is_empty() && operations.len() < 8 {
        operations.push(operation(bytes)?);
    }
    response["operations"] = operations.into();
    Ok(response)
}

/// Who writes: a stranger, another, and the replica itself.
const ORIGINS: [&str; 3] = ["z", "y", "with-tables"];

const TABLES: [&str; 10] = ["t", "t", "s", "s", "w", "T", "nope", "rtc_schema", "rtc_operations", "sqlite_schema"];

const COLUMNS: [&str; 10] = ["id", "id", "x", "x", "ID", "g", "rowid", "kind", "name", "sql"];

/// Well-formed enough to be read, otherwise anything.
fn operation(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    let (ts, counter, index) = (bytes.int_in_range(0..=5)?, bytes.int_in_range(0..=2)?, bytes.int_in_range(0..=2)?);
    let mut operation = json!({
        "hlc": {"ts": ts, "counter": counter + index, "nodeId": *bytes.choose(&ORIGINS)?},
        "type": *bytes.choose(&["INSERT", "INSERT", "UPDATE", "DELETE"])?,
        "table": *bytes.choose(&TABLES)?,
    });
    if operation["table"] == "rtc_schema" {
        let name = *bytes.choose(&["u", "t", "rtc_u", "v"])?;
        let id = format!("{name}(id integer binary)");
        let sql = *bytes.choose(&[
            "CREATE TABLE u (id INTEGER PRIMARY KEY, x)",
            "CREATE TABLE u (id INTEGER PRIMARY KEY, x, y DEFAULT CURRENT_TIMESTAMP)",
            "CREATE TABLE v (id INTEGER PRIMARY KEY) STRICT",
            "CREATE TABLE rtc_u (id INTEGER PRIMARY KEY)",
            "CREATE TABLE u AS SELECT 1",
            "DROP TABLE t",
        ])?;
        operation["pk"] = json!({"id": id});
        operation["values"] = json!({"id": id, "kind": "table", "name": name, "sql": sql});
    } else {
        operation["pk"] = json!({*bytes.choose(&COLUMNS)?: value(bytes)?});
        operation["values"] = columns(bytes)?;
    }
    match bytes.int_in_range(0..=5)? {
        0 => {}
        1 => operation["seq"] = json!(bytes.int_in_range(0..=5)?),
        place => {
            operation["seq"] = json!(bytes.int_in_range(0..=5)?);
            operation["tx"] = json!({"first": {"ts": ts, "counter": counter}, "n": bytes.int_in_range(0..=3)?});
            if place == 2 {
                operation["adopted"] = json!({"by": *bytes.choose(&ORIGINS)?, "index": index});
            }
        }
    }
    if operation["type"] == "UPDATE" {
        operation["prev"] = columns(bytes)?;
    }
    Ok(operation)
}

fn columns(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    let mut columns = json!({});
    for _ in 0..bytes.int_in_range(0..=3)? {
        columns[*bytes.choose(&COLUMNS)?] = value(bytes)?;
    }
    Ok(columns)
}

fn value(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    Ok(match bytes.int_in_range(0..=13)? {
        0 => Value::Null,
        1 => json!(0),
        2 | 3 => json!(1),
        4 => json!(1.0),
        5 => json!(-0.0),
        6 => json!({"$int": "9223372036854775807"}),
        7 => json!({"$real": "inf"}),
        8 => json!("a"),
        9 => json!("A "),
        10 => json!("1"),
        11 => json!({"$text": "/w=="}),
        12 => json!({"$blob": "YQ=="}),
        _ => json!(i64::from(bytes.arbitrary::<i8>()?)),
    })
}
