//! One flat JSON object, read and written. Knows the messages' fields and their forms, not which message has which.
//!
//! Reading is in two steps: every field is found but left raw, then those that the message's type needs are read. So a field's form matters
//! only to the types that have it, and `type` may come last.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{DecodeError, MAX_MESSAGE_BYTES, ResumeKey};
use crate::PeerId;

/// Longest unknown type that is repeated in an error, in characters.
const MAX_ECHO_CHARS: usize = 64;

/// Every field of every message, unread.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Fields<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "present")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) peer_id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) peer_ids: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) to: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) from: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) sdp: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) candidate: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) code: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) message: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) resume: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) sample: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    pub(super) count: Option<&'a RawValue>,
}

/// `Option` alone would read `null` as absent, and `"candidate": null` is how plain peers end their candidates.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Fields<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, DecodeError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooLarge);
        }
        // serde would also take an array, with the fields by position.
        if !text.trim_start().starts_with('{') {
            return Err(DecodeError::Malformed("no { at its start".into()));
        }
        serde_json::from_str(text).map_err(|error| DecodeError::Malformed(error.to_string()))
    }

    pub(super) fn kind(&self) -> Result<Cow<'a, str>, DecodeError> {
        text_of("type", self.kind)
    }
}

pub(super) fn raw(field: &'static str, value: Option<&RawValue>) -> Result<Box<RawValue>, DecodeError> {
    value.map(ToOwned::to_owned).ok_or(DecodeError::Missing(field))
}

pub(super) fn text_of<'a>(field: &'static str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, DecodeError> {
    /// Borrowed where nothing in it is escaped.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let value = value.ok_or(DecodeError::Missing(field))?;
    let text: Result<Text<'a>, _> = serde_json::from_str(value.get());
    text.map(|Text(text)| text).map_err(|_| DecodeError::Invalid { field, expected: "text" })
}

pub(super) fn id(field: &'static str, value: Option<&RawValue>) -> Result<PeerId, DecodeError> {
    let expected = "1 to 128 printable ASCII characters without spaces";
    PeerId::new(&text_of(field, value)?).map_err(|_| DecodeError::Invalid { field, expected })
}

pub(super) fn ids(field: &'static str, value: Option<&RawValue>) -> Result<Vec<PeerId>, DecodeError> {
    let value = value.ok_or(DecodeError::Missing(field))?;
    let names: Vec<String> =
        serde_json::from_str(value.get()).map_err(|_| DecodeError::Invalid { field, expected: "a list of texts" })?;
    // One odd name on a server that allows it must not keep everyone else out of the room.
    Ok(names.iter().filter_map(|name| PeerId::new(name).ok()).collect())
}

pub(super) fn key_of(field: &'static str, value: &RawValue) -> Result<ResumeKey, DecodeError> {
    let expected = "16 to 128 printable ASCII characters without spaces";
    ResumeKey::new(&text_of(field, Some(value))?).ok_or(DecodeError::Invalid { field, expected })
}

pub(super) fn flag_of(field: &'static str, value: &RawValue) -> Result<bool, DecodeError> {
    serde_json::from_str(value.get()).map_err(|_| DecodeError::Invalid { field, expected: "true or false" })
}

/// A number that says more than the list it comes with. One that is odd is as good as none.
pub(super) fn count_of(value: &RawValue) -> Option<u64> {
    serde_json::from_str(value.get()).ok()
}

pub(super) fn unknown(kind: &str) -> DecodeError {
    DecodeError::UnknownType(kind.chars().take(MAX_ECHO_CHARS).collect())
}

/// A JSON object in the making.
pub(super) struct Object(String);

impl Object {
    pub(super) fn of_type(kind: &str) -> Self {
        // Enough for all but what is relayed and lists.
        let mut json = String::with_capacity(128);
        json.push_str("{\"type\":\"");
        json.push_str(kind);
        json.push('"');
        Self(json)
    }

    pub(super) fn raw(mut self, name: &str, json: &str) -> Self {
        // At once, with what is around it: a description is long.
        self.0.reserve(name.len() + json.len() + 5);
        self.name(name);
        self.0.push_str(json);
        self
    }

    pub(super) fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        self.quote(text);
        self
    }

    pub(super) fn texts<'a>(mut self, name: &str, texts: impl Iterator<Item = &'a str>) -> Self {
        self.name(name);
        let mut before = '[';
        for text in texts {
            self.0.push(before);
            self.quote(text);
            before = ',';
        }
        self.0.push_str(if before == '[' { "[]" } else { "]" });
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        for part in [",\"", name, "\":"] {
            self.0.push_str(part);
        }
    }

    fn quote(&mut self, text: &str) {
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.0.push_str(&serde_json::Value::from(text).to_string());
        } else {
            for part in ["\"", text, "\""] {
                self.0.push_str(part);
            }
        }
    }
}
