//! What is forgotten of deleted rows, and who was away for too long to be told.

use crate::common::{NOTES, Peer, assert_equal, both, peer, sync};
use rtc_battery_core::Replica;
use rtc_battery_core::replica::{Applied, DEFAULT_RETENTION_MS};
use rtc_battery_proto::{ReplicaId, VersionVector};
use rusqlite::Connection;

const DAY_MS: u64 = 24 * 3_600_000;

/// A day goes by, on which everybody who is here meets everybody.
fn day(peers: &mut [&mut Peer]) {
    for _ in 0..2 {
        for one in 1..peers.len() {
            let (left, right) = peers.split_at_mut(one);
            sync(left[0], right[0]);
        }
    }
    let ids: Vec<ReplicaId> = peers.iter().map(|peer| peer.replica.id().clone()).collect();
    for peer in peers {
        peer.wall_ms += DAY_MS;
        let now = peer.now();
        let own = peer.replica.id().clone();
        ids.iter().filter(|id| **id != own).for_each(|id| peer.replica.note_met(id, true, now));
        peer.replica.look_back(DEFAULT_RETENTION_MS, now).unwrap();
    }
}

fn days(count: u64, peers: &mut [&mut Peer]) {
    (0..count).for_each(|_| day(peers));
}

fn stat(peer: &mut Peer, name: &str) -> i64 {
    // -1 where there is none.
    peer.rows(&format!("SELECT coalesce(value, -1) FROM rtc_stats WHERE name = '{name}'"))[0].parse().unwrap()
}

/// What two say to each other of whom one is behind.
fn catch_up(behind: &mut Peer, other: &Peer) -> Applied {
    assert!(behind.replica.is_behind(other.replica.floor()));
    let (operations, covers) = other.delta(&VersionVector::default());
    behind.replica.stage(1, &operations).unwrap();
    let now = behind.now();
    behind.replica.catch_up_staged(1, &covers, other.replica.floor(), now).unwrap()
}

fn meet(behind: &mut Peer, other: &mut Peer) -> Applied {
    let applied = catch_up(behind, other);
    assert_eq!(applied.refused, Vec::<String>::new());
    other.pull(behind);
    let floor = behind.replica.floor().clone();
    other.replica.join_floor(&floor).unwrap();
    behind.pull(other);
    assert_eq!(behind.replica.floor(), other.replica.floor());
    assert_equal(behind, other);
    applied
}

