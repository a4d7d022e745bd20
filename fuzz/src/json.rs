//! What was read, compared with what serde_json says was written: a round trip alone would not notice that one type is read as another.

use serde_json::Value;

/// Whether two objects have the same type.
///
/// # Panics
/// Where they do not.
pub fn assert_same_type(text: &str, json: &str) {
    if let Some((given, read)) = both(text, json) {
        assert_eq!(given["type"], read["type"], "{text}");
    }
}

/// Every field of `json` stands in `text`. Of a list, what is valid was taken.
///
/// # Panics
/// Where one does not.
pub fn assert_says_the_same(text: &str, json: &str) {
    let Some((given, read)) = both(text, json) else { return };
    for (name, value) in read.as_object().expect("an object") {
        match (&given[name], value) {
            (Value::Array(given), Value::Array(taken)) if name == "peerIds" => {
                assert!(taken.iter().all(|id| given.contains(id)), "{text}");
            }
            (given, value) => assert_eq!(given, value, "{name} of {text}"),
        }
    }
}

/// Nothing where `text` holds what a [`Value`] cannot: numbers beyond f64 in a payload that is not looked into.
fn both(text: &str, json: &str) -> Option<(Value, Value)> {
    Some((serde_json::from_str(text).ok()?, serde_json::from_str(json).ok()?))
}
