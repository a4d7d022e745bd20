// The browser takes the storage away: told by a clear error, and the next `connect` works; what a newer version wrote stays untouched.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: startChromium });

/** A database with a row in it, under a name of its own. */
async function open(t) {
  const config = { signalingUrl: my.server.signal, token: newToken(), dbName: newToken() };
  const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => peer.page.context().close());
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  return peer;
}

/** The session is over, and says so; the same battery opens a database that works, and is empty. */
async function beginsAnew(peer) {
  await peer.hears('error', 'storage');
  const [refusal, tables] = await peer.page.evaluate(async () => {
    const refusal = await battery.exec('SELECT 1').catch(({ code }) => code);
    await battery.connect();
    return [refusal, (await battery.exec("SELECT name FROM sqlite_schema WHERE name = 't'")).values];
  });
  assert.deepEqual([refusal, tables], ['storage', []]);
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (2)');
  await peer.reload();
  assert.deepEqual(await peer.rows('SELECT id FROM t'), [[2]]);
}

test('storage that is cleared while the database is open', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await open(t);
  const devtools = await peer.page.context().newCDPSession(peer.page);
  await devtools.send('Storage.clearDataForOrigin', { origin: my.server.url, storageTypes: 'indexeddb' });
  await beginsAnew(peer);
});

test('a database that another page deletes while it is open does not stand in the way', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await open(t);
  const other = await peer.page.context().newPage();
  await other.goto(my.server.url);
  const outcome = await other.evaluate(
    (name) =>
      new Promise((resolve) => {
        const deletion = indexedDB.deleteDatabase(name);
        deletion.onsuccess = () => resolve('deleted');
        deletion.onblocked = () => resolve('blocked');
      }),
    peer.config.dbName,
  );
  assert.equal(outcome, 'deleted');
  await beginsAnew(peer);
});

test('a database of a newer format is refused, and left as it is', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await Peer.open(await my.chromium.page(), my.server.url);
  t.after(() => peer.page.context().close());
  const config = { signalingUrl: my.server.signal, token: newToken(), dbName: newToken() };
  const outcome = await peer.page.evaluate(async (config) => {
    const opened = (version) =>
      new Promise((resolve, reject) => {
        const request = indexedDB.open(config.dbName, version);
        request.onupgradeneeded = () => request.result.createObjectStore('future').add('precious', 1);
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    (await opened(99)).close();
    const refusal = await new library.RTCBattery(config).connect().catch(({ code }) => code);
    const database = await opened();
    const kept = database.transaction('future').objectStore('future').getAll();
    await new Promise((resolve) => (kept.onsuccess = resolve));
    return [refusal, database.version, [...database.objectStoreNames], kept.result];
  }, config);
  assert.deepEqual(outcome, ['newer-format', 99, ['future'], ['precious']]);
});
