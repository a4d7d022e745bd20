//! Shapes to the letter, what is refused and how, bombs, and the two properties: round trip, never a panic.

use proptest::prelude::*;

use super::*;

/// The specification's shapes, one of each.
const FROM_CLIENT: [&str; 7] = [
    r#"{"type":"join","peerId":"a"}"#,
    r#"{"type":"join","peerId":"a","resume":"0123456789abcdef"}"#,
    r#"{"type":"join","peerId":"a","resume":"0123456789\"\\bcde","sample":true}"#,
    r#"{"type":"sample"}"#,
    r#"{"type":"offer","to":"b","sdp":{"type":"offer","sdp":"v=0\r\n"}}"#,
    r#"{"type":"answer","to":"b","sdp":{"type":"answer","sdp":"v=0\r\n"}}"#,
    r#"{"type":"ice","to":"b","candidate":{"candidate":"","sdpMid":null}}"#,
];
const FROM_SERVER: [&str; 9] = [
    r#"{"type":"peers","peerIds":[]}"#,
    r#"{"type":"peers","peerIds":["a"],"count":1000}"#,
    r#"{"type":"peers","peerIds":["a","b\"\\"]}"#,
    r#"{"type":"peer-join","peerId":"a"}"#,
    r#"{"type":"peer-leave","peerId":"a"}"#,
    r#"{"type":"offer","from":"b","sdp":{"type":"offer","sdp":"v=0\r\n"}}"#,
    r#"{"type":"answer","from":"b","sdp":{"type":"answer","sdp":"v=0\r\n"}}"#,
    r#"{"type":"ice","from":"b","candidate":{"candidate":"","sdpMid":null}}"#,
    r#"{"type":"error","code":"unknown-peer","message":"no \"b\" here"}"#,
];

#[test]
fn the_specifications_shapes_are_written_as_they_were_read() {
    for text in FROM_CLIENT {
        assert_eq!(ClientMessage::decode(text).unwrap().encode(), text);
    }
    for text in FROM_SERVER {
        assert_eq!(ServerMessage::decode(text).unwrap().encode(), text);
    }
}

