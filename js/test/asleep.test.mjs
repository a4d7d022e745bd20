// The tab that holds the database is put to sleep, or stands still without a word: others go on with it, and when it is awake again it is one of them.
// What it was doing is done once, and what it shows is what there is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, startFirefox, startFreezableChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

const my = stage({ chromium: () => startChromium({ backForwardCache: true }), freezable: startFreezableChromium, firefox: startFirefox });

const INCREMENTS = 500;

/** Nobody is there: what else is in the room would soon make a tab write, and find that it was replaced. */
const OFFLINE = 'ws://127.0.0.1:9/signal';

/** Processes that stand still. */
const stopped = new Set();

function goOn(pid) {
  process.kill(pid, 'SIGCONT');
  stopped.delete(pid);
}

/** Whether something can be written to a database, as seen from a page. */
function isWritable({ page, config }) {
  return page.evaluate(
    (dbName) =>
      new Promise((resolve) => {
        setTimeout(resolve, 3000, false);
        const request = indexedDB.open(dbName);
        request.onsuccess = () => {
          const transaction = request.result.transaction(['meta', 'pages'], 'readwrite');
          transaction.objectStore('meta').count().onsuccess = () => {
            resolve(true);
            transaction.abort();
            request.result.close();
          };
        };
      }),
    config.dbName,
  );
}

/**
 * Puts a tab to sleep. Chromium keeps everybody else waiting for a minute where that was in the middle of issuing a transaction to IndexedDB, which is
 * not what is tested here: then it is woken, and put to sleep again.
 */
async function putToSleep(other, fallAsleep) {
  do await fallAsleep();
  while (!(await isWritable(other)));
}

/** Stops a tab's process. */
async function stop(tab, other) {
  tab.process ??= await my.chromium.processOf(tab.page);
  await putToSleep(other, () => {
    if (stopped.has(tab.process)) goOn(tab.process);
    stopped.add(tab.process);
    process.kill(tab.process, 'SIGSTOP');
  });
}

/** Tabs of one profile; the first one holds the database. `code` runs in their workers before anything else. */
async function tabs(t, count, browser = my.chromium, code = undefined) {
  const config = { signalingUrl: my.server.signal, token: newToken(), dbName: newToken(), ...(code && { signalingUrl: OFFLINE, workerUrl: workerAfter(code, my.folder) }) };
  const page = await browser.page();
  // A page whose process stands still cannot be closed.
  t.after(() => stopped.forEach(goOn));
  const context = page.context?.() ?? page.browserContext();
  t.after(() => context.close());
  const opened = [await Peer.open(page, my.server.url, config)];
  while (opened.length < count) opened.push(await Peer.open(await context.newPage(), my.server.url, config));
  return opened;
}

/** Leaves a page for another, whence it can be gone back to. */
async function leave({ page }) {
  await page.evaluate(() => {
    window.shown = new Promise((resolve) => addEventListener('pageshow', ({ persisted }) => resolve(persisted), { once: true }));
  });
  await page.goto(`${my.server.url}/demo/style.css`);
}

/** A page that Chromium did not keep: it throws one out that was left with a lock that somebody asks for, as where its worker had not got round to let go. */
class NotKept extends Error {}

/** Goes back to it. @throws NotKept */
async function goBack({ page }) {
  await page.goBack({ waitUntil: 'commit' });
  // The driver may still be at the page that is left now.
  await page.waitForFunction(() => 'library' in window);
  const reasons = await page.evaluate(async () => !(await window.shown) && JSON.stringify(performance.getEntriesByType('navigation')[0].notRestoredReasons));
  if (!reasons) return;
  await page.context().close();
  throw new NotKept(reasons);
}

/** Does something until all pages that are left in it are kept. */
async function untilKept(t, act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof NotKept)) throw error;
      t.diagnostic(`not kept: ${error.message}`);
    }
  }
}

async function setState({ page }, state) {
  const devtools = await page.createCDPSession();
  await devtools.send('Page.setWebLifecycleState', { state });
  await devtools.detach();
}

/** Freezes a page. */
const freeze = (tab, other) =>
  putToSleep(other, async () => {
    await setState(tab, 'active');
    await setState(tab, 'frozen');
  });

