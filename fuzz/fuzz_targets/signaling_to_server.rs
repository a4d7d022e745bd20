//! What clients say to the signaling server: what is read is written and read as the same, and what the server makes of it for another client is
//! read there, with its payload byte for byte.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rtc_battery_fuzz::json::assert_says_the_same;
use rtc_battery_fuzz::mutate::mutate;
use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::{ClientMessage, ServerMessage};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Ok(message) = ClientMessage::decode(&text) else { return };
    let json = message.encode();
    let again = ClientMessage::decode(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    // Raw JSON has no equality: its text has.
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
    assert_eq!(again.encode(), json);
    assert_says_the_same(&text, &json);
    assert!(json.len() <= text.len(), "nothing is longer than it came: {json}");

    let from = PeerId::new("x").expect("an id");
    let (relayed, payload) = match message {
        ClientMessage::Join { peer_id, .. } => (ServerMessage::PeerJoin { peer_id }, None),
        ClientMessage::Sample => return,
        ClientMessage::Offer { sdp, .. } => (ServerMessage::Offer { from, sdp: sdp.clone() }, Some(sdp)),
        ClientMessage::Answer { sdp, .. } => (ServerMessage::Answer { from, sdp: sdp.clone() }, Some(sdp)),
        ClientMessage::Ice { candidate, .. } => {
            (ServerMessage::Ice { from, candidate: candidate.clone() }, Some(candidate))
        }
    };
    let heard = ServerMessage::decode(&relayed.encode()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(format!("{heard:?}"), format!("{relayed:?}"));
    assert!(payload.is_none_or(|payload| text.contains(payload.get())));
});
