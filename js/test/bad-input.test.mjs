// Whatever a program may hand to the library: it works, or says clearly what is wrong with it, and goes on.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

let peer;

const my = stage({ chromium: startChromium }, async ({ chromium, server }) => {
  peer = await Peer.open(await chromium.page(), server.url, { signalingUrl: server.signal, token: newToken() });
});

/** Runs in the page; `refused(promise)` tells how a promise was rejected. */
function inPage(body, ...args) {
  return peer.page.evaluate(
    ([body, args]) => {
      window.refused = (promise) => promise.then((resolved) => ({ resolved }), (error) => ({ class: error.name, code: error.code, message: error.message }));
      return new Function('args', `return (${body})(...args)`)(args);
    },
    [body.toString(), args],
  );
}

const LONG = 'ä/'.repeat(5000);

/** Any text is a token, and each is a room of its own. */
const TOKENS = {
  'of 10 kB': 'x'.repeat(10_240),
  'of unicode': 'Grüße 🔋 \u202e\u0000 漢字',
  'with slashes': '/../..//a\\b/',
  'that URLs would read otherwise': '?token=b&token=c#d%20%zz+e;f',
  'that is a word of JavaScript': '__proto__',
  'of white space': ' \t\r\n',
};

for (const [name, token] of Object.entries(TOKENS)) {
  test(`a token ${name} names a room where two meet`, { timeout: WATCHDOG_MS }, async (t) => {
    const config = { signalingUrl: my.server.signal, token };
    const pair = await Promise.all([1, 2].map(async () => Peer.open(await my.chromium.page(), my.server.url, config)));
    t.after(() => Promise.all(pair.map(({ page }) => page.context().close())));
    await pair[0].exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
    await pair[1].sees('SELECT id FROM t', [[1]]);
    await pair[1].reload();
    assert.deepEqual(await pair[1].rows('SELECT id FROM t'), [[1]]);
  });
}

