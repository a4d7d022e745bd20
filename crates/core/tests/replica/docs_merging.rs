//! docs/merging.md: every example there does what it says, in whatever order devices hear of each other.
//!
//! An example is a fenced block of SQL. Comments at the start of a line say who runs what follows, and when; `both` runs once and is synced, `both
//! meet` syncs, and after `both see` (or `Ben sees`) come a query and its rows. They meet when the later of them has written, or at the time that is said. While
//! `Ben is away` for some days, Anna looks each day for what may be forgotten. `Anna's clock is set right` to a time that is earlier than hers.

use std::fs;
use std::path::Path;

use crate::common::{Peer, assert_equal, peer, sync};
use rtc_battery_core::Replica;
use rtc_battery_core::replica::{DEFAULT_RETENTION_MS, Params, Scope};
use rtc_battery_proto::{ReplicaId, SqlValue, VersionVector};
use rusqlite::Connection;

/// Who begins with a copy of Anna's database.
const COPY: &str = ", with a copy of Anna's database";

/// A part of an example: its comment, and the lines until the next one that names somebody.
struct Part<'a> {
    head: &'a str,
    body: Vec<&'a str>,
}

fn examples(text: &str) -> Vec<Vec<Part<'_>>> {
    text.split("```sql\n").skip(1).map(|rest| parts(rest.split("```").next().unwrap())).collect()
}

fn parts(example: &str) -> Vec<Part<'_>> {
    let is_head = |line: &&str| {
        ["both", "Anna", "Ben"].iter().any(|who| line.strip_prefix("-- ").is_some_and(|rest| rest.starts_with(who)))
    };
    let mut parts: Vec<Part<'_>> = Vec::new();
    for line in example.lines() {
        // What both see is the end: a row may begin with anything.
        let at_end = parts.last().is_some_and(|part| {
            let (head, _) = part.head.split_once(", ").unwrap_or((part.head, ""));
            head.ends_with(" see") || head.ends_with(" sees")
        });
        match (is_head(&line) && !at_end, parts.last_mut()) {
            (true, _) => parts.push(Part { head: &line[3..], body: Vec::new() }),
            (false, Some(part)) => part.body.push(line),
            (false, None) => panic!("nobody runs {line}"),
        }
    }
    parts
}

fn wall_ms(time: &str) -> u64 {
    let (hours, minutes) = time.split_once(':').unwrap();
    (hours.parse::<u64>().unwrap() * 60 + minutes.parse::<u64>().unwrap()) * 60_000
}

