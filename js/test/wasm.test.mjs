// The WebAssembly module by itself, in Node: SQLite runs in it, is the SQLite that the native build has, and its batches of pages
// are all it takes to open the database again.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import init, { BatteryNode, roomOf, Storage } from '../pkg/rtc_battery.js';

const url = (path) => new URL(path, import.meta.url);

before(async () => {
  await init({ module_or_path: readFileSync(url('../pkg/rtc_battery.wasm')) });
});

const now = () => ({ wallMs: Date.now(), monoMs: Math.floor(performance.now()) });

function openNode(storage) {
  const config = { signalingUrl: 'ws://host/signal', token: 't', sealed: false, room: roomOf('t'), seed: new Uint8Array(32), replicaId: new Uint8Array(16) };
  return new BatteryNode(storage, config, now());
}

/** What IndexedDB is in a browser. */
class Pages {
  #pages = new Map();

  save({ pageCount, pages }) {
    for (const [pageNo, bytes] of pages) this.#pages.set(pageNo, bytes);
    for (const pageNo of this.#pages.keys()) if (pageNo > pageCount) this.#pages.delete(pageNo);
  }

  open() {
    const storage = new Storage();
    // A record is a page and its digest.
    const page = (record) => record.subarray(0, record.length - (record.length % 512));
    for (let pageNo = 1; pageNo <= this.#pages.size; pageNo++) storage.load(pageNo, page(this.#pages.get(pageNo)));
    const node = openNode(storage);
    return [storage, { node, query: (sql, params) => node.exec(sql, params, true, now()).values }];
  }
}

function saveAll(storage, pages) {
  for (let batch = storage.takeBatch(); batch !== undefined; batch = storage.takeBatch()) {
    pages.save(batch);
    storage.batchSaved(batch.generation);
  }
}

test('SQLite is compiled as the native one', () => {
  const [, db] = new Pages().open();
  const [[version]] = db.query('SELECT sqlite_version()', []);
  const platform = /^(ATOMIC_INTRINSICS|COMPILER|MUTEX_|SYSTEM_MALLOC|THREADSAFE)/;
  const options = db.query('PRAGMA compile_options', []).flat().filter((option) => !platform.test(option));
  const expected = readFileSync(url('../../crates/core/tests/replica/sqlite_options.txt'), 'utf8').trimEnd().split('\n');
  assert.deepEqual([`version=${version}`, ...options], expected);
});

test('what the options promise is there', () => {
  const [, db] = new Pages().open();
  db.query('CREATE VIRTUAL TABLE words USING fts5 (body)', []);
  db.query("INSERT INTO words VALUES ('a rolling stone')", []);
  assert.deepEqual(db.query("SELECT body FROM words WHERE words MATCH 'stone'", []), [['a rolling stone']]);
  db.query('CREATE VIRTUAL TABLE places USING rtree (id, west, east)', []);
  assert.deepEqual(db.query(`SELECT '{"a":[1,2]}' ->> '$.a[1]', round(sqrt(2), 3), soundex('Robert')`, []), [[2, 1.414, 'R163']]);
  const [[now, local]] = db.query("SELECT unixepoch('now'), datetime(86400, 'unixepoch', 'localtime')", []);
  assert.ok(Math.abs(now - Date.now() / 1000) < 60);
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  assert.equal(local, new Date(86_400_000).toLocaleString('sv', { timeZone }));
});

test('values keep their type and bits', () => {
  const [, db] = new Pages().open();
  const values = [null, 0, -1, 2 ** 53 - 1, -(2n ** 63n), 2n ** 63n - 1n, 1.5, 1e300, -Infinity, '', 'naïve 🔋 \0 text', new Uint8Array([0, 255])];
  for (const value of values) {
    const [[back, type]] = db.query('SELECT ?1, typeof(?1)', [value]);
    assert.deepEqual(back, value);
    const types = { object: value === null ? 'null' : 'blob', string: 'text', bigint: 'integer', number: Number.isSafeInteger(value) ? 'integer' : 'real' };
    assert.equal(type, types[typeof value]);
  }
  assert.deepEqual(db.query('SELECT ?, ?, ?, ?', [true, false, undefined, new Uint8Array([7]).buffer]), [[1, 0, null, new Uint8Array([7])]]);
  for (const value of [2n ** 63n, {}, Symbol('s'), () => 0]) assert.throws(() => db.query('SELECT ?', [value]), { code: 'bad-parameter' });
});

test('errors carry the message and the code of SQLite', () => {
  const [, db] = new Pages().open();
  db.query('CREATE TABLE t (id INTEGER PRIMARY KEY)', []);
  db.query('INSERT INTO t VALUES (1)', []);
  assert.throws(() => db.query('INSERT INTO t VALUES (1)', []), { code: 1555, message: 'UNIQUE constraint failed: t.id' });
  assert.throws(() => db.query('PRAGMA journal_mode = WAL', []), /PRAGMA journal_mode/);
});

test('statements as deep as SQLite allows do not exhaust the stack', () => {
  const [, db] = new Pages().open();
  assert.deepEqual(db.query(`SELECT 1${' + 1'.repeat(998)}`, []), [[999]]);
  assert.deepEqual(db.query(`SELECT ${'(SELECT '.repeat(40)}1${')'.repeat(40)}`, []), [[1]]);
  assert.throws(() => db.query(`SELECT 1${' + 1'.repeat(1000)}`, []), /Expression tree is too large/);
});

test('a database opens again from its batches, at a commit', () => {
  const pages = new Pages();
  const [storage, db] = pages.open();
  db.query('CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)', []);
  db.query("INSERT INTO t SELECT value, hex(randomblob(500)) FROM json_each('[1,2,3,4,5,6,7,8,9]')", []);
  saveAll(storage, pages);
  const rows = db.query('SELECT * FROM t', []);

  db.query('BEGIN', []);
  db.query('DELETE FROM t', []);
  saveAll(storage, pages);
  const [, again] = pages.open();
  assert.deepEqual(again.query('SELECT * FROM t', []), rows);
  assert.deepEqual(again.query('PRAGMA integrity_check', []), [['ok']]);

  db.query('COMMIT', []);
  db.query('VACUUM', []);
  const failed = storage.takeBatch();
  assert.equal(storage.takeBatch(), undefined);
  storage.batchFailed(failed.generation);
  assert.throws(() => storage.batchSaved(failed.generation), /not being saved/);
  saveAll(storage, pages);
  const [, empty] = pages.open();
  assert.deepEqual(empty.query('SELECT count(*) FROM t', []), [[0]]);
});

test('inputs go in and outputs come out as the objects that their types declare', () => {
  const [, { node }] = new Pages().open();
  // Once an hour it looks what may be forgotten.
  const idle = node.pollOutput(now());
  assert.deepEqual([idle.output, idle.value > 3_000_000], ['idle', true]);
  node.connect(now());
  assert.deepEqual(node.pollOutput(now()), { output: 'effect', value: { kind: 'openSignaling', url: 'ws://host/signal?token=t' } });
  const { output, value } = node.pollOutput(now());
  assert.deepEqual([output, typeof value], ['idle', 'number']);
  node.handleInput({ kind: 'channelBinary', link: 7, bytes: new Uint8Array([1, 2]) }, now());
  node.handleInput({ kind: 'channelOpened', link: 7, maxMessageBytes: null }, now());
  node.handleInput({ kind: 'signalingClosed', reason: 'gone' }, now());
  const event = node.pollOutput(now());
  assert.equal(event.output, 'event');
  assert.deepEqual({ ...event.value, message: '' }, { kind: 'error', code: 'signaling-unreachable', message: '', peer: null });
  assert.deepEqual([node.version(), node.peers()], [0, []]);
  node.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)', undefined, false, now());
  assert.equal(node.version(), 1);
  assert.throws(() => node.handleInput({ kind: 'nonsense' }, now()));
});

test('a damaged storage is refused', () => {
  assert.throws(() => new Storage().load(2, new Uint8Array(8192)), { code: 'storage', message: /expected page 1/ });
  assert.throws(() => new Storage().load(1, new Uint8Array(100)), { code: 'storage' });
});
