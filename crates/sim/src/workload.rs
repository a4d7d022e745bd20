//! What people do with their databases: random SQL that collides as often as it can.
//!
//! Few keys and few columns, so that the same cells are written on several devices at once, rows are deleted while others update them, keys
//! move onto each other, and a good part of the statements fails. Nothing here reads a clock or calls what differs between two runs.

use serde_json::{Value as Json, json};

use crate::oracle::{Default, Table};
use crate::random::Random;
use crate::shape::{self, CALLED, SHIFTING};

/// The tables that everyone writes, `rtc_schema` among them: it is data like any other.
pub static TABLES: [Table; 7] = [
    Table {
        name: "rtc_schema",
        columns: &[("id", Default::Null), ("kind", Default::Null), ("name", Default::Null), ("sql", Default::Null)],
        key: 1,
        folds_case: false,
        unique: &[],
    },
    Table {
        name: "t",
        columns: &[("id", Default::Null), ("v", Default::Null), ("w", Default::Integer(7)), ("u", Default::Text("x"))],
        key: 1,
        folds_case: false,
        unique: &[],
    },
    Table {
        name: "n",
        columns: &[("id", Default::Null), ("v", Default::Null), ("r", Default::Null)],
        key: 1,
        folds_case: false,
        unique: &[],
    },
    Table {
        name: "c",
        columns: &[("a", Default::Null), ("b", Default::Null), ("v", Default::Null)],
        key: 2,
        folds_case: true,
        unique: &[],
    },
    Table {
        name: "s",
        columns: &[
            ("id", Default::Null),
            ("e", Default::Null),
            ("g", Default::Null),
            ("h", Default::Integer(0)),
            ("v", Default::Null),
        ],
        key: 1,
        folds_case: false,
        unique: &[&["e"], &["g", "h"]],
    },
    Table {
        name: "f",
        columns: &[("id", Default::Null), ("n", Default::Null), ("v", Default::Null)],
        key: 1,
        folds_case: false,
        unique: &[],
    },
    // As it is made, see [`shape`](crate::shape); of each of its three names there may be one that somebody made at the same time.
    Table {
        name: SHIFTING,
        columns: &[
            ("id", Default::Null),
            ("x", Default::Null),
            ("y", Default::Null),
            ("z", Default::Null),
            ("x_2", Default::Null),
            ("y_2", Default::Null),
            ("z_2", Default::Null),
        ],
        key: 1,
        folds_case: false,
        unique: &[],
    },
];

/// How the tables are made; the last one, whose foreign key can fail a COMMIT, only in some rooms.
pub const CREATE: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, v, w INTEGER DEFAULT 7, u TEXT DEFAULT 'x')",
    "CREATE TABLE IF NOT EXISTS n (id INTEGER PRIMARY KEY, v, r REAL)",
    "CREATE TABLE IF NOT EXISTS c (a TEXT COLLATE NOCASE, b INTEGER, v, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS s (id TEXT PRIMARY KEY, e INTEGER UNIQUE, g INTEGER, h INTEGER DEFAULT 0, v, UNIQUE (g, h))",
    "CREATE TABLE IF NOT EXISTS f (id INTEGER PRIMARY KEY, n INTEGER REFERENCES n(id) DEFERRABLE INITIALLY DEFERRED, v)",
];

/// What a user is about to do: statements in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// One call of `exec` each.
    pub statements: Vec<String>,
    /// Whether time passes between them, so that what others wrote comes while the transaction is open.
    pub takes_its_time: bool,
}

/// How a room's people write.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Different keys in each table.
    pub keys: u64,
    /// In a thousand: that a program is a transaction of several statements.
    pub transactions: u64,
    /// In a thousand: that a value is larger than what a message carries.
    pub large: u64,
    /// In a thousand: that a statement is about values that others want too.
    pub contests: u64,
    /// Whether there is a table with a foreign key.
    pub foreign_keys: bool,
    /// In a thousand: that a program drops a table, makes it or rebuilds it.
    pub definitions: u64,
    /// In a thousand: that a program is about the table that shifts.
    pub alterations: u64,
}

