// What a write waits for: the durability that each IndexedDB transaction of the database was really given, and when `flush` ends.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

const my = stage({ chromium: startChromium });

/** Tells the pages of every transaction that writes, and lets nobody hear that a strict one is complete while a page says so. */
const WATCH = `
  const begin = IDBDatabase.prototype.transaction;
  const disk = new BroadcastChannel('disk');
  let busy = false;
  let held = [];
  disk.onmessage = ({ data }) => {
    busy = data;
    if (!busy) for (const hear of held.splice(0)) hear();
    disk.postMessage({ busy });
  };
  IDBDatabase.prototype.transaction = function (...values) {
    const transaction = begin.apply(this, values);
    if (transaction.mode !== 'readwrite') return transaction;
    transaction.addEventListener('complete', () => disk.postMessage({ saved: transaction.durability }));
    if (busy && transaction.durability === 'strict') {
      disk.postMessage({ held: true });
      const hears = (hear) => transaction.addEventListener('complete', () => (busy ? held.push(hear) : hear()));
      Object.defineProperty(transaction, 'oncomplete', { set: hears });
    }
    return transaction;
  };`;

async function open(t, config, page) {
  const peer = await Peer.open(page ?? (await my.chromium.page()), my.server.url);
  if (page === undefined) t.after(() => peer.page.context().close());
  await peer.page.evaluate(() => {
    window.said = [];
    const disk = new BroadcastChannel('disk');
    disk.onmessage = ({ data }) => {
      said.push(data);
      stirred();
    };
    window.setBusy = async (busy) => {
      disk.postMessage(busy);
      await until('the worker to take it', () => said.some((word) => word.busy === busy));
    };
    window.durabilities = () => said.map(({ saved }) => saved).filter((saved) => saved !== undefined);
  });
  await peer.connect(config);
  return peer;
}

const config = (more) => ({ signalingUrl: my.server.signal, token: newToken(), workerUrl: workerAfter(WATCH, my.folder), ...more });

/** What transactions of one write are given. */
async function ofOneWrite(peer, id) {
  return peer.page.evaluate(async (id) => {
    said.length = 0;
    await battery.exec('INSERT INTO t VALUES (?)', [id]);
    await until('the write to be seen', () => durabilities().length > 0);
    return durabilities();
  }, id);
}

test('writes are relaxed, and strict where that is asked for', { timeout: WATCHDOG_MS }, async (t) => {
  for (const [more, expected] of [[{}, 'relaxed'], [{ durability: 'relaxed' }, 'relaxed'], [{ durability: 'strict' }, 'strict']]) {
    const peer = await open(t, config(more));
    await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
    assert.deepEqual(await ofOneWrite(peer, 1), [expected]);
  }
  const refusal = await (await open(t, config())).page.evaluate(() => {
    try {
      return new library.RTCBattery({ signalingUrl: 'ws://localhost', token: 'x', durability: 'full' });
    } catch (error) {
      return [error.name, error.message];
    }
  });
  assert.deepEqual(refusal, ['TypeError', "RTCBattery: durability must be 'relaxed' or 'strict'"]);
});

test('a tab that asks for strict gets it also where another tab holds the database', { timeout: WATCHDOG_MS }, async (t) => {
  const shared = config();
  const first = await open(t, shared);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  assert.deepEqual(await ofOneWrite(first, 1), ['relaxed']);
  const second = await open(t, { ...shared, durability: 'strict' }, await first.page.context().newPage());
  assert.deepEqual(await ofOneWrite(second, 2), ['strict']);
});

test('flush ends when what was written under relaxed durability is on the disk, from any tab', { timeout: WATCHDOG_MS }, async (t) => {
  const shared = config();
  const first = await open(t, shared);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  const second = await open(t, shared, await first.page.context().newPage());
  for (const { page } of [first, second]) {
    const [before, after] = await page.evaluate(async () => {
      await setBusy(true);
      let flushed = false;
      const flush = battery.flush().then(() => (flushed = true));
      await until('the transaction of flush', () => said.some(({ held }) => held));
      await battery.exec('SELECT count(*) FROM t');
      const before = flushed;
      await setBusy(false);
      await flush;
      await until('it to be complete', () => durabilities().includes('strict'));
      return [before, flushed];
    });
    assert.deepEqual([before, after], [false, true]);
  }
  assert.deepEqual(await ofOneWrite(second, 1), ['relaxed']);
});

test('a write is answered when it is saved and not before, also one that waits behind another; reads go on', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await open(t, config({ durability: 'strict' }));
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  const [before, after] = await peer.page.evaluate(async () => {
    await setBusy(true);
    const answered = [];
    const write = (id) => battery.exec('INSERT INTO t VALUES (?)', [id]).then(() => answered.push(id));
    const first = write(1);
    await until('its transaction', () => said.some(({ held }) => held));
    const second = write(2);
    const { values } = await battery.exec('SELECT count(*) FROM t');
    const before = [...values, ...answered];
    await setBusy(false);
    await Promise.all([first, second]);
    return [before, answered];
  });
  assert.deepEqual([before, after], [[[2]], [1, 2]]);
});
