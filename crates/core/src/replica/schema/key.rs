//! Canonical primary keys: one text for all spellings that SQLite takes as the same key.
//!
//! SQLite compares keys after affinity and collation: under NOCASE `Alice` and `alice` are one row (ASCII only; NFC and NFD differ), under
//! RTRIM trailing spaces do not count, and 1 = 1.0. The text is a JSON array, so that a person can read it in `rtc_operations`.

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;

use super::table::Table;

/// SQLite's built-in collations; anything else cannot be registered by a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collation {
    Binary,
    NoCase,
    Rtrim,
}

impl Collation {
    /// The operator that makes a comparison use it.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Binary => " COLLATE BINARY",
            Self::NoCase => " COLLATE NOCASE",
            Self::Rtrim => " COLLATE RTRIM",
        }
    }

    pub(crate) fn of_name(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "NOCASE" => Self::NoCase,
            "RTRIM" => Self::Rtrim,
            _ => Self::Binary,
        }
    }
}

impl Table {
    /// The canonical text of a key given by its values as stored, in key order. `None` if one of them is NULL.
    pub(crate) fn canonical_key<'a>(&self, values: impl IntoIterator<Item = &'a SqlValue>) -> Option<String> {
        let columns = self.key.iter().map(|column| &self.columns[*column]);
        let values: Vec<SqlValue> =
            columns.zip(values).map(|(column, value)| canonical(value, column.collation)).collect();
        if values.len() != self.key.len() || values.contains(&SqlValue::Null) {
            return None;
        }
        serde_json::to_string(&values).ok()
    }

    /// The values of a key as they are once stored: another program may write 1 where the column makes '1' of it.
    pub(crate) fn key_once_stored<'a>(
        &self,
        connection: &Connection,
        values: impl IntoIterator<Item = &'a SqlValue>,
    ) -> rusqlite::Result<Vec<SqlValue>> {
        let columns = self.key.iter().map(|column| &self.columns[*column]);
        columns.zip(values).map(|(column, value)| column.affinity.stored(connection, value)).collect()
    }

    /// The canonical key of a row given by all its stored columns.
    pub(crate) fn key_of_row(&self, row: &[SqlValue]) -> Option<String> {
        self.canonical_key(self.key.iter().filter_map(|column| row.get(*column)))
    }

    /// The values behind a canonical key.
    pub(crate) fn key_values(&self, key: &str) -> Vec<SqlValue> {
        serde_json::from_str(key).unwrap_or_default()
    }
}

fn canonical(value: &SqlValue, collation: Collation) -> SqlValue {
    match value {
        SqlValue::Text(bytes) => SqlValue::Text(match collation {
            Collation::Binary => bytes.clone(),
            Collation::NoCase => bytes.to_ascii_lowercase(),
            Collation::Rtrim => {
                let end = bytes.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
                bytes[..end].to_vec()
            }
        }),
        SqlValue::Real(r) => integral(*r).map_or(SqlValue::Real(*r), SqlValue::Integer),
        other => other.clone(),
    }
}

/// The integer that equals this double, if one does.
fn integral(r: f64) -> Option<i64> {
    let fits = r.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&r);
    fits.then_some(r as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::schema::table::Affinity;

    fn key(declared: &str, value: SqlValue) -> Option<String> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&format!("CREATE TABLE t (k {declared} PRIMARY KEY, v)")).unwrap();
        let table = Table::describe(&connection, 1, "t").unwrap().unwrap();
        Affinity::create_oracle(&connection).unwrap();
        table.canonical_key(&table.key_once_stored(&connection, [&value]).unwrap())
    }

    #[test]
    fn equal_keys_have_one_text() {
        let same = [
            ("TEXT COLLATE NOCASE", SqlValue::text("Alice"), SqlValue::text("aLICE"), true),
            ("TEXT", SqlValue::text("Alice"), SqlValue::text("alice"), false),
            ("TEXT COLLATE NOCASE", SqlValue::text("É"), SqlValue::text("é"), false),
            ("TEXT COLLATE RTRIM", SqlValue::text("a  "), SqlValue::text("a"), true),
            ("", SqlValue::Integer(1), SqlValue::Real(1.0), true),
            ("", SqlValue::Integer(1), SqlValue::text("1"), false),
            ("", SqlValue::Blob(vec![b'a']), SqlValue::text("a"), false),
            ("REAL", SqlValue::Integer(9_007_199_254_740_993), SqlValue::Real(9_007_199_254_740_992.0), true),
            ("TEXT", SqlValue::Integer(1), SqlValue::text("1"), true),
            ("TEXT", SqlValue::Real(0.1), SqlValue::text("0.1"), true),
            ("INT", SqlValue::text(" 1.0 "), SqlValue::Integer(1), true),
            ("NUMERIC", SqlValue::text("1x"), SqlValue::Integer(1), false),
            ("", SqlValue::Real(0.0), SqlValue::Real(-0.0), true),
        ];
        for (declared, a, b, equal) in same {
            assert_eq!(key(declared, a.clone()) == key(declared, b.clone()), equal, "{declared}: {a:?} {b:?}");
        }
        assert_eq!(key("TEXT", SqlValue::Null), None);
    }
}
