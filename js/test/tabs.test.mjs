// Several tabs on one database: each does what a single one does, and whoever holds the database may go at any moment.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, startFirefox, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: startChromium, firefox: startFirefox });

const room = () => ({ signalingUrl: my.server.signal, token: newToken() });

/** Tabs of one profile; the first one holds the database. */
async function tabs(t, config, count, browser = my.chromium) {
  const page = await browser.page();
  const context = page.context?.() ?? page.browserContext();
  t.after(() => context.close());
  const opened = [await Peer.open(page, my.server.url, config)];
  while (opened.length < count) opened.push(await Peer.open(await context.newPage(), my.server.url, config));
  return opened;
}

/** Lets a tab add one to `n` over and over, several calls at a time, and note what it was told. */
async function increments(tab) {
  await tab.page.evaluate(() => {
    window.told = [];
    window.failures = [];
    window.counting = true;
    const one = async () => {
      while (window.counting) {
        await battery.exec('UPDATE c SET n = n + 1 RETURNING n').then(
          ({ values }) => told.push(values[0][0]),
          (error) => failures.push(`${error.name} ${error.code} ${error.message}`),
        );
        stirred();
      }
    };
    window.counted = Promise.all([one(), one(), one()]);
  });
  const reached = (more) =>
    tab.page.evaluate((more) => {
      const goal = told.length + more;
      return until(`${more} increments more`, () => told.length >= goal);
    }, more);
  const stop = () =>
    tab.page.evaluate(async () => {
      window.counting = false;
      await counted;
      return [told.sort((a, b) => a - b), failures];
    });
  return { reached, stop };
}

test('what one tab writes the other sees, and both hear the same of the room', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const [first, second] = await tabs(t, config, 2);
  await second.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
  await first.exec('INSERT INTO t VALUES (1, ?)', ['Grüße 🔋']);
  const written = await second.exec('INSERT INTO t VALUES (2, ?), (3, NULL) RETURNING id, v', [2.5]);
  assert.deepEqual(written, { columns: ['id', 'v'], values: [[2, 2.5], [3, null]], rowsAffected: 2 });
  assert.deepEqual(await first.dump('t'), await second.dump('t'));
  // Each hears of what the other wrote, and not of its own.
  const told = (tab) => tab.page.evaluate(() => events.filter(([event]) => event === 'sync'));
  await first.hears('sync');
  await first.page.evaluate(() => until('both writes', () => events.filter(([event]) => event === 'sync').length === 2));
  assert.deepEqual(await told(first), [['sync', 'another tab', { operations: 1 }], ['sync', 'another tab', { operations: 2 }]]);
  await second.hears('sync');
  assert.deepEqual(await told(second), [['sync', 'another tab', { operations: 1 }]]);
  const values = await second.page.evaluate(async () => {
    const { values } = await battery.exec('SELECT ?, ?, ?', [2n ** 60n, new Uint8Array([1, 2]), null]);
    return values[0].map(String);
  });
  assert.deepEqual(values, [String(2n ** 60n), '1,2', 'null']);
  const refusals = await Promise.all(
    [first, second].map((tab) => tab.page.evaluate(() => battery.exec('INSERT INTO t VALUES (1, 1)').catch(({ name, code, message }) => [name, code, message]))),
  );
  assert.deepEqual(refusals[0], ['SqlError', 1555, 'UNIQUE constraint failed: t.id']);
  assert.deepEqual(refusals[1], refusals[0]);
  const friend = await Peer.open(await my.chromium.page(), my.server.url, config);
  await friend.sees('SELECT count(*) FROM t', [[3]]);
  for (const tab of [first, second]) await tab.meets(1);
  await friend.exec('DELETE FROM t WHERE id = 3');
  for (const tab of [first, second]) {
    await tab.sees('SELECT count(*) FROM t', [[2]]);
    await tab.page.evaluate(() => until('a sync of the friend', () => events.some(([event, peer]) => event === 'sync' && peer === battery.getPeers()[0])));
    await tab.hears('online');
    await tab.hears('peer-join');
  }
  const states = await Promise.all([first, second].map((tab) => tab.page.evaluate(() => [battery.getPeers(), battery.getLocalVersion()])));
  assert.deepEqual(states[0], states[1]);
  const third = await Peer.open(await first.page.context().newPage(), my.server.url, config);
  await third.hears('peer-join');
  await friend.page.context().close();
  for (const tab of [first, second, third]) await tab.hears('peer-leave');
  const file = await third.page.evaluate(async () => (await battery.exportDatabase()).length);
  assert.ok(file > 4096);
});

for (const [name, count] of [['chromium', 6], ['firefox', 3]]) {
  test(`in ${name} whoever holds the database is closed again and again: every increment is done once, and answered`, { timeout: 2 * WATCHDOG_MS }, async (t) => {
    const all = await tabs(t, room(), count, my[name]);
    const last = all.pop();
    await last.exec('CREATE TABLE c (id INTEGER PRIMARY KEY, n); INSERT INTO c VALUES (1, 0)');
    const counter = await increments(last);
    for (const tab of all) {
      await counter.reached(100);
      await tab.close();
    }
    await counter.reached(100);
    const [told, failures] = await counter.stop();
    assert.deepEqual(failures, []);
    assert.deepEqual(told, told.map((_, index) => index + 1));
    assert.deepEqual(await last.rows('SELECT n FROM c'), [[told.length]]);
    await last.reload();
    assert.deepEqual(await last.rows('SELECT n FROM c'), [[told.length]]);
  });
}