#[test]
fn a_deleted_row_is_forgotten_when_everybody_has_known_for_a_month() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two'); DELETE FROM notes WHERE id = '1'");
    days(30, &mut [&mut a, &mut b]);
    assert_eq!((stat(&mut a, "deletes"), stat(&mut a, "forgotten_up_to")), (1, -1));
    days(2, &mut [&mut a, &mut b]);
    for peer in [&mut a, &mut b] {
        assert_eq!((stat(peer, "deletes"), stat(peer, "members")), (0, 1));
        assert!(stat(peer, "forgotten_up_to") > 0);
        assert_eq!(peer.rows("SELECT * FROM notes"), [r#""2"|"two""#]);
    }
    assert_eq!(a.delta(&VersionVector::default()).0.len(), 2, "the table and the row");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
}

/// Found by `what_is_shown_is_a_function_of_the_operations`: who heard of the UPDATE and the DELETE first had nothing older to show, and forgot the DELETE.
#[test]
fn a_beaten_delete_is_kept_whatever_comes_first_and_ends_below_the_floor() {
    let (mut a, mut b) = both();
    a.at(3000, "DELETE FROM notes");
    b.at(4000, "UPDATE notes SET content = 'newer'");
    sync(&mut a, &mut b);
    let (mut operations, covers) = a.delta(&VersionVector::default());
    operations.sort_by(|left, right| right.hlc.cmp(&left.hlc));
    let mut newcomer = peer("newcomer");
    newcomer.wall_ms = a.wall_ms;
    newcomer.replica.apply(operations, &covers, newcomer.now()).unwrap();
    assert_equal(&mut a, &mut newcomer);
    for peer in [&mut a, &mut newcomer] {
        assert_eq!((stat(peer, "deletes"), stat(peer, "operations")), (1, 4), "the table, INSERT, DELETE and UPDATE");
    }
    days(32, &mut [&mut a, &mut newcomer]);
    assert_equal(&mut a, &mut newcomer);
    assert_eq!((stat(&mut a, "deletes"), stat(&mut a, "operations")), (0, 3));
    assert_eq!(a.rows("SELECT * FROM notes"), [r#""1"|"newer""#]);
}

#[test]
fn one_that_was_met_and_has_not_heard_of_it_is_waited_for() {
    let (mut a, b) = both();
    a.exec("DELETE FROM notes");
    for _ in 0..40 {
        day(&mut [&mut a]);
        // It is met each day, and never takes anything.
        let now = a.now();
        a.replica.note_met(b.replica.id(), false, now);
    }
    assert_eq!(stat(&mut a, "deletes"), 1);
    days(32, &mut [&mut a]);
    assert_eq!(stat(&mut a, "deletes"), 0, "who is gone for a month is not");
}

#[test]
fn nothing_comes_back_by_who_was_away_for_longer() {
    let (mut a, mut b) = both();
    let mut away = peer("away");
    away.pull(&a);
    a.exec("INSERT INTO notes VALUES ('2', 'two'); UPDATE notes SET content = 'newer' WHERE id = '2'; DELETE FROM notes WHERE id = '1'");
    days(40, &mut [&mut a, &mut b]);
    away.wall_ms = a.wall_ms;
    assert_eq!(away.rows("SELECT * FROM notes"), [r#""1"|"one""#]);
    let applied = meet(&mut away, &mut a);
    assert_eq!((applied.brought_back, away.rows("SELECT * FROM notes")), (0, vec![r#""2"|"newer""#.to_owned()]));
}

#[test]
fn what_was_edited_while_away_is_kept_and_brings_the_whole_row_back() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two'), ('3', 'three'), ('4', 'four')");
    a.exec("CREATE TABLE more (id INTEGER PRIMARY KEY, x, y DEFAULT 'why'); INSERT INTO more (id, x) VALUES (1, 'x'), (2, 'x')");
    sync(&mut a, &mut b);
    let mut away = peer("away");
    away.pull(&a);
    a.wall_ms = 5000;
    a.exec("DELETE FROM notes WHERE id < '4'; DELETE FROM more; UPDATE notes SET content = 'a' WHERE id = '4'");
    away.wall_ms = 4000;
    away.exec("UPDATE more SET x = 'mine' WHERE id = 1; INSERT INTO notes VALUES ('5', 'mine'); DELETE FROM notes WHERE id = '3'");
    away.exec("UPDATE notes SET content = 'late' WHERE id = '4'");
    days(40, &mut [&mut a, &mut b]);
    away.wall_ms = a.wall_ms;
    let applied = meet(&mut away, &mut a);
    assert_eq!(applied.brought_back, 1);
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    for peer in [&mut away, &mut a, &mut b] {
        assert_eq!(peer.rows("SELECT * FROM more"), [r#"1|"mine"|"why""#]);
        assert_eq!(peer.rows("SELECT * FROM notes"), [r#""4"|"a""#, r#""5"|"mine""#]);
    }
    // It is a row like any other.
    b.exec("UPDATE more SET y = 'because'; DELETE FROM notes WHERE id = '5'");
    days(1, &mut [&mut a, &mut b, &mut away]);
    assert_eq!(away.rows("SELECT * FROM more"), [r#"1|"mine"|"because""#]);
    days(40, &mut [&mut a, &mut b, &mut away]);
    assert_eq!((stat(&mut a, "deletes"), stat(&mut away, "deletes")), (0, 0));
}

/// Somebody who was away has told of an edit one who still remembers the row, and not the one who does not.
#[test]
fn what_was_brought_back_before_it_was_forgotten_elsewhere_is_told_again() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two')");
    sync(&mut a, &mut b);
    let mut away = peer("away");
    away.pull(&a);
    a.wall_ms = 5000;
    a.exec("DELETE FROM notes");
    sync(&mut a, &mut b);
    b.wall_ms = 5000;
    days(32, &mut [&mut a]);
    assert_eq!((stat(&mut a, "deletes"), stat(&mut b, "deletes")), (0, 2));
    // One edit is newer than the DELETE, one is older.
    away.at(6000, "UPDATE notes SET content = content || '!' WHERE id = '1'");
    away.wall_ms = 4000;
    let old = r#"{"hlc":{"ts":4000,"counter":0,"nodeId":"other"},"type":"UPDATE","table":"notes","pk":{"id":"2"},"values":{"content":"old"}}"#;
    b.replica.adopt(vec![serde_json::from_str(old).unwrap()], b.now()).unwrap();
    sync(&mut away, &mut b);
    assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one!""#]);
    // The one who has forgotten shows a part of the rows until it hears of the rest.
    b.wall_ms = a.wall_ms;
    a.pull(&b);
    let floor = a.replica.floor().clone();
    b.replica.join_floor(&floor).unwrap();
    a.pull(&b);
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM notes"), [r#""1"|"one!""#]);
}

#[test]
fn the_floor_and_who_was_met_survive_a_restart() {
    let folder = std::env::temp_dir().join(format!("rtc-battery-floor-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let open = || {
        let connection = Connection::open(&folder).unwrap();
        Replica::open(connection, "room", &ReplicaId::new("a").unwrap()).unwrap()
    };
    let mut a = Peer { replica: open(), wall_ms: 1000 };
    a.exec(&format!("{NOTES}; INSERT INTO notes VALUES ('1', 'one'); DELETE FROM notes"));
    for n in 0..33 {
        day(&mut [&mut a]);
        if n == 20 {
            let now = a.now();
            a.replica.note_met(&ReplicaId::new("b").unwrap(), false, now);
            assert_eq!(a.replica.look_back_at_ms(DEFAULT_RETENTION_MS, now), now.wall_ms);
            a.replica.look_back(DEFAULT_RETENTION_MS, now).unwrap();
        }
        a = Peer { wall_ms: a.wall_ms, replica: open() };
    }
    assert_eq!(stat(&mut a, "deletes"), 1, "somebody was met who may not know");
    for _ in 0..20 {
        day(&mut [&mut a]);
        a = Peer { wall_ms: a.wall_ms, replica: open() };
    }
    assert_eq!(stat(&mut a, "deletes"), 0);
    let floor = a.replica.floor().clone();
    assert!(!floor.is_empty() && *Peer { wall_ms: a.wall_ms, replica: open() }.replica.floor() == floor);
    std::fs::remove_file(&folder).unwrap();
}

/// Of a peer that speaks only the specification nobody knows what it has heard of.
#[test]
fn an_old_operation_without_a_name_brings_no_forgotten_row_back() {
    let mut a = peer("a");
    a.exec(&format!("{NOTES}; INSERT INTO notes VALUES ('1', 'one')"));
    let old = a.delta(&VersionVector::default()).0.pop().unwrap().into_plain();
    a.exec("DELETE FROM notes; INSERT INTO notes VALUES ('2', 'two')");
    days(40, &mut [&mut a]);
    let mut new = old.clone();
    new.hlc.tick.ts = a.wall_ms;
    let mut other = old.clone();
    other.pk = new.pk.clone();
    let (applied, _) = a.replica.adopt(vec![old], a.now()).unwrap();
    assert_eq!((applied.operations, a.rows("SELECT id FROM notes")), (0, vec![r#""2""#.to_owned()]));
    a.replica.adopt(vec![new], a.now()).unwrap();
    assert_eq!(a.rows("SELECT id FROM notes ORDER BY id"), [r#""1""#, r#""2""#]);
    // A file has no clock: what it brings fills gaps.
    let mut from_file = peer("file");
    from_file.exec(&format!("{NOTES}; INSERT INTO notes VALUES ('1', 'file'), ('9', 'file')"));
    let file = from_file.replica.export().unwrap();
    a.exec("DELETE FROM notes WHERE id = '1'");
    a.replica.import(&file, a.now()).unwrap();
    assert_eq!(a.rows("SELECT id FROM notes ORDER BY id"), [r#""2""#, r#""9""#]);
}

#[test]
fn a_floor_that_is_not_covered_or_a_delta_that_is_not_all_changes_nothing() {
    let (mut a, mut b) = both();
    let mut away = peer("away");
    away.pull(&a);
    a.exec("DELETE FROM notes; INSERT INTO notes VALUES ('2', 'two')");
    days(40, &mut [&mut a, &mut b]);
    away.wall_ms = a.wall_ms;
    let floor = a.replica.floor().clone();
    away.replica.join_floor(&floor).unwrap();
    assert!(away.replica.floor().is_empty());
    let (operations, covers) = away.delta(&VersionVector::default());
    away.replica.stage(7, &operations).unwrap();
    let now = away.now();
    let applied = away.replica.catch_up_staged(7, &covers, &floor, now).unwrap();
    assert!(applied.refused[0].contains("less than it says"), "{applied:?}");
    assert_eq!(away.rows("SELECT * FROM notes"), [r#""1"|"one""#]);
    away.exec("BEGIN");
    assert!(away.replica.join_floor(&floor).is_ok(), "it is not covered");
    assert!(a.replica.join_floor(&floor).is_ok(), "it is here");
}

#[test]
fn a_reader_of_a_delta_is_told_when_something_was_forgotten_meanwhile() {
    let (mut a, mut b) = both();
    a.exec("DELETE FROM notes");
    days(30, &mut [&mut a, &mut b]);
    let reader = a.replica.delta(&VersionVector::default()).unwrap();
    assert!(!a.replica.is_cut(&reader));
    days(2, &mut [&mut a, &mut b]);
    assert!(a.replica.is_cut(&reader));
}

/// Two halves of a room that did not meet for longer than they remember.
#[test]
fn two_halves_that_have_both_forgotten_take_what_the_other_has() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two'), ('3', 'three'), ('4', 'four')");
    sync(&mut a, &mut b);
    a.exec("DELETE FROM notes WHERE id = '1'; UPDATE notes SET content = 'a' WHERE id = '4'");
    b.exec("DELETE FROM notes WHERE id = '2'; UPDATE notes SET content = 'b' WHERE id = '1'");
    days(40, &mut [&mut a]);
    days(40, &mut [&mut b]);
    assert!(a.replica.is_behind(b.replica.floor()) && b.replica.is_behind(a.replica.floor()));
    let (of_a, covers_a, floor_a) = {
        let (operations, covers) = a.delta(&VersionVector::default());
        (operations, covers, a.replica.floor().clone())
    };
    let applied = catch_up(&mut a, &b);
    assert_eq!(applied.brought_back, 0);
    b.replica.stage(1, &of_a).unwrap();
    let applied = b.replica.catch_up_staged(1, &covers_a, &floor_a, b.now()).unwrap();
    assert_eq!(applied.brought_back, 1, "it was edited there");
    for _ in 0..2 {
        sync(&mut a, &mut b);
        let (one, other) = (a.replica.floor().clone(), b.replica.floor().clone());
        a.replica.join_floor(&other).unwrap();
        b.replica.join_floor(&one).unwrap();
    }
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM notes ORDER BY id"), [r#""1"|"b""#, r#""3"|"three""#, r#""4"|"a""#]);
}

#[test]
fn what_is_released_below_the_floor_is_forgotten_as_it_is_elsewhere() {
    let (mut a, mut b) = both();
    let mut slow = peer("slow");
    slow.pull(&a);
    (a.wall_ms, b.wall_ms) = (DAY_MS, DAY_MS);
    a.exec("DELETE FROM notes; INSERT INTO notes VALUES ('2', 'two')");
    slow.pull(&a);
    days(40, &mut [&mut a, &mut b]);
    assert_eq!(stat(&mut a, "deletes"), 0);
    slow.replica.join_floor(a.replica.floor()).unwrap();
    assert_eq!(slow.rows("SELECT * FROM notes"), [r#""1"|"one""#], "it is ahead of its clock");
    slow.wall_ms = a.wall_ms;
    slow.replica.release(slow.now()).unwrap();
    assert_eq!(stat(&mut slow, "deletes"), 0);
    assert_equal(&mut slow, &mut a);
}

/// Found by the simulator: what is set aside may be newer than the DELETE, and then all of the row is there for everybody else.
#[test]
fn a_row_is_not_forgotten_while_something_about_it_is_set_aside() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN more");
    sync(&mut a, &mut b);
    b.at(2 * DAY_MS, "UPDATE notes SET more = 'more'");
    a.at(2000, "DELETE FROM notes");
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM notes"), [""; 0], "what is newer is ahead of its clock");
    days(32, &mut [&mut b]);
    let floor = b.replica.floor().clone();
    a.replica.join_floor(&floor).unwrap();
    assert_eq!(a.replica.floor(), &floor);
    a.wall_ms = b.wall_ms;
    a.replica.release(a.now()).unwrap();
    assert_eq!(a.rows("SELECT * FROM notes"), [r#""1"|"one"|"more""#]);
    assert_equal(&mut a, &mut b);
}

/// The same of what waits for a column, whether it is newer than the DELETE or not.
#[test]
fn a_row_is_not_forgotten_while_something_about_it_waits() {
    for (written_ms, shown) in [(3000, &[r#""1"|"one"|"more""#][..]), (1500, &[])] {
        let (mut a, mut b) = both();
        b.at(1400, "ALTER TABLE notes ADD COLUMN more");
        b.at(written_ms, "UPDATE notes SET more = 'more'");
        let (operations, covers) = b.delta(a.replica.vector());
        let update = operations.into_iter().filter(|operation| operation.table == "notes").collect();
        a.at(2000, "DELETE FROM notes");
        b.pull(&a);
        a.replica.apply(update, &covers, a.now()).unwrap();
        days(32, &mut [&mut b]);
        let floor = b.replica.floor().clone();
        a.replica.join_floor(&floor).unwrap();
        a.wall_ms = b.wall_ms;
        let now = a.now();
        a.replica.look_back(DEFAULT_RETENTION_MS, now).unwrap();
        assert_eq!(stat(&mut a, "deletes"), 1);
        a.exec("ALTER TABLE notes ADD COLUMN more");
        assert_eq!(a.rows("SELECT * FROM notes"), shown);
        assert_eq!(a.replica.look_back_at_ms(DEFAULT_RETENTION_MS, now), now.wall_ms);
        a.replica.look_back(DEFAULT_RETENTION_MS, now).unwrap();
        assert_eq!(stat(&mut a, "deletes"), 0);
    }
}

/// Found by the fuzz target `room`: what is forgotten is newer than a file, and beat here what the file brought back there.
#[test]
fn what_a_file_brought_back_is_taken_by_who_still_has_the_row() {
    let (mut a, mut b) = both();
    let mut away = peer("away");
    away.pull(&a);
    a.exec("DELETE FROM notes");
    days(40, &mut [&mut a, &mut b]);
    let mut from_file = peer("file");
    from_file.exec(&format!("{NOTES}; INSERT INTO notes VALUES ('1', 'file')"));
    a.replica.import(&from_file.replica.export().unwrap(), a.now()).unwrap();
    away.wall_ms = a.wall_ms;
    meet(&mut away, &mut a);
    assert_eq!(away.rows("SELECT * FROM notes"), [r#""1"|"file""#]);
}

/// The same without a file: of two who were away one brings the row back by an edit, and the other has a newer one, which was known when the row was deleted.
#[test]
fn an_edit_that_brought_a_row_back_is_taken_by_who_has_a_newer_one_that_is_gone() {
    let (mut a, mut b) = both();
    let (mut early, mut late) = (peer("early"), peer("late"));
    early.pull(&a);
    b.at(3000, "UPDATE notes SET content = 'newer, and deleted'");
    late.pull(&b);
    a.pull(&b);
    a.at(4000, "DELETE FROM notes");
    early.at(2000, "UPDATE notes SET content = 'early'");
    days(40, &mut [&mut a, &mut b]);
    (early.wall_ms, late.wall_ms) = (a.wall_ms, a.wall_ms);
    assert_eq!(meet(&mut early, &mut a).brought_back, 1);
    assert_eq!(late.rows("SELECT content FROM notes"), [r#""newer, and deleted""#]);
    meet(&mut late, &mut a);
    assert_eq!(late.rows("SELECT content FROM notes"), [r#""early""#]);
}