impl Habits {
    /// Those of one room.
    pub fn draw(random: &mut Random) -> Self {
        Self {
            keys: random.between((1, 6)),
            transactions: *random.pick(&[0, 150, 300, 600]),
            large: *random.pick(&[0, 0, 5, 60]),
            contests: *random.pick(&[0, 100, 200, 700]),
            foreign_keys: random.happens(400),
            definitions: 0,
            alterations: 0,
        }
    }

    /// What somebody does next.
    pub fn program(&self, random: &mut Random) -> Program {
        if self.definitions > 0 && random.happens(self.definitions) {
            return Self::definition(random);
        }
        if self.alterations > 0 && random.happens(self.alterations) {
            return self.alteration(random);
        }
        if !random.happens(self.transactions) {
            return Program { statements: vec![self.statement(random)], takes_its_time: false };
        }
        let by_savepoint = random.happens(200);
        let mut statements = vec![if by_savepoint { "SAVEPOINT a" } else { "BEGIN" }.to_owned()];
        let mut open = 0;
        for _ in 0..random.between((1, 6)) {
            match random.below(10) {
                0 | 1 => {
                    open += 1;
                    statements.push(format!("SAVEPOINT s{open}"));
                }
                2 | 3 if open > 0 => statements.push(format!("ROLLBACK TO s{open}")),
                4 if open > 0 => {
                    statements.push(format!("RELEASE s{open}"));
                    open -= 1;
                }
                _ => {}
            }
            statements.push(self.statement(random));
        }
        statements.push(match (random.happens(250), by_savepoint) {
            (true, _) => "ROLLBACK".to_owned(),
            (false, true) => "RELEASE a".to_owned(),
            (false, false) => "COMMIT".to_owned(),
        });
        Program { statements, takes_its_time: random.happens(400) }
    }

    /// What somebody does to a table as a whole.
    fn definition(random: &mut Random) -> Program {
        let (name, create) = *random.pick(&[("t", CREATE[0]), ("c", CREATE[2])]);
        let copy = create.replace(&format!("IF NOT EXISTS {name} "), "copy ");
        let statements = match random.below(6) {
            0 => vec![format!("DROP TABLE {name}")],
            1 | 2 => vec![create.to_owned()],
            3 => vec!["BEGIN".to_owned(), format!("DROP TABLE {name}"), create.to_owned(), "COMMIT".to_owned()],
            4 => vec![
                "BEGIN".to_owned(),
                "SAVEPOINT s".to_owned(),
                format!("DROP TABLE {name}"),
                "ROLLBACK TO s".to_owned(),
                create.to_owned(),
                "COMMIT".to_owned(),
            ],
            _ => vec![
                "BEGIN".to_owned(),
                copy,
                format!("INSERT INTO copy SELECT * FROM {name}"),
                format!("DROP TABLE {name}"),
                format!("ALTER TABLE copy RENAME TO {name}"),
                "COMMIT".to_owned(),
            ],
        };
        Program { statements, takes_its_time: random.happens(200) }
    }

    /// What somebody does to the table that shifts, and to its rows. It often has another name than they think.
    fn alteration(&self, random: &mut Random) -> Program {
        let name = |random: &mut Random| *random.pick(&["x", "y", "z"]);
        let table = |random: &mut Random| CALLED[usize::from(random.happens(250))];
        let change = |random: &mut Random| match (table(random), random.below(6)) {
            (m, 0) => format!("ALTER TABLE {m} DROP COLUMN {}", name(random)),
            (m, 1 | 2) => format!("ALTER TABLE {m} ADD COLUMN {}", shape::definition(name(random))),
            (m, 3 | 4) => format!("ALTER TABLE {m} RENAME COLUMN {} TO {}", name(random), name(random)),
            (m, _) => format!("ALTER TABLE {m} RENAME TO {}", random.pick(&CALLED)),
        };
        let write = |random: &mut Random| {
            let (m, key, column, v) = (table(random), self.text_key(random), name(random), self.value(random));
            match random.below(8) {
                0..=2 => format!("INSERT INTO {m} (id, {column}) VALUES ('{key}', {v})"),
                3 => format!("INSERT OR REPLACE INTO {m} (id, {column}) VALUES ('{key}', {v})"),
                4..=6 => format!("UPDATE {m} SET {column} = {v} WHERE id = '{key}'"),
                _ => format!("DELETE FROM {m} WHERE id = '{key}'"),
            }
        };
        let statements = match random.below(10) {
            0..=5 => vec![write(random)],
            6..=8 => vec![change(random)],
            _ => {
                let end = if random.happens(500) { "ROLLBACK TO s" } else { "RELEASE s" };
                let (first, last) = (write(random), write(random));
                let (one, other) = (change(random), change(random));
                let between = write(random);
                let texts = ["BEGIN", &first, "SAVEPOINT s", &one, &between, &other, end, &last, "COMMIT"];
                texts.map(str::to_owned).to_vec()
            }
        };
        Program { statements, takes_its_time: random.happens(200) }
    }

