// What is large goes over a channel of its own, in small frames and never more than the channel may hold; live edits go over the other.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, Server, stage, startChromium } from './harness.mjs';

const my = stage({ chromium: startChromium });

/** Notes of every channel what was sent over it: bytes in all, the largest message, and the most that its buffer held. */
function spy() {
  globalThis.channels = {};
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (data) {
    const bytes = typeof data === 'string' ? data.length : data.byteLength;
    const seen = (channels[this.label] ??= { bytes: 0, largest: 0, buffered: 0 });
    send.call(this, data);
    seen.bytes += bytes;
    seen.largest = Math.max(seen.largest, bytes);
    seen.buffered = Math.max(seen.buffered, this.bufferedAmount);
  };
}

test('a newcomer gets 20 MB over the second channel while live edits go over the first', async (t) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const config = { signalingUrl: server.signal, token: newToken() };
  const open = async () => {
    const page = await my.chromium.page();
    await page.addInitScript(spy);
    const peer = await Peer.open(page, my.server.url, config);
    t.after(() => page.context().close());
    return peer;
  };
  const ada = await open();
  await ada.exec('CREATE TABLE files (id INTEGER PRIMARY KEY, body)');
  await ada.exec(`INSERT INTO files
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, randomblob(10000) FROM n`);
  const bob = await open();
  await bob.meets(1);
  for (let n = 0; n < 20; n++) await ada.exec('INSERT INTO files VALUES (?, 1)', [10_000 + n]);
  await bob.sees('SELECT count(*), sum(length(body)) FROM files', [[2020, 20_000_020]]);

  const { 'rtc-battery': first, 'rtc-battery-bulk': bulk, ...others } = await ada.page.evaluate(() => channels);
  assert.deepEqual(others, {});
  assert.ok(bulk.bytes > 20_000_000 && first.bytes < 100_000, `${first.bytes} and ${bulk.bytes} bytes`);
  assert.ok(bulk.largest <= 16 * 1024 && bulk.buffered <= 256 * 1024 + 16 * 1024, JSON.stringify(bulk));
});
