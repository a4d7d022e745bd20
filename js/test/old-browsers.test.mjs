// Chromium made old: what came after the oldest browsers that we name is deleted, in the page and in the worker, before the library loads.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';
import { EXPECTED, tell } from './layer-stories.mjs';

/** What is missing somewhere: how to take it away, and what is still true if that did not work. */
const MISSING = {
  'Web Locks': ['delete (self.Navigator || WorkerNavigator).prototype.locks', "'locks' in navigator"],
  BroadcastChannel: ['delete self.BroadcastChannel', 'self.BroadcastChannel'],
  'the state of a connection': [
    "const connection = (self.RTCPeerConnection || class {}).prototype; for (const name of ['connectionState', 'onconnectionstatechange', 'sctp', 'restartIce', 'setConfiguration']) delete connection[name]",
    "self.RTCPeerConnection && 'connectionState' in RTCPeerConnection.prototype",
  ],
  'the durability of a transaction, and its commit()': [
    `const { transaction } = IDBDatabase.prototype;
    IDBDatabase.prototype.transaction = function (stores, mode) { return transaction.call(this, stores, mode); };
    delete IDBTransaction.prototype.durability;
    delete IDBTransaction.prototype.commit`,
    "'commit' in IDBTransaction.prototype",
  ],
  'weak references': ['delete self.WeakRef; delete self.FinalizationRegistry', 'self.WeakRef || self.FinalizationRegistry'],
  'streaming compilation': [
    'delete WebAssembly.instantiateStreaming; delete WebAssembly.compileStreaming',
    'WebAssembly.instantiateStreaming || WebAssembly.compileStreaming',
  ],
  'shared memory and encodeInto': [
    'delete self.Atomics; delete self.SharedArrayBuffer; delete TextEncoder.prototype.encodeInto; delete ArrayBuffer.prototype.detached',
    "self.Atomics || 'encodeInto' in TextEncoder.prototype",
  ],
  'younger methods and functions': [
    `for (const [object, names] of [
      [Array.prototype, ['at', 'findLast', 'toSorted', 'with']], [String.prototype, ['at', 'replaceAll', 'isWellFormed']],
      [Uint8Array.prototype, ['at', 'findLast', 'toSorted', 'with']], [Array, ['fromAsync']], [Object, ['hasOwn', 'groupBy']],
      [Promise, ['any', 'withResolvers', 'try']], [AbortSignal, ['timeout', 'any', 'abort']], [crypto, ['randomUUID']],
      [self, ['structuredClone', 'reportError']], [self.document || {}, ['replaceChildren']], [(self.Element || Object).prototype, ['replaceChildren']],
    ]) for (let holder = object; holder; holder = Object.getPrototypeOf(holder)) for (const name of names) delete holder[name]`,
    'self.structuredClone || [].at || crypto.randomUUID || AbortSignal.timeout',
  ],
};

const without = ([remove, there]) => `(() => { ${remove}; if (${there}) throw new Error('still there: ' + ${JSON.stringify(there)}); })();`;
const EVERYTHING = Object.values(MISSING).map(without).join('\n');

const my = stage({ chromium: startChromium });

/** Opens a peer in a browser without these things; in the same profile as another if one is given. */
async function open(t, config, code, other) {
  const page = other === undefined ? await my.chromium.page() : await other.page.context().newPage();
  t.after(() => page.context().close());
  await page.addInitScript(`${code}\nself.isOld = true;`);
  const peer = await Peer.open(page, my.server.url, { ...config, workerUrl: workerAfter(code, my.folder) });
  assert.ok(await page.evaluate(() => self.isOld));
  return peer;
}

const room = () => ({ signalingUrl: my.server.signal, token: newToken() });

for (const [name, pieces] of [['all of them', undefined], ...Object.entries(MISSING)]) {
  test(`without ${name} two write, see each other's rows, and keep them over a reload`, { timeout: WATCHDOG_MS }, async (t) => {
    const code = pieces === undefined ? EVERYTHING : without(pieces);
    const config = room();
    const [ada, bob] = [await open(t, config, code), await open(t, config, code)];
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
    await ada.exec('INSERT INTO t VALUES (1, ?), (2, ?)', ['Grüße 🔋', null]);
    await bob.sees('SELECT * FROM t', [[1, 'Grüße 🔋'], [2, null]]);
    await bob.exec('UPDATE t SET v = 2.5 WHERE id = 2');
    await ada.sees('SELECT v FROM t WHERE id = 2', [[2.5]]);
    await ada.reload();
    assert.deepEqual(await ada.rows('SELECT id FROM t'), [[1], [2]]);
    await ada.meets(1);
    await bob.page.context().close();
    // Told by `bye`, or by the connection's state: nobody waits for a timeout where the page could still speak.
    await ada.meets(0);
  });
}

test('without all of them a second tab takes over in the middle of writing: the first is told, and what it was promised is there', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const first = await open(t, config, EVERYTHING);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  const writing = first.page.evaluate(async () => {
    const kept = [];
    for (let id = 1; ; id++) {
      const error = await battery.exec('INSERT INTO t VALUES (?)', [id]).then(() => undefined, (error) => error);
      if (error !== undefined) return [kept, error.name, error.code, error.message];
      kept.push(id);
      stirred();
      window.written = id;
    }
  });
  await first.page.evaluate(() => until('some rows', () => window.written > 20));
  const second = await open(t, config, EVERYTHING, first);
  const [kept, ...refusal] = await writing;
  assert.deepEqual(refusal.slice(0, 2), ['DatabaseBusy', 'database-busy']);
  assert.match(refusal[2], /taken this database over; call takeOver/);
  await first.hears('error', 'database-busy');
  assert.deepEqual((await second.rows('SELECT id FROM t ORDER BY id')).flat(), kept);
  await second.exec('INSERT INTO t VALUES (0)');
  // And back: the one that asks last has it.
  await first.reload();
  assert.deepEqual((await first.rows('SELECT id FROM t ORDER BY id')).flat(), [0, ...kept]);
  await second.page.evaluate(() => battery.exec('INSERT INTO t VALUES (-1)').catch((error) => error));
  await second.hears('error', 'database-busy');
});

test('without all of them SQLLayer does what it does', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.addInitScript(EVERYTHING);
  await page.goto(my.server.url);
  for (const [story, expected] of EXPECTED) {
    const told = await page.evaluate(`import('./package/core.js').then(${tell(story)}).then(JSON.stringify)`);
    assert.deepEqual(JSON.parse(told), expected);
  }
});

test('a server that does not know what a .wasm is serves it as text, and it runs', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  let served = 0;
  await page.route('**/rtc_battery.wasm', async (route) => {
    served += 1;
    await route.fulfill({ response: await route.fetch(), contentType: 'text/plain' });
  });
  const peer = await Peer.open(page, my.server.url, room());
  assert.deepEqual(await peer.rows('SELECT 1'), [[1]]);
  assert.equal(served, 1);
});
