// The judge of capture and merge, in WebAssembly: random programs on one SQLLayer, their operations given to empty ones in order, backwards, and
// shuffled and twice, and every database the same afterwards, types and bits included. crates/core/tests/replica/differential.rs runs thousands
// of the same kind natively, with triggers and several writers; what only this one shows is that nothing is lost on the way through JavaScript.
//
// A failure says its seed and its program. `RTC_BATTERY_SEED=17 node --test js/test/core-differential.test.mjs` runs that one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SQLLayer } from '../dist/core.js';

const PROGRAMS = 250;

/** The kinds of tables that capture must mind: keys of every type and collation, with and without rowid, STRICT, generated columns, cascades. */
const TABLES = {
  ints: 'CREATE TABLE ints (k INTEGER PRIMARY KEY, a, b TEXT)',
  texts: 'CREATE TABLE texts (k TEXT PRIMARY KEY, a INTEGER, b REAL DEFAULT 1)',
  nocase: 'CREATE TABLE nocase (k TEXT COLLATE NOCASE PRIMARY KEY, a, b DEFAULT CURRENT_TIMESTAMP)',
  rtrim: 'CREATE TABLE rtrim (k TEXT COLLATE RTRIM, a, b, PRIMARY KEY (k)) WITHOUT ROWID',
  pairs: 'CREATE TABLE pairs (k, a NOT NULL DEFAULT 0, b, PRIMARY KEY (k, a)) WITHOUT ROWID',
  reals: "CREATE TABLE reals (k REAL PRIMARY KEY, a BLOB, b AS (a || 'x'))",
  strict: 'CREATE TABLE strict (k BLOB PRIMARY KEY, a ANY, b INT) STRICT',
  mixed: 'CREATE TABLE mixed (k TEXT COLLATE NOCASE, a, b, PRIMARY KEY (k COLLATE BINARY))',
  '"quo""ted __proto__"': 'CREATE TABLE "quo""ted __proto__" ("k" PRIMARY KEY, "a", "b")',
  parents: 'CREATE TABLE parents (k INTEGER PRIMARY KEY, a, b)',
  children: `CREATE TABLE children (
    k INTEGER PRIMARY KEY,
    a INT REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
    b INT REFERENCES parents ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)`,
};

const KEYS = ['1', '2', '3.0', "'a'", "'A'", "'a '", "'b'", "x'61'", "x'62'", '1.5', '9223372036854775807', 'NULL'];

/** What JavaScript's numbers and strings could bend is among them. */
const LITERALS = [
  ...['NULL', '0', '1', '2', '-1', '1.0', '-0.0', '0.5', '1e300', '9e999', '-9e999', '5e-324', '9007199254740991', '9007199254740992', '-9007199254740993'],
  ...['9007199254740992.0', '9223372036854775807', '-9223372036854775808', "''", "'a'", "'A'", "'a  '", "'1'", "'1.0'", "'é'", "'🔋'", "x''", "x'61'"],
  ...["CAST(x'ff61' AS TEXT)", "CAST(x'610062' AS TEXT)", "CAST(x'eda080' AS TEXT)", 'random() % 3', "'it''s'"],
];

const CONFLICTS = ['', 'OR IGNORE', 'OR REPLACE', 'OR FAIL', 'OR ROLLBACK', 'OR ABORT'];

const CONTROLS = ['BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s', 'ROLLBACK TO s', 'RELEASE s', 'SAVEPOINT t', 'RELEASE t'];