    /// One statement.
    pub fn statement(&self, random: &mut Random) -> String {
        if random.happens(self.contests) {
            return self.on_s(random);
        }
        match random.below(if self.foreign_keys { 12 } else { 10 }) {
            0..=4 => self.on_t(random),
            5..=7 => self.on_n(random),
            8 | 9 => self.on_c(random),
            _ => self.on_f(random),
        }
    }

    fn on_t(&self, random: &mut Random) -> String {
        let (key, other) = (self.text_key(random), self.text_key(random));
        let (v, w) = (self.value(random), random.between((0, 4)));
        let column = *random.pick(&["v", "w", "u"]);
        match random.below(20) {
            0..=3 => format!("INSERT INTO t VALUES ('{key}', {v}, {w}, 'y')"),
            4 => format!("INSERT INTO t (id, v) VALUES ('{key}', {v})"),
            5 | 6 => format!("INSERT OR REPLACE INTO t (id, v) VALUES ('{key}', {v})"),
            7 => format!(
                "INSERT INTO t VALUES ('{key}', {v}, 1, '') ON CONFLICT DO UPDATE SET v = excluded.v, w = w + 1"
            ),
            8..=11 => format!("UPDATE t SET {column} = {v} WHERE id = '{key}'"),
            12 => format!("UPDATE t SET v = {v}, w = {w}, u = 'z' WHERE id = '{key}'"),
            13 => "UPDATE t SET w = w + 1".to_owned(),
            14 => format!("UPDATE t SET id = '{other}' WHERE id = '{key}'"),
            15 => format!("UPDATE OR REPLACE t SET id = '{other}' WHERE id = '{key}'"),
            16 | 17 => format!("DELETE FROM t WHERE id = '{key}'"),
            // Fails after it has written, or keeps what it wrote before it failed.
            18 => format!("INSERT INTO t (id, v) VALUES ('{key}', {v}), (NULL, 1)"),
            _ => format!("INSERT OR FAIL INTO t (id, v) VALUES ('{key}', {v}), ('{key}', {v})"),
        }
    }

    fn on_n(&self, random: &mut Random) -> String {
        let (key, other) = (random.between((1, self.keys)), random.between((1, self.keys)));
        let v = self.value(random);
        match random.below(12) {
            0 | 1 => format!("INSERT INTO n VALUES ({key}, {v}, {key})"),
            2 => format!("INSERT INTO n (v, r) VALUES ({v}, 0.5)"),
            3 => format!("INSERT OR REPLACE INTO n (id, v) VALUES ({key}, {v})"),
            4 => format!("INSERT OR IGNORE INTO n VALUES ({key}, {v}, 2.5)"),
            5 | 6 => format!("UPDATE n SET v = {v} WHERE id = {key}"),
            7 => format!("UPDATE n SET r = r + 1 WHERE id <= {key}"),
            8 => format!("UPDATE n SET id = {other} WHERE id = {key}"),
            9 => format!("UPDATE OR IGNORE n SET id = id + 1 WHERE id = {key}"),
            10 => format!("DELETE FROM n WHERE id = {key}"),
            _ => format!("DELETE FROM n WHERE id >= {key}"),
        }
    }

