// Stored pages that are not what was saved: set aside and told, and fetched again from peers by a new replica. And what is told while a database is read.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: startChromium });

async function open(t, config) {
  const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => peer.page.context().close());
  return peer;
}

const room = () => ({ signalingUrl: my.server.signal, token: newToken(), dbName: newToken() });

/** Does something to a store of an IndexedDB database, outside of the library; gives what its last request gave. */
function tamper({ page }, dbName, store, act) {
  return page.evaluate(
    ([dbName, store, act]) =>
      new Promise((resolve, reject) => {
        const opening = indexedDB.open(dbName);
        opening.onerror = () => reject(opening.error);
        opening.onsuccess = async () => {
          const database = opening.result;
          const transaction = database.transaction(store, 'readwrite');
          const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
          const value = await eval(act)(transaction.objectStore(store), done);
          transaction.oncomplete = () => {
            database.close();
            resolve(value);
          };
        };
      }),
    [dbName, store, String(act)],
  );
}

const replicaOf = async (peer) => (await peer.rows('SELECT node FROM rtc_replica'))[0][0];

const DAMAGES = {
  'a bit has flipped': async (store, done) => {
    const page = await done(store.get(3));
    page[4000] ^= 1;
    await done(store.put(page, 3));
  },
  'a page is gone': async (store, done) => done(store.delete(2)),
  'a page is short': async (store, done) => done(store.put(new Uint8Array(100), 2)),
  'two pages are exchanged': async (store, done) => {
    const [two, three] = [await done(store.get(2)), await done(store.get(3))];
    await done(store.put(two, 3));
    await done(store.put(three, 2));
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
    const aside = /set aside as the IndexedDB database (.*), and what/.exec(message)[1];
    assert.equal(await tamper(ada, aside, 'pages', async (store, done) => done(store.count())), left);

    await ada.exec('INSERT INTO t VALUES (2, 2)');
    await bob.sees('SELECT id FROM t', [[1], [2]]);
    await ada.reload();
    assert.deepEqual(await ada.rows('SELECT id FROM t'), [[1], [2]]);
    assert.deepEqual(await ada.page.evaluate(() => events.filter(([, value]) => value?.code === 'damaged')), []);
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
