// A signaling server that does what it can with what goes through it: reads along, seats somebody at the table, swaps fingerprints. Without the token
// it learns nothing and gets nobody in.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { each, keepConnections, leave, newToken, PAIRS, Peer, runFirst, Server, stage, startChromium, startFirefox, WATCHDOG_MS } from './harness.mjs';
import { Liar } from './liar.mjs';

let plainSite;
const my = stage(
  { chromium: startChromium, firefox: startFirefox, plain: async () => ({ close: () => plainSite?.stop() }) },
  async () => {
    plainSite = await Server.start(fileURLToPath(new URL('plain', import.meta.url)));
  },
);

async function startLiar(t) {
  const liar = await Liar.start();
  t.after(() => liar.close());
  return liar;
}

async function ours(t, browser, config) {
  const page = await my[browser].page();
  t.after(() => leave(page));
  await runFirst(page, keepConnections);
  return Peer.open(page, my.server.url, config);
}

/** Somebody whom the server brings into a room, and who is not told its token. */
async function mallory(t, liar) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.goto(`${plainSite.url}/plain-peer.html`);
  await page.evaluate(async (options) => {
    window.peer = await plainPeer.create(options);
  }, { signalingUrl: liar.signal, token: 'not the token', role: 'offerer' });
  return page;
}

for (const sealed of [true, false]) {
  test(`somebody whom the server brings in ${sealed ? 'gets no channel' : 'reads everything, where nothing is sealed'}`, { timeout: WATCHDOG_MS }, async (t) => {
    const liar = await startLiar(t);
    const [seen, tokens] = [[], []];
    liar.roomOf = (token) => {
      tokens.push(token);
      return 'one room for all';
    };
    liar.relayed = (message) => {
      seen.push(message);
      return message;
    };
    const config = { signalingUrl: liar.signal, token: newToken(), sealed };
    const ada = await ours(t, 'chromium', config);
    await ada.exec("CREATE TABLE notes (id TEXT PRIMARY KEY, content TEXT); INSERT INTO notes VALUES ('1', 'secret')");
    const page = await mallory(t, liar);
    const eve = await page.evaluate(() => peer.peerId);
    if (!sealed) {
      await page.evaluate(() => peer.until(() => peer.rows('notes').length === 1));
      return;
    }
    await ada.hears('error', 'signaling');
    const bob = await ours(t, 'chromium', config);
    await bob.sees('SELECT content FROM notes', [['secret']]);
    assert.deepEqual(await page.evaluate(() => peer.peers()), []);
    assert.equal((await ada.page.evaluate(() => battery.getPeers())).length, 1);
    const relayed = seen.filter(({ from }) => from !== eve).map((message) => JSON.stringify(message));
    for (const type of ['offer', 'answer', 'ice']) assert.ok(relayed.some((message) => message.includes(`"type":"${type}"`)), type);
    for (const secret of ['fingerprint', 'ice-pwd', 'IN IP4', 'typ host', config.token]) {
      assert.ok(!relayed.concat(tokens).some((text) => text.includes(secret)), `the server saw ${secret}`);
    }
  });
}

// Each step has its own watchdog, which says what it waited for: pages take their time on a busy machine.
test('a server that swaps what goes through it opens no channel, and one that stops doing so does', { timeout: 4 * WATCHDOG_MS }, async (t) => {
  const liar = await startLiar(t);
  liar.relayed = ({ sdp, ...message }) => {
    if (sdp === undefined) return message;
    // A fingerprint is among these, wherever it is.
    const swapped = sdp.sdp.replace(/a=fingerprint:sha-256 ../, 'a=fingerprint:sha-256 00').replace(/[A-Z](?=[^.]*$)/, (letter) => (letter === 'A' ? 'B' : 'A'));
    return { ...message, sdp: { ...sdp, sdp: swapped } };
  };
  const rooms = [];
  await each(PAIRS, async (browsers, n) => {
    const config = { signalingUrl: liar.signal, token: newToken() };
    const ada = await ours(t, browsers[0], config);
    await ada.exec('CREATE TABLE notes (id TEXT PRIMARY KEY)');
    const bob = await ours(t, browsers[1], config);
    rooms[n] = [ada, bob];
    for (const peer of rooms[n]) {
      await peer.hears('error', 'signaling');
      assert.deepEqual(await peer.page.evaluate(() => [battery.getPeers(), connections.filter(({ sctp }) => sctp?.state === 'connected')]), [[], []]);
    }
  });
  liar.relayed = (message) => message;
  await each(rooms, async ([, bob]) => {
    await bob.reload();
    await bob.sees('SELECT count(*) FROM notes', [[0]]);
  });
});
