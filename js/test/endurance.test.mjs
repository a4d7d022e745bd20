// What goes well once and has to go well every time, whichever browsers meet: offers that cross, a last word before leaving, a server that is away, a
// receiver that stands still. Few rounds here, many in the soak (`RTC_BATTERY_SOAK=1`).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agree, assertSameConnections, each, flow, keepConnections, leave, MortalBrowser, newToken, PAIRS, Peer, runFirst, Server, stage, startChromium, startFirefox, WATCHDOG_MS, watchGenerations } from './harness.mjs';
import { Liar } from './liar.mjs';

const SOAK = process.env.RTC_BATTERY_SOAK === '1';
const ROUNDS = { glare: SOAK ? 100 : 2, leave: SOAK ? 200 : 6, rewrites: SOAK ? 100 : 10 };
/** How long the server is away, beyond the moment at which everybody knows. */
const AWAY_MS = SOAK ? 60_000 : 0;

const my = stage({ chromium: startChromium, firefox: startFirefox });

async function open(t, browser, config, prepare) {
  const page = await my[browser].page();
  t.after(() => leave(page));
  if (prepare !== undefined) await runFirst(page, prepare);
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

/**
 * Two peers who both get new credentials in the same moments, so that both want to restart ICE then, until each has had so many generations of it while edits
 * flow. Signaling is on its way for `delayMs`, in order, once they have met. Gives how many offers were rolled back.
 */
async function restarted(t, browsers, rounds, delayMs) {
  const liar = await Liar.start();
  t.after(() => liar.close());
  const config = { signalingUrl: liar.signal, token: newToken() };
  const peers = [];
  for (const browser of browsers) peers.push(await open(t, browser, undefined, watchNegotiation));
  for (const { page } of peers) {
    await page.evaluate(async (config) => {
      const tick = () => new Promise((resolve) => setTimeout(resolve, 500 - (Date.now() % 500)));
      let given = false;
      const iceServers = async () => {
        if (given) await tick();
        given = true;
        return { iceServers: [], ttl: 0.1 };
      };
      window.battery = new library.RTCBattery({ ...config, iceServers });
      for (const event of ['peer-join', 'peer-leave']) battery.on(event, () => events.push([event]) && stirred());
      await battery.connect();
    }, config);
  }
  const [ada, bob] = peers;
  await ada.exec('CREATE TABLE t (id TEXT PRIMARY KEY)');
  await bob.sees('SELECT count(*) FROM t', [[0]]);
  liar.delayMs = delayMs;
  const stop = flow(peers, 20);
  for (const { page } of peers) await page.evaluate(watchGenerations);
  for (let n = 1; n <= rounds; n++) {
    for (const { page } of peers) await page.evaluate((n) => until(`restart ${n}`, () => generations.size > n), n);
  }
  const written = await stop();
  for (const peer of peers) await peer.sees('SELECT count(*) FROM t', [[written]]);
  await assertSameConnections(peers, 1);
  const rolledBack = await Promise.all(peers.map(({ page }) => page.evaluate(() => rolledBack)));
  return rolledBack[0] + rolledBack[1];
}

test(`both sides want to restart ICE in the same moment, ${ROUNDS.glare} times: one connection, and it works`, { timeout: ROUNDS.glare * 20_000 + 2 * WATCHDOG_MS }, async (t) => {
  const rounds = ROUNDS.glare;
  const inTurn = each(PAIRS, async (browsers) => {
    await restarted(t, browsers, rounds, () => Math.random() * 200);
  });
  // Longer on the way than the one side waits for the other's offer, so that they cross. Firefox ends a connection of which an offer is rolled back.
  const crossing = restarted(t, ['chromium', 'chromium'], rounds, () => 2_200 + Math.random() * 200);
  const [, rolledBack] = await Promise.all([inTurn, crossing]);
  t.diagnostic(`${rolledBack} offers rolled back in ${rounds} rounds`);
  assert.ok(rolledBack >= rounds / 4, `${rolledBack} of ${rounds} offers crossed`);
});

test(`what was written last before leaving arrives, ${ROUNDS.leave} times`, { timeout: 8 * WATCHDOG_MS }, async (t) => {
  await each(PAIRS, async (browsers) => {
    const config = { signalingUrl: my.server.signal, token: newToken() };
    const [ada, bob] = [await open(t, browsers[0], config), await open(t, browsers[1], config)];
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
});

test(`the server goes away${SOAK ? ' for a minute' : ''} and comes back while edits flow`, { timeout: 4 * WATCHDOG_MS }, async (t) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const rooms = [];
  await each(PAIRS, async (browsers, n) => {
    const config = { signalingUrl: server.signal, token: newToken() };
    const peers = [];
    for (const browser of browsers) peers.push(await open(t, browser, config, keepConnections));
    await peers[0].exec('CREATE TABLE t (id TEXT PRIMARY KEY)');
    await peers[1].sees('SELECT count(*) FROM t', [[0]]);
    rooms[n] = { config, peers, stop: flow(peers, 50) };
    for (const peer of peers) await peer.hears('sync');
  });
  await server.stop();
  await each(rooms, async ({ peers }) => {
    for (const peer of peers) await peer.hears('error', 'signaling-unreachable');
  });
  if (AWAY_MS > 0) await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  // The peers do not need the server for each other: what is written from now on arrives all the same.
  await each(rooms, async ({ peers }) => {
    for (const peer of peers) {
      await peer.page.evaluate(async () => {
        const heard = events.length;
        await until('more edits', () => events.slice(heard).some(([event]) => event === 'sync'));
      });
    }
  });
  await server.start();
  await each(rooms, async ({ config, peers, stop }, n) => {
    const cleo = await open(t, PAIRS[n][1], config);
    await cleo.meets(2);
    const written = await stop();
    t.diagnostic(`${PAIRS[n].join(' and ')}: ${written} edits`);
    await cleo.sees('SELECT count(*) FROM t', [[written]]);
    await agree([...peers, cleo], ['t']);
    // Over the same connections: each has made one to the other, and one to whoever came later.
    await assertSameConnections(peers, 2);
  });
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

test(`a receiver stands still while 1 MB is written ${ROUNDS.rewrites} times over, and has all of it afterwards`, { timeout: 6 * WATCHDOG_MS }, async (t) => {
  await each(PAIRS, async ([sender, receiver], n) => {
    const config = { signalingUrl: my.server.signal, token: newToken() };
    const ada = await open(t, sender, config, watchBuffers);
    const mortal = new MortalBrowser(receiver);
    t.after(() => mortal.remove());
    const bob = await Peer.open(await mortal.start(), my.server.url, config);
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
    await ada.exec('INSERT INTO t WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, NULL FROM n');
    await bob.sees('SELECT count(*) FROM t', [[1000]]);
    mortal.signal('SIGSTOP');
    for (let round = 0; round < ROUNDS.rewrites; round++) await ada.exec('UPDATE t SET body = randomblob(1000)');
    mortal.signal('SIGCONT');
    await agree([ada, bob], ['t']);
    const buffered = await ada.page.evaluate(() => mostBuffered);
    t.diagnostic(`${PAIRS[n].join(' and ')}: at most ${buffered} bytes in a channel's buffer`);
    assert.ok(buffered > 0 && buffered <= 256 * 1024 + 16 * 1024, `${buffered} bytes`);
  });
});
