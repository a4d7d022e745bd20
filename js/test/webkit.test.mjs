// What of the library and the demo a browser of Safari's family can show without WebRTC: SQL, persistence, files, and errors that say what is.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { By, until } from 'selenium-webdriver';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';
import { EXPECTED, tell } from './layer-stories.mjs';
import { startWebKit } from './webkit.mjs';

const my = stage({ webkit: startWebKit, chromium: startChromium });

/** Opens the bare page with a database in it. */
async function open(config) {
  await my.webkit.browser.get(my.server.url);
  await my.webkit.run(async (config) => {
    if (window.library === undefined) await new Promise((resolve) => (window.loaded = resolve));
    window.events = [];
    window.battery = new library.RTCBattery(config);
    for (const event of ['online', 'error']) battery.on(event, (error) => events.push([event, error && error.code, error && error.message]));
    await battery.connect();
  }, config);
}

const rows = (sql, params) => my.webkit.run(async (sql, params) => (await battery.exec(sql, params)).values, sql, params);

test('SQL runs, and what it wrote is there after a reload', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  await open(config);
  await rows("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'Grüße 🔋'), (2, 1.5), (3, x'00ff'), (4, NULL)");
  await rows('INSERT INTO t VALUES (?, ?)', [5, 'by parameter']);
  await rows('UPDATE t SET v = 2.0 WHERE id = 2; DELETE FROM t WHERE id = 4');
  const large = await my.webkit.run(async () => {
    await battery.exec('INSERT INTO t VALUES (6, ?)', [2n ** 62n]);
    const { values } = await battery.exec('SELECT v FROM t WHERE id = 6');
    return [typeof values[0][0], String(values[0][0])];
  });
  assert.deepEqual(large, ['bigint', String(2n ** 62n)]);
  const before = await rows('SELECT id, quote(v) FROM t ORDER BY id');
  const version = await my.webkit.run(async () => battery.getLocalVersion());
  await open(config);
  assert.deepEqual(await rows('SELECT id, quote(v) FROM t ORDER BY id'), before);
  assert.deepEqual(before, [[1, "'Grüße 🔋'"], [2, '2.0'], [3, "X'00FF'"], [5, "'by parameter'"], [6, '4611686018427387904']]);
  assert.equal(await my.webkit.run(async () => battery.getLocalVersion()), version);
});

test('a file goes out and comes in', async () => {
  await open({ signalingUrl: my.server.signal, token: newToken() });
  const copied = await my.webkit.run(async (config) => {
    await battery.exec("CREATE TABLE f (id TEXT PRIMARY KEY, v); INSERT INTO f VALUES ('a', 1), ('b', x'01')");
    const file = await battery.exportDatabase();
    const other = new library.RTCBattery(config);
    await other.connect();
    const left = await other.importDatabase(file);
    const { values } = await other.exec('SELECT id, quote(v) FROM f ORDER BY id');
    const refusal = await other.importDatabase(new Uint8Array(5000)).catch((error) => error);
    await other.disconnect();
    return [left, values, refusal.code];
  }, { signalingUrl: my.server.signal, token: newToken() });
  assert.deepEqual(copied, [[], [['a', '1'], ['b', "X'01'"]], 'bad-file']);
});

test('errors are the same as elsewhere', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  await open(config);
  const errors = await my.webkit.run(async (config) => {
    const refusal = (promise) => promise.then(() => 'no error', (error) => [error.name, error.code, error.message]);
    return [
      await refusal(battery.exec('SELEKT')),
      await refusal(battery.exec('SELECT ?', [new Date()])),
      await refusal(battery.exec('SELECT ?', [() => 1])),
      await refusal(new library.RTCBattery({ ...config, token: 'other', wasmUrl: '/nowhere.wasm' }).connect()),
    ];
  }, config);
  assert.deepEqual(errors.map(([name, code]) => [name, code]), [
    ['SqlError', 1],
    ['RTCBatteryError', 'bad-parameter'],
    ['RTCBatteryError', 'bad-parameter'],
    ['RTCBatteryError', 'load'],
  ]);
  assert.match(errors[0][2], /near "SELEKT": syntax error/);
  // The stack is small here: what SQL is allowed to nest must fit.
  const deep = [`SELECT '${'a'.repeat(2000)}' LIKE '${'%a'.repeat(1000)}'`, `SELECT ${'NOT '.repeat(900)}1`, `SELECT json('${'['.repeat(990)}${']'.repeat(990)}') IS NOT NULL`];
  for (const sql of deep) assert.deepEqual(await rows(sql), [[1]]);
  await assert.rejects(rows(`SELECT ${'(SELECT '.repeat(900)}1${')'.repeat(900)}`), /Recursion limit/);
});

test('a second battery on the same database works with the first, and goes on without it', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  await open(config);
  await rows('CREATE TABLE s (id INTEGER PRIMARY KEY)');
  const seen = await my.webkit.run(async (config) => {
    const second = new library.RTCBattery(config);
    await second.connect();
    await Promise.all([second.exec('INSERT INTO s VALUES (1)'), battery.exec('INSERT INTO s VALUES (2)')]);
    await battery.disconnect();
    await second.exec('INSERT INTO s VALUES (3)');
    const { values } = await second.exec('SELECT id FROM s');
    await second.disconnect();
    return values;
  }, config);
  assert.deepEqual(seen, [[1], [2], [3]]);
});

for (const [story, expected] of EXPECTED) {
  test(`SQLLayer: the story of ${story.name}`, async () => {
    await my.webkit.browser.get(my.server.url);
    const told = await my.webkit.run(`() => import('${my.server.url}/package/core.js').then(${tell(story)}).then(JSON.stringify)`);
    assert.deepEqual(JSON.parse(told), expected);
  });
}

test('without WebRTC it is in the room, works, and says why nothing is synced', async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  await open(config);
  assert.equal(await my.webkit.run(async () => typeof RTCPeerConnection), 'undefined');
  await rows('CREATE TABLE w (id INTEGER PRIMARY KEY)');
  const ada = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => ada.page.context().close());
  await my.webkit.browser.wait(() => my.webkit.run(async () => events.some(([event]) => event === 'error')), WATCHDOG_MS);
  const events = await my.webkit.run(async () => events);
  assert.equal(events[0][0], 'online');
  const [, code, message] = events.find(([event]) => event === 'error');
  assert.equal(code, 'link');
  assert.match(message, /this browser has no WebRTC/);
  await rows('INSERT INTO w VALUES (1)');
  assert.deepEqual(await rows('SELECT id FROM w'), [[1]]);
  assert.deepEqual(await my.webkit.run(async () => battery.getPeers()), []);
});

test('the demo: a note is written, shown, and there after a reload', async () => {
  const { browser } = my.webkit;
  await browser.get(`${my.server.url}/demo/`);
  const run = browser.findElement(By.id('run'));
  await browser.wait(until.elementIsEnabled(run), WATCHDOG_MS);
  await browser.findElement(By.xpath("//button[text()='Add a note']")).click();
  await run.click();
  const cell = By.xpath("//td[text()='Hello world']");
  await browser.wait(until.elementLocated(cell), WATCHDOG_MS);
  await browser.navigate().refresh();
  await browser.wait(until.elementLocated(cell), WATCHDOG_MS);
});
