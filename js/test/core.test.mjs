// SQLLayer in Node, from core.js alone.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import initSqlJs from 'sql.js';
import * as library from '../dist/core.js';
import { EXPECTED, tell } from './layer-stories.mjs';

const { RTCBatteryError, SqlError, SQLLayer } = library;
const DIST = fileURLToPath(new URL('../dist', import.meta.url));

for (const [story, expected] of EXPECTED) {
  test(`the story of ${story.name}`, async () => {
    assert.deepEqual(await (0, eval)(tell(story))(library), expected);
  });
}

/** A layer with a table, and an operation on it. */
async function withTable(sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)') {
  const layer = await SQLLayer.create();
  layer.execute(sql);
  const operation = (type, id, values, ts = 5) => ({ hlc: { ts, counter: 0, nodeId: 'stranger' }, type, table: 't', pk: { id }, ...(values && { values }) });
  return { layer, operation, rows: (select = 'SELECT * FROM t') => layer.execute(select).result.values };
}

/** A project that has the package installed. */
function project(t) {
  const folder = mkdtempSync(join(tmpdir(), 'rtc-battery-node-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(DIST, join(folder, 'node_modules/rtc-battery'));
  return folder;
}

test('the package gives core.js to Node; the module is found beside it, by path and by URL', (t) => {
  const folder = project(t);
  for (const options of ['', `{ wasmUrl: ${JSON.stringify(join(DIST, 'rtc_battery.wasm'))} }`, `{ wasmUrl: new URL('rtc_battery.wasm', 'file://${DIST}/') }`]) {
    const code = `
      import { SQLLayer } from 'rtc-battery/core.js';
      console.log((await SQLLayer.create(${options})).execute('SELECT 6 * 7').result.values[0][0]);`;
    const output = execFileSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: folder, encoding: 'utf8' });
    assert.equal(output.trim(), '42');
  }
  const missing = `
    import { SQLLayer } from 'rtc-battery/core.js';
    await SQLLayer.create({ wasmUrl: 'nowhere.wasm' }).catch((error) => console.log(error.name, error.code));
    console.log((await SQLLayer.create()).execute('SELECT 1').result.rowsAffected);`;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', missing], { cwd: folder, encoding: 'utf8' });
  assert.equal(output, 'RTCBatteryError load\n0\n');
});

test('the types are found and true, whichever way TypeScript resolves modules', (t) => {
  const folder = project(t);
  const code = `
    import { RTCBattery, SQLLayer as SameLayer, WebRTCManager } from 'rtc-battery';
    import { type HLC, type Operation, type SQLLayer } from 'rtc-battery/core.js';
    export async function use(layer: SQLLayer, same: SameLayer): Promise<string[]> {
      const { operations, result } = layer.execute('SELECT ?', [1n, null, new Uint8Array(), true]);
      const hlc: HLC | undefined = operations[0]?.hlc;
      const manager = new WebRTCManager({ iceServers: [] });
      manager.onOperation = (op: Operation, peerId: string) => same.applyOperation({ ...op, table: peerId });
      // @ts-expect-error A layer is no manager.
      layer.broadcast(operations[0]);
      // @ts-expect-error The table is missing.
      manager.broadcast({ hlc: { ts: 1, counter: 2, nodeId: 'n' }, type: 'DELETE', pk: {} });
      // @ts-expect-error A battery needs a token.
      new RTCBattery({ signalingUrl: 'ws://host' });
      return [...result.columns, String(hlc), ...(await manager.requestSync('peer')).map(({ type }) => type)];
    }`;
  writeFileSync(join(folder, 'use.mts'), code);
  const tsc = fileURLToPath(new URL('../node_modules/.bin/tsc', import.meta.url));
  for (const [module, resolution] of [['nodenext', 'nodenext'], ['esnext', 'bundler']]) {
    const options = ['--noEmit', '--strict', '--target', 'es2020', '--lib', 'es2020,dom', '--types', '', '--module', module, '--moduleResolution', resolution];
    const { status, stdout } = spawnSync(tsc, [...options, 'use.mts'], { cwd: folder, encoding: 'utf8' });
    assert.equal(stdout, '', resolution);
    assert.equal(status, 0);
  }
});

