// A signaling server that lies, floods and breaks off: the page goes on working, says what it met, does not open connections without end, and
// syncs with a real peer that comes in the middle of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';
import { Liar } from './liar.mjs';

const my = stage({ chromium: startChromium });

/** The core's `MAX_DIALED` and `MAX_ANSWERED`, and the one that leads somewhere. */
const MOST_CONNECTIONS = 32 + 96 + 1;

/** Fewer than the core answers at once: beyond that whoever is real has to wait for a turn. */
const CALLERS = 90;

/** Counts a page's connections from before the library loads. */
function countConnections() {
  const Real = RTCPeerConnection;
  window.connections = { now: 0, most: 0 };
  window.RTCPeerConnection = class extends Real {
    constructor(configuration) {
      super(configuration);
      connections.now += 1;
      connections.most = Math.max(connections.most, connections.now);
    }

    close() {
      if (this.signalingState !== 'closed') connections.now -= 1;
      super.close();
    }
  };
}

async function open(t, config) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.addInitScript(countConnections);
  return Peer.open(page, my.server.url, config);
}

const fakes = (count) => Array.from({ length: count }, (_, index) => `fake-${index}`);
const nested = (levels, open, close) => open.repeat(levels) + close.repeat(levels);

/** A description as a browser would send one, of a connection that does not exist. */
const SDP = [
  'v=0', 'o=- 4611731400430051336 2 IN IP4 127.0.0.1', 's=-', 't=0 0', 'a=group:BUNDLE 0', 'a=msid-semantic: WMS', 'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
  'c=IN IP4 0.0.0.0', 'a=ice-ufrag:abcd', 'a=ice-pwd:abcdefghijklmnopqrstuvwx', 'a=ice-options:trickle', `a=fingerprint:sha-256 ${Array(32).fill('AB').join(':')}`,
  'a=setup:actpass', 'a=mid:0', 'a=sctp-port:5000', 'a=max-message-size:262144', '',
].join('\r\n');
const CANDIDATE = { candidate: 'candidate:1 1 udp 2113937151 127.0.0.1 9 typ host', sdpMid: '0', sdpMLineIndex: 0, usernameFragment: 'abcd' };

/** What a server may say to somebody who has joined, and the code of the error that is heard of it. */
const LIES = {
  // A large room is no error.
  '3,000 peers that are not there': { say: () => [{ type: 'peers', peerIds: fakes(3000) }] },
  '3,000 peers that come one by one': { say: () => fakes(3000).map((peerId) => ({ type: 'peer-join', peerId })) },
  'offers from many that are not there': { say: () => fakes(CALLERS).map((from) => ({ type: 'offer', from, sdp: { type: 'offer', sdp: SDP } })) },
  'offers that are none from many that are not there': {
    code: 'link',
    say: () => fakes(CALLERS).map((from, index) => ({ type: 'offer', from, sdp: { type: 'offer', sdp: ['', 'v=0', 'garbage', SDP.replace(/m=.*/, 'm=nothing')][index % 4] } })),
  },
  'descriptions of the wrong shape': {
    code: 'signaling',
    say: () => [null, 'offer', 5, [], {}, { type: 'offer' }, { type: 'rollback', sdp: SDP }, { type: 'offer', sdp: 5 }].map((sdp) => ({ type: 'offer', from: 'fake', sdp })),
  },
  'answers without offers': { say: () => fakes(500).map((from) => ({ type: 'answer', from, sdp: { type: 'answer', sdp: SDP } })) },
  'offers, answers and candidates from oneself': {
    say: (me) => ['offer', 'answer'].map((type) => ({ type, from: me, sdp: { type, sdp: SDP } })).concat({ type: 'ice', from: me, candidate: CANDIDATE }, { type: 'peers', peerIds: [me] }),
  },
  'candidates without connections': { say: () => fakes(500).flatMap((from) => Array.from({ length: 20 }, () => ({ type: 'ice', from, candidate: CANDIDATE }))) },
  'candidates of the wrong shape': { say: () => [null, 'a', 5, [], {}, { candidate: 5 }].map((candidate) => ({ type: 'ice', from: 'fake', candidate })) },
  'what is not JSON': { code: 'signaling', say: () => ['', 'hello', '{', '{"type":"peers","peerIds":["a"', '\0\0\0', '{"type":"peers"}}'] },
  'JSON that is no message': {
    code: 'signaling',
    say: () => [null, 5, [], {}, { type: 5 }, { type: 'peers' }, { type: 'peers', peerIds: 'a' }, { type: 'peers', peerIds: [5, null, {}, ''] }, { type: 'peer-join' }, { type: 'unheard-of' }],
  },
  'JSON of 100,000 levels': {
    code: 'signaling',
    say: () => [nested(100_000, '[', ']'), nested(100_000, '{"a":', '}'), `{"type":"offer","from":"fake","sdp":${nested(100_000, '[', ']')}}`, `{"type":"ice","from":"fake","candidate":${nested(100_000, '[', ']')}}`],
  },
  'a message of 5 MB': {
    code: 'signaling',
    say: () => [{ type: 'peers', peerIds: ['a'.repeat(5_000_000)] }, { type: 'offer', from: 'fake', sdp: { type: 'offer', sdp: 'a'.repeat(5_000_000) } }, 'a'.repeat(5_000_000)],
  },
  'binary messages': { say: () => [Buffer.alloc(0), Buffer.from('{"type":"peers","peerIds":["a"]}'), Buffer.alloc(1_000_000, 7)] },
  'errors with words that nobody knows': { code: 'signaling', say: () => [{ type: 'error', code: 'a'.repeat(10_000), message: 'b'.repeat(100_000) }, { type: 'error' }] },
};