    fn on_c(&self, random: &mut Random) -> String {
        let key = |random: &mut Random| {
            if random.happens(500) { "k" } else { "K" }.to_owned() + &random.between((0, 1)).to_string()
        };
        let (a, other, b) = (key(random), key(random), random.between((0, 1)));
        let v = self.value(random);
        match random.below(8) {
            0 | 1 => format!("INSERT INTO c VALUES ('{a}', {b}, {v})"),
            2 => format!("REPLACE INTO c VALUES ('{a}', {b}, {v})"),
            3 | 4 => format!("UPDATE c SET v = {v} WHERE a = '{a}'"),
            // Another spelling, or another row.
            5 | 6 => format!("UPDATE c SET a = '{other}' WHERE a = '{a}' AND b = {b}"),
            _ => format!("DELETE FROM c WHERE a = '{a}' AND b = {b}"),
        }
    }

    /// Values that others want too.
    fn on_s(&self, random: &mut Random) -> String {
        let (key, v) = (self.text_key(random), self.value(random));
        let wanted = |random: &mut Random| {
            let value = random.between((0, self.keys.min(2)));
            if value == 0 { "NULL".to_owned() } else { value.to_string() }
        };
        let (e, g, h) = (wanted(random), wanted(random), random.between((0, 1)));
        match random.below(12) {
            0..=3 => format!("INSERT INTO s VALUES ('{key}', {e}, {g}, {h}, {v})"),
            4 => format!("INSERT OR REPLACE INTO s (id, e) VALUES ('{key}', {e})"),
            5 => format!("UPDATE s SET e = {e} WHERE id = '{key}'"),
            6 => format!("UPDATE OR REPLACE s SET g = {g}, h = {h} WHERE id = '{key}'"),
            7 => format!("UPDATE OR IGNORE s SET h = 1 - h, v = {v} WHERE g = {g}"),
            8 => format!("UPDATE s SET v = {v} WHERE id = '{key}'"),
            9 => format!("UPDATE OR IGNORE s SET id = '{key}' WHERE e = {e}"),
            _ => format!("DELETE FROM s WHERE id = '{key}'"),
        }
    }

    fn on_f(&self, random: &mut Random) -> String {
        let (key, parent) = (random.between((1, 3)), random.between((1, self.keys + 3)));
        match random.below(4) {
            0 | 1 => format!("INSERT OR REPLACE INTO f VALUES ({key}, {parent}, {})", self.value(random)),
            2 => format!("UPDATE f SET n = {parent} WHERE id = {key}"),
            _ => format!("DELETE FROM f WHERE id = {key}"),
        }
    }

    fn text_key(&self, random: &mut Random) -> String {
        format!("k{}", random.between((1, self.keys)))
    }

    /// A literal.
    fn value(&self, random: &mut Random) -> String {
        if random.happens(self.large) {
            return format!("printf('%.*c', {}, 'x')", random.between((10_000, 60_000)));
        }
        let n = random.between((0, 9));
        match random.below(12) {
            0 => "NULL".to_owned(),
            1 => format!("{n}.0"),
            2 => format!("{n}.5e-3"),
            3 => "9007199254740993".to_owned(),
            4 => format!("x'00ff0{n}'"),
            5 => format!("'it''s {n}'"),
            6 => format!("'{n}'"),
            _ => n.to_string(),
        }
    }

    /// What a plain peer writes: type, table, key, values.
    pub fn plain(&self, random: &mut Random) -> (&'static str, &'static str, Json, Option<Json>) {
        let value = match random.below(5) {
            0 => Json::Null,
            1 => json!(random.between((0, 9))),
            2 => json!(0.5),
            3 => json!("plain"),
            _ => json!(format!("{}", random.draw())),
        };
        let (table, pk, values) = match random.below(4) {
            0 => ("t", json!({"id": self.text_key(random)}), json!({"v": value})),
            1 => ("t", json!({"id": self.text_key(random)}), json!({"w": random.between((0, 4)), "u": "plain"})),
            2 => ("n", json!({"id": random.between((1, self.keys))}), json!({"v": value, "r": 1.5})),
            _ => ("s", json!({"id": self.text_key(random)}), json!({"e": random.between((1, self.keys)), "v": value})),
        };
        match random.below(5) {
            0 | 1 => ("INSERT", table, pk, Some(values)),
            2 | 3 => ("UPDATE", table, pk, Some(values)),
            _ => ("DELETE", table, pk, None),
        }
    }
}