test('an operation has the fields of the specification and no others', async () => {
  const { layer } = await withTable();
  const { operations } = layer.execute("INSERT INTO t VALUES (1, 'one', NULL); UPDATE t SET x = 'two', y = y; DELETE FROM t");
  const [insert, update, remove] = operations;
  assert.deepEqual(Object.keys(insert), ['hlc', 'type', 'table', 'pk', 'values']);
  assert.deepEqual(Object.keys(insert.hlc), ['ts', 'counter', 'nodeId']);
  assert.deepEqual({ ...insert, hlc: null }, { hlc: null, type: 'INSERT', table: 't', pk: { id: 1 }, values: { id: 1, x: 'one', y: null } });
  assert.deepEqual({ ...update, hlc: null }, { hlc: null, type: 'UPDATE', table: 't', pk: { id: 1 }, values: { x: 'two' }, prev: { x: 'one' } });
  assert.deepEqual({ ...remove, hlc: null }, { hlc: null, type: 'DELETE', table: 't', pk: { id: 1 } });
  for (const { hlc } of operations) assert.ok(Math.abs(hlc.ts - Date.now()) < 60_000 && Number.isInteger(hlc.counter) && /^[!-~]+$/.test(hlc.nodeId));
});

test('what throws when it is read is refused, and the layer goes on', async () => {
  const { layer, operation } = await withTable();
  const detached = () => {
    const bytes = new Uint8Array(10);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    return bytes;
  };
  const revoked = (target) => {
    const { proxy, revoke } = Proxy.revocable(target, {});
    revoke();
    return proxy;
  };
  const throws = (target, name) =>
    new Proxy(target, {
      get(of, key) {
        if (key === name) throw new RangeError('mine');
        return of[key];
      },
    });
  const endless = Object.assign([], { length: 2 ** 32 - 1 });
  for (const params of [[detached()], { a: detached().buffer }, throws([1], 'length'), throws([1], '0'), revoked({}), revoked([1]), [revoked({})], endless]) {
    assert.throws(() => layer.execute('SELECT ?', params), { code: 'bad-parameter' });
  }
  for (const op of [operation('INSERT', 1, { x: detached() }), operation('INSERT', revoked({})), revoked({}), { ...operation('DELETE', 1), hlc: revoked([]) }]) {
    assert.throws(() => layer.applyOperation(op), { code: 'bad-operation' });
  }
  for (const file of [detached(), detached().buffer]) assert.throws(() => layer.importDatabase(file), { code: 'bad-file' });
  assert.deepEqual(layer.execute('SELECT ?, ?', [new Uint8Array(), new Uint8Array([7]).buffer]).result.values, [[new Uint8Array(), new Uint8Array([7])]]);
});

test('a transaction over several calls gives its operations with the COMMIT', async () => {
  const { layer } = await withTable();
  assert.deepEqual(layer.execute('BEGIN; INSERT INTO t (id) VALUES (1)').operations, []);
  assert.deepEqual(layer.execute('INSERT INTO t (id) VALUES (2)').operations, []);
  assert.deepEqual(layer.execute('COMMIT').operations.map(({ pk }) => pk.id), [1, 2]);
  assert.deepEqual(layer.execute('BEGIN; DELETE FROM t; ROLLBACK').operations, []);
  const failed = layer.execute.bind(layer, 'BEGIN; INSERT INTO t (id) VALUES (3); COMMIT; INSERT INTO t (id) VALUES (3)');
  assert.throws(failed, (error) => error instanceof SqlError && error.code === 1555 && error.operations.length === 1);
});

test('later writes win, column by column; a later write beats a delete', async () => {
  const { layer, operation, rows } = await withTable();
  layer.applyOperation(operation('INSERT', 1, { x: 'first', y: 'first' }, 1));
  layer.applyOperation(operation('UPDATE', 1, { x: 'third' }, 3));
  layer.applyOperation(operation('UPDATE', 1, { x: 'second', y: 'second' }, 2));
  assert.deepEqual(rows(), [[1, 'third', 'second']]);
  layer.applyOperation(operation('DELETE', 1, undefined, 4));
  assert.deepEqual(rows(), []);
  layer.applyOperation(operation('UPDATE', 1, { y: 'fifth' }, 5));
  assert.deepEqual(rows(), [[1, 'third', 'fifth']]);
  const tie = (nodeId, x) => ({ ...operation('UPDATE', 1, { x }, 6), hlc: { ts: 6, counter: 0, nodeId } });
  layer.applyOperation(tie('b', 'by b'));
  layer.applyOperation(tie('a', 'by a'));
  assert.deepEqual(rows(), [[1, 'by b', 'fifth']]);
});