test('the holder crashes: the next one goes on', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second] = await tabs(t, room(), 2);
  await second.exec('CREATE TABLE c (id INTEGER PRIMARY KEY, n); INSERT INTO c VALUES (1, 0)');
  const counter = await increments(second);
  await counter.reached(50);
  const crashed = new Promise((resolve) => first.page.once('crash', resolve));
  const session = await first.page.context().newCDPSession(first.page);
  session.send('Page.crash').catch(() => undefined);
  await crashed;
  await counter.reached(50);
  const [told, failures] = await counter.stop();
  assert.deepEqual(failures, []);
  assert.deepEqual(told, told.map((_, index) => index + 1));
});

test('a transaction is its tab\'s: the others wait, and it ends with the tab', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second, third] = await tabs(t, room(), 3);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await second.exec('BEGIN');
  await second.exec('INSERT INTO t VALUES (1)');
  const waiting = [first, third].map((tab, index) => tab.exec('INSERT INTO t VALUES (?)', [index + 2]));
  assert.deepEqual(await second.rows('SELECT id FROM t'), [[1]]);
  await second.exec('COMMIT');
  await Promise.all(waiting);
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2], [3]]);
  await second.exec('BEGIN; DELETE FROM t');
  const counted = first.rows('SELECT count(*) FROM t');
  await second.close();
  assert.deepEqual(await counted, [[3]]);
  // A tab that leaves properly gives way as well.
  await third.exec('BEGIN; DELETE FROM t');
  await third.page.evaluate(() => battery.disconnect());
  assert.deepEqual(await first.rows('SELECT count(*) FROM t'), [[3]]);
});

test('a transaction that was open where the database was held and closed is told, and leaves nothing', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second] = await tabs(t, room(), 2);
  await second.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await second.exec('BEGIN');
  await second.exec('INSERT INTO t VALUES (1)');
  await first.close();
  const refusal = await second.page.evaluate(() => battery.exec('INSERT INTO t VALUES (2)').catch(({ name, code, message }) => [name, code, message]));
  assert.deepEqual(refusal.slice(0, 2), ['SqlError', 516]);
  assert.match(refusal[2], /rolled back.*Begin it again/);
  assert.deepEqual(await second.rows('SELECT count(*) FROM t'), [[0]]);
  await second.exec('INSERT INTO t VALUES (3)');
  assert.deepEqual(await second.rows('SELECT id FROM t'), [[3]]);
});

test('the TEMP objects of the tab that held the database are gone with it, and every other tab is told', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second, third] = await tabs(t, room(), 3);
  const lost = async (tab) => tab.page.evaluate(() => events.filter(([, value]) => value?.code === 'temporary-lost').length);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await second.page.evaluate(() => battery.execLocal('CREATE TABLE heard (id)'));
  const listen = 'CREATE TEMP TRIGGER IF NOT EXISTS hear AFTER INSERT ON t BEGIN INSERT INTO heard VALUES (new.id); END';
  await second.page.evaluate((sql) => battery.execLocal(sql), listen);
  await third.exec('INSERT INTO t VALUES (1)');
  assert.deepEqual(await third.rows('SELECT id FROM heard'), [[1]]);

  await first.close();
  await Promise.all([second, third].map((tab) => tab.hears('error', 'temporary-lost')));
  await second.exec('INSERT INTO t VALUES (2)');
  assert.deepEqual(await third.rows('SELECT id FROM heard'), [[1]]);
  // As the message says.
  await Promise.all([second, third].map(({ page }) => page.evaluate((sql) => battery.execLocal(sql), listen)));
  await third.exec('INSERT INTO t VALUES (3)');
  assert.deepEqual(await second.rows('SELECT id FROM heard'), [[1], [3]]);

  // Where there are none any more there is nothing to tell.
  await third.page.evaluate(() => battery.execLocal('DROP TRIGGER hear'));
  const [next, last] = [second, third];
  await next.page.evaluate(() => battery.disconnect());
  await last.exec('INSERT INTO t VALUES (4)');
  await next.page.evaluate(() => battery.connect());
  await last.page.evaluate(() => battery.disconnect());
  await next.exec('INSERT INTO t VALUES (5)');
  assert.deepEqual(await Promise.all([next, last].map(lost)), [1, 1]);
});

test('who disconnects hands over, and may come back', { timeout: WATCHDOG_MS }, async (t) => {
  const config = room();
  const [first, second] = await tabs(t, config, 2);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  await first.page.evaluate(() => battery.disconnect());
  await second.exec('INSERT INTO t VALUES (2)');
  await first.page.evaluate(() => battery.connect());
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2]]);
  await second.page.evaluate(() => battery.disconnect());
  await first.exec('INSERT INTO t VALUES (3)');
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2], [3]]);
});

test('a tab of another room is refused a database that is open', { timeout: WATCHDOG_MS }, async (t) => {
  const config = { ...room(), dbName: 'shared' };
  const [first] = await tabs(t, config, 1);
  const other = await Peer.open(await first.page.context().newPage(), my.server.url);
  const refusal = await other.page.evaluate(
    (config) => new library.RTCBattery(config).connect().catch(({ name, code, message }) => [name, code, message]),
    { ...config, token: newToken() },
  );
  assert.deepEqual(refusal.slice(0, 2), ['RTCBatteryError', 'other-room']);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
});
