// The disk is full, the browser closes the database, or stores nothing at all: reads go on, writes fail with a clear error, and work again when
// the cause is gone.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

const my = stage({ chromium: startChromium });

const room = (more) => ({ signalingUrl: my.server.signal, token: newToken(), ...more });

async function open(t, config) {
  const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => peer.page.context().close());
  return peer;
}

/** How a statement ends in the page. */
function outcome(peer, sql, params) {
  return peer.page.evaluate(
    ([sql, params]) =>
      battery.exec(sql, params).then(
        ({ values }) => values,
        ({ name, code, message }) => [name, code, message],
      ),
    [sql, params],
  );
}

test('with the quota used up reads go on and writes are refused; with room again everything is saved', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  const devtools = await page.context().newCDPSession(page);
  const setQuota = (quotaSize) => devtools.send('Storage.overrideQuotaForOrigin', { origin: my.server.url, quotaSize });
  // Before anything is written: Chromium remembers for half a minute how much room there was.
  await setQuota(800_000);
  const [ada, bob] = [await Peer.open(page, my.server.url, config), await open(t, config)];
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body); INSERT INTO t VALUES (1, NULL)');
  await bob.sees('SELECT count(*) FROM t', [[1]]);

  const first = await outcome(ada, 'INSERT INTO t VALUES (2, randomblob(1000000))');
  assert.deepEqual(first.slice(0, 2), ['RTCBatteryError', 'not-saved']);
  assert.match(first[2], /QuotaExceededError.*kept in memory/);
  await ada.hears('error', 'not-saved');
  for (const [sql, params] of [["INSERT INTO t VALUES (3, 'x')"], ['DELETE FROM t WHERE id = ?', [1]], ['CREATE TABLE u (x PRIMARY KEY)']]) {
    const refused = await outcome(ada, sql, params);
    assert.deepEqual(refused.slice(0, 2), ['SqlError', 13], sql);
    assert.match(refused[2], /^nothing can be written now: .*QuotaExceededError/);
  }
  await ada.exec('BEGIN');
  assert.equal((await outcome(ada, 'INSERT INTO t VALUES (4, 1)'))[1], 13);
  await outcome(ada, 'ROLLBACK');
  assert.deepEqual(await outcome(ada, 'SELECT id, length(body) FROM t'), [[1, null], [2, 1_000_000]]);
  // What is not saved is told nobody, what others write is seen.
  await bob.exec('INSERT INTO t VALUES (5, 5)');
  await ada.sees('SELECT id FROM t', [[1], [2], [5]]);
  assert.deepEqual(await bob.rows('SELECT id FROM t'), [[1], [5]]);

  await setQuota(undefined);
  assert.deepEqual(await outcome(ada, 'INSERT INTO t VALUES (6, 6) RETURNING id'), [[6]]);
  await bob.sees('SELECT id FROM t', [[1], [2], [5], [6]]);
  await ada.reload();
  assert.deepEqual(await ada.rows('SELECT id, length(body) FROM t WHERE id <> 5'), [[1, null], [2, 1_000_000], [6, 1]]);
});

/** Lets pages close the connection, as a browser does that restarts its storage, and keep it from being opened. */
const FRAGILE = `
  const { open } = IDBFactory.prototype;
  const disk = new BroadcastChannel('disk');
  let database;
  let away = false;
  disk.onmessage = ({ data }) => {
    away = data === 'close';
    if (away) {
      database.close();
      database.dispatchEvent(new Event('close'));
    }
    disk.postMessage('so be it');
  };
  IDBFactory.prototype.open = function (...values) {
    if (away) values[0] = new Proxy({}, { get() { throw new DOMException('the server is gone', 'UnknownError'); } });
    const request = open.apply(this, values);
    // Not the spare one (worker/fresh-log.ts).
    request.addEventListener('success', () => (database = request.result.name === 'rtc-battery-fresh-log' ? database : request.result));
    return request;
  };`;

async function fragile(t) {
  const peer = await open(t, room({ workerUrl: workerAfter(FRAGILE, my.folder) }));
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  const tell = (word) =>
    peer.page.evaluate(
      (word) =>
        new Promise((resolve) => {
          const disk = new BroadcastChannel('disk');
          disk.onmessage = resolve;
          disk.postMessage(word);
        }),
      word,
    );
  return [peer, tell];
}

