// Who is there and who is gone is what the connections say, not what the signaling server says.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { each, leave, MortalBrowser, newToken, PAIRS, Peer, Server, stage, startChromium, startFirefox, WATCHDOG_MS } from './harness.mjs';
import { Liar } from './liar.mjs';

const my = stage({ chromium: startChromium, firefox: startFirefox });

async function join(t, browser, config) {
  const peer = await Peer.open(await my[browser].page(), my.server.url, config);
  t.after(() => leave(peer.page));
  return peer;
}

// The first one waits for a silence of 15 s.
describe('who is gone', { concurrency: true }, () => {
  test('a peer whose browser is killed is gone, though there is no server to say so', { timeout: 3 * WATCHDOG_MS }, async (t) => {
    const server = await Server.start(my.folder);
    t.after(() => server.stop());
    const rooms = [];
    await each(PAIRS, async ([survivor, killed], n) => {
      const config = { signalingUrl: server.signal, token: newToken() };
      const ada = await join(t, survivor, config);
      const mortal = new MortalBrowser(killed);
      t.after(() => mortal.remove());
      const bob = await Peer.open(await mortal.start(), my.server.url, config);
      await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
      await bob.sees('SELECT count(*) FROM t', [[0]]);
      rooms[n] = { ada, bob, mortal };
    });
    await server.stop();
    await each(rooms, async ({ ada, bob, mortal }) => {
      await Promise.all([ada.hears('error', 'signaling-unreachable'), bob.hears('error', 'signaling-unreachable')]);
      // What is connected stays so.
      await bob.exec('INSERT INTO t VALUES (1)');
      await ada.sees('SELECT id FROM t', [[1]]);
      assert.equal(await ada.page.evaluate(() => events.some(([event]) => event === 'peer-leave')), false);

      const [name] = await ada.page.evaluate(() => battery.getPeers());
      await mortal.kill();
      assert.deepEqual(await ada.hears('peer-leave'), ['peer-leave', name]);
      await ada.meets(0);
      await ada.exec('INSERT INTO t VALUES (2)');
      assert.deepEqual(await ada.rows('SELECT id FROM t'), [[1], [2]]);
    });
  });

  test('a peer of whom the server says that it left, and who did not, stays', { timeout: WATCHDOG_MS }, async (t) => {
    const liar = await Liar.start();
    t.after(() => liar.close());
    const config = { signalingUrl: liar.signal, token: newToken() };
    const [ada, bob] = [await join(t, 'chromium', config), await join(t, 'firefox', config)];
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
    await bob.sees('SELECT count(*) FROM t', [[0]]);
    const everyone = liar.everyone();
    for (const one of everyone) {
      for (const { peerId } of everyone) one.say({ type: 'peer-leave', peerId });
      one.say({ type: 'peers', peerIds: [] });
      // Told, and so a sign that what was said before has arrived.
      one.say('the end');
    }
    await Promise.all([ada.hears('error', 'signaling'), bob.hears('error', 'signaling')]);
    await ada.exec('INSERT INTO t VALUES (1)');
    await bob.exec('INSERT INTO t VALUES (2)');
    for (const peer of [ada, bob]) {
      await peer.sees('SELECT id FROM t', [[1], [2]]);
      const heard = await peer.page.evaluate(() => events.map(([event]) => event));
      assert.deepEqual([heard.filter((event) => event === 'peer-join').length, heard.includes('peer-leave')], [1, false]);
    }
  });
});
