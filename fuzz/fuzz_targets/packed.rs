//! Packed operations: what is read takes the memory that it said at most, and is packed and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtc_battery_fuzz::memory::most_bytes_of;
use rtc_battery_proto::Operation;
use rtc_battery_proto::packed::{MAX_SIZE_BYTES, Packed, pack};

/// Rust's own structures around what a message says that it takes: so many times as much, and a little for the empty one.
const MEMORY_FACTOR: usize = 8;
const EMPTY_BYTES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Ok(packed) = Packed::read(data.to_vec()) else { return };
    assert!(packed.size_bytes() <= MAX_SIZE_BYTES && packed.bytes() == data);
    let mut operations = None;
    let most_bytes = most_bytes_of(|| operations = packed.operations().ok());
    assert!(most_bytes <= EMPTY_BYTES + MEMORY_FACTOR * packed.size_bytes(), "{most_bytes} of {}", packed.size_bytes());
    let Some(operations) = operations else { return };
    if !operations.iter().all(|operation| operation.place().is_some()) {
        // Refused where they are applied.
        assert!(pack(&operations, packed.extent()).is_none());
        return;
    }
    let again = pack(&operations, packed.extent()).expect("operations that have their places");
    check(&Packed::read(again).expect("what we pack"), &packed, &operations);
});

fn check(again: &Packed, packed: &Packed, operations: &[Operation]) {
    assert_eq!(again.extent(), packed.extent());
    assert_eq!(again.operations().as_deref(), Ok(operations));
}
