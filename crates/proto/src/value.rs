//! A SQL value, bit for bit: what SQLite's `typeof` says and the bytes behind it.
//!
//! JSON has fewer types than SQL. What it cannot say plainly is an object with one `$` key: `{"$int":"9223372036854775807"}`
//! beyond 2^53, `{"$blob":"base64"}`, `{"$real":"inf"}`, `{"$text":"base64"}` for text that is not UTF-8 or that JSON would
//! swell (control characters). A REAL always has a fraction or an exponent; `{"$real":"1.0"}`, for who cannot write that (JavaScript), is
//! read too. `true` and `false` of other programs are 1 and 0.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest integer that every JSON reader keeps: 2^53 - 1.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// One value of a SQL row. Equality is of type and bits: 1 is not 1.0, and 0.0 is not -0.0.
#[derive(Clone)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double; never NaN, which SQLite stores as NULL.
    Real(f64),
    /// Text, UTF-8 as a rule; SQL can make any bytes text (`CAST(x'ff' AS TEXT)`).
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// A text value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// The text of a text value; bytes that are not UTF-8 are replaced by U+FFFD.
    #[must_use]
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// Bytes that the value's content takes: 0 for NULL, 8 for numbers, the length of the others.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len(),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Integer(_) => 1,
            Self::Real(_) => 2,
            Self::Text(_) => 3,
            Self::Blob(_) => 4,
        }
    }
}

impl fmt::Debug for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Integer(i) => write!(f, "{i}"),
            Self::Real(r) => write!(f, "{r:?}"),
            Self::Text(t) => write!(f, "{:?}", String::from_utf8_lossy(t)),
            Self::Blob(b) => write!(f, "x'{}'", b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        }
    }
}

impl PartialEq for SqlValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SqlValue {}

impl PartialOrd for SqlValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SqlValue {
    /// By type (NULL, integer, real, text, blob), then by bytes: the tie-break between two contents of one clock value. Not SQL's order.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Whether a text takes more room as a JSON string, which escapes, than as base64: a row must fit in a message whatever it holds.
fn swells_as_json(bytes: &[u8]) -> bool {
    let extra = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    bytes.iter().map(extra).sum::<usize>() * 3 > bytes.len() + 64
}

impl Serialize for SqlValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = |serializer: S, tag: &str, text: &str| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(tag, text)?;
            map.end()
        };
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(i) if i.unsigned_abs() <= MAX_SAFE_INTEGER as u64 => serializer.serialize_i64(*i),
            Self::Integer(i) => tagged(serializer, "$int", &i.to_string()),
            Self::Real(r) if r.is_finite() => serializer.serialize_f64(*r),
            Self::Real(r) => tagged(serializer, "$real", if *r > 0.0 { "inf" } else { "-inf" }),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !swells_as_json(bytes) => serializer.serialize_str(text),
                _ => tagged(serializer, "$text", &BASE64.encode(bytes)),
            },
            Self::Blob(bytes) => tagged(serializer, "$blob", &BASE64.encode(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for SqlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonValue)
    }
}

/// A double's text; NaN is none that SQLite knows.
fn real(text: &str) -> Option<f64> {
    text.parse().ok().filter(|real: &f64| !real.is_nan())
}

struct JsonValue;

