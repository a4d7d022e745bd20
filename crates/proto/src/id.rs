//! The two kinds of name. A **replica** is a database: its id is stored in it and survives reloads. A **peer** is one connection to a
//! room: a new one with each page load. Confusing them is how systems like this one lose operations, so they are two types.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id that is accepted, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {MAX_ID_BYTES} printable ASCII characters without spaces")]
pub struct InvalidId;

fn check(text: &str) -> Result<(), InvalidId> {
    let printable = text.bytes().all(|b| b.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_ID_BYTES || !printable {
        return Err(InvalidId);
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(type = "string"))]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to [`MAX_ID_BYTES`] printable ASCII characters without spaces.
            ///
            /// # Errors
            /// [`InvalidId`] for anything else.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as a random 128-bit number in hexadecimal.
            #[must_use]
            pub fn from_random(bits: u128) -> Self {
                Self(format!("{bits:032x}").into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type! {
    /// Names a database (`nodeId` in the specification's JSON). Compared bytewise; breaks ties between equal clocks.
    ReplicaId
}

id_type! {
    /// Names one connection to a room.
    PeerId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_printable_ascii() {
        assert!(ReplicaId::new("a-b_c.~!").is_ok());
        for bad in ["", " ", "a b", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(ReplicaId::new(bad), Err(InvalidId), "{bad:?}");
            assert!(serde_json::from_value::<PeerId>(bad.into()).is_err());
        }
    }
}
