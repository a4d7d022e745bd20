// What goes well once and has to go well every time: offers that cross, a last word before leaving, a receiver that stands still. Few rounds here, many in
// the soak (`RTC_BATTERY_SOAK=1`).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agree, MortalBrowser, newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';
import { Liar } from './liar.mjs';

const SOAK = process.env.RTC_BATTERY_SOAK === '1';
const ROUNDS = { glare: SOAK ? 100 : 4, leave: SOAK ? 200 : 6, rewrites: SOAK ? 100 : 10 };

const my = stage({ chromium: startChromium });

async function open(t, config, prepare) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  if (prepare !== undefined) await page.addInitScript(prepare);
  return Peer.open(page, my.server.url, config);
}

/** Keeps the page's connections, counts offers that were rolled back, and hides which way a connection goes: it may be a relay. */
function watchNegotiation() {
  globalThis.connections = [];
  globalThis.rolledBack = 0;
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(configuration);
      connections.push(this);
    }
    setLocalDescription(description) {
      if (description?.type === 'rollback') rolledBack += 1;
      return super.setLocalDescription(description);
    }
    getStats() {
      return Promise.resolve(new Map());
    }
  };
}

test(`both sides restart ICE in the same moment, ${ROUNDS.glare} times: one connection, and it works`, { timeout: 3 * WATCHDOG_MS }, async (t) => {
  const liar = await Liar.start();
  t.after(() => liar.close());
  // Signaling that takes up to a fifth of a second, in order.
  liar.delayMs = () => Math.random() * 200;
  const config = { signalingUrl: liar.signal, token: newToken() };
  const peers = [await open(t, undefined, watchNegotiation), await open(t, undefined, watchNegotiation)];
  for (const { page } of peers) {
    await page.evaluate(async (config) => {
      // Given out at the same moments on both sides, so both restart then.
      const tick = () => new Promise((resolve) => setTimeout(resolve, 500 - (Date.now() % 500)));
      window.given = 0;
      const iceServers = async () => {
        if (window.given > 0) await tick();
        window.given += 1;
        stirred();
        return { iceServers: [], ttl: 0.1 };
      };
      window.battery = new library.RTCBattery({ ...config, iceServers });
      for (const event of ['peer-join', 'peer-leave']) battery.on(event, () => events.push(event) && stirred());
      await battery.connect();
    }, config);
  }
  const [ada, bob] = peers;
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await bob.sees('SELECT count(*) FROM t', [[0]]);
  for (let n = 1; n <= ROUNDS.glare; n++) {
    await ada.exec('INSERT INTO t VALUES (?)', [n]);
    await bob.sees('SELECT max(id) FROM t', [[n]]);
    const given = await ada.page.evaluate(() => given);
    await ada.page.evaluate((given) => until('new servers', () => window.given > given), given);
  }
  let rolledBack = 0;
  for (const { page } of peers) {
    assert.deepEqual(await page.evaluate(() => [events, connections.length]), [['peer-join'], 1]);
    rolledBack += await page.evaluate(() => window.rolledBack);
  }
  assert.ok(rolledBack >= ROUNDS.glare / 4, `${rolledBack} of ${ROUNDS.glare} offers crossed`);
});

test(`what was written last before leaving arrives, ${ROUNDS.leave} times`, { timeout: 5 * WATCHDOG_MS }, async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [ada, bob] = [await open(t, config), await open(t, config)];
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await bob.sees('SELECT count(*) FROM t', [[0]]);
  for (let n = 1; n <= ROUNDS.leave; n++) {
    await bob.page.evaluate(async (n) => {
      await battery.exec('INSERT INTO t VALUES (?)', [n]);
      await battery.disconnect();
    }, n);
    // It is gone, so it was told before.
    await ada.sees('SELECT count(*), max(id) FROM t', [[n, n]]);
    await ada.meets(0);
    await bob.page.evaluate(() => battery.connect());
    await Promise.all([ada.meets(1), bob.meets(1)]);
  }
});

/** The most that any channel's buffer held. */
function watchBuffers() {
  globalThis.mostBuffered = 0;
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (data) {
    send.call(this, data);
    mostBuffered = Math.max(mostBuffered, this.bufferedAmount);
  };
}

test(`a receiver stands still while 1 MB is written ${ROUNDS.rewrites} times over, and has all of it afterwards`, { timeout: 4 * WATCHDOG_MS }, async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const ada = await open(t, config, watchBuffers);
  const mortal = new MortalBrowser('chromium');
  t.after(() => mortal.remove());
  const bob = await Peer.open(await mortal.start(), my.server.url, config);
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
  await ada.exec('INSERT INTO t WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, NULL FROM n');
  await bob.sees('SELECT count(*) FROM t', [[1000]]);
  mortal.signal('SIGSTOP');
  for (let n = 0; n < ROUNDS.rewrites; n++) await ada.exec('UPDATE t SET body = randomblob(1000)');
  mortal.signal('SIGCONT');
  await agree([ada, bob], ['t']);
  const buffered = await ada.page.evaluate(() => mostBuffered);
  assert.ok(buffered > 0 && buffered <= 256 * 1024 + 16 * 1024, `${buffered} bytes`);
});
