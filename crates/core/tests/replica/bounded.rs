//! The log is bounded by the data, however often it is written. `RTC_BATTERY_UPDATES=1000000` writes that often (`cargo xtask soak`).

use crate::common::{Peer, assert_equal, peer};

/// How many rows each of our tables has.
fn log_rows(peer: &mut Peer) -> Vec<String> {
    ["rtc_operations", "rtc_transactions", "rtc_waiting", "rtc_origins", "rtc_tables", "rtc_replica"]
        .iter()
        .flat_map(|table| peer.rows(&format!("SELECT '{table}', count(*) FROM {table}")))
        .collect()
}

/// Nine in ten in transactions of 5,000, which make one operation each, the others by themselves.
#[test]
fn updates_of_one_row_leave_the_log_of_one_row() {
    let updates: u64 = std::env::var("RTC_BATTERY_UPDATES").map_or(100_000, |updates| updates.parse().unwrap());
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (k INTEGER PRIMARY KEY, n INTEGER, v); INSERT INTO t VALUES (1, 1, 'text')");
    a.exec("UPDATE t SET n = n - 1");
    b.pull(&a);
    let (ours, theirs) = (log_rows(&mut a), log_rows(&mut b));
    let pages = a.rows("PRAGMA page_count");
    for n in 0..updates {
        match n % 50_000 {
            in_transaction @ 0..45_000 => {
                if in_transaction % 5_000 == 0 {
                    a.exec("BEGIN");
                }
                a.exec("UPDATE t SET n = n + 1");
                if in_transaction % 5_000 == 4_999 || n + 1 == updates {
                    a.exec("COMMIT");
                }
            }
            alone => {
                a.exec("UPDATE t SET n = n + 1");
                if alone % 500 == 0 {
                    b.pull(&a);
                    a.replica.take_committed(u64::MAX);
                }
            }
        }
    }
    b.pull(&a);
    assert_eq!(a.rows("SELECT n FROM t"), [updates.to_string()]);
    assert_eq!((log_rows(&mut a), log_rows(&mut b)), (ours, theirs));
    assert_eq!(a.rows("PRAGMA page_count"), pages);
    assert_eq!(
        a.rows(r#"SELECT type, "values" FROM rtc_log WHERE "table" = 't' ORDER BY seq"#),
        [r#""INSERT"|"k = 1, v = 'text'""#.to_owned(), format!(r#""UPDATE"|"n = {updates}""#),]
    );
    assert_equal(&mut a, &mut b);
}
