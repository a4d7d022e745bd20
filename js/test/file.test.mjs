// A database as a plain SQLite file: out to the real sql.js, and in from it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import initSqlJs from 'sql.js';
import { agree, newToken, Peer, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: startChromium });

/** Bytes cross to and from the page as base64. */
const exported = async (peer) =>
  Buffer.from(
    await peer.page.evaluate(async () => {
      const bytes = await battery.exportDatabase();
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    }),
    'base64',
  );
const imports = (peer, bytes) =>
  peer.page.evaluate(
    (text) => battery.importDatabase(Uint8Array.from(atob(text), (char) => char.charCodeAt(0))).catch((error) => error.code),
    Buffer.from(bytes).toString('base64'),
  );

test('sql.js opens what was exported; what it made is imported, synced and kept', { timeout: WATCHDOG_MS }, async (t) => {
  const SQL = await initSqlJs();
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [ada, bob] = await Promise.all(
    [0, 1].map(async () => {
      const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
      t.after(() => peer.page.context().close());
      return peer;
    }),
  );
  await ada.exec("CREATE TABLE notes (id TEXT PRIMARY KEY, n); INSERT INTO notes VALUES ('a', 9007199254740993), ('b', x'00ff')");

  const plain = new SQL.Database(await exported(ada));
  const names = plain.exec("SELECT group_concat(name) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'");
  assert.deepEqual(names[0].values, [['notes']]);
  assert.deepEqual(plain.exec('SELECT id, quote(n) FROM notes ORDER BY id')[0].values, [
    ['a', '9007199254740993'],
    ['b', "X'00FF'"],
  ]);

  plain.run("UPDATE notes SET n = 'theirs'; INSERT INTO notes VALUES ('c', 1.5); CREATE TABLE tags (tag TEXT PRIMARY KEY); INSERT INTO tags VALUES ('new')");
  plain.run('CREATE TABLE nokey (x)');
  const leftOut = await imports(ada, plain.export());
  assert.equal(leftOut.length, 1);
  assert.match(leftOut[0], /nokey/);
  await bob.sees('SELECT id, quote(n) FROM notes ORDER BY id', [['a', '9007199254740993'], ['b', "X'00FF'"], ['c', '1.5']]);
  await bob.sees('SELECT * FROM tags', [['new']]);

  assert.equal(await imports(ada, Buffer.from('no database at all')), 'bad-file');
  await ada.reload();
  await agree([ada, bob], ['notes', 'tags']);
});
