//! What a signaling server says to its clients, ours or another's: what is read is written and read as the same.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rtc_battery_fuzz::json::assert_says_the_same;
use rtc_battery_fuzz::mutate::mutate;
use rtc_battery_proto::signaling::ServerMessage;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let message = match ServerMessage::decode(&text) {
        Ok(message) => message,
        // What is told of it to a person repeats little of it.
        Err(error) => return assert!(error.to_string().len() <= 512, "{error}"),
    };
    let json = message.encode();
    let again = ServerMessage::decode(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
    assert_eq!(again.encode(), json);
    assert_says_the_same(&text, &json);
    assert!(json.len() <= text.len(), "nothing is longer than it came: {json}");
    if let ServerMessage::Offer { sdp: payload, .. }
    | ServerMessage::Answer { sdp: payload, .. }
    | ServerMessage::Ice { candidate: payload, .. } = &message
    {
        assert!(text.contains(payload.get()));
    }
});
