//! Operations as JSON: what is read is written and read as the same, takes no more room than its writer gave it, and its place in a
//! transaction is one that can be.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rtc_battery_fuzz::mutate::mutate;
use rtc_battery_proto::{MAX_SEQ, Operation, TransactionExtent};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(operation) = serde_json::from_slice::<Operation>(data) else { return };
    let json = serde_json::to_string(&operation).expect("an operation is JSON");
    let again: Operation = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(again, operation, "{json}");
    assert_eq!(serde_json::to_string(&again).expect("an operation is JSON"), json);
    // `1e15` becomes 1000000000000000.0; nothing grows more.
    assert!(json.len() <= 8 * data.len(), "{} bytes of {}: {json}", json.len(), data.len());

    if let Some((dot, extent, index)) = operation.place() {
        let shorter = TransactionExtent { n: index, ..extent };
        assert_eq!(Operation { tx: Some(shorter), ..operation.clone() }.place(), None, "{json}");
        assert!((1..=MAX_SEQ).contains(&dot.seq) && index < extent.n, "{json}");
        let adopter = operation.adopted.as_ref().map(|adopted| &adopted.by);
        assert_eq!(&dot.origin, adopter.unwrap_or(&operation.hlc.node));
        assert!(adopter.is_some() || extent.first.checked_add(index.into()) == Some(operation.hlc.tick), "{json}");
    }
    let plain = operation.clone().into_plain();
    assert_eq!(plain.place(), None);
    assert_eq!((plain.hlc, plain.pk, plain.values), (operation.hlc, operation.pk, operation.values));
});
