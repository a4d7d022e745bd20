//! A handful of transactions, given to replicas in every order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rtc_battery_core::replica::{Committed, Replica};
use rtc_battery_proto::ReplicaId;
use rusqlite::Connection;

use super::{Peer, assert_equal, peer, sync};

/// What happens, in order.
pub(crate) enum Step {
    /// A writer runs SQL at a time.
    Exec(usize, u64, &'static str),
    /// Two writers meet.
    Meet(usize, usize),
}

/// Writers, and what they wrote.
pub(crate) struct Story {
    pub(crate) peers: Vec<Peer>,
    pub(crate) transactions: Vec<Committed>,
}

/// Lets `writers` replicas do it.
pub(crate) fn play(writers: usize, steps: &[Step]) -> Story {
    let mut peers: Vec<Peer> = (0..writers).map(|n| peer(&format!("writer{n}"))).collect();
    let mut transactions = Vec::new();
    for step in steps {
        match *step {
            Step::Exec(writer, wall_ms, sql) => {
                peers[writer].at(wall_ms, sql);
                transactions.extend(peers[writer].replica.take_committed(u64::MAX));
            }
            Step::Meet(one, other) => meet(&mut peers, one, other),
        }
    }
    Story { peers, transactions }
}

fn meet(peers: &mut [Peer], one: usize, other: usize) {
    let (left, right) = peers.split_at_mut(one.max(other));
    let (one, other) = (&mut left[one.min(other)], &mut right[0]);
    sync(one, other);
    [one, other].into_iter().for_each(|peer| drop(peer.replica.take_committed(u64::MAX)));
}

/// All writers meet; then others get the transactions in every order there is, and are opened again after each. Everybody has the same then, and
/// `see` looks at it.
pub(crate) fn in_every_order(writers: usize, steps: &[Step], see: impl Fn(&mut Peer)) {
    let Story { mut peers, transactions } = play(writers, steps);
    assert!(transactions.len() < 7, "{} transactions have too many orders", transactions.len());
    for _ in 0..2 {
        (1..writers).for_each(|other| meet(&mut peers, 0, other));
    }
    let (first, others) = peers.split_at_mut(1);
    let first = &mut first[0];
    see(first);
    for other in others {
        see(other);
        assert_equal(first, other);
    }
    let mut order: Vec<usize> = (0..transactions.len()).collect();
    let file = file();
    loop {
        let mut replica = open(&file);
        for transaction in &order {
            let Committed { operations, covers, .. } = &transactions[*transaction];
            replica.replica.apply(operations.clone().unwrap(), covers, replica.now()).unwrap();
            drop(replica);
            replica = open(&file);
        }
        see(&mut replica);
        assert_equal(first, &mut replica);
        drop(replica);
        std::fs::remove_file(&file).unwrap();
        if !next(&mut order) {
            break;
        }
    }
    // And as one compacted delta.
    let mut newcomer = peer("newcomer");
    newcomer.pull(first);
    see(&mut newcomer);
    assert_equal(first, &mut newcomer);
}

/// The next order, by <https://en.wikipedia.org/wiki/Permutation#Generation_in_lexicographic_order>.
fn next(order: &mut [usize]) -> bool {
    let Some(at) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else { return false };
    let other = order.iter().rposition(|n| *n > order[at]).unwrap();
    order.swap(at, other);
    order[at + 1..].reverse();
    true
}

fn file() -> PathBuf {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let n = FILES.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("rtc-battery-orders-{}-{n}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

fn open(file: &Path) -> Peer {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").unwrap();
    let replica = Replica::open(connection, "room", &ReplicaId::new("reader").unwrap()).unwrap();
    Peer { replica, wall_ms: 1000 }
}
