// How it stands with peers, and how far a sync is: in every tab the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, startFirefox } from './harness.mjs';

const my = stage({ chromium: startChromium, firefox: startFirefox });

const FILL = `INSERT INTO t WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  SELECT i, hex(randomblob(50)) FROM n`;

async function open(t, config, browser = my.chromium) {
  const page = await browser.page();
  t.after(() => (page.context?.() ?? page.browserContext()).close());
  return Peer.open(page, my.server.url, config);
}

/** Waits until everything that is to be known of the only peer is. */
function statusOf(peer) {
  return peer.page.evaluate(() =>
    until('a whole status', async () => {
      const { online, peers } = await battery.getStatus();
      const [status] = peers;
      return online && status?.state === 'connected' && status.roundTripMs !== null && status.relayed !== null && status.weLack === 0 && status;
    }),
  );
}

function progressOf(peer) {
  return peer.page.evaluate(() => until('the end', () => {
    const told = events.filter(([event]) => event === 'sync-progress').map(([, peer, { done, total }]) => ({ peer, done, total }));
    return told.some(({ done, total }) => done === total) && told;
  }));
}

test('each tab tells the same of every peer, and of how far it is', async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const ada = await open(t, config);
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body)');
  await ada.exec(FILL);
  const empty = await ada.page.evaluate(() => battery.getStatus());
  assert.deepEqual(empty.peers, []);

  const bob = await open(t, config);
  const second = await Peer.open(await bob.page.context().newPage(), my.server.url, config);
  await bob.sees('SELECT count(*) FROM t', [[20_000]]);
  const told = await progressOf(bob);
  const [last] = told.slice(-1);
  assert.deepEqual([last.done, last.peer], [last.total, (await statusOf(bob)).peer]);
  assert.ok(last.total >= 20_000 && told.length >= 3 && told.slice(0, -1).every(({ done, total }) => done < total), JSON.stringify(told));

  const [one, other] = [await statusOf(bob), await statusOf(second)];
  for (const status of [one, other]) {
    const { roundTripMs, sentBytes, receivedBytes, ...rest } = status;
    assert.deepEqual(rest, { peer: one.peer, state: 'connected', relayed: false, peerLacks: 0, weLack: 0 });
    assert.ok(roundTripMs < 5_000 && sentBytes > 100 && receivedBytes > 500_000, JSON.stringify(status));
  }
  // A large transaction goes the other way.
  await second.exec('UPDATE t SET body = hex(randomblob(50))');
  const back = await progressOf(ada);
  assert.deepEqual([back.at(-1).done, back.at(-1).total], [20_000, 20_000]);
  const heard = await progressOf(bob);
  assert.equal(heard.length, told.length, 'what one sends is no progress');
});

test('Firefox says which way a connection goes', async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [ada, bob] = [await open(t, config), await open(t, config, my.firefox)];
  await Promise.all([ada.meets(1), bob.meets(1)]);
  for (const peer of [ada, bob]) assert.equal((await statusOf(peer)).relayed, false);
});