impl<'de> Visitor<'de> for JsonValue {
    type Value = SqlValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a number, a string, or an object with one of $int, $real, $text, $blob")
    }

    fn visit_unit<E>(self) -> Result<SqlValue, E> {
        Ok(SqlValue::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<SqlValue, E> {
        Ok(SqlValue::Integer(i64::from(b)))
    }

    fn visit_i64<E>(self, i: i64) -> Result<SqlValue, E> {
        Ok(SqlValue::Integer(i))
    }

    fn visit_u64<E>(self, u: u64) -> Result<SqlValue, E> {
        // As SQLite reads a literal beyond 64 bits: a REAL.
        Ok(i64::try_from(u).map_or(SqlValue::Real(u as f64), SqlValue::Integer))
    }

    fn visit_f64<E>(self, r: f64) -> Result<SqlValue, E> {
        Ok(SqlValue::Real(r))
    }

    fn visit_str<E>(self, text: &str) -> Result<SqlValue, E> {
        Ok(SqlValue::text(text))
    }

    fn visit_string<E>(self, text: String) -> Result<SqlValue, E> {
        Ok(SqlValue::Text(text.into_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SqlValue, A::Error> {
        let (tag, text): (String, String) =
            map.next_entry()?.ok_or_else(|| de::Error::custom("an empty object is no SQL value"))?;
        let bytes = || BASE64.decode(&text).map_err(|_| de::Error::custom(format!("{tag} holds no base64")));
        let value = match tag.as_str() {
            "$int" => SqlValue::Integer(text.parse().map_err(|_| de::Error::custom("$int holds no 64-bit integer"))?),
            "$real" => SqlValue::Real(real(&text).ok_or_else(|| de::Error::custom("$real holds no double"))?),
            "$text" => SqlValue::Text(bytes()?),
            "$blob" => SqlValue::Blob(bytes()?),
            _ => return Err(de::Error::custom(format!("no SQL value has the key {tag:?}"))),
        };
        if map.next_key::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("a SQL value's object has one key"));
        }
        Ok(value)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = SqlValue> {
        prop_oneof![
            Just(SqlValue::Null),
            any::<i64>().prop_map(SqlValue::Integer),
            (-2i64..3).prop_map(|d| SqlValue::Integer(MAX_SAFE_INTEGER + d)),
            any::<f64>().prop_filter("SQLite has no NaN", |f| !f.is_nan()).prop_map(SqlValue::Real),
            prop_oneof![Just(0.0), Just(-0.0), Just(f64::INFINITY), Just(1.0)].prop_map(SqlValue::Real),
            ".{0,12}".prop_map(|s| SqlValue::Text(s.into_bytes())),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(SqlValue::Text),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(SqlValue::Blob),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn json_keeps_type_and_bits(value in any_value()) {
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<SqlValue>(&json).unwrap(), value, "{}", json);
        }
    }

    #[test]
    fn no_text_takes_much_more_room_than_its_base64() {
        for text in ["\u{1}", "\"", "a", "é", "\u{1}aaaaaaaaaaaaaa"] {
            let text = text.repeat(100_000 / text.len());
            let json = serde_json::to_string(&SqlValue::text(&text)).unwrap();
            assert!(json.len() <= text.len() * 4 / 3 + 100, "{} bytes of {:.4?}", json.len(), text);
        }
    }

    #[test]
    fn json_is_the_designs() {
        let cases = [
            (SqlValue::Integer(1), "1"),
            (SqlValue::Real(1.0), "1.0"),
            (SqlValue::Real(-0.0), "-0.0"),
            (SqlValue::Real(1e300), "1e+300"),
            (SqlValue::Integer(i64::MAX), r#"{"$int":"9223372036854775807"}"#),
            (SqlValue::Blob(vec![0, 255]), r#"{"$blob":"AP8="}"#),
            (SqlValue::Text(vec![0xff]), r#"{"$text":"/w=="}"#),
            (SqlValue::text("\u{1}\n\"\\"), r#""\u0001\n\"\\""#),
        ];
        for (value, json) in cases {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
        assert_eq!(serde_json::from_str::<SqlValue>("true").unwrap(), SqlValue::Integer(1));
        for (text, real) in [("1.0", 1.0), ("-0.0", -0.0), ("1e300", 1e300), ("-inf", f64::NEG_INFINITY)] {
            let json = format!(r#"{{"$real":"{text}"}}"#);
            assert_eq!(serde_json::from_str::<SqlValue>(&json).unwrap(), SqlValue::Real(real));
        }
        for bad in [
            "[]",
            "{}",
            r#"{"$real":"nan"}"#,
            r#"{"$real":""}"#,
            r#"{"$int":1}"#,
            r#"{"$int":"1","x":2}"#,
            r#"{"$blob":"?"}"#,
            r#"{"a":"b"}"#,
        ] {
            assert!(serde_json::from_str::<SqlValue>(bad).is_err(), "{bad}");
        }
    }
}
