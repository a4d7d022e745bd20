// SQLLayer in pages and workers, through rtc-battery.js and through core.js: the same stories as in Node.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import initSqlJs from 'sql.js';
import { stage, startChromium, startFirefox, WATCHDOG_MS } from './harness.mjs';
import { EXPECTED, tell } from './layer-stories.mjs';

const my = stage({ chromium: startChromium, firefox: startFirefox });

async function open(t, browser = my.chromium) {
  const page = await browser.page();
  t.after(() => page.close());
  await page.goto(my.server.url);
  return page;
}

const MODULES = ['rtc-battery.js', 'core.js'];

for (const browser of ['chromium', 'firefox']) {
  for (const module of MODULES) {
    for (const [story, expected] of EXPECTED) {
      test(`the story of ${story.name}, told by ${module} in ${browser}`, { timeout: WATCHDOG_MS }, async (t) => {
        const page = await open(t, my[browser]);
        // As text: no driver stands between what is told and what is expected.
        const told = await page.evaluate(`import('./package/${module}').then(${tell(story)}).then(JSON.stringify)`);
        assert.deepEqual(JSON.parse(told), expected);
      });
    }
  }
}

test('one file through all: a page exports, sql.js changes, a page imports', { timeout: WATCHDOG_MS }, async (t) => {
  const SQL = await initSqlJs();
  const page = await open(t);
  const exported = await page.evaluate(async () => {
    const { SQLLayer } = await import('./package/core.js');
    window.layer = await SQLLayer.create();
    layer.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, ?)', [new Uint8Array([0, 255])]);
    return [...layer.exportDatabase()];
  });
  const plain = new SQL.Database(new Uint8Array(exported));
  assert.deepEqual(plain.exec('SELECT id, quote(x) FROM t')[0].values, [[1, "X'00FF'"]]);
  plain.run('INSERT INTO t VALUES (2, 2)');
  const rows = await page.evaluate((bytes) => {
    layer.importDatabase(new Uint8Array(bytes));
    return layer.execute('SELECT id, quote(x) FROM t').result.values;
  }, [...plain.export()]);
  assert.deepEqual(rows, [[1, "X'00FF'"], [2, '2']]);
});

test('the module is loaded once, and anew after it could not be', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await open(t);
  let requests = 0;
  await page.route('**/rtc_battery.wasm', async (route) => {
    requests += 1;
    if (requests === 1) await route.fulfill({ status: 503, body: '' });
    // A server that does not know the type: no streaming compilation.
    else await route.fulfill({ response: await route.fetch(), contentType: 'application/octet-stream' });
  });
  const told = await page.evaluate(async () => {
    const { SQLLayer, RTCBatteryError } = await import('./package/rtc-battery.js');
    const failed = await SQLLayer.create().catch((error) => error);
    const [one, other] = await Promise.all([SQLLayer.create(), SQLLayer.create()]);
    one.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)');
    const apart = other.execute("SELECT count(*) FROM sqlite_schema WHERE name = 't'").result.values;
    return [failed instanceof RTCBatteryError, failed.code, apart];
  });
  assert.deepEqual(told, [true, 'load', [[0]]]);
  assert.equal(requests, 2);
});

test('a worker has a layer of its own', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await open(t);
  const answer = await page.evaluate(async () => {
    const code = `
      import { SQLLayer } from '${new URL('./package/core.js', location.href)}';
      const layer = await SQLLayer.create({ wasmUrl: '${new URL('./package/rtc_battery.wasm', location.href)}' });
      postMessage(layer.execute('SELECT 6 * 7').result.values);`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
    });
  });
  assert.deepEqual(answer, [[42]]);
});
