//! Messages between peers: what is read is written and read as the same. Version vectors, which come in three of them, are sets.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rtc_battery_fuzz::json::assert_same_type;
use rtc_battery_fuzz::mutate::mutate;
use rtc_battery_proto::{DecodeError, Dot, MAX_ORIGINS, MAX_RANGES, MAX_SEQ, Message, VersionVector};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    // Hosts hand over text, whatever a peer has sent.
    let text = String::from_utf8_lossy(data);
    let message = match Message::decode(&text) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let DecodeError::UnknownType(kind) = error {
                assert!(kind.len() <= text.len());
            }
            return;
        }
    };
    let json = message.encode();
    let again = Message::decode(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(again, message, "{json}");
    assert_eq!(again.encode(), json);
    assert_same_type(&text, &json);
    assert!(json.len() <= 8 * data.len(), "{} bytes of {}: {json}", json.len(), data.len());
    match &message {
        Message::Hello(hello) => check(&hello.vector),
        Message::Vector { vector } => check(vector),
        Message::SyncRequest(request) => request.vector.iter().for_each(check),
        Message::SyncResponse(response) => response.covers.iter().for_each(check),
        _ => {}
    }
});

fn check(vector: &VersionVector) {
    assert!(vector.origin_count() <= MAX_ORIGINS && vector.range_count() <= MAX_RANGES);
    assert!(vector.covers(vector) && vector.minus(vector).is_empty());
    let mut twice = vector.clone();
    twice.merge(vector);
    assert_eq!(twice, *vector);
    for (origin, ranges) in vector.iter() {
        let mut end = 0;
        for (first, last) in ranges.iter() {
            assert!(end < first && first <= last && last <= MAX_SEQ, "{vector:?}");
            assert!(end == 0 || end + 1 < first, "adjacent ranges are one: {vector:?}");
            // Without one of its dots it is the smaller set.
            let dot = |seq| Dot { origin: origin.clone(), seq };
            assert!(vector.contains(&dot(first)) && vector.contains(&dot(last)) && !vector.contains(&dot(last + 1)));
            let mut one = VersionVector::default();
            one.insert(dot(last));
            let less = vector.minus(&one);
            assert!(!less.contains(&dot(last)) && !less.covers(vector) && vector.covers(&less));
            one.merge(&less);
            assert!(one.covers(vector));
            end = last;
        }
    }
}