test('when the browser closes the database reads go on, and writes as soon as it can be opened again', { timeout: WATCHDOG_MS }, async (t) => {
  const [peer, tell] = await fragile(t);
  await tell('close');
  assert.deepEqual(await outcome(peer, 'SELECT id FROM t'), [[1]]);
  assert.equal((await outcome(peer, 'INSERT INTO t VALUES (2)'))[1], 'not-saved');
  assert.equal((await outcome(peer, 'INSERT INTO t VALUES (3)'))[1], 13);
  assert.deepEqual(await outcome(peer, 'SELECT id FROM t'), [[1], [2]]);
  await tell('open');
  assert.deepEqual(await outcome(peer, 'INSERT INTO t VALUES (4) RETURNING id'), [[4]]);
  await peer.reload();
  assert.deepEqual(await peer.rows('SELECT id FROM t'), [[1], [2], [4]]);
});

test('a flush that fails with nothing to save stands in the way of no write', { timeout: WATCHDOG_MS }, async (t) => {
  const [peer, tell] = await fragile(t);
  await tell('close');
  assert.equal(await peer.page.evaluate(() => battery.flush().catch(({ code }) => code)), 'not-saved');
  await tell('open');
  assert.deepEqual(await outcome(peer, 'INSERT INTO t VALUES (2) RETURNING id'), [[2]]);
});

test('a page that falls asleep with something that could not be saved keeps it, and saves it later', { timeout: WATCHDOG_MS }, async (t) => {
  const [peer, tell] = await fragile(t);
  await tell('close');
  assert.equal((await outcome(peer, 'INSERT INTO t VALUES (2)'))[1], 'not-saved');
  await peer.page.evaluate(() => document.dispatchEvent(new Event('freeze')));
  assert.deepEqual(await outcome(peer, 'SELECT id FROM t'), [[1], [2]]);
  await tell('open');
  await peer.page.evaluate(() => document.dispatchEvent(new Event('resume')));
  assert.deepEqual(await outcome(peer, 'INSERT INTO t VALUES (3) RETURNING id'), [[3]]);
  await peer.reload();
  assert.deepEqual(await peer.rows('SELECT id FROM t'), [[1], [2], [3]]);
});

test('what somebody else wrote while the connection was lost is not written over', { timeout: WATCHDOG_MS }, async (t) => {
  const [peer, tell] = await fragile(t);
  const { dbName } = await peer.page.evaluate(() => battery.estimate());
  await tell('close');
  await peer.page.evaluate(
    (dbName) =>
      new Promise((resolve, reject) => {
        const request = indexedDB.open(dbName);
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          const transaction = request.result.transaction('meta', 'readwrite');
          transaction.objectStore('meta').add({ pageCount: 1 }, [1000, 0]);
          transaction.oncomplete = () => resolve(request.result.close());
        };
      }),
    dbName,
  );
  await tell('open');
  await peer.hears('error', 'database-busy');
  // Also who asks later is told why.
  assert.equal((await outcome(peer, 'SELECT 1'))[1], 'database-busy');
});

for (const [what, code] of [
  ['refuses to open databases', "indexedDB.open = () => { throw new DOMException('not here', 'SecurityError'); };"],
  ['has none', 'delete WorkerGlobalScope.prototype.indexedDB; delete self.indexedDB;'],
]) {
  test(`where the browser ${what} the database is in memory, and says so`, { timeout: WATCHDOG_MS }, async (t) => {
    const config = room();
    const [ada, bob] = [await open(t, { ...config, workerUrl: workerAfter(code, my.folder) }), await open(t, config)];
    await ada.hears('error', 'not-saved');
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
    await bob.sees('SELECT id FROM t', [[1]]);
    const reports = await Promise.all([ada, bob].map(({ page }) => page.evaluate(() => battery.estimate())));
    assert.deepEqual(reports.map(({ persistent }) => persistent), [false, true]);
    assert.ok(reports.every(({ dbName, quota }) => dbName.startsWith('rtc-battery-') && quota > 0));
  });
}

test('connect asks the browser to keep what is stored, and estimate tells what it said', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await Peer.open(await my.chromium.page(), my.server.url);
  t.after(() => peer.page.context().close());
  await peer.page.evaluate(() => {
    window.asked = 0;
    navigator.storage.persist = async () => (asked += 1) > 0;
    navigator.storage.persisted = async () => asked > 0;
  });
  await peer.connect(room());
  const told = await peer.page.evaluate(async () => [asked, (await battery.estimate()).evictable]);
  assert.deepEqual(told, [1, false]);
});
