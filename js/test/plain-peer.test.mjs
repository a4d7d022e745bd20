// The plain peer with itself: whatever the library is tested against must first do what the specification says.
// The server is the real one, the browser is Chromium; the library is not here.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { newToken, Server, startChromium, WATCHDOG_MS } from './harness.mjs';

let server;
let browser;

before(async () => {
  server = await Server.start(fileURLToPath(new URL('plain', import.meta.url)));
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** One after the other into a room; `act`, if given, runs in the page before any channel can be open. */
async function enter(t, token, role, { act, ...options } = {}) {
  const page = await browser.page();
  t.after(() => page.context().close());
  page.setDefaultTimeout(WATCHDOG_MS);
  await page.goto(`${server.url}/plain-peer.html`);
  await page.evaluate(
    async ([options, act]) => {
      window.peer = await plainPeer.create(options);
      if (act !== undefined) (0, eval)(act)(peer);
    },
    [{ signalingUrl: server.signal, token, role, ...options }, act?.toString()],
  );
  return page;
}

const meets = (page, count) => page.evaluate((count) => peer.until(() => peer.peers().length === count), count);
const rows = (page) => page.evaluate(() => peer.rows('notes'));
const sees = (page, expected) =>
  page.evaluate((expected) => peer.until(() => JSON.stringify(peer.rows('notes')) === expected), JSON.stringify(expected));
const peerId = (page) => page.evaluate(() => peer.peerId);

for (const [first, second] of [
  ['answerer', 'newcomer'],
  ['newcomer', 'newcomer'],
  ['offerer', 'answerer'],
  ['offerer', 'newcomer'],
  ['offerer', 'offerer'],
]) {
  test(`${first}, then ${second}: they meet and see each other's rows`, { timeout: WATCHDOG_MS }, async (t) => {
    const token = newToken();
    // Before they meet: by sync-response. After: by op.
    const ada = await enter(t, token, first, { act: (peer) => peer.insert('notes', { id: 'a' }, { content: 'early' }) });
    const bob = await enter(t, token, second, { act: (peer) => peer.insert('notes', { id: 'b' }, { content: 'early too' }) });
    await Promise.all([ada, bob].map((page) => meets(page, 1)));
    await Promise.all([ada, bob].map((page) => sees(page, [{ id: 'a', content: 'early' }, { id: 'b', content: 'early too' }])));
    await bob.evaluate(() => peer.update('notes', { id: 'a' }, { content: 'live' }));
    await sees(ada, [{ id: 'a', content: 'live' }, { id: 'b', content: 'early too' }]);
    await ada.evaluate(() => peer.remove('notes', { id: 'b' }));
    await sees(bob, [{ id: 'a', content: 'live' }]);
    assert.deepEqual(await bob.evaluate(() => peer.log().map(({ type, prev }) => [type, prev?.content]).sort()), [
      ['DELETE', undefined],
      ['INSERT', undefined],
      ['INSERT', undefined],
      ['UPDATE', 'early'],
    ]);
  });
}

test('two answerers do not meet; one leaves and the other hears of it', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await enter(t, token, 'answerer');
  const bob = await enter(t, token, 'answerer');
  await bob.evaluate(() => peer.close());
  await ada.evaluate(() => peer.until(() => peer.signals.some(({ type }) => type === 'peer-leave')));
  assert.deepEqual(await ada.evaluate(() => peer.signals.filter(({ type }) => type === 'offer')), []);
});

test('both write one row before they meet: the later one wins on both sides', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await enter(t, token, 'answerer', { act: (peer) => peer.insert('notes', { id: 'n' }, { content: "ada's", stars: 1 }) });
  const bob = await enter(t, token, 'newcomer', { act: (peer) => peer.insert('notes', { id: 'n' }, { content: "bob's" }) });
  await Promise.all([ada, bob].map((page) => page.evaluate(() => peer.until(() => peer.log().length === 2))));
  const [{ hlc: adas }, { hlc: bobs }] = await ada.evaluate(() => peer.log());
  assert.ok(adas.ts <= bobs.ts);
  const winner = adas.ts < bobs.ts || adas.nodeId < bobs.nodeId ? "bob's" : "ada's";
  for (const page of [ada, bob]) assert.deepEqual(await rows(page), [{ id: 'n', content: winner, stars: 1 }]);
});