test('every value that the wire knows is taken', async () => {
  const { layer, operation, rows } = await withTable();
  const values = [
    [undefined, 'NULL'],
    [NaN, 'NULL'],
    [true, '1'],
    [false, '0'],
    [2n ** 63n - 1n, '9223372036854775807'],
    [{ $int: '-9223372036854775808' }, '-9223372036854775808'],
    [{ $real: '1.0' }, '1.0'],
    [{ $real: '-inf' }, '-9.0e+999'],
    [{ $blob: 'AP8=' }, "X'00FF'"],
    [{ $text: 'aGk=' }, "'hi'"],
    [new Uint8Array([7]).buffer, "X'07'"],
    [Buffer.from([8]), "X'08'"],
    [Object.assign(Object.create(null), { $int: '5' }), '5'],
    [2 ** 53, '9007199254740992.0'],
  ];
  values.forEach(([x], id) => layer.applyOperation(operation('INSERT', id, { x })));
  assert.deepEqual(rows('SELECT quote(x) FROM t ORDER BY id').flat(), values.map(([, quoted]) => quoted));
});

test('what is no operation is refused with a word on what is wrong, and changes nothing', async () => {
  const { layer, operation, rows } = await withTable();
  layer.applyOperation(operation('INSERT', 1, { x: 1 }));
  const good = operation('UPDATE', 1, { x: 2 }, 9);
  const hlc = (change) => ({ ...good, hlc: { ...good.hlc, ...change } });
  class Row {
    id = 1;
  }
  const bad = [
    [undefined, /undefined, not an object/],
    [null, /null, not an object/],
    ['operation', /a string, not an object/],
    [[good], /an Array, not an object/],
    [{}, /hlc is undefined/],
    [{ ...good, hlc: 5 }, /hlc is 5/],
    [hlc({ ts: -1 }), /hlc\.ts is -1/],
    [hlc({ ts: 1e300 }), /hlc\.ts is 1/],
    [hlc({ ts: '5' }), /hlc\.ts is a string/],
    [hlc({ ts: 5n }), /hlc\.ts is a bigint/],
    [hlc({ ts: 2 ** 47 + 1 }), /clock is beyond all time/],
    [hlc({ counter: 2 ** 32 }), /hlc\.counter is 4294967296/],
    [hlc({ counter: 0.5 }), /hlc\.counter is 0\.5/],
    [hlc({ nodeId: '' }), /hlc\.nodeId/],
    [hlc({ nodeId: 'naïve' }), /hlc\.nodeId/],
    [hlc({ nodeId: 7 }), /hlc\.nodeId is 7/],
    [{ ...good, type: 'UPSERT' }, /type is "UPSERT"/],
    [{ ...good, type: Symbol('s') }, /type is a symbol/],
    [{ ...good, table: undefined }, /table is undefined/],
    [{ ...good, table: 'rtc_operations' }, /belongs to RTC Battery/],
    [{ ...good, table: 'RTC_Schema' }, /no definition/],
    [{ ...good, pk: undefined }, /pk is missing/],
    [{ ...good, pk: {} }, /lacks a column/],
    [{ ...good, pk: [1] }, /pk is an Array/],
    [{ ...good, pk: new Map([['id', 1]]) }, /pk is a Map/],
    [{ ...good, pk: new Row() }, /pk is a Row/],
    [{ ...good, pk: { id: null } }, /NULL in its pk/],
    [{ ...good, pk: { id: 1, ID: 1 } }, /names a column twice/],
    [{ ...good, values: { x: new Date(0) } }, /values\.x is a Date/],
    [{ ...good, values: { x: () => 1 } }, /values\.x is a function/],
    [{ ...good, values: { x: 2n ** 64n } }, /values\.x is a bigint beyond 64 bits/],
    [{ ...good, values: { x: { $int: 'x' } } }, /values\.x is no SQL value/],
    [{ ...good, values: { x: { $real: 'nan' } } }, /values\.x is no SQL value/],
    [{ ...good, values: { x: { $blob: '?' } } }, /values\.x is no SQL value/],
    [{ ...good, values: { x: { a: { b: 1 } } } }, /values\.x is an Object/],
    [{ ...good, values: 'x' }, /values is a string/],
    [{ ...good, prev: { x: [] } }, /prev\.x is an Array/],
    [{ ...good, values: { id: 2 } }, /different rows/],
    [Object.defineProperty({ ...good }, 'type', { get: () => { throw new Error('the trap'); } }), /type cannot be read: the trap/],
    [new Proxy({}, { get: () => { throw new Error('the proxy'); } }), /cannot be read: the proxy/],
    [Object.defineProperty({ ...good }, 'pk', { get: () => { throw 'a string'; } }), /pk cannot be read: a string/],
    [{ ...good, values: new Proxy({}, { ownKeys: () => { throw new Error('no keys'); } }) }, /values cannot be read: no keys/],
  ];
  const before = [rows(), rows('SELECT * FROM rtc_operations'), rows('SELECT * FROM rtc_replica')];
  for (const [operation, message] of bad) {
    assert.throws(
      () => layer.applyOperation(operation),
      (error) => error instanceof RTCBatteryError && error.code === 'bad-operation' && message.test(error.message) && !/internal|unreachable/.test(error.message),
      String(message),
    );
  }
  assert.deepEqual([rows(), rows('SELECT * FROM rtc_operations'), rows('SELECT * FROM rtc_replica')], before);
  layer.applyOperation(good);
  assert.deepEqual(rows(), [[1, 2, null]]);
});

