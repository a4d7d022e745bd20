// A peer that sends garbage over a real channel: it is named in an `error` event, what it sent changes nothing, and what is valid afterwards is
// taken from it as from anybody.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { newToken, Peer, Server, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

let plainSite;
let ours;
let stranger;
let said = 0;
const token = newToken();

const my = stage({ chromium: startChromium, plain: async () => ({ close: () => plainSite?.stop() }) }, async ({ chromium, server }) => {
  plainSite = await Server.start(fileURLToPath(new URL('plain', import.meta.url)));
  ours = await Peer.open(await chromium.page(), server.url, { signalingUrl: server.signal, token, sealed: false });
  await ours.exec(`
    CREATE TABLE notes (id TEXT PRIMARY KEY, content TEXT);
    CREATE TABLE pairs (a INTEGER, b TEXT NOT NULL, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
    INSERT INTO notes VALUES ('mine', 'untouched');
    INSERT INTO pairs VALUES (1, 'one', x'00')`);
  stranger = await chromium.page();
  await stranger.goto(`${plainSite.url}/plain-peer.html`);
});

const operation = (changes) => ({
  hlc: { ts: Date.now(), counter: 0, nodeId: 'stranger' },
  type: 'UPDATE',
  table: 'notes',
  pk: { id: 'mine' },
  values: { content: 'OVERWRITTEN' },
  ...changes,
});
const op = (changes) => ({ type: 'op', payload: operation(changes) });
const hlc = (changes) => op({ hlc: { ts: Date.now(), counter: 0, nodeId: 'stranger', ...changes } });
const without = (name) => {
  const payload = operation();
  delete payload[name];
  return { type: 'op', payload };
};
const nested = (levels, open, close) => open.repeat(levels) + close.repeat(levels);
const bytes = (...values) => ({ bytes: values });

/** What is not even a message or an operation. */
const GARBAGE = {
  'texts that are not JSON': ['', 'hello', '{', '{"type":"op"', '\0', '{"type":"op","payload":{}}}'],
  'JSON that is no message': [null, 5, 'op', [], {}, { type: null }, { type: 5 }, { type: ['op'] }],
  'messages without what belongs to them': [
    ...['op', 'sync-response', 'sync-full', 'hello'].map((type) => ({ type })),
    { type: 'op', payload: null }, { type: 'op', payload: [] }, { type: 'sync-response', operations: {} },
    { type: 'sync-response', operations: [null] }, { type: 'sync-response', operations: [operation(), 5] },
  ],
  'databases that are none': [
    { type: 'sync-full', database: 5 }, { type: 'sync-full', database: '!!!' }, { type: 'sync-full', database: 'AAAA' },
    { type: 'sync-full', database: Buffer.from('SQLite format 3\0'.padEnd(4096, 'x')).toString('base64') },
  ],
  'operations without a field': ['hlc', 'type', 'table', 'pk'].map(without),
  'operations with fields of the wrong type': [
    ...[null, 5, 'INSERT OR REPLACE', 'insert', {}].map((type) => op({ type })),
    ...[null, 5, [], {}].map((table) => op({ table })),
    ...[null, 5, 'mine', [], {}, { id: null }, { id: {} }, { id: [] }].map((pk) => op({ pk })),
    ...[5, 'content', [], { content: {} }, { content: [] }, { content: { $int: 'x' } }, { content: { $int: '99999999999999999999' } }, { content: { $blob: '!' } }].map((values) => op({ values })),
    op({ table: 'pairs', pk: { a: 1, b: null }, values: { c: 1 } }),
  ],
  'clocks that are none': [
    ...[null, 'now', -1, 1.5, 1e300, 2 ** 53, {}].map((ts) => hlc({ ts })),
    ...[null, 'one', -1, 1.5, 2 ** 53].map((counter) => hlc({ counter })),
    ...[null, 5, '', 'a'.repeat(10_000), 'ä', 'a\nb'].map((nodeId) => hlc({ nodeId })),
    op({ hlc: null }), op({ hlc: 5 }), op({ hlc: '2026' }),
  ],
  'operations on internal tables': [
    ...['rtc_operations', 'RTC_OPERATIONS', 'rtc_replica', 'rtc_waiting', 'rtc_nothing', 'sqlite_schema', 'sqlite_master', 'sqlite_sequence', 'SQLITE_stat1'].flatMap((table) =>
      ['INSERT', 'UPDATE', 'DELETE'].map((type) => op({ type, table, pk: { id: 1 }, values: { format: 9, name: 'notes', sql: 'DROP' } })),
    ),
    ...['DROP TABLE notes', 'CREATE TABLE x (id INTEGER PRIMARY KEY); DROP TABLE notes', 'CREATE TRIGGER t AFTER INSERT ON notes BEGIN DELETE FROM notes; END', 'ATTACH "a" AS b', ''].map((sql) =>
      op({ type: 'INSERT', table: 'rtc_schema', pk: { id: `table:${sql}` }, values: { kind: 'table', name: 'x', sql } }),
    ),
  ],
  'binary noise': [bytes(), bytes(...Array.from({ length: 20_000 }, (_, index) => (index * 7919) % 256))],
  'JSON of 120,000 levels': [
    nested(120_000, '[', ']'), nested(40_000, '{"a":', '}'), `{"type":"op","payload":${nested(120_000, '[', ']')}}`,
    JSON.stringify(op({ values: { content: 'NEST' } })).replace('"NEST"', nested(100_000, '[', ']')),
    JSON.stringify({ type: 'sync-response', operations: 'NEST' }).replace('"NEST"', nested(120_000, '[', ']')),
  ],
};

