// deleteDatabase: every tab is told and lets go, nobody goes on with what is gone, and what is not let go of is left as it is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IMPATIENT, newToken, Peer, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

const my = stage({ chromium: startChromium });

const room = (more) => ({ signalingUrl: my.server.signal, token: newToken(), ...more });

/** Tabs of one profile on one database that holds a row, and its name. */
async function tabs(t, count, config = room(), code = '') {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.context().addInitScript(code);
  const opened = [await Peer.open(page, my.server.url, config)];
  await opened[0].exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  while (opened.length < count) opened.push(await Peer.open(await page.context().newPage(), my.server.url, config));
  const { dbName } = await page.evaluate(() => battery.estimate());
  return [opened, dbName];
}

/** How a deletion ends, asked for in the page of a tab. */
const deletes = ({ page }, dbName) =>
  page.evaluate((dbName) => library.deleteDatabase(dbName).then(() => 'deleted', ({ name, code, message }) => [name, code, message]), dbName);

/** What is stored. Not the spare one (worker/fresh-log.ts): who was next in line may have been about to open, and may be stopped in the middle of it. */
const names = ({ page }) =>
  page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name).filter((name) => name !== 'rtc-battery-fresh-log'));

const connects = ({ page }) => page.evaluate(() => battery.connect());

const TABLES = "SELECT count(*) FROM sqlite_schema WHERE name = 't'";

test('every tab is told, in the middle of what it does; who connects again finds an empty database', { timeout: WATCHDOG_MS }, async (t) => {
  const [all, dbName] = await tabs(t, 3);
  await Promise.all(
    all.map(({ page }) =>
      page.evaluate(() => {
        window.busy = (async () => {
          for (;;) await battery.exec('INSERT INTO t SELECT max(id) + 1 FROM t');
        })().catch(({ code }) => code);
      }),
    ),
  );
  // By one that has it open and does not hold it.
  assert.equal(await deletes(all[1], dbName), 'deleted');
  for (const tab of all) {
    await tab.hears('error', 'storage');
    assert.equal(await tab.page.evaluate(() => busy), 'storage');
  }
  assert.deepEqual(await names(all[0]), []);
  for (const tab of all) await connects(tab);
  for (const tab of all) assert.deepEqual(await tab.rows(TABLES), [[0]]);
  await all[2].exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  // By one that holds it, and by a page that has nothing to do with it; a second time there is nothing to delete.
  assert.equal(await deletes(all[0], dbName), 'deleted');
  const stranger = await Peer.open(await all[0].page.context().newPage(), my.server.url);
  await connects(all[1]);
  assert.equal(await deletes(stranger, dbName), 'deleted');
  assert.equal(await deletes(stranger, dbName), 'deleted');
  assert.deepEqual(await names(stranger), []);
  const refusals = await stranger.page.evaluate(() => Promise.all([undefined, ''].map((name) => library.deleteDatabase(name).catch((error) => error.name))));
  assert.deepEqual(refusals, ['TypeError', 'TypeError']);
});

test('a page that connects as soon as it is told waits until the database is gone', { timeout: WATCHDOG_MS }, async (t) => {
  const [[first, second], dbName] = await tabs(t, 2);
  for (const { page } of [first, second]) {
    await page.evaluate(() => {
      window.again = new Promise((resolve, reject) => battery.on('error', ({ code }) => code === 'storage' && battery.connect().then(resolve, reject)));
    });
  }
  assert.equal(await deletes(second, dbName), 'deleted');
  for (const tab of [first, second]) {
    await tab.page.evaluate(() => again);
    assert.deepEqual(await tab.rows(TABLES), [[0]]);
  }
});

test('a database that a tab does not let go of is busy: one that is held is left as it is', { timeout: WATCHDOG_MS }, async (t) => {
  const [held, open] = await Promise.all([tabs(t, 1, room(), IMPATIENT), tabs(t, 1, room(), IMPATIENT)]);
  // As a frozen page would.
  const obstinate = async ([[tab], dbName], hold) => {
    await tab.page.evaluate(() => battery.disconnect());
    const page = await tab.page.context().newPage();
    await page.goto(my.server.url);
    await page.evaluate(hold, dbName);
    return page;
  };
  const pages = await Promise.all([
    obstinate(held, (dbName) => new Promise((resolve) => void navigator.locks.request(`rtc-battery:${dbName}`, () => (resolve(), new Promise(() => undefined))))),
    obstinate(open, (dbName) => new Promise((resolve) => (indexedDB.open(dbName).onsuccess = resolve)).then(() => undefined)),
  ]);
  const outcomes = await Promise.all([held, open].map(([[tab], dbName]) => deletes(tab, dbName)));
  for (const outcome of outcomes) {
    assert.deepEqual(outcome.slice(0, 2), ['DatabaseBusy', 'database-busy']);
    assert.match(outcome[2], /does not let go/);
  }
  await Promise.all(pages.map((page) => page.close()));
  const [[tab]] = held;
  await connects(tab);
  assert.deepEqual(await tab.rows('SELECT id FROM t'), [[1]]);
});

test('without Web Locks the tab that has it open is told as well', { timeout: WATCHDOG_MS }, async (t) => {
  const code = 'delete (self.Navigator || WorkerNavigator).prototype.locks;';
  const [[tab], dbName] = await tabs(t, 1, room({ workerUrl: workerAfter(code, my.folder) }), code);
  const other = await Peer.open(await tab.page.context().newPage(), my.server.url);
  assert.equal(await deletes(other, dbName), 'deleted');
  await tab.hears('error', 'storage');
  await connects(tab);
  assert.deepEqual(await tab.rows(TABLES), [[0]]);
});