/** A browser that tells late that a lock was taken away: when it is asked about locks. */
const LATE = `
  const { request, query } = LockManager.prototype;
  let ask;
  const asked = new Promise((resolve) => (ask = resolve));
  LockManager.prototype.request = function (...values) {
    return request.apply(this, values).catch((error) => asked.then(() => Promise.reject(error)));
  };
  LockManager.prototype.query = function () {
    ask();
    return query.call(this);
  };`;

/** The ways in which a tab may stop, and go on; how often in a row is tried. */
const SLEEPS = {
  'in the back/forward cache': { times: 2, sleep: leave, wake: goBack },
  frozen: { times: 3, browser: 'freezable', sleep: freeze, wake: (tab) => setState(tab, 'active') },
  'without a word, its process stopped': { times: 2, code: LATE, sleep: stop, wake: (tab) => goOn(tab.process) },
};

/** What Chromium tells a page before it freezes it, and afterwards: where nothing is to depend on whether it does. */
const sleep = ({ page }) => page.evaluate(() => void document.dispatchEvent(new Event('freeze')));
const wake = ({ page }) => page.evaluate(() => void document.dispatchEvent(new Event('resume')));

const COUNTER = 'CREATE TABLE c (id INTEGER PRIMARY KEY, n); INSERT INTO c VALUES (1, 0)';

/** Has a tab add one to `n` over and over, three calls at a time, until it is told to stop; `stop` gives what they were told. */
async function count({ page }) {
  await page.evaluate(() => {
    window.told = [];
    window.counting = true;
    const one = async () => {
      while (window.counting) {
        told.push((await battery.exec('UPDATE c SET n = n + 1 RETURNING n')).values[0][0]);
        stirred();
      }
    };
    window.counted = Promise.all([one(), one(), one()]);
  });
  return {
    reached: (goal) => page.evaluate((goal) => until(`${goal} increments`, () => told.length >= goal), goal),
    stop: () =>
      page.evaluate(async () => {
        window.counting = false;
        await counted;
        return told;
      }),
  };
}

/** One tab sleeps while the other writes. */
async function oneSleeps(t, { browser = 'chromium', code, sleep, wake }) {
  const [first, second] = await tabs(t, 2, my[browser], code);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  await sleep(first, second);
  await second.exec('INSERT INTO t VALUES (2)');
  await second.exec('INSERT INTO t VALUES (3)');
  await wake(first);
  // The very first thing that it is asked.
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2], [3]]);
  await first.page.evaluate(() => until('word of what was missed', () => events.some(([event, peer]) => event === 'sync' && peer === 'another tab')));
  await first.exec('INSERT INTO t VALUES (4)');
  assert.deepEqual(await second.rows('SELECT id FROM t'), [[1], [2], [3], [4]]);
  await second.close();
  await first.exec('INSERT INTO t VALUES (5)');
  await first.reload();
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2], [3], [4], [5]]);
}

/** The lead goes from the first to the second or the third, and so on: each of the first two sleeps in turn, whether it leads or not. */
async function allCount(t, { times, browser = 'chromium', sleep, wake }) {
  const all = await tabs(t, 3, my[browser]);
  const [first, second, third] = all;
  await third.exec(COUNTER);
  if (sleep === stop) for (const tab of [first, second]) tab.process = await my.chromium.processOf(tab.page);
  const counters = await Promise.all(all.map(count));
  let goal = 0;
  for (let time = 0; time < times; time += 1) {
    const [asleep, awake] = [time % 2, (time + 1) % 2];
    await counters[asleep].reached(40);
    await sleep(all[asleep], third);
    goal += 60;
    await counters[2].reached(goal);
    await wake(all[asleep]);
    await counters[awake].reached(40);
  }
  await counters[2].reached(INCREMENTS / 2);
  const told = (await Promise.all(counters.map(({ stop }) => stop()))).flat().sort((a, b) => a - b);
  assert.ok(told.length >= INCREMENTS / 2);
  while (told.length < INCREMENTS) told.push((await first.rows('UPDATE c SET n = n + 1 RETURNING n'))[0][0]);
  assert.deepEqual(told, told.map((_, index) => index + 1));
  for (const tab of all) assert.deepEqual(await tab.rows('SELECT n FROM c'), [[told.length]]);
  await third.reload();
  assert.deepEqual(await third.rows('SELECT n FROM c'), [[told.length]]);
}

