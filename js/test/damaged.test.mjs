// Stored pages that are not what was saved: set aside and told, and fetched again from peers by a new replica; what no peer had is read out of what is
// left. And what is told while a database is read.

import assert from 'node:assert/strict';
import { readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MortalBrowser, newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: startChromium });

async function open(t, config) {
  const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => peer.page.context().close());
  return peer;
}

const room = () => ({ signalingUrl: my.server.signal, token: newToken(), dbName: newToken() });

/** Does something to a store of an IndexedDB database, outside of the library; gives what its last request gave. */
function tamper({ page }, dbName, store, act, argument) {
  return page.evaluate(
    ([dbName, store, act, argument]) =>
      new Promise((resolve, reject) => {
        const opening = indexedDB.open(dbName);
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = async () => {
          const database = opening.result;
          const transaction = database.transaction(store, 'readwrite');
          const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
          const value = await eval(act)(transaction.objectStore(store), done, argument);
          transaction.oncomplete = () => {
            database.close();
            resolve(value);
          };
        };
      }),
    [dbName, store, String(act), argument],
  );
}

const replicaOf = async (peer) => (await peer.rows('SELECT node FROM rtc_replica'))[0][0];

/** Each does something to a page, or to it and the next one. */
const DAMAGES = {
  'a bit has flipped': async (store, done, number = 3) => {
    const page = await done(store.get(number));
    page[4000] ^= 1;
    await done(store.put(page, number));
  },
  'a page is gone': async (store, done, number = 2) => done(store.delete(number)),
  'a page is short': async (store, done, number = 2) => done(store.put(new Uint8Array(100), number)),
  'two pages are exchanged': async (store, done, number = 2) => {
    const [one, other] = [await done(store.get(number)), await done(store.get(number + 1))];
    await done(store.put(other, number));
    await done(store.put(one, number + 1));
  },
};

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`${what}: the database is set aside and told, and comes again from peers`, { timeout: WATCHDOG_MS }, async (t) => {
    const config = room();
    const [ada, bob] = [await open(t, config), await open(t, config)];
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
    await ada.exec('INSERT INTO t VALUES (1, randomblob(50000))');
    await bob.sees('SELECT id, length(body) FROM t', [[1, 50_000]]);
    const [before, content] = [await replicaOf(ada), await ada.dump('t')];
    await ada.page.evaluate(() => battery.disconnect());
    await tamper(ada, config.dbName, 'pages', damage);
    const left = await tamper(ada, config.dbName, 'pages', async (store, done) => done(store.count()));

    await ada.page.evaluate(() => battery.connect());
    const [, { message }] = await ada.hears('error', 'damaged');
    await ada.sees('SELECT id, length(body) FROM t', [[1, 50_000]]);
    assert.deepEqual(await ada.dump('t'), content);
    assert.notEqual(await replicaOf(ada), before, 'a new replica has an id of its own');
    const aside = /set aside as the IndexedDB database (.*): \d+ operations/.exec(message)[1];
    assert.equal(await tamper(ada, aside, 'pages', async (store, done) => done(store.count())), left);

    await ada.exec('INSERT INTO t VALUES (2, 2)');
    await bob.sees('SELECT id FROM t', [[1], [2]]);
    await ada.reload();
    assert.deepEqual(await ada.rows('SELECT id FROM t'), [[1], [2]]);
    assert.deepEqual(await ada.page.evaluate(() => events.filter(([, value]) => value?.code === 'damaged')), []);
  });
}

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(`${what}, and no peer has what was written: what can be read goes on, here and with those who come`, { timeout: WATCHDOG_MS }, async (t) => {
    const config = room();
    const [ada, bob] = [await open(t, config), await open(t, config)];
    await bob.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
    await bob.exec("INSERT INTO t VALUES (1, 'of bob')");
    await ada.sees('SELECT count(*) FROM t', [[1]]);
    await bob.page.evaluate(() => battery.disconnect());
    // Several pages of them.
    for (let id = 2; id < 12; id += 1) await ada.exec('INSERT INTO t VALUES (?, randomblob(6000))', [id]);
    await ada.exec("UPDATE t SET body = 'changed' WHERE id = 5; DELETE FROM t WHERE id = 6");
    const written = Object.fromEntries(await ada.rows('SELECT id, quote(body) FROM t WHERE id > 1'));
    await ada.page.evaluate(() => battery.disconnect());
    // Of the pages of data: what everything hangs on comes first in the file.
    await tamper(ada, config.dbName, 'pages', damage, (await tamper(ada, config.dbName, 'pages', async (store, done) => done(store.count()))) - 4);

    await ada.page.evaluate(() => battery.connect());
    const [, { message, salvaged }] = await ada.hears('error', 'damaged');
    assert.ok(salvaged > 5 && message.includes(`: ${salvaged} operations`), message);
    const there = async (peer) => Object.fromEntries(await peer.rows('SELECT id, quote(body) FROM t WHERE id > 1'));
    const rescued = await there(ada);
    assert.ok(Object.keys(rescued).length >= 6, `${Object.keys(rescued)} of ${Object.keys(written)}`);
    for (const [id, body] of Object.entries(rescued)) assert.equal(body, written[id], `row ${id}`);
    await ada.reload();
    assert.deepEqual(await there(ada), rescued);
    await bob.page.evaluate(() => battery.connect());
    await bob.sees('SELECT count(*) FROM t', [[Object.keys(rescued).length + 1]]);
    assert.deepEqual(await there(bob), rescued);
    await ada.sees('SELECT body FROM t WHERE id = 1', [['of bob']]);
  });
}

