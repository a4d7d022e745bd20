//! Writing and merging 100,000 rows, with and without the log.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context, Result};
use rtc_battery_proto::{Operation, SqlValue, VersionVector};

use crate::engines::{Bare, Engine, NOW, SCHEMA, Tracked};
use crate::measure::{Run, medians, time};

const ROWS: u32 = 100_000;
const SINGLE: u32 = 10_000;

/// Rows of one remote transaction.
const BATCH: u32 = 1_000;

const INSERT: &str = "INSERT INTO items VALUES (?, ?, ?, ?, ?)";

/// Rows that look like a program's: random keys, which is what makes an index expensive, and the same every time.
const BULK: &str = "INSERT INTO items SELECT id, title, body, done, rank FROM temp.source";

/// Deltas, as a peer tells them.
type Told = Vec<(Vec<Operation>, VersionVector)>;

/// Measures and prints.
pub(crate) fn run(rounds: usize, only: &str) -> Result<()> {
    let compare = |what: &str, tracked: Run<'_>, bare: Run<'_>| {
        if what.contains(only) { compare(what, rounds, tracked, bare) } else { Ok(()) }
    };
    println!("{ROWS} rows of items(id TEXT PRIMARY KEY, title, body, done, rank); medians of {rounds}, processor time");
    println!("{:<44} {:>10} {:>10} {:>7}", "", "tracked", "untracked", "ratio");
    compare("bulk insert, one statement", &bulk::<Tracked>, &bulk::<Bare>)?;
    compare("bulk insert, a transaction of single ones", &singles_in_one::<Tracked>, &singles_in_one::<Bare>)?;
    compare("10,000 autocommit inserts", &autocommit::<Tracked>, &autocommit::<Bare>)?;
    compare("10,000 one-column updates", &updates::<Tracked>, &updates::<Bare>)?;
    compare("one update of 100,000 rows", &update_all::<Tracked>, &update_all::<Bare>)?;
    let (bulk, live) = (OnceCell::new(), OnceCell::new());
    let apply_bulk = || applied(&bulk, ROWS, BATCH);
    compare("100,000 rows applied; inserted by statements", &apply_bulk, &singles_in_one::<Bare>)?;
    let apply_live = || applied(&live, SINGLE, 1);
    compare("10,000 live rows applied; autocommit inserts", &apply_live, &autocommit::<Bare>)?;
    if !"database, bytes".contains(only) {
        return Ok(());
    }
    let (tracked, bare) = (filled::<Tracked>()?.size_bytes()?, filled::<Bare>()?.size_bytes()?);
    println!("{:<44} {tracked:>10} {bare:>10} {:>7.2}", "database, bytes", tracked as f64 / bare as f64);
    Ok(())
}

fn compare(what: &str, rounds: usize, tracked: Run<'_>, bare: Run<'_>) -> Result<()> {
    let [tracked, bare] = medians(rounds, [tracked, bare])?;
    let ratio = tracked.as_secs_f64() / bare.as_secs_f64();
    println!("{what:<44} {:>7.0} ms {:>7.0} ms {ratio:>7.2}", tracked.as_secs_f64() * 1e3, bare.as_secs_f64() * 1e3);
    Ok(())
}

fn row(n: u32) -> [SqlValue; 5] {
    // SplitMix64: keys without order, as random UUIDs are.
    let mut x = u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let id = format!("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", x >> 32, x >> 16 & 0xffff, x >> 4 & 0xfff, x & 0xfff, n);
    let done = SqlValue::Integer(i64::from(n % 2));
    let (title, body) = (format!("{:<20}", format!("title {n}")), format!("{:<80}", format!("the body of item {x}")));
    [SqlValue::text(&id), SqlValue::text(&title), SqlValue::text(&body), done, SqlValue::Real(f64::from(n) + 0.5)]
}

fn empty<E: Engine>() -> Result<E> {
    let mut engine = E::open()?;
    engine.exec(SCHEMA, &[])?;
    Ok(engine)
}