/** Goes through all that has to hold while a page is lied to. */
async function standsItsGround(t, liar, config, page, code) {
  await page.exec('CREATE TABLE t (id TEXT PRIMARY KEY)');
  await page.exec("INSERT INTO t VALUES ('before')");
  if (code !== undefined) await page.hears('error', code);
  liar.joined = () => undefined;
  const friend = await open(t, config);
  await friend.sees('SELECT id FROM t', [['before']]);
  await friend.exec("INSERT INTO t VALUES ('from a friend')");
  await page.sees('SELECT id FROM t ORDER BY id', [['before'], ['from a friend']]);
  assert.deepEqual((await page.page.evaluate(() => battery.getPeers())).length, 1);
  const { most } = await page.page.evaluate(() => connections);
  t.diagnostic(`${most} connections at once`);
  assert.ok(most <= MOST_CONNECTIONS, `${most} connections at once`);
  const told = await page.page.evaluate(() => events.filter(([event]) => event === 'error').map(([, { message }]) => message));
  for (const message of told) assert.ok(message.length < 500, `a message for people: ${message.slice(0, 1000)}`);
  assert.ok(told.length < 30, `told ${told.length} times: ${told.slice(0, 40).join('\n')}`);
}

for (const [name, { code, say }] of Object.entries(LIES)) {
  test(`the server sends ${name}`, { timeout: WATCHDOG_MS }, async (t) => {
    const liar = await Liar.start();
    t.after(() => liar.close());
    // After the honest answer, so that it is in the room.
    liar.joined = (client) => setImmediate(() => say(client.peerId).forEach((lie) => client.say(lie)));
    const config = { signalingUrl: liar.signal, token: newToken(), sealed: false };
    await standsItsGround(t, liar, config, await open(t, config), code);
  });
}

test('the server closes again and again, at once or after a word', { timeout: WATCHDOG_MS }, async (t) => {
  const liar = await Liar.start();
  t.after(() => liar.close());
  const endings = [
    ({ socket }) => socket.close(),
    ({ socket }) => socket.close(1008, 'a'.repeat(123)),
    ({ socket }) => socket.terminate(),
    (client) => {
      client.say({ type: 'error', code: 'room-full', message: 'full' });
      client.socket.close();
    },
  ];
  liar.came = (client) => {
    const end = endings.pop();
    end?.(client);
    return end === undefined;
  };
  const config = { signalingUrl: liar.signal, token: newToken() };
  const page = await open(t, config);
  await page.hears('error');
  await page.page.evaluate(() => until('the server to take it in', () => events.some(([event]) => event === 'online')));
  assert.equal(endings.length, 0);
  await standsItsGround(t, liar, config, page);
});

test('the server has two offer to each other at the same moment', { timeout: WATCHDOG_MS }, async (t) => {
  const liar = await Liar.start();
  t.after(() => liar.close());
  // Each is told of the other as if it had come later itself.
  liar.joined = (client, others) => {
    for (const one of [client, ...others]) one.say({ type: 'peers', peerIds: [client, ...others].filter((other) => other !== one).map(({ peerId }) => peerId) });
    return false;
  };
  const config = { signalingUrl: liar.signal, token: newToken() };
  const [ada, bob] = [await open(t, config), await open(t, config)];
  await Promise.all([ada.meets(1), bob.meets(1)]);
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await bob.sees('SELECT count(*) FROM t', [[0]]);
});
