// The browser is killed with SIGKILL in the middle of a storm of writes, again and again on one profile: no write that was acknowledged is lost, none
// is there in part. RTC_BATTERY_KILLS says how often Chromium is (`cargo xtask soak` says 200).

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MortalBrowser, newToken, Peer, stage } from './harness.mjs';

const my = stage({});

const KILLS = Number(process.env.RTC_BATTERY_KILLS ?? 10);

/** Each write adds a row of some size and, in the same transaction, counts it; three are on their way at a time. Those that were answered are told at once. */
function storm({ page }, first) {
  return page.evaluate((first) => {
    let next = first;
    const write = async () => {
      for (;;) {
        const id = next++;
        await battery.exec(`BEGIN; INSERT INTO t VALUES (${id}, randomblob(${(id * 7919) % 9_000})); UPDATE c SET n = n + 1; COMMIT`);
        console.log(`answered ${id}`);
      }
    };
    void write();
    void write();
    void write();
  }, first);
}

describe('killed', { concurrency: true }, () => {
  for (const [name, kills] of [['chromium', KILLS], ['firefox', 5]]) {
    test(`${name}, killed ${kills} times while it writes, loses nothing that it acknowledged and keeps nothing in part`, { timeout: (kills + 2) * 30_000 }, async (t) => {
      const browser = new MortalBrowser(name);
      t.after(() => browser.remove());
      const config = { signalingUrl: my.server.signal, token: newToken() };
      const answered = new Set();
      for (let kill = 0; ; kill++) {
        const peer = await Peer.open(await browser.start(), my.server.url, config);
        await peer.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body); CREATE TABLE IF NOT EXISTS c (id INTEGER PRIMARY KEY, n); INSERT OR IGNORE INTO c VALUES (1, 0)');
        const ids = new Set((await peer.rows('SELECT id FROM t')).flat());
        assert.deepEqual(await peer.rows('PRAGMA integrity_check'), [['ok']]);
        assert.deepEqual(await peer.rows('SELECT n FROM c'), [[ids.size]], 'a transaction is there in part');
        const lost = [...answered].filter((id) => !ids.has(id));
        const found = lost.length > 0 && (await peer.page.evaluate(async () => JSON.stringify([events, await indexedDB.databases()])));
        assert.deepEqual(lost, [], `lost by kill ${kill} of ${answered.size} that were acknowledged; events and what is stored: ${found}`);
        if (kill === kills) break;

        // Not always at the same place in what it does.
        const enough = answered.size + 30 + ((kill * 37) % 90);
        const stormy = new Promise((resolve) => {
          peer.page.on('console', (message) => {
            const id = /^answered (\d+)$/.exec(message.text())?.[1];
            if (id !== undefined) answered.add(Number(id));
            if (answered.size >= enough) resolve();
          });
        });
        await storm(peer, Math.max(0, ...ids) + 1);
        await stormy;
        await browser.kill();
      }
      assert.ok(answered.size >= kills * 30, `only ${answered.size} writes: this test shows little`);
      t.diagnostic(`${kills} kills, ${answered.size} acknowledged writes, none lost`);
    });
  }
});