/** What is well formed, and must do no harm. */
const ODD = {
  'types that nobody knows': [{ type: 'chat', text: 'hi' }, { type: 'OP', payload: operation() }, { type: '' }, { type: '__proto__' }],
  'tables that are not here, named to break out of SQL': ['x"; DROP TABLE notes; --', "'; DELETE FROM notes; --", '"', "'", ']', '`', 'a\0b', '\n', 'a'.repeat(1000), '__proto__', 'nötes', 'pragma_table_info', ''].map((table) =>
    op({ type: 'INSERT', table, pk: { id: 1 } }),
  ),
  'columns that are not here, named to break out of SQL': ['"; DROP TABLE notes; --', "' = 1 OR '1", 'content" = \'OVERWRITTEN\', "id', 'rowid', '_rowid_', 'x'.repeat(1000), '__proto__', ''].map((column) =>
    op({ values: { [column]: 'OVERWRITTEN' } }),
  ),
  'a database in which nothing was made yet': [{ type: 'sync-full', database: '' }],
  'requests again and again': Array.from({ length: 200 }, () => ({ type: 'sync-request', fromVersion: 0 })),
  'versions that are none': [-1, 1.5, 1e300, 'all', undefined].map((fromVersion) => ({ type: 'sync-request', fromVersion })),
  'keys of other columns': [{ other: 'mine' }, { id: 'mine', other: 1 }].map((pk) => op({ pk })).concat(op({ table: 'pairs', pk: { a: 1 } }), op({ table: 'pairs', pk: { a: 1, b: 'one', c: 0 } })),
  'pings and pongs that nobody asked for': Array.from({ length: 200 }, (_, index) => ({ type: index % 2 ? 'ping' : 'pong' })),
};

/** Lets a stranger in, has it say all this and then something valid, and waits until that is here. Gives the stranger's name. */
async function says(messages) {
  said += 1;
  const id = `valid ${said}`;
  const peerId = await stranger.evaluate(
    async ([options, messages, id]) => {
      window.peer = await plainPeer.create(options);
      const [[to]] = [await peer.until(() => peer.peers().length === 1 && peer.peers())];
      for (const message of messages) {
        peer.send(to, typeof message === 'string' ? message : message?.bytes ? new Uint8Array(message.bytes) : JSON.stringify(message));
      }
      peer.insert('notes', { id }, { content: 'valid' });
      return peer.peerId;
    },
    [{ signalingUrl: my.server.signal, token, role: 'newcomer' }, messages, id],
  );
  await ours.sees(`SELECT content FROM notes WHERE id = '${id}'`, [['valid']]);
  return peerId;
}

/** Nothing that was here has changed, and nothing else has come. */
async function untouched() {
  assert.deepEqual(await ours.rows("SELECT * FROM notes WHERE content IS NOT 'valid'"), [['mine', 'untouched']]);
  assert.deepEqual(await ours.rows('SELECT a, b, hex(c) FROM pairs'), [[1, 'one', '00']]);
  assert.deepEqual(await ours.rows("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'rtc\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"), [['notes'], ['pairs']]);
}

const errorsOf = (peerId) =>
  ours.page.evaluate((peerId) => events.filter(([event, value]) => event === 'error' && value.peer === peerId).map(([, { code, message }]) => [code, message]), peerId);

for (const [name, messages] of Object.entries(GARBAGE)) {
  test(`a peer sends ${name}`, { timeout: 2 * WATCHDOG_MS }, async () => {
    const silent = [];
    // A session takes in so many newcomers and no more in a while; this one begins anew.
    await ours.reload();
    // Of what one peer sends only the first is told in a while, so each has to say but one thing.
    for (const message of messages) {
      const peerId = await says([message]);
      const told = await errorsOf(peerId);
      if (told.length !== 1) silent.push([told.length, JSON.stringify(message).slice(0, 200)]);
      for (const [code, text] of told) {
        assert.equal(code, 'bad-message');
        assert.ok(text.includes(peerId) && text.length < 500, text);
      }
      await stranger.evaluate(() => peer.close());
    }
    await says(messages);
    await stranger.evaluate(() => peer.close());
    await untouched();
    assert.deepEqual(silent, []);
  });
}

for (const [name, messages] of Object.entries(ODD)) {
  test(`a peer sends ${name}`, { timeout: WATCHDOG_MS }, async () => {
    await says(messages);
    await untouched();
    await stranger.evaluate(() => peer.close());
  });
}

test('after all that everything is there after a reload, and a newcomer gets it', { timeout: WATCHDOG_MS }, async (t) => {
  await ours.reload();
  await untouched();
  const friend = await Peer.open(await my.chromium.page(), my.server.url, ours.config);
  t.after(() => friend.page.context().close());
  const count = await ours.rows('SELECT count(*) FROM notes');
  assert.equal(count[0][0], 1 + said);
  await friend.sees('SELECT count(*) FROM notes', count);
});