test('a database that was saved before there were digests is opened, and has one from then on', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const peer = await open(t, config);
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  await peer.page.evaluate(() => battery.disconnect());
  await tamper(peer, config.dbName, 'meta', async (store, done) => {
    for (const key of await done(store.getAllKeys())) {
      const { pageCount } = await done(store.get(key));
      await done(store.put({ pageCount }, key));
    }
  });
  await peer.page.evaluate(() => battery.connect());
  await peer.exec('INSERT INTO t VALUES (2)');
  assert.deepEqual(await peer.rows('SELECT id FROM t'), [[1], [2]]);
  await peer.page.evaluate(() => battery.disconnect());
  await tamper(peer, config.dbName, 'pages', async (store, done) => done(store.put((await done(store.get(2))).fill(0), 2)));
  await peer.page.evaluate(() => battery.connect());
  await peer.hears('error', 'damaged');
});

test('connect tells how far it is, several times for a large database', { timeout: WATCHDOG_MS }, async (t) => {
  const peer = await open(t, room());
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
  await peer.exec('INSERT INTO t VALUES (1, randomblob(10000000))');
  await peer.reload();
  const told = await peer.page.evaluate(() => events.filter(([event]) => event === 'progress').map(([, value]) => value));
  assert.ok(told.length > 3, JSON.stringify(told));
  const { total } = told[0];
  assert.ok(told.every((progress, index) => progress.total === total && progress.loaded > (told[index - 1]?.loaded ?? 0)));
  assert.equal(told[told.length - 1].loaded, total);
});

/** Gives a file of Chromium's own store. */
function storeFile(browser, sign) {
  const folder = join(browser.profile, 'Default/IndexedDB');
  return join(
    folder,
    readdirSync(folder, { recursive: true }).find((path) => path.includes(sign)),
  );
}

test("what a crash left half written in Chromium's log takes nothing with it at the start after the next", { timeout: WATCHDOG_MS }, async (t) => {
  const browser = new MortalBrowser('chromium');
  t.after(() => browser.remove());
  const config = { ...room(), signalingUrl: 'ws://127.0.0.1:1' };
  const first = await Peer.open(await browser.start(), my.server.url, config);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body); INSERT INTO t VALUES (1, NULL)');
  await first.exec('INSERT INTO t VALUES (2, randomblob(200000))');
  await browser.kill();
  // In the middle of the newest transaction.
  const log = storeFile(browser, '.log');
  truncateSync(log, statSync(log).size - 60_000);

  const second = await Peer.open(await browser.start(), my.server.url, config);
  assert.deepEqual(await second.rows('SELECT id FROM t'), [[1]]);
  await second.exec('INSERT INTO t VALUES (3, NULL)');
  await browser.kill();

  const third = await Peer.open(await browser.start(), my.server.url, config);
  assert.deepEqual(await third.rows('SELECT id FROM t'), [[1], [3]]);
  assert.deepEqual(await third.page.evaluate(() => indexedDB.databases().then((all) => all.length)), 1);
});

test('where the browser itself threw away what was stored, that is told, and it comes again from peers', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const other = await open(t, config);
  const browser = new MortalBrowser('chromium');
  t.after(() => browser.remove());
  const before = await Peer.open(await browser.start(), my.server.url, config);
  await before.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  await other.sees('SELECT id FROM t', [[1]]);
  await browser.kill();
  writeFileSync(storeFile(browser, 'MANIFEST'), 'none of this');

  const after = await Peer.open(await browser.start(), my.server.url, config);
  await after.hears('error', 'damaged');
  const { message, salvaged } = await after.page.evaluate(() => events.find(([event, error]) => event === 'error' && error.code === 'damaged')[1]);
  assert.match(message, /threw it away/);
  assert.equal(salvaged, 0);
  await after.sees('SELECT id FROM t', [[1]]);
  // It is told once.
  await after.reload();
  assert.deepEqual(await after.rows('SELECT id FROM t'), [[1]]);
  assert.deepEqual(await after.page.evaluate(() => events.filter(([event, error]) => event === 'error' && error.code === 'damaged')), []);
});