fn run(peer: &mut Peer, head: &str, sql: &str) {
    let (time, scope) = match head.split_once(", on this device") {
        Some((time, _)) => (time, Scope::Local),
        None => (head, Scope::Synced),
    };
    peer.wall_ms = wall_ms(time);
    let now = peer.now();
    peer.replica.exec(sql, &Params::None, scope, now).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn rows(peer: &mut Peer, query: &str) -> Vec<String> {
    let text = |value: &SqlValue| match value {
        SqlValue::Null => "NULL".to_owned(),
        SqlValue::Integer(integer) => integer.to_string(),
        other => other.as_text().unwrap().into_owned(),
    };
    let row = |row: &Vec<SqlValue>| row.iter().map(text).collect::<Vec<_>>().join(" | ");
    peer.exec(query).values.iter().map(row).collect()
}

/// A database of a file of this name, as its file has it.
fn open(file: &Path) -> Peer {
    let id = ReplicaId::new("anna").unwrap();
    Peer { replica: Replica::open(Connection::open(file).unwrap(), "room", &id).unwrap(), wall_ms: 1000 }
}

/// Somebody opens a copy, and knows that it is one.
fn open_copy(file: &Path, copy: &Path) -> Peer {
    fs::copy(file, copy).unwrap();
    let mut ben = open(copy);
    ben.replica.take_new_id(&ReplicaId::new("ben").unwrap()).unwrap();
    ben
}

/// Days go by on which Anna meets nobody.
fn pass(anna: &mut Peer, days: &str) {
    for _ in 0..days.strip_suffix(" days").unwrap().parse::<u64>().unwrap() {
        anna.wall_ms += wall_ms("24:00");
        anna.replica.look_back(DEFAULT_RETENTION_MS, anna.now()).unwrap();
    }
}

/// Her clock was ahead, and is right from now on.
fn set_right(anna: &mut Peer, time: &str) {
    anna.wall_ms = wall_ms(time);
    let now = anna.now();
    assert!(anna.replica.is_ahead(now));
    let applied = anna.replica.step_back(&ReplicaId::new("anna-again").unwrap(), now).unwrap();
    assert_eq!(applied.refused, Vec::<String>::new());
}

/// Somebody was away for so long that the other has forgotten what is gone.
fn catch_up(behind: &mut Peer, other: &Peer) {
    let (operations, covers) = other.delta(&VersionVector::default());
    behind.replica.stage(1, &operations).unwrap();
    let applied = behind.replica.catch_up_staged(1, &covers, other.replica.floor(), behind.now()).unwrap();
    assert_eq!(applied.refused, Vec::<String>::new());
}

fn play(example: &[Part<'_>], anna_first: bool) {
    let file = |name: &str| std::env::temp_dir().join(format!("rtc-battery-docs-{}-{name}.db", std::process::id()));
    let files = [file("anna"), file("ben")];
    let copies = example.iter().any(|part| part.head.ends_with(COPY));
    let (mut anna, mut ben) = (if copies { open(&files[0]) } else { peer("anna") }, peer("ben"));
    let meet = |anna: &mut Peer, ben: &mut Peer, at_ms: Option<u64>| {
        let at_ms = at_ms.unwrap_or(anna.wall_ms.max(ben.wall_ms));
        for who in [&mut *anna, &mut *ben] {
            who.wall_ms = who.wall_ms.max(at_ms);
            who.replica.release(who.now()).unwrap();
        }
        if ben.replica.is_behind(anna.replica.floor()) {
            catch_up(ben, anna);
        }
        if anna_first { sync(ben, anna) } else { sync(anna, ben) }
    };
    let mut seen = false;
    for Part { head, body } in example {
        let sql = body.join("\n");
        let (head, at_ms) = match head.split_once(", ") {
            Some((both, time)) if both.starts_with("both") => (both, Some(wall_ms(time))),
            _ => (*head, None),
        };
        match head {
            "both" => {
                run(&mut anna, "09:00", &sql);
                meet(&mut anna, &mut ben, None);
            }
            "both meet" => meet(&mut anna, &mut ben, at_ms),
            "both see" | "Anna sees" | "Ben sees" => {
                meet(&mut anna, &mut ben, at_ms);
                let (query, expected): (Vec<&str>, Vec<&str>) = body.iter().partition(|line| !line.starts_with("-- "));
                let expected: Vec<&str> = expected.iter().map(|line| &line[3..]).collect();
                for (name, who) in [("Anna sees", &mut anna), ("Ben sees", &mut ben)] {
                    if head != "both see" && head != name {
                        continue;
                    }
                    assert_eq!(rows(who, &query.join("\n")), expected, "{query:?}");
                }
                let (left, right) = (anna.replica.digest().unwrap(), ben.replica.digest().unwrap());
                assert_eq!((anna.log(), left), (ben.log(), right));
                let (mut first, mut second) = (peer("first"), peer("second"));
                (first.wall_ms, second.wall_ms) = (anna.wall_ms, ben.wall_ms);
                first.pull(&anna);
                second.pull(&ben);
                assert_equal(&mut first, &mut second);
                seen = true;
            }
            head => match head.split_once(", ").unwrap() {
                (_, when) if when.ends_with(COPY) => {
                    ben = open_copy(&files[0], &files[1]);
                    run(&mut ben, when.strip_suffix(COPY).unwrap(), &sql);
                }
                ("Ben is away", days) => pass(&mut anna, days),
                ("Anna's clock is set right", time) => set_right(&mut anna, time),
                ("Anna", when) => run(&mut anna, when, &sql),
                (_, when) => run(&mut ben, when, &sql),
            },
        }
    }
    assert!(seen, "nothing is expected");
    drop((anna, ben));
    files.iter().filter(|_| copies).for_each(|file| fs::remove_file(file).unwrap());
}

#[test]
fn every_example_does_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/merging.md");
    let text = fs::read_to_string(path).unwrap();
    let examples = examples(&text);
    let rules = text.lines().filter(|line| line.starts_with("## ")).count();
    assert!(examples.len() >= rules && rules > 10, "{} examples for {rules} rules", examples.len());
    for example in &examples {
        play(example, true);
        play(example, false);
    }
}
