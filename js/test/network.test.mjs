// Networks as people have them: each peer at home behind a NAT that gives nothing away, a relay in between, lines that lose packets, break and come back.
// `RTC_BATTERY_SOAK=1`: for as long and as often as the soak does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { agree, assertSameConnections, each, flow, keepConnections, leave, makeSite, newToken, PAIRS, Server, WATCHDOG_MS, watchGenerations } from './harness.mjs';
import { Network } from './network.mjs';

const SOAK = process.env.RTC_BATTERY_SOAK === '1';
const SECRET = 'north';
const TABLE = 'CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, body)';
/** Relays over UDP or TCP, and credentials of so many seconds. */
const RELAYS = ['--turn-url', 'turn:203.0.113.1:3478', '--turn-url', 'turn:203.0.113.1:3478?transport=tcp', '--turn-secret', SECRET, '--turn-ttl'];
const TTL_S = SOAK ? 60 : 5;

const my = {};
before(async () => {
  my.site = makeSite();
  my.network = new Network();
  my.relay = await my.network.coturn(SECRET);
  my.server = await Server.start(my.site.folder, [...RELAYS, '600'], my.network);
  my.brief = await Server.start(my.site.folder, [...RELAYS, String(TTL_S)], my.network);
  my.homes = [await my.network.home(my.server.url), await my.network.home(my.server.url)];
});
after(async () => {
  for (const home of my.homes ?? []) await home.close();
  await my.server?.stop();
  await my.brief?.stop();
  await my.relay?.end();
  my.network?.remove();
  my.site?.remove();
});

/** For each pair of browsers a peer in each home, that have met through the relay, in a room of theirs. All pairs are on the line at once. */
async function pairs(t, config = {}) {
  const all = [];
  await each(PAIRS, async (browsers, n) => {
    const room = { signalingUrl: my.server.signal, token: newToken(), iceServers: `${my.server.url}/ice`, ...config };
    const peers = [];
    for (const [home, browser] of browsers.entries()) {
      const peer = await my.homes[home].peer(browser, room, keepConnections);
      t.after(() => leave(peer.page));
      peers.push(peer);
    }
    const [ada, bob] = peers;
    await ada.exec(TABLE);
    await bob.sees('SELECT count(*) FROM t', [[0]]);
    all[n] = peers;
  });
  return all;
}

async function way(peer) {
  return peer.page.evaluate(() =>
    until('a status', async () => {
      const [status] = (await battery.getStatus()).peers;
      setTimeout(stirred, 200);
      return status !== undefined && status.relayed !== null && status.roundTripMs !== null && status.peerLacks === 0 && status;
    }),
  );
}

test('both at home behind a NAT of their own meet through the relay, and getStatus says so', { timeout: 2 * WATCHDOG_MS }, async (t) => {
  await each(await pairs(t), async (peers) => {
    await peers[1].exec("INSERT INTO t VALUES ('bob', randomblob(500000))");
    await peers[0].sees('SELECT id, length(body) FROM t', [['bob', 500_000]]);
    for (const peer of peers) {
      const status = await way(peer);
      assert.deepEqual([status.state, status.relayed, status.peerLacks, status.weLack], ['connected', true, 0, 0]);
    }
    const { receivedBytes } = await way(peers[0]);
    assert.ok(receivedBytes > 500_000, `${receivedBytes} bytes came`);
    await assertSameConnections(peers, 1);
  });
});

test('relays only, with UDP blocked', { timeout: 2 * WATCHDOG_MS }, async (t) => {
  const open = my.homes.map((home) => home.drop('-p udp'));
  t.after(() => open.forEach((end) => end()));
  await each(await pairs(t, { iceTransportPolicy: 'relay' }), async (peers) => {
    await peers[0].exec("INSERT INTO t VALUES ('ada', randomblob(200000))");
    await peers[1].sees('SELECT id, length(body) FROM t', [['ada', 200_000]]);
    for (const peer of peers) assert.equal((await way(peer)).relayed, true);
  });
});

test('a line of 1 Mbit/s that loses one packet in twenty', { timeout: 4 * WATCHDOG_MS }, async (t) => {
  const mend = my.homes[0].drop('-m statistic --mode random --probability 0.05');
  t.after(mend);
  const all = await pairs(t);
  // The pages were loaded before.
  t.after(my.homes[0].slow('1mbit'));
  const bytes = SOAK ? 500_000 : 20_000;
  await each(all, async (peers) => {
    const stop = flow(peers, 100);
    await peers[0].exec("INSERT INTO t VALUES ('large', randomblob(?))", [bytes]);
    await peers[1].sees("SELECT length(body) FROM t WHERE id = 'large'", [[bytes]]);
    const written = await stop();
    await agree(peers, ['t']);
    assert.deepEqual(await peers[0].rows('SELECT count(*) FROM t'), [[written + 1]]);
  });
});

test('eight seconds in which nothing gets through: the same connection goes on', { timeout: 2 * WATCHDOG_MS }, async (t) => {
  const all = await pairs(t);
  const stops = [];
  await each(all, async (peers, n) => {
    stops[n] = flow(peers, 100);
    await peers[0].sees("SELECT count(*) > 5 FROM t WHERE id GLOB 'writer 1-*'", [[1]]);
  });
  const mend = my.homes[0].drop('');
  // The promise is a time.
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  mend();
  await each(all, async (peers, n) => {
    await peers[0].exec("INSERT INTO t VALUES ('after', NULL)");
    await peers[1].sees("SELECT id FROM t WHERE id = 'after'", [['after']]);
    const written = (await stops[n]()) + 1;
    for (const peer of peers) await peer.sees('SELECT count(*) FROM t', [[written]]);
    await assertSameConnections(peers, 1);
  });
});

test(`credentials of ${TTL_S} s: the relayed connection outlives them`, { timeout: SOAK ? 480_000 : 2 * WATCHDOG_MS }, async (t) => {
  await each(await pairs(t, { iceServers: `${my.brief.url}/ice`, iceTransportPolicy: 'relay' }), async (peers) => {
    const stop = flow(peers, 100);
    // Each renewal on either side makes a generation of ICE.
    for (const peer of peers) await peer.page.evaluate(watchGenerations);
    // Five minutes, or until the credentials that they met with have ended.
    const renewals = SOAK ? 12 : 2;
    for (let n = 1; n <= renewals; n++) {
      for (const peer of peers) await peer.page.evaluate((n) => until(`renewal ${n}`, () => generations.size > n), n);
    }
    await peers[0].exec("INSERT INTO t VALUES ('late', NULL)");
    await peers[1].sees("SELECT id FROM t WHERE id = 'late'", [['late']]);
    for (const peer of peers) assert.equal((await way(peer)).relayed, true);
    const written = (await stop()) + 1;
    for (const peer of peers) await peer.sees('SELECT count(*) FROM t', [[written]]);
    await assertSameConnections(peers, 1);
  });
});