for (const [how, way] of Object.entries(SLEEPS)) {
  test(`the holder sleeps ${how}: another tab goes on, and it follows when it is awake`, { timeout: WATCHDOG_MS }, (t) => untilKept(t, () => oneSleeps(t, way)));

  test(`whoever holds the database sleeps ${how}, again and again in the middle of its own calls: ${INCREMENTS} increments give ${INCREMENTS}`, { timeout: 2 * WATCHDOG_MS }, (t) =>
    untilKept(t, () => allCount(t, way)));
}

test('in firefox the holder sleeps: another tab goes on, and it follows when it is awake', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second] = await tabs(t, 2, my.firefox);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  await sleep(first);
  await second.exec('INSERT INTO t VALUES (2)');
  await wake(first);
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2]]);
  await second.close();
  await first.exec('INSERT INTO t VALUES (3)');
  assert.deepEqual(await first.rows('SELECT id FROM t'), [[1], [2], [3]]);
});

test('a transaction that was open when the holder fell asleep is gone, and who was in it is told', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second, third] = await tabs(t, 3);
  await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  const goes = ({ page }, id) => page.evaluate((id) => battery.exec('INSERT INTO t VALUES (?)', [id]).then(() => 'written', ({ code }) => code), id);
  await first.exec('BEGIN; INSERT INTO t VALUES (1)');
  const waiting = third.exec('INSERT INTO t VALUES (2)');
  await sleep(first);
  await waiting;
  await wake(first);
  assert.deepEqual([await goes(first, 3), await goes(first, 4)], [516, 'written']);

  for (const tab of [first, second, third]) assert.deepEqual(await tab.rows('SELECT id FROM t'), [[2], [4]]);

  // And one of a tab that does not hold it.
  const [holder, other] = await tabs(t, 2);
  await other.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await other.exec('BEGIN; INSERT INTO t VALUES (1)');
  await sleep(holder);
  assert.deepEqual([await goes(other, 2), await goes(other, 3)], [516, 'written']);
  await wake(holder);
  assert.deepEqual(await holder.rows('SELECT id FROM t'), [[3]]);
});

/** Lets nobody hear that a transaction is complete while a page says so, and says when one is. */
const DEAF = `
  const { transaction: begin } = IDBDatabase.prototype;
  const disk = new BroadcastChannel('disk');
  let deaf = false;
  let kept = [];
  disk.onmessage = ({ data }) => {
    if (typeof data !== 'boolean') return;
    deaf = data;
    if (!deaf) for (const hear of kept.splice(0)) hear();
    disk.postMessage('so be it');
  };
  IDBDatabase.prototype.transaction = function (...values) {
    const transaction = begin.apply(this, values);
    const later = (hear) => () => {
      if (!deaf) return hear();
      kept.push(hear);
      disk.postMessage('complete');
    };
    Object.defineProperty(transaction, 'oncomplete', { set: (hear) => transaction.addEventListener('complete', later(hear)) });
    return transaction;
  };`;

test('what the holder had saved when the lead was taken from it, and had not heard so, is not done again', { timeout: WATCHDOG_MS }, async (t) => {
  const [first, second] = await tabs(t, 2, my.chromium, DEAF);
  await first.exec(COUNTER);
  await first.page.evaluate(async () => {
    const disk = new BroadcastChannel('disk');
    const hears = (word) => new Promise((resolve) => disk.addEventListener('message', ({ data }) => data === word && resolve()));
    window.setDeaf = async (deaf) => {
      const told = hears('so be it');
      disk.postMessage(deaf);
      await told;
    };
    await setDeaf(true);
    const complete = hears('complete');
    window.increment = battery.exec('UPDATE c SET n = n + 1 RETURNING n');
    await complete;
  });
  await second.page.evaluate(async (lock) => {
    await navigator.locks.request(lock, { steal: true }, () => undefined);
    await until('one to have it, and the other to be in line', async () => {
      const { held, pending } = await navigator.locks.query();
      return [held, pending].every((locks) => locks.some(({ name }) => name === lock));
    });
  }, `rtc-battery:${first.config.dbName}`);
  await first.page.evaluate(() => setDeaf(false));
  assert.deepEqual(await first.page.evaluate(() => increment.then(({ values }) => values)), [[1]]);
  for (const tab of [first, second]) assert.deepEqual(await tab.rows('SELECT n FROM c'), [[1]]);
});

