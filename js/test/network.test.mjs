// Networks as people have them: each peer at home behind a NAT that gives nothing away, a relay in between, lines that lose packets, break and come back.
// `RTC_BATTERY_SOAK=1`: for as long and as often as the soak does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { agree, keepConnections, makeSite, newToken, Server, WATCHDOG_MS } from './harness.mjs';
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
  for (const home of my.homes ?? []) await home.chromium.close();
  await my.server?.stop();
  await my.brief?.stop();
  await my.relay?.end();
  my.network?.remove();
  my.site?.remove();
});

/** A peer in each home, that have met through the relay. */
async function pair(t, config = {}) {
  const all = { signalingUrl: my.server.signal, token: newToken(), iceServers: `${my.server.url}/ice`, ...config };
  const peers = [];
  for (const home of my.homes) {
    const peer = await home.peer(all, keepConnections);
    t.after(() => peer.page.context().close());
    peers.push(peer);
  }
  const [ada, bob] = peers;
  await ada.exec(TABLE);
  await bob.sees('SELECT count(*) FROM t', [[0]]);
  return peers;
}

/** Each writes until it is told to stop, a few times a second; gives what ends it, and how many there are then. */
async function flow(peers) {
  const writers = peers.map((peer, n) =>
    peer.page.evaluate(async (name) => {
      window.writing = true;
      let written = 0;
      while (window.writing) {
        await battery.exec('INSERT INTO t VALUES (?, NULL)', [`${name}-${written++}`]);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return written;
    }, `writer ${n}`),
  );
  return async () => {
    for (const peer of peers) await peer.page.evaluate(() => (window.writing = false));
    return (await Promise.all(writers)).reduce((sum, count) => sum + count);
  };
}

/** Nobody left, nobody came again, and each has made one connection. */
async function assertSameConnection(peers) {
  for (const peer of peers) {
    const comings = await peer.page.evaluate(() => events.map(([event]) => event).filter((event) => event.startsWith('peer-')));
    assert.deepEqual([comings, await peer.page.evaluate(() => connections.length)], [['peer-join'], 1]);
  }
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

test('both at home behind a NAT of their own meet through the relay, and getStatus says so', { timeout: WATCHDOG_MS }, async (t) => {
  const peers = await pair(t);
  await peers[1].exec("INSERT INTO t VALUES ('bob', randomblob(500000))");
  await peers[0].sees('SELECT id, length(body) FROM t', [['bob', 500_000]]);
  for (const peer of peers) {
    const status = await way(peer);
    assert.deepEqual([status.state, status.relayed, status.peerLacks, status.weLack], ['connected', true, 0, 0]);
  }
  const { receivedBytes } = await way(peers[0]);
  assert.ok(receivedBytes > 500_000, `${receivedBytes} bytes came`);
  await assertSameConnection(peers);
});

test('relays only, with UDP blocked', { timeout: WATCHDOG_MS }, async (t) => {
  const open = my.homes.map((home) => home.drop('-p udp'));
  t.after(() => open.forEach((end) => end()));
  const peers = await pair(t, { iceTransportPolicy: 'relay' });
  await peers[0].exec("INSERT INTO t VALUES ('ada', randomblob(200000))");
  await peers[1].sees('SELECT id, length(body) FROM t', [['ada', 200_000]]);
  for (const peer of peers) assert.equal((await way(peer)).relayed, true);
});

test('a line of 1 Mbit/s that loses one packet in twenty', { timeout: 3 * WATCHDOG_MS }, async (t) => {
  const mend = my.homes[0].drop('-m statistic --mode random --probability 0.05');
  t.after(mend);
  const peers = await pair(t);
  // The page was loaded before.
  t.after(my.homes[0].slow('1mbit'));
  const bytes = SOAK ? 500_000 : 20_000;
  const stop = await flow(peers);
  await peers[0].exec("INSERT INTO t VALUES ('large', randomblob(?))", [bytes]);
  await peers[1].sees("SELECT length(body) FROM t WHERE id = 'large'", [[bytes]]);
  const written = await stop();
  await agree(peers, ['t']);
  assert.deepEqual(await peers[0].rows('SELECT count(*) FROM t'), [[written + 1]]);
});

test('eight seconds in which nothing gets through: the same connection goes on', { timeout: WATCHDOG_MS }, async (t) => {
  const peers = await pair(t);
  const stop = await flow(peers);
  await peers[0].sees("SELECT count(*) > 5 FROM t WHERE id GLOB 'writer 1-*'", [[1]]);
  const mend = my.homes[0].drop('');
  // The promise is a time.
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  mend();
  await peers[0].exec("INSERT INTO t VALUES ('after', NULL)");
  await peers[1].sees("SELECT id FROM t WHERE id = 'after'", [['after']]);
  const written = (await stop()) + 1;
  for (const peer of peers) await peer.sees('SELECT count(*) FROM t', [[written]]);
  await assertSameConnection(peers);
});

test(`credentials of ${TTL_S} s: the relayed connection outlives them`, { timeout: SOAK ? 420_000 : WATCHDOG_MS }, async (t) => {
  const peers = await pair(t, { iceServers: `${my.brief.url}/ice`, iceTransportPolicy: 'relay' });
  const stop = await flow(peers);
  // Each renewal on either side makes a generation of ICE.
  for (const peer of peers) {
    await peer.page.evaluate(() => {
      window.generations = new Set();
      setInterval(() => {
        generations.add(/a=ice-ufrag:(\S+)/.exec(connections[0].localDescription.sdp)[1]);
        stirred();
      }, 50);
    });
  }
  // Five minutes, or until the credentials that they met with have ended.
  const renewals = SOAK ? 6 : 2;
  for (let n = 1; n <= renewals; n++) {
    for (const peer of peers) await peer.page.evaluate((n) => until(`renewal ${n}`, () => generations.size > n), n);
  }
  await peers[0].exec("INSERT INTO t VALUES ('late', NULL)");
  await peers[1].sees("SELECT id FROM t WHERE id = 'late'", [['late']]);
  for (const peer of peers) assert.equal((await way(peer)).relayed, true);
  const written = (await stop()) + 1;
  for (const peer of peers) await peer.sees('SELECT count(*) FROM t', [[written]]);
  await assertSameConnection(peers);
});
