//! What is RTC Battery's stays as it is, whatever SQL the user thinks of.

use crate::common::{assert_equal, peer};

const ATTACKS: [&str; 29] = [
    "ALTER TABLE temp.rtc_staged RENAME TO mine",
    "ALTER TABLE temp.rtc_staged ADD COLUMN x",
    "ALTER TABLE rtc_operations ADD COLUMN x",
    "ALTER TABLE rtc_operations RENAME COLUMN idx TO x",
    "ALTER TABLE rtc_operations DROP COLUMN vals",
    "DROP TABLE temp.rtc_affinity",
    "DROP TABLE rtc_waiting",
    "DROP INDEX rtc_operations_of_transaction",
    "CREATE TEMP TRIGGER x AFTER INSERT ON rtc_operations BEGIN SELECT RAISE(FAIL, 'x'); END",
    "CREATE TRIGGER x AFTER INSERT ON rtc_operations BEGIN SELECT RAISE(FAIL, 'x'); END",
    "CREATE TEMP TRIGGER x AFTER INSERT ON temp.rtc_staged BEGIN SELECT RAISE(FAIL, 'x'); END",
    "CREATE UNIQUE INDEX x ON rtc_operations (kind)",
    "CREATE UNIQUE INDEX temp.x ON rtc_staged (part)",
    "CREATE TEMP TABLE rtc_operations (x)",
    "CREATE TEMP VIEW rtc_operations AS SELECT 1",
    "CREATE VIEW rtc_mine AS SELECT 1",
    "CREATE TEMP TABLE rtc_transactions (x)",
    "CREATE VIRTUAL TABLE rtc_words USING fts5 (x)",
    "CREATE VIRTUAL TABLE temp.rtc_words USING fts5 (x)",
    "ALTER TABLE local RENAME TO rtc_mine",
    "CREATE TEMP TABLE mine (x); ALTER TABLE mine RENAME TO rtc_operations",
    "INSERT INTO sqlite_temp_schema VALUES ('table', 'x', 'x', 0, '')",
    "UPDATE rtc_replica SET node = 'b'",
    "REPLACE INTO rtc_origins VALUES (1, 'x', '[]')",
    "WITH x AS (SELECT 1) DELETE FROM rtc_schema",
    "INSERT INTO local VALUES (7) ON CONFLICT DO NOTHING RETURNING (SELECT writable_schema FROM pragma_writable_schema(1))",
    "PRAGMA main.writable_schema = 1",
    "SAVEPOINT rtc_seal",
    "ANALYZE rtc_operations",
];

/// What a synced table is made of is replicated data: to change it on one device would break merging, and the last one is not replicated.
const CHANGES: [&str; 4] = [
    "ALTER TABLE t DROP COLUMN v",
    "ALTER TABLE t RENAME COLUMN v TO x",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE t ALTER COLUMN v SET NOT NULL",
];

#[test]
fn a_synced_table_has_one_shape_everywhere() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v, w)");
    for change in CHANGES {
        a.try_local(change).expect_err(change);
        if change.contains("SET NOT NULL") {
            a.try_exec(change).expect_err(change);
        }
        a.exec("INSERT INTO t (v) VALUES (1)");
        assert_eq!(a.rows("SELECT group_concat(name) FROM pragma_table_info('t')"), ["\"id,v,w\""], "{change}");
    }
}

#[test]
fn nothing_of_ours_can_be_changed() {
    for attack in ATTACKS {
        for local in [false, true] {
            let (mut a, mut b) = (peer("a"), peer("b"));
            a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
            a.local("CREATE TABLE local (x PRIMARY KEY)");
            let outcome = if local { a.try_local(attack) } else { a.try_exec(attack) };
            if attack.starts_with("ANALYZE") || attack.starts_with("SAVEPOINT") {
                outcome.unwrap();
            } else {
                outcome.expect_err(attack);
            }
            // It writes, tells and takes as before.
            a.exec("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; DELETE FROM t; INSERT INTO t VALUES (2, 'c')");
            if a.replica.in_transaction() {
                a.exec("RELEASE rtc_seal");
            }
            b.pull(&a);
            b.exec("UPDATE t SET v = 'd'");
            let (operations, covers) = b.delta(a.replica.vector());
            a.replica.stage(1, &operations).unwrap();
            a.replica.apply_staged(1, &covers, a.now()).unwrap();
            assert_equal(&mut a, &mut b);
        }
    }
}
