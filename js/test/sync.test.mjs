// Two browsers, one database: what the library is for. Both are Chromium profiles of their own; the server is the real one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agree, newToken, Peer, Server, stage, startChromium } from './harness.mjs';

const NOTES = 'CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, content TEXT, stars INTEGER)';

const my = stage({ chromium: startChromium });

/** Peers in one room with a server of their own, which may be down. */
async function room(t, count, { down = false } = {}) {
  const server = down ? await Server.down() : await Server.start();
  t.after(() => server.stop());
  const config = { signalingUrl: server.signal, token: newToken() };
  const peers = [];
  for (let i = 0; i < count; i++) {
    const peer = await Peer.open(await my.chromium.page(), my.server.url, config);
    t.after(() => peer.page.context().close());
    peers.push(peer);
  }
  return { server, config, peers };
}

test('rows written at the same time on both sides are on both sides', async (t) => {
  const { peers: [ada, bob] } = await room(t, 2);
  await Promise.all([ada.exec(NOTES), bob.exec(NOTES)]);
  await Promise.all([ada.meets(1), bob.meets(1)]);
  const write = (peer, name) =>
    peer.page.evaluate(async (name) => {
      for (let i = 0; i < 20; i++) await battery.exec('INSERT INTO notes VALUES (?, ?, ?)', [`${name}-${i}`, `from ${name}`, i]);
    }, name);
  await Promise.all([write(ada, 'ada'), write(bob, 'bob')]);
  for (const peer of [ada, bob]) await peer.sees('SELECT count(*), count(DISTINCT id) FROM notes', [[40, 40]]);
  const [notes] = await agree([ada, bob], ['notes']);
  assert.equal(notes[0], "text 'ada-0' | text 'from ada' | integer 0");
  const [, peerId, change] = await bob.hears('sync');
  assert.deepEqual(await bob.page.evaluate(() => battery.getPeers()), [peerId]);
  assert.ok(change.operations > 0);
});

test('edits made offline meet: columns apart, newest write of one column, update after a delete', async (t) => {
  const { server, peers: [ada, bob] } = await room(t, 2);
  await ada.exec(NOTES);
  await ada.exec("INSERT INTO notes VALUES ('both', 'old', 1), ('same', 'old', 1), ('back', 'old', 7), ('gone', 'old', 1)");
  await bob.sees('SELECT count(*) FROM notes', [[4]]);

  await server.stop();
  await Promise.all([ada.reload(), bob.reload()]);
  await ada.exec("UPDATE notes SET content = 'by ada' WHERE id IN ('both', 'same')");
  await ada.exec("DELETE FROM notes WHERE id IN ('back', 'gone')");
  await bob.exec("UPDATE notes SET stars = 5 WHERE id = 'both'");
  await bob.exec("UPDATE notes SET content = 'by bob' WHERE id IN ('same', 'back')");
  assert.deepEqual(await ada.rows('SELECT count(*) FROM notes'), [[2]]);
  await server.start();

  const [notes] = await agree([ada, bob], ['notes']);
  assert.deepEqual(notes, [
    "text 'back' | text 'by bob' | integer 7",
    "text 'both' | text 'by ada' | integer 5",
    "text 'same' | text 'by bob' | integer 1",
  ]);
});

test('of two rows that want one value both sides show the newer, and are told of the other', async (t) => {
  const { server, peers: [ada, bob] } = await room(t, 2);
  await ada.exec('CREATE TABLE users (id TEXT PRIMARY KEY, nick TEXT UNIQUE)');
  await bob.sees('SELECT count(*) FROM users', [[0]]);
  await server.stop();
  await Promise.all([ada.reload(), bob.reload()]);
  await ada.exec("INSERT INTO users VALUES ('a', 'neo')");
  await bob.exec("INSERT INTO users VALUES ('b', 'neo')");
  await server.start();

  const [users] = await agree([ada, bob], ['users']);
  assert.deepEqual(users, ["text 'b' | text 'neo'"]);
  for (const peer of [ada, bob]) {
    const told = { table: 'users', pk: '["a"]', reason: 'UNIQUE constraint failed: users.nick', withPk: '["b"]' };
    assert.deepEqual(await peer.hears('conflict'), ['conflict', told]);
    assert.deepEqual(await peer.rows('SELECT * FROM rtc_conflicts'), [['users', '["a"]', told.reason, '["b"]']]);
  }
  await ada.exec("UPDATE users SET nick = 'trinity' WHERE id = 'b'");
  for (const peer of [ada, bob]) await peer.sees('SELECT id FROM users ORDER BY id', [['a'], ['b']]);
});

test('a reload loses nothing: of one, of both, with the server up and down', async (t) => {
  const { server, peers: [ada, bob] } = await room(t, 2);
  await ada.exec(NOTES);
  await bob.sees("SELECT name FROM sqlite_schema WHERE name = 'notes'", [['notes']]);
  await Promise.all([ada.exec("INSERT INTO notes VALUES ('a', 'x', 1)"), bob.exec("INSERT INTO notes VALUES ('b', 'y', 2)")]);
  const [notes] = await agree([ada, bob], ['notes']);
  const version = await ada.page.evaluate(() => battery.getLocalVersion());

  await ada.reload();
  assert.deepEqual(await ada.dump('notes'), notes);
  assert.ok((await ada.page.evaluate(() => battery.getLocalVersion())) >= version);
  await ada.meets(1);
  await ada.exec("UPDATE notes SET stars = 3 WHERE id = 'b'");
  await bob.sees("SELECT stars FROM notes WHERE id = 'b'", [[3]]);

  await Promise.all([ada.reload(), bob.reload()]);
  await ada.meets(1);
  const [later] = await agree([ada, bob], ['notes']);

  await server.stop();
  await Promise.all([ada.reload(), bob.reload()]);
  assert.deepEqual(await ada.dump('notes'), later);
  assert.deepEqual(await bob.dump('notes'), later);
  await bob.hears('error', 'signaling-unreachable');
});