/** Opens a database for nobody before a page says so, and says when it is to. */
const SLOW = `
  const { open } = IDBFactory.prototype;
  const disk = new BroadcastChannel('disk');
  const allowed = new Promise((resolve) => (disk.onmessage = resolve));
  IDBFactory.prototype.open = function (...values) {
    const request = open.apply(this, values);
    Object.defineProperty(request, 'onsuccess', { set: (hear) => request.addEventListener('success', () => allowed.then(hear)) });
    disk.postMessage('opening');
    return request;
  };`;

/** A tab that is opening a database, and does not get on with it until it is told to `go`. */
async function opening(t) {
  const config = { signalingUrl: OFFLINE, token: newToken(), dbName: newToken() };
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  const tab = await Peer.open(page, my.server.url);
  await page.evaluate(() => {
    window.disk = new BroadcastChannel('disk');
    window.opening = new Promise((resolve) => (disk.onmessage = resolve));
  });
  const connected = tab.connect({ ...config, workerUrl: workerAfter(SLOW, my.folder) });
  await page.evaluate(() => opening.then(() => undefined));
  const go = async () => {
    await page.evaluate(() => disk.postMessage('go'));
    await connected;
  };
  return { tab, config, go };
}

test('a tab that falls asleep while it opens the database shuts nobody out who has it by then', { timeout: WATCHDOG_MS }, async (t) => {
  const { tab: first, config, go } = await opening(t);
  await sleep(first);
  const second = await Peer.open(await first.page.context().newPage(), my.server.url, config);
  await second.exec(COUNTER);
  await wake(first);
  await go();
  await second.exec('UPDATE c SET n = n + 1');
  for (const tab of [first, second]) assert.deepEqual(await tab.rows('SELECT n FROM c'), [[1]]);
});

test('a tab that falls asleep and wakes while it opens the database has it', { timeout: WATCHDOG_MS }, async (t) => {
  const { tab, config, go } = await opening(t);
  await sleep(tab);
  await wake(tab);
  await go();
  await tab.exec(COUNTER);
  await tab.load();
  await tab.connect(config);
  assert.deepEqual(await tab.rows('SELECT n FROM c'), [[0]]);
});

test('a holder that is busy with one statement for long is not taken for one that sleeps', { timeout: WATCHDOG_MS }, async (t) => {
  const [, second] = await tabs(t, 2);
  const [before, after, tookMs] = await second.page.evaluate(async () => {
    const holder = async () => (await navigator.locks.query()).held.filter(({ name }) => name.split(':').length === 2).map(({ clientId }) => clientId);
    const before = await holder();
    for (let rows = 1e6; ; ) {
      const began = performance.now();
      await battery.exec('WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) FROM c', [rows]);
      const tookMs = performance.now() - began;
      // Longer than anybody's patience.
      if (tookMs > 5500) return [before, await holder(), tookMs];
      rows = Math.ceil((rows * 6500) / tookMs);
    }
  });
  assert.equal(before.length, 1);
  assert.deepEqual(after, before);
  t.diagnostic(`a statement of ${Math.round(tookMs / 1000)} s`);
});

for (const [what, code] of [['BroadcastChannel', 'delete self.BroadcastChannel;'], ['Web Locks', 'delete WorkerNavigator.prototype.locks;']]) {
  test(`without ${what} the one active tab is frozen: another one takes over, and it is told as soon as it is awake, and has written nothing`, { timeout: WATCHDOG_MS }, async (t) => {
    const config = { signalingUrl: OFFLINE, token: newToken(), workerUrl: workerAfter(code, my.folder) };
    const page = await my.freezable.page();
    t.after(() => page.browserContext().close());
    const first = await Peer.open(page, my.server.url, config);
    await first.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
    const second = await Peer.open(await page.browserContext().newPage(), my.server.url);
    await first.page.evaluate(() => void battery.exec('INSERT INTO t VALUES (2)'));
    await setState(first, 'frozen');
    await second.page.evaluate((config) => (window.battery = new library.RTCBattery(config)).takeOver(), config);
    await second.exec('INSERT INTO t VALUES (3)');
    const rows = await second.rows('SELECT id FROM t');
    await setState(first, 'active');
    await first.hears('error', 'database-busy');
    assert.equal(await first.page.evaluate(() => battery.exec('SELECT 1').catch(({ code }) => code)), 'database-busy');
    await second.load();
    await second.connect(config);
    assert.deepEqual(await second.rows('SELECT id FROM t'), rows);
  });
}