test('what a class calls itself does no harm', async () => {
  const { layer, operation } = await withTable();
  class Strange {
    static name = 5;
  }
  assert.throws(() => layer.applyOperation(operation('INSERT', 1, { x: new Strange() })), { code: 'bad-operation' });
  assert.throws(() => layer.execute('SELECT ?', [new Strange()]), { code: 'bad-parameter' });
  assert.throws(() => layer.execute('SELECT :a', { get a() { throw new Error('the getter'); } }), { code: 'bad-parameter' });
  assert.deepEqual(layer.execute('SELECT :constructor', { constructor: 3 }).result.values, [[3]]);
});

test('100,000 rows of one statement are 100,000 operations', async () => {
  const { layer } = await withTable();
  const { operations } = layer.execute(`INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i, hex(i), i / 2.0 FROM n`);
  assert.equal(operations.length, 100_000);
  assert.deepEqual(operations[99_998].values, { id: 99_999, x: '3939393939', y: 49_999.5 });
  const later = (a, b) => a.hlc.ts - b.hlc.ts || a.hlc.counter - b.hlc.counter;
  assert.ok(operations.every((operation, n) => n === 0 || later(operation, operations[n - 1]) > 0));
});

test('what cannot be shown is kept and told', async () => {
  const { layer, operation, rows } = await withTable('CREATE TABLE t (id INTEGER PRIMARY KEY, x INT) STRICT');
  const told = layer.applyOperation(operation('INSERT', 1, { x: 'text' }, 1));
  assert.match(told.join(), /cannot store TEXT/);
  assert.deepEqual([layer.applyOperation(operation('UPDATE', 1, { x: 3 }, 2)), rows()], [[], [[1, 3]]]);
});

test('sql.js opens what was exported; what it made is imported', async () => {
  const SQL = await initSqlJs();
  const { layer, rows } = await withTable();
  layer.execute("INSERT INTO t VALUES (1, 9007199254740993, x'00ff'), (2, 1.0, 'naïve 🔋')");
  const plain = new SQL.Database(layer.exportDatabase());
  assert.deepEqual(plain.exec("SELECT group_concat(name) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")[0].values, [['t']]);
  assert.deepEqual(plain.exec('SELECT id, quote(x), quote(y) FROM t')[0].values, [
    [1, '9007199254740993', "X'00FF'"],
    [2, '1.0', "'naïve 🔋'"],
  ]);
  plain.run("UPDATE t SET x = 'theirs'; INSERT INTO t VALUES (3, 3, 3); CREATE TABLE u (k TEXT PRIMARY KEY); INSERT INTO u VALUES ('new'); CREATE TABLE nokey (x)");
  const leftOut = layer.importDatabase(plain.export());
  assert.match(leftOut.join(), /nokey/);
  assert.deepEqual([rows('SELECT id, quote(x) FROM t'), rows('SELECT * FROM u')], [[[1, '9007199254740993'], [2, '1.0'], [3, '3']], [['new']]]);
  assert.deepEqual(layer.execute('SELECT 1').operations, []);
  const copy = await SQLLayer.create();
  copy.importDatabase(layer.exportDatabase());
  assert.deepEqual(copy.execute('SELECT id, quote(x), quote(y) FROM t').result, layer.execute('SELECT id, quote(x), quote(y) FROM t').result);
});

test('a layer that was closed is closed, others go on', async () => {
  const [one, other] = await Promise.all([SQLLayer.create(), SQLLayer.create()]);
  one.close();
  one.close();
  assert.throws(() => one.exportDatabase(), { code: 'closed' });
  assert.deepEqual(other.execute('SELECT 1').result.values, [[1]]);
});