#[test]
fn payloads_keep_every_byte() {
    for payload in [
        r#"{ "type" : "offer",  "sdp":"\u00e9\ud800é\/", "later": [1.0, 1e400, 10000000000000000000001] }"#,
        r#"{"candidate":"x","candidate":"x"}"#,
        "null",
    ] {
        let offer = ClientMessage::decode(&format!(r#"{{"sdp":{payload},"to":"b","type":"offer"}}"#)).unwrap();
        let ClientMessage::Offer { sdp, .. } = &offer else { panic!("{offer:?}") };
        assert_eq!(sdp.get(), payload);
        assert!(offer.encode().contains(payload));
        let ice = ServerMessage::decode(&format!(r#"{{"type":"ice","from":"b","candidate":{payload}}}"#)).unwrap();
        let ServerMessage::Ice { candidate, .. } = &ice else { panic!("{ice:?}") };
        assert_eq!(candidate.get(), payload);
    }
}

#[test]
fn a_later_type_is_told_from_broken_text() {
    let later = r#"{"type":"peers-sample","peerIds":7,"sdp":null}"#;
    assert_eq!(ServerMessage::decode(later).unwrap_err(), DecodeError::UnknownType("peers-sample".into()));
    let endless = format!(r#"{{"type":"{}"}}"#, "é".repeat(1000));
    assert_eq!(ClientMessage::decode(&endless).unwrap_err(), DecodeError::UnknownType("é".repeat(64)));
    // What the server says, a client may not say.
    assert!(matches!(ClientMessage::decode(FROM_SERVER[0]), Err(DecodeError::UnknownType(_))));

    for broken in ["", "x", "7", "null", r#"["join","a"]"#, "{", r#"{"type":"join","peerId":"a"} x"#] {
        assert!(matches!(ClientMessage::decode(broken), Err(DecodeError::Malformed(_))), "{broken}");
    }
    let twice = r#"{"type":"join","peerId":"a","peerId":"b"}"#;
    assert!(matches!(ClientMessage::decode(twice), Err(DecodeError::Malformed(_))));
}

#[test]
fn fields_that_are_missing_or_wrong_are_named() {
    for (text, field) in [
        ("{}", "type"),
        (r#"{"type":"join"}"#, "peerId"),
        (r#"{"type":"offer","sdp":{}}"#, "to"),
        (r#"{"type":"offer","to":"b"}"#, "sdp"),
        (r#"{"type":"ice","to":"b","sdp":{}}"#, "candidate"),
    ] {
        assert_eq!(ClientMessage::decode(text).unwrap_err(), DecodeError::Missing(field), "{text}");
    }
    for (text, wrong) in [
        (r#"{"type":7}"#, "type"),
        (r#"{"type":"join","peerId":""}"#, "peerId"),
        (r#"{"type":"join","peerId":"a b"}"#, "peerId"),
        (r#"{"type":"answer","to":["b"],"sdp":{}}"#, "to"),
        (r#"{"type":"join","peerId":"a","resume":"0123456789abcde"}"#, "resume"),
        (r#"{"type":"join","peerId":"a","resume":"0123456789 bcdef"}"#, "resume"),
        (r#"{"type":"join","peerId":"a","resume":null}"#, "resume"),
        (r#"{"type":"join","peerId":"a","sample":1}"#, "sample"),
    ] {
        let error = ClientMessage::decode(text).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { field, .. } if field == wrong), "{text}: {error}");
    }
}

#[test]
fn a_resume_key_is_not_printed_and_an_odd_count_is_none() {
    let join = ClientMessage::decode(FROM_CLIENT[1]).unwrap();
    assert!(!format!("{join:?}").contains("0123456789abcdef"), "{join:?}");
    for odd in ["-1", "1.5", "null", "\"7\"", "[]"] {
        let text = format!(r#"{{"type":"peers","peerIds":["a"],"count":{odd}}}"#);
        assert_eq!(ServerMessage::decode(&text).unwrap().encode(), r#"{"type":"peers","peerIds":["a"]}"#);
    }
}

#[test]
fn an_odd_name_does_not_spoil_the_list() {
    let peers = ServerMessage::decode(r#"{"type":"peers","peerIds":["a","ö ö","","b"]}"#).unwrap();
    assert_eq!(peers.encode(), r#"{"type":"peers","peerIds":["a","b"]}"#);
}

#[test]
fn bombs_are_harmless() {
    let deep = "[".repeat(300_000) + &"]".repeat(300_000);
    for text in [
        format!(r#"{{"type":"offer","to":"b","sdp":{deep}}}"#),
        format!(r#"{{"type":"join","peerId":"b","later":{deep}}}"#),
    ] {
        assert!(ClientMessage::decode(&text).is_ok());
    }
    for text in [format!(r#"{{"type":{deep}}}"#), format!(r#"{{"type":"join","peerId":{deep}}}"#)] {
        assert!(matches!(ClientMessage::decode(&text), Err(DecodeError::Invalid { .. })));
    }
    assert!(matches!(ClientMessage::decode(&deep[..300_000]), Err(DecodeError::Malformed(_))));
    assert!(matches!(
        ServerMessage::decode(&format!(r#"{{"type":"peers","peerIds":{deep}}}"#)),
        Err(DecodeError::Invalid { .. })
    ));
    assert_eq!(ClientMessage::decode(&" ".repeat(MAX_MESSAGE_BYTES + 1)).unwrap_err(), DecodeError::TooLarge);
}

fn peer_id() -> impl Strategy<Value = PeerId> {
    "[!-~]{1,128}".prop_map(|text| PeerId::new(&text).unwrap())
}

fn payload() -> impl Strategy<Value = Box<RawValue>> {
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(|b| serde_json::json!(b)),
        any::<i64>().prop_map(|n| serde_json::json!(n)),
        any::<String>().prop_map(|s| serde_json::json!(s)),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| serde_json::json!(map)),
        ]
    });
    value.prop_map(|value| serde_json::value::to_raw_value(&value).unwrap())
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        (peer_id(), prop::option::of("[!-~]{16,128}"), any::<bool>()).prop_map(|(peer_id, key, sample)| {
            ClientMessage::Join { peer_id, resume: key.and_then(|key| ResumeKey::new(&key)), sample }
        }),
        Just(ClientMessage::Sample),
        (peer_id(), payload()).prop_map(|(to, sdp)| ClientMessage::Offer { to, sdp }),
        (peer_id(), payload()).prop_map(|(to, sdp)| ClientMessage::Answer { to, sdp }),
        (peer_id(), payload()).prop_map(|(to, candidate)| ClientMessage::Ice { to, candidate }),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    prop_oneof![
        (prop::collection::vec(peer_id(), 0..5), any::<Option<u64>>())
            .prop_map(|(peer_ids, count)| ServerMessage::Peers { peer_ids, count }),
        peer_id().prop_map(|peer_id| ServerMessage::PeerJoin { peer_id }),
        peer_id().prop_map(|peer_id| ServerMessage::PeerLeave { peer_id }),
        (peer_id(), payload()).prop_map(|(from, sdp)| ServerMessage::Offer { from, sdp }),
        (peer_id(), payload()).prop_map(|(from, sdp)| ServerMessage::Answer { from, sdp }),
        (peer_id(), payload()).prop_map(|(from, candidate)| ServerMessage::Ice { from, candidate }),
        any::<(String, String)>().prop_map(|(code, message)| ServerMessage::Error { code, message }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_went(client in client_message(), server in server_message()) {
        let client_again = ClientMessage::decode(&client.encode()).unwrap();
        prop_assert_eq!(format!("{client_again:?}"), format!("{client:?}"));
        let server_again = ServerMessage::decode(&server.encode()).unwrap();
        prop_assert_eq!(format!("{server_again:?}"), format!("{server:?}"));
    }

    /// The encoding is JSON to everyone else too.
    #[test]
    fn what_is_written_is_json(server in server_message()) {
        let value: serde_json::Value = serde_json::from_str(&server.encode()).unwrap();
        prop_assert!(value["type"].is_string());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = ClientMessage::decode(&text);
        let _ = ServerMessage::decode(&text);
    }

    /// Bytes that are nearly a message reach further than random ones.
    #[test]
    fn damaged_messages_never_panic(server in server_message(), client in client_message(), at: prop::sample::Index, byte: u8) {
        for text in [server.encode(), client.encode()] {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let text = String::from_utf8_lossy(&bytes);
            let _ = ClientMessage::decode(&text);
            let _ = ServerMessage::decode(&text);
        }
    }
}
