// Chromium and Firefox in one room: the short path.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agree, newToken, Peer, stage, startChromium, startFirefox } from './harness.mjs';

const my = stage({ Chromium: startChromium, Firefox: startFirefox });

for (const [first, second] of [['Chromium', 'Firefox'], ['Firefox', 'Chromium']]) {
  test(`${first}, then ${second}`, async (t) => {
    const config = { signalingUrl: my.server.signal, token: newToken() };
    const open = async (name) => {
      const peer = await Peer.open(await my[name].page(), my.server.url, config);
      t.after(() => peer.close());
      return peer;
    };
    const ada = await open(first);
    await ada.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)');
    await ada.exec("INSERT INTO t VALUES (1, 1.0, x'00ff'), (2, 9007199254740993, 'Grüße 🔋'), (3, NULL, hex(randomblob(100000)))");
    const bob = await open(second);
    await bob.sees('SELECT count(*) FROM t', [[3]]);
    await Promise.all([ada.exec("UPDATE t SET a = 'ada' WHERE id = 1"), bob.exec("UPDATE t SET b = 'bob' WHERE id = 1")]);
    await bob.exec('DELETE FROM t WHERE id = 3');
    const [rows] = await agree([ada, bob], ['t']);
    assert.deepEqual(rows, ["integer 1 | text 'ada' | text 'bob'", "integer 2 | integer 9007199254740993 | text 'Grüße 🔋'"]);

    await bob.reload();
    assert.deepEqual(await bob.dump('t'), rows);
    await bob.meets(1);
    const order = await ada.page.evaluate(async () => {
      const peers = () => events.map(([event]) => event).filter((event) => event.startsWith('peer-'));
      await until('the peer to be back', () => peers().length === 3);
      return peers();
    });
    // A page that goes away says so: it has left before it is back.
    assert.deepEqual(order, ['peer-join', 'peer-leave', 'peer-join']);
    await bob.exec('INSERT INTO t VALUES (4, 4, 4)');
    await ada.sees('SELECT a FROM t WHERE id = 4', [[4]]);
    await bob.page.evaluate(() => battery.disconnect());
    await ada.meets(0);
  });
}