fn fill_source<E: Engine>(engine: &mut E) -> Result<()> {
    engine.exec("CREATE TEMP TABLE source (id, title, body, done, rank)", &[])?;
    engine.exec("BEGIN", &[])?;
    for n in 0..ROWS {
        engine.exec("INSERT INTO temp.source VALUES (?, ?, ?, ?, ?)", &row(n))?;
    }
    engine.exec("COMMIT", &[])
}

fn filled<E: Engine>() -> Result<E> {
    let mut engine = empty::<E>()?;
    fill_source(&mut engine)?;
    engine.exec(BULK, &[])?;
    Ok(engine)
}

fn bulk<E: Engine>() -> Result<Duration> {
    let mut engine = empty::<E>()?;
    fill_source(&mut engine)?;
    Ok(time(|| engine.exec(BULK, &[]))?.0)
}

fn insert<E: Engine>(engine: &mut E, rows: std::ops::Range<u32>) -> Result<()> {
    rows.into_iter().try_for_each(|n| engine.exec(INSERT, &row(n)))
}

fn singles_in_one<E: Engine>() -> Result<Duration> {
    let mut engine = empty::<E>()?;
    Ok(time(|| {
        engine.exec("BEGIN", &[])?;
        insert(&mut engine, 0..ROWS)?;
        engine.exec("COMMIT", &[])
    })?
    .0)
}

fn autocommit<E: Engine>() -> Result<Duration> {
    let mut engine = empty::<E>()?;
    Ok(time(|| insert(&mut engine, 0..SINGLE))?.0)
}

fn updates<E: Engine>() -> Result<Duration> {
    let mut engine = filled::<E>()?;
    Ok(time(|| {
        (0..SINGLE).try_for_each(|n| {
            let [id, ..] = row(n.wrapping_mul(7919) % ROWS);
            engine.exec("UPDATE items SET rank = ? WHERE id = ?", &[SqlValue::Real(f64::from(n)), id])
        })
    })?
    .0)
}

fn update_all<E: Engine>() -> Result<Duration> {
    let mut engine = filled::<E>()?;
    Ok(time(|| engine.exec("UPDATE items SET done = 1 - done", &[]))?.0)
}

/// What a peer tells of rows that it inserted in transactions of `batch`.
fn operations(rows: u32, batch: u32) -> Result<Told> {
    let mut writer = empty::<Tracked>()?;
    let mut known = VersionVector::default();
    let mut told = Vec::new();
    for first in (0..rows).step_by(batch as usize) {
        writer.exec("BEGIN", &[])?;
        insert(&mut writer, first..first + batch)?;
        writer.exec("COMMIT", &[])?;
        let mut reader = writer.0.delta(&known)?;
        let mut operations = Vec::new();
        let covers = loop {
            let part = writer.0.read_delta(&mut reader, 1 << 20)?;
            operations.extend(part.operations);
            if let Some(end) = part.end {
                break end.covers;
            }
        };
        known.merge(&covers);
        told.push((operations, covers));
    }
    Ok(told)
}

/// Times of applying all of it, made once.
fn applied(told: &OnceCell<Told>, rows: u32, batch: u32) -> Result<Duration> {
    if told.get().is_none() {
        let _ = told.set(operations(rows, batch)?);
    }
    apply(told.get().context("operations were made")?, rows)
}

fn apply(told: &[(Vec<Operation>, VersionVector)], rows: u32) -> Result<Duration> {
    let mut reader = Tracked::open()?;
    let told = told.to_vec();
    let (took, ()) = time(|| {
        for (operations, covers) in told {
            reader.0.apply(operations, &covers, NOW)?;
            reader.0.take_committed(reader.0.version());
        }
        Ok(())
    })?;
    let count = reader.rows("SELECT 1 FROM items")?.len();
    anyhow::ensure!(count == rows as usize, "{count} rows were applied");
    Ok(took)
}