test('tokens that are none are refused by the constructor', async () => {
  const refusals = await inPage((signalingUrl) => [undefined, null, 5, {}, [], '', 'x'.repeat(16 * 1024 + 1), 'ä'.repeat(8 * 1024 + 1)].map((token) => {
    try {
      return String(new library.RTCBattery({ signalingUrl, token }));
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  }), my.server.signal);
  for (const refusal of refusals) assert.match(refusal, /^TypeError: RTCBattery: token /);
  assert.match(refusals[5], /empty/);
  for (const refusal of refusals.slice(6)) assert.match(refusal, /16,384 bytes/);
});

test('configs of every wrong shape are refused by the constructor', async () => {
  const refusals = await inPage((config) => [undefined, null, 5, 'config', {}, ...['dbName', 'signalingUrl', 'sealed', 'iceServers', 'iceTransportPolicy', 'workerUrl', 'wasmUrl'].map((name) => ({ ...config, [name]: 5 })), { ...config, workerUrl: 'http://[' }].map((config) => {
    try {
      return String(new library.RTCBattery(config));
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  }), { signalingUrl: my.server.signal, token: 'a' });
  assert.deepEqual(refusals.filter((refusal) => !refusal.startsWith('TypeError: RTCBattery: ')), []);
});

test('any text names a database, and each one of its own', { timeout: WATCHDOG_MS }, async () => {
  const names = ['', ' ', '/', '../a', 'a/b\\c', 'Grüße 🔋', '\0', '\ud800', '-', '-a', '__proto__', 'constructor', 'rtc-battery:', LONG.slice(0, 1000), LONG.slice(0, 1001)];
  const found = await inPage(async (config, names) => {
    const open = async (dbName) => {
      const battery = new library.RTCBattery({ ...config, dbName });
      await battery.connect();
      return battery;
    };
    for (const [index, name] of names.entries()) {
      const battery = await open(name);
      await battery.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
      await battery.exec('INSERT INTO t VALUES (?)', [index]);
      await battery.disconnect();
    }
    const found = [];
    for (const name of names) {
      const battery = await open(name);
      found.push((await battery.exec('SELECT id FROM t')).values);
      await battery.disconnect();
    }
    return found;
  }, { signalingUrl: 'ws://127.0.0.1:9/', token: newToken() }, names);
  assert.deepEqual(found, names.map((_, index) => [[index]]));
});

test('SQL errors of many shapes: what the failing statement did is undone, what those before it did stands', async () => {
  await peer.exec(`
    CREATE TABLE e (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n < 100), f INTEGER REFERENCES e (id));
    CREATE TABLE s (k TEXT PRIMARY KEY, v INTEGER) STRICT;
    INSERT INTO e VALUES (1, 1, NULL)`);
  const cases = [
    // SQL, code, message, rows of e afterwards beyond the first
    ['INSERT INTO e VALUES (2, 2, NULL), (3, 3, NULL), (1, 1, NULL)', 1555, /UNIQUE constraint failed: e\.id/],
    ['INSERT INTO e VALUES (2, NULL, NULL)', 1299, /NOT NULL constraint failed: e\.n/],
    ['INSERT INTO e VALUES (2, 100, NULL)', 275, /CHECK constraint failed/],
    ['INSERT INTO e VALUES (2, 2, 77)', 787, /FOREIGN KEY constraint failed/],
    ["INSERT INTO e VALUES ('two', 2, NULL)", 20, /datatype mismatch/],
    ["INSERT INTO s VALUES ('a', 'b')", 3091, /cannot store TEXT value in INTEGER column/],
    ['INSERT INTO e VALUES (2, 2)', 1, /table e has 3 columns but 2 values were supplied/],
    ['SELECT missing FROM e', 1, /no such column: missing/],
    ['SELECT missing(1)', 1, /no such function: missing/],
    ['SELECT abs(-9223372036854775808)', 1, /integer overflow/],
    ["SELECT json('{')", 1, /malformed JSON/],
    ["SELECT 'a", 1, /unrecognized token/],
    ['SELECT (1', 1, /incomplete input/],
    ['COMMIT', 1, /no transaction is active/],
    ['ROLLBACK TO nowhere', 1, /no such savepoint|no transaction/],
    ["ATTACH 'other.db' AS other", undefined, /./],
    ["SELECT load_extension('a')", 1, /no such function|not authorized/],
    ['PRAGMA writable_schema = 1; DELETE FROM sqlite_schema', undefined, /./],
    ['DELETE FROM rtc_operations', undefined, /rtc_/],
    ['CREATE TABLE rtc_mine (id INTEGER PRIMARY KEY)', undefined, /rtc_/],
    [`SELECT ${'('.repeat(1_000_000)}1${')'.repeat(1_000_000)}`, 1, /Recursion limit/],
    [`SELECT ${'(SELECT '.repeat(900)}1${')'.repeat(900)}`, 1, /Recursion limit/],
    [`${'SELECT * FROM ('.repeat(3000)}SELECT 1${')'.repeat(3000)}`, 1, /Recursion limit/],
    [`SELECT ${Array(20_000).fill('1').join(' AND ')}`, 1, /Expression tree is too large/],
    [`SELECT '${'a'.repeat(49_000)}' LIKE '${'%a'.repeat(24_000)}'`, 1, /pattern too complex/],
    [`SELECT ${Array(3000).fill('1').join(', ')}`, 1, /too many columns/],
    ['SELECT zeroblob(2000000000)', 18, /too big/],
  ];
  for (const [sql, code, message] of cases) {
    const [refusal] = await inPage(async (sql) => [await refused(battery.exec(sql))], sql);
    const shown = `${sql.slice(0, 60)}: ${JSON.stringify(refusal)}`;
    assert.equal(refusal.class, 'SqlError', shown);
    if (code !== undefined) assert.equal(refusal.code, code, shown);
    assert.match(refusal.message, message, shown);
    assert.deepEqual(await peer.rows('SELECT id, n FROM e'), [[1, 1]], shown);
  }
  await inPage(() => refused(battery.exec('INSERT INTO e VALUES (5, 5, NULL); INSERT INTO e VALUES (6, NULL, NULL); INSERT INTO e VALUES (7, 7, NULL)')));
  assert.deepEqual(await peer.rows('SELECT id FROM e'), [[1], [5]]);
  await peer.reload();
  assert.deepEqual(await peer.rows('SELECT id FROM e'), [[1], [5]]);
});

test('statements with NUL, lone surrogates, and literals of 10 MB', { timeout: WATCHDOG_MS }, async () => {
  const [nul, inLiteral, lone, loneParameter, long, longBlob] = await inPage(async () => {
    const rows = async (sql, params) => {
      const answer = await refused(battery.exec(sql, params));
      return answer.resolved === undefined ? answer : answer.resolved.values;
    };
    return [
      await rows('SELECT 1\0; DROP TABLE x'),
      await rows("SELECT 'a\0b'"),
      await rows("SELECT hex('\ud800')"),
      await rows('SELECT hex(?)', ['a\udc00b']),
      await rows(`SELECT length('${'x'.repeat(10_000_000)}')`),
      await rows(`SELECT length(x'${'ab'.repeat(5_000_000)}')`),
    ];
  });
  // SQLite reads a statement up to the first NUL; cutting in silence would run half of what was written.
  for (const refusal of [nul, inLiteral]) assert.deepEqual([refusal.class, /nul/i.test(refusal.message)], ['SqlError', true], JSON.stringify(refusal));
  // What is no Unicode cannot be stored as text: U+FFFD takes its place, as everywhere on the web.
  assert.deepEqual([lone, loneParameter], [[['EFBFBD']], [['61EFBFBD62']]]);
  assert.deepEqual([long, longBlob], [[[10_000_000]], [[5_000_000]]]);
  assert.deepEqual(await peer.rows('SELECT 1'), [[1]]);
});

test('statements and parameters of every wrong type', async () => {
  const refusals = await inPage(async () => {
    const wrong = [
      new Date(0), {}, [], [1], new Map(), new Set(), Symbol('s'), () => 1, Promise.resolve(1), /a/, new Error('e'), document.body, new Blob([]),
      2n ** 63n, -(2n ** 63n) - 1n, new Proxy({}, {}), new Proxy([], {}), new WeakMap(), Object.create(null), new String('s'), new Number(1),
    ];
    const answers = [];
    for (const value of wrong) answers.push(await refused(battery.exec('SELECT ?', [value])), await refused(battery.exec('SELECT :a', { a: value })));
    for (const params of ['text', 5, true, Symbol('s'), () => 1, new Date(), 5n]) answers.push(await refused(battery.exec('SELECT ?', params)));
    for (const sql of [undefined, null, 5, {}, [], Symbol('s'), new String('SELECT 1'), () => 1]) answers.push(await refused(battery.exec(sql)));
    return answers;
  });
  const wrongShapes = refusals.filter(({ class: name, code }) => name !== 'RTCBatteryError' || code !== 'bad-parameter');
  assert.deepEqual(wrongShapes, []);
  const missing = await inPage(async () => [
    await refused(battery.exec('SELECT ?, ?', [1])),
    await refused(battery.exec('SELECT :a', { b: 1 })),
    await refused(battery.exec('SELECT ?')),
  ]);
  const [endless] = await inPage(async () => [await refused(battery.exec('SELECT ?', Object.assign([], { length: 2 ** 32 - 1 })))]);
  assert.equal(endless.code, 'bad-parameter', JSON.stringify(endless));
  for (const { class: name, message } of missing) assert.deepEqual([name, /no value was given for parameter/.test(message)], ['SqlError', true], message);
  assert.deepEqual(await peer.rows('SELECT 1'), [[1]]);
});