/** Whole numbers below a bound, from a seed (mulberry32). */
function dice(seed) {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

const pick = (roll, list) => list[roll(list.length)];

/** The same in any order. */
function shuffled(roll, list) {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = roll(last + 1);
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

/** What a statement may be, given the dice and the tables and keys that it is about. */
const STATEMENTS = [
  [6, (roll, tables, keys) => {
    const table = pick(roll, tables);
    const generated = table === 'reals';
    const row = () => `(${[pick(roll, keys), pick(roll, LITERALS), ...(generated ? [] : [pick(roll, LITERALS)])].join(', ')})`;
    const rows = Array.from({ length: 1 + roll(3) }, row).join(', ');
    return `INSERT ${pick(roll, CONFLICTS)} INTO ${table} (k, a${generated ? '' : ', b'}) VALUES ${rows}`;
  }],
  [6, (roll, tables, keys) => {
    const table = pick(roll, tables);
    const column = pick(roll, table === 'reals' ? ['k', 'a', 'a'] : ['k', 'a', 'a', 'b', 'b']);
    return `UPDATE ${pick(roll, CONFLICTS)} ${table} SET ${column} = ${pick(roll, LITERALS)}${roll(3) ? ` WHERE k = ${pick(roll, keys)}` : ''}`;
  }],
  [1, (roll, tables, keys) => `INSERT INTO ${pick(roll, tables)} (k, a) VALUES (${pick(roll, keys)}, ${pick(roll, LITERALS)}) ON CONFLICT DO UPDATE SET a = excluded.a`],
  [2, (roll, tables, keys) => `DELETE FROM ${pick(roll, tables)} WHERE k = ${pick(roll, keys)}`],
  // Rows move over one another, in an order that SQLite chooses.
  [1, (roll, tables) => `UPDATE OR REPLACE ${pick(roll, tables)} SET k = ${pick(roll, ['k + 1', '-k', '3 - k', 'k * 2 % 3'])}`],
  [1, (roll, tables) => `DELETE FROM ${pick(roll, tables)}`],
  [1, (roll, tables) => `INSERT OR REPLACE INTO ${pick(roll, tables)} (k, a) SELECT k, b FROM ${pick(roll, tables)}`],
  [2, (roll) => pick(roll, CONTROLS)],
].flatMap(([weight, statement]) => Array(weight).fill(statement));

/** Few tables and keys, so that rows meet; then calls of `execute`, each of one statement or several. */
function programOf(roll) {
  const tables = shuffled(roll, Object.keys(TABLES).slice(0, -2)).slice(0, 3);
  if (roll(3) === 0) tables.splice(1, 2, 'parents', 'children');
  const keys = shuffled(roll, KEYS).slice(0, 4);
  const statement = () => pick(roll, STATEMENTS)(roll, tables, keys);
  const calls = Array.from({ length: 10 + roll(40) }, () => Array.from({ length: roll(4) ? 1 : 3 }, statement).join('; '));
  return [...tables.map((table) => TABLES[table]), ...calls];
}

/** Runs a program and gives its operations. Statements may fail, that is their right; what was committed before them stands. */
function run(layer, program) {
  const operations = [];
  const attempt = (sql) => {
    try {
      operations.push(...layer.execute(sql).operations);
    } catch (error) {
      assert.equal(error.name, 'SqlError', `${sql}: ${error.stack}`);
      operations.push(...error.operations);
    }
  };
  program.forEach(attempt);
  // Of what is left open; a NULL in a key cannot be committed.
  ['COMMIT', 'ROLLBACK'].forEach(attempt);
  return operations;
}

/** Every table's rows, with the type and the literal of every value. */
function dump(layer) {
  const values = (sql) => layer.execute(sql).result.values;
  const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
  const tables = values("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*' ORDER BY name").flat();
  return tables.flatMap((table) => {
    const columns = values(`SELECT name FROM pragma_table_xinfo('${table.replaceAll("'", "''")}')`).flat().map(quoted);
    const list = columns.map((column) => `typeof(${column}) || ' ' || quote(${column})`).join(` || ' | ' || `);
    return [table, ...values(`SELECT ${list} FROM ${quoted(table)}`).flat().sort().map((row) => `  ${row}`)];
  });
}

/** Runs one program and gives what it did, so that the test can say that enough was done. */
async function check(seed) {
  const roll = dice(seed);
  const program = programOf(roll);
  const writer = await SQLLayer.create();
  const operations = run(writer, program);
  const expected = dump(writer);
  const orders = { 'in order': operations, backwards: [...operations].reverse(), 'shuffled and twice': shuffled(roll, [...operations, ...operations]) };
  for (const [order, given] of Object.entries(orders)) {
    const reader = await SQLLayer.create();
    const untaken = given.flatMap((operation) => reader.applyOperation(operation));
    const shown = dump(reader);
    const only = (these, those) => these.filter((line) => !those.includes(line)).join('\n');
    const told = () => `seed ${seed}, ${order}. Its program:\n${program.join(';\n')}\nThe writer alone has\n${only(expected, shown)}\nThe reader alone has\n${only(shown, expected)}\nThe reader said\n${untaken.join('\n')}`;
    assert.ok(expected.join('\n') === shown.join('\n'), told());
    assert.deepEqual(reader.execute('PRAGMA integrity_check').result.values, [['ok']]);
    reader.close();
  }
  writer.close();
  return { operations, lines: expected.length };
}

test(`${PROGRAMS} random programs, their operations in any order: the same rows`, async () => {
  const { RTC_BATTERY_SEED: only } = process.env;
  if (only !== undefined) return void (await check(Number(only)));
  const types = { INSERT: 0, UPDATE: 0, DELETE: 0 };
  let lines = 0;
  for (let seed = 1; seed <= PROGRAMS; seed += 1) {
    const done = await check(seed);
    for (const { type } of done.operations) types[type] += 1;
    lines += done.lines;
  }
  // Programs that all fail would agree, too.
  for (const [type, count] of Object.entries(types)) assert.ok(count > 2 * PROGRAMS, `${count} of ${type}`);
  assert.ok(lines > 6 * PROGRAMS, `${lines} tables and rows`);
});
