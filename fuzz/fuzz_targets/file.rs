//! A SQLite file from a peer (`sync-full`) or from the user: it is taken or refused, the same file again brings nothing, and the database stays
//! sound and its own, and passes on what it took.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtc_battery_core::Now;
use rtc_battery_fuzz::memory::most_bytes_of;
use rtc_battery_fuzz::replicas::{check, check_passes_on, dump, with_tables};

/// What a replica takes, and what each byte of a file may take on top of that: rows become operations.
const REPLICA_BYTES: usize = 4 << 20;
const BYTES_PER_BYTE: usize = 4096;

/// The same for the database, in pages of 8 KiB.
const DATABASE_PAGES: i64 = 64;

fuzz_target!(|file: &[u8]| {
    let most_bytes = most_bytes_of(|| survive(file));
    assert!(most_bytes <= REPLICA_BYTES + BYTES_PER_BYTE * file.len(), "{most_bytes} bytes of memory");
});

fn survive(file: &[u8]) {
    let mut replica = with_tables();
    let (now, version) = (Now { wall_ms: 1_000_000, mono_ms: 1_000 }, replica.version());
    if replica.import(file, now).is_err() {
        return assert_eq!((replica.version(), replica.in_transaction()), (version, false), "nothing was changed");
    }
    let before = dump(&mut replica, now);
    let (again, _) = replica.import(file, now).expect("what was taken once");
    assert_eq!(again.operations, 0, "the same file again");
    assert_eq!(dump(&mut replica, now), before);
    check(&mut replica, now, DATABASE_PAGES + file.len() as i64 / 16);
    let ours = dump(&mut replica, now);
    check_passes_on(&replica, &ours, now);
}