test('what was on its way to the disk when the tab was closed is there or not, and never half', async (t) => {
  const { peers: [ada] } = await room(t, 1, { down: true });
  await ada.exec(NOTES);
  await ada.page.evaluate(() => {
    for (let i = 0; i < 50; i++) {
      battery.exec("BEGIN; INSERT INTO notes VALUES (?, 'first', 1); INSERT INTO notes VALUES (?, 'second', 2); COMMIT", [`${i}a`, `${i}b`]);
    }
    return battery.exec("INSERT INTO notes VALUES ('safe', '', 0)");
  });
  await ada.page.evaluate(() => void battery.exec("UPDATE notes SET stars = stars + 1"));
  await ada.reload();
  const [[count, stars, safe]] = await ada.rows("SELECT count(*), sum(stars), sum(id = 'safe') FROM notes");
  assert.deepEqual([count, safe], [101, 1]);
  assert.ok(stars === 150 || stars === 150 + 101, `${stars} stars`);
});

test('20 MB reach a newcomer', async (t) => {
  const { server, config, peers: [ada] } = await room(t, 1);
  await ada.exec('CREATE TABLE files (id INTEGER PRIMARY KEY, body)');
  await ada.exec(`INSERT INTO files
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    SELECT i, CASE i % 2 WHEN 0 THEN randomblob(5000) ELSE hex(randomblob(5000)) END FROM n`);
  await ada.exec('INSERT INTO files VALUES (2000, randomblob(12500000))');
  assert.deepEqual(await ada.rows('SELECT sum(length(body)) FROM files'), [[500 * 5000 + 500 * 10000 + 12500000]]);

  const bob = await Peer.open(await my.chromium.page(), my.server.url, { ...config, signalingUrl: server.signal });
  t.after(() => bob.page.context().close());
  await bob.sees('SELECT count(*), sum(length(body)) FROM files', [[1001, 20000000]]);
  const digest = async () => {
    const { values } = await battery.exec('SELECT id, typeof(body), body FROM files ORDER BY id');
    const bytes = await new Blob(values.flat().map((value) => (value instanceof Uint8Array ? value : `${value};`))).arrayBuffer();
    return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))).join();
  };
  assert.equal(await bob.page.evaluate(digest), await ada.page.evaluate(digest));
});

test('a transaction over several exec calls arrives whole', async (t) => {
  const { peers: [ada, bob] } = await room(t, 2);
  await ada.exec('CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER)');
  await bob.sees('SELECT count(*) FROM accounts', [[0]]);
  const seen = bob.page.evaluate(async () => {
    const counts = new Set();
    await until('all accounts', async () => {
      const { values } = await battery.exec('SELECT count(*), coalesce(sum(cents), 0) FROM accounts');
      counts.add(values[0].join());
      setTimeout(stirred);
      return values[0][0] === 3000;
    });
    return [...counts];
  });
  const fill = `INSERT INTO accounts WITH RECURSIVE n(i) AS (VALUES (?) UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i, ? FROM n`;
  await ada.exec('BEGIN');
  await ada.exec(fill, [1, 1000, 1]);
  await ada.exec(fill, [1001, 2000, 2]);
  await ada.exec(fill, [2001, 3000, 3]);
  await ada.exec('UPDATE accounts SET cents = cents - 2');
  await ada.exec('COMMIT');
  assert.deepEqual(await seen, ['0,0', '3000,0']);
  await agree([ada, bob], ['accounts']);
});

test('a transaction that is rolled back is nowhere', async (t) => {
  const { peers: [ada, bob] } = await room(t, 2);
  await ada.exec(NOTES);
  await bob.sees('SELECT count(*) FROM notes', [[0]]);
  await ada.exec('BEGIN');
  await ada.exec("INSERT INTO notes VALUES ('a', 'x', 1)");
  // What comes from others meanwhile waits, and is not lost.
  await bob.exec("INSERT INTO notes VALUES ('b', 'y', 2)");
  await ada.exec('ROLLBACK');
  await ada.exec("INSERT INTO notes VALUES ('c', 'z', 3)");
  for (const peer of [ada, bob]) await peer.sees('SELECT id FROM notes ORDER BY id', [['b'], ['c']]);
});

test('what execLocal writes stays here', async (t) => {
  const { peers: [ada, bob] } = await room(t, 2);
  await ada.exec(NOTES);
  await ada.page.evaluate(async () => {
    await battery.execLocal('CREATE TABLE drafts (id INTEGER PRIMARY KEY, text)');
    await battery.execLocal("INSERT INTO drafts VALUES (1, 'mine')");
    await battery.execLocal("INSERT INTO notes VALUES ('local', 'mine', 0)");
  });
  await ada.exec("INSERT INTO notes VALUES ('shared', 'ours', 0)");
  await bob.sees('SELECT id FROM notes', [['shared']]);
  assert.equal((await bob.dump('drafts')) ?? null, null);
  await ada.reload();
  assert.deepEqual(await ada.rows('SELECT text FROM drafts'), [['mine']]);
  assert.deepEqual(await ada.rows('SELECT id FROM notes ORDER BY id'), [['local'], ['shared']]);
});
