// Pages that go away and come back: with the back/forward cache on, a page that was left is frozen, worker and all, and may be thawed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium } from './harness.mjs';

const my = stage({ chromium: () => startChromium({ backForwardCache: true }) });

async function join(t, config) {
  const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
  t.after(() => peer.page.context().close());
  return peer;
}

const elsewhere = () => `${my.server.url}/demo/style.css`;

test('a page that was left is gone for its peers, and back in the room when it is gone back to', async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [ada, bob] = [await join(t, config), await join(t, config)];
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await bob.sees('SELECT count(*) FROM t', [[0]]);
  await bob.page.evaluate(() => {
    window.shown = new Promise((resolve) => addEventListener('pageshow', ({ persisted }) => resolve(persisted)));
  });
  await bob.page.goto(elsewhere());
  await ada.meets(0);
  await ada.exec('INSERT INTO t VALUES (1)');
  await bob.page.goBack({ waitUntil: 'commit' });
  assert.equal(await bob.page.evaluate(() => shown), true);
  await bob.sees('SELECT id FROM t', [[1]]);
  await bob.exec('INSERT INTO t VALUES (2)');
  await ada.sees('SELECT id FROM t', [[1], [2]]);
});

test('a page that was left does not keep its database from the next one', async (t) => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const ada = await join(t, config);
  await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  await ada.page.goto(elsewhere());
  const again = await Peer.open(ada.page, my.server.url, config);
  assert.deepEqual(await again.rows('SELECT count(*) FROM t'), [[0]]);
});