test('conflicts are resolved as the specification says, in whatever order the operations come', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await enter(t, newToken(), 'answerer');
  const operation = (type, ts, counter, nodeId, content) => ({ hlc: { ts, counter, nodeId }, type, table: 'notes', pk: { id: 'n' }, ...(content && { values: { content } }) });
  for (const [what, operations, expected] of [
    ['later time', [operation('INSERT', 1, 9, 'z', 'one'), operation('UPDATE', 2, 0, 'a', 'two')], 'two'],
    ['same time, higher counter', [operation('INSERT', 1, 2, 'z', 'one'), operation('UPDATE', 1, 10, 'a', 'two')], 'two'],
    ['same time and counter, larger node', [operation('INSERT', 1, 0, 'B', 'one'), operation('UPDATE', 1, 0, 'a', 'two')], 'two'],
    ['a later delete', [operation('INSERT', 1, 0, 'a', 'one'), operation('DELETE', 2, 0, 'a')], undefined],
    ['a delete of the same time and a larger node', [operation('INSERT', 1, 0, 'a', 'one'), operation('DELETE', 1, 0, 'b')], undefined],
    ['an operation later than the delete', [operation('INSERT', 1, 0, 'a', 'one'), operation('DELETE', 2, 0, 'a'), operation('UPDATE', 3, 0, 'a', 'two')], 'two'],
    ['the same operation again', [operation('INSERT', 1, 0, 'a', 'one'), operation('INSERT', 1, 0, 'a', 'one')], 'one'],
  ]) {
    for (const order of [operations, operations.toReversed()]) {
      const found = await page.evaluate(
        ([operations]) => {
          const tables = new Tables();
          for (const operation of operations) tables.apply(operation);
          return [tables.row('notes', { id: 'n' })?.content, tables.log.length];
        },
        [order],
      );
      const distinct = new Set(operations.map(({ hlc }) => JSON.stringify(hlc))).size;
      assert.deepEqual(found, [expected, distinct], what);
    }
  }
});

test('after an operation from the future, own operations are later still', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await enter(t, token, 'answerer');
  const bob = await enter(t, token, 'newcomer');
  await meets(bob, 1);
  const ts = Date.now() + 3_600_000;
  await bob.evaluate((ts) => peer.publish({ hlc: { ts, counter: 7, nodeId: 'z' }, type: 'INSERT', table: 'notes', pk: { id: 'n' }, values: { content: 'ahead' } }), ts);
  await sees(ada, [{ id: 'n', content: 'ahead' }]);
  await ada.evaluate(() => peer.update('notes', { id: 'n' }, { content: 'after' }));
  await sees(bob, [{ id: 'n', content: 'after' }]);
  const { hlc } = await ada.evaluate(() => peer.log().at(-1));
  assert.deepEqual(hlc, { ts, counter: 8, nodeId: await peerId(ada) });
});

test('unknown, broken and binary messages are survived; ping is answered', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await enter(t, token, 'answerer');
  const bob = await enter(t, token, 'newcomer');
  await meets(bob, 1);
  await bob.evaluate((to) => {
    peer.send(to, { type: 'weather', sky: 'blue' });
    for (const text of ['', 'not JSON', 'null', '7', '[]', '{}']) peer.send(to, text);
    peer.send(to, new Uint8Array([1, 2, 3]));
    peer.send(to, { type: 'op' });
    peer.send(to, { type: 'op', payload: { hlc: null } });
    peer.send(to, { type: 'sync-response' });
    peer.send(to, { type: 'sync-full', database: '%' });
    peer.send(to, { type: 'sync-full', database: btoa('SQLite') });
    peer.send(to, { type: 'ping' });
  }, await peerId(ada));
  await bob.evaluate(() => peer.until(() => peer.received.some(({ message }) => message?.type === 'pong')));
  const found = await ada.evaluate(() => ({
    bytes: peer.received.filter(({ data }) => data instanceof ArrayBuffer).map(({ data }) => [...new Uint8Array(data)]),
    databases: peer.databases.map(({ bytes }) => String.fromCharCode(...bytes)),
    log: peer.log(),
  }));
  assert.deepEqual(found, { bytes: [[1, 2, 3]], databases: ['SQLite'], log: [] });
});

test('sync-request is answered with the operations after that version, however many', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await enter(t, token, 'answerer', {
    act: (peer) => {
      for (let id = 0; id < 1000; id++) peer.insert('notes', { id }, { content: 'x'.repeat(1000) });
    },
  });
  const bob = await enter(t, token, 'newcomer');
  await bob.evaluate(() => peer.until(() => peer.log().length === 1000));
  const ids = await bob.evaluate(async (to) => {
    const before = peer.received.length;
    peer.send(to, { type: 'sync-request', fromVersion: 997 });
    const { message } = await peer.until(() => peer.received.slice(before).find(({ message }) => message.type === 'sync-response'));
    return message.operations.map(({ pk }) => pk.id);
  }, await peerId(ada));
  assert.deepEqual(ids, [997, 998, 999]);
});

for (const relay of [false, true]) {
  test(`an operation goes ${relay ? '' : 'no '}further than to who is connected with relay: ${relay}`, { timeout: WATCHDOG_MS }, async (t) => {
    const token = newToken();
    const ada = await enter(t, token, 'answerer');
    const eve = await enter(t, token, 'answerer');
    const bob = await enter(t, token, 'newcomer', { relay });
    await meets(bob, 2);
    // The answer to the first sync-request is behind them, so it cannot bring the row.
    for (const page of [ada, eve]) await page.evaluate(() => peer.until(() => peer.received.some(({ message }) => message.type === 'sync-response')));
    await ada.evaluate(() => peer.insert('notes', { id: 1 }, { content: "ada's" }));
    await sees(bob, [{ id: 1, content: "ada's" }]);
    await bob.evaluate(() => peer.insert('notes', { id: 2 }, { content: "bob's" }));
    // The channel keeps the order: what bob relayed has come when bob's own has.
    await eve.evaluate(() => peer.until(() => peer.rows('notes').some(({ id }) => id === 2)));
    assert.deepEqual((await rows(eve)).map(({ id }) => id), relay ? [1, 2] : [2]);
  });
}
