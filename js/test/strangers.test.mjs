// Ours in one room with peers that were written from the specification alone (`plain/`), in every role and order of arrival.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import initSqlJs from 'sql.js';
import { agree, newToken, Peer, Server, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const NOTES = 'CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, content TEXT)';

let plainSite;
const my = stage(
  { chromium: startChromium, plain: async () => ({ close: () => plainSite?.stop() }) },
  async () => {
    plainSite = await Server.start(fileURLToPath(new URL('plain', import.meta.url)));
  },
);

async function ours(t, token) {
  const peer = await Peer.open(await my.chromium.page(), my.server.url, { signalingUrl: my.server.signal, token, sealed: false });
  t.after(() => peer.page.context().close());
  await peer.exec(NOTES);
  return peer;
}

/** A plain peer that knows one row before it meets anybody. */
async function plain(t, token, role, id) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.goto(`${plainSite.url}/plain-peer.html`);
  await page.evaluate(
    async ([options, id]) => {
      window.peer = await plainPeer.create(options);
      peer.insert('notes', { id }, { content: `from ${id}` });
    },
    [{ signalingUrl: my.server.signal, token, role }, id],
  );
  return page;
}

/** Waits until a plain peer shows these notes: id to content. */
const shows = (page, notes) =>
  page.evaluate((expected) => {
    const shown = () => JSON.stringify(Object.fromEntries(peer.rows('notes').map(({ id, content }) => [id, content]).sort()));
    return peer.until(() => shown() === expected);
  }, JSON.stringify(Object.fromEntries(Object.entries(notes).sort())));

for (const role of ['newcomer', 'offerer', 'answerer']) {
  for (const first of ['ours', 'plain']) {
    test(`${first} first, the plain peer as ${role}: both have everything, and live operations go both ways`, { timeout: WATCHDOG_MS }, async (t) => {
      const token = newToken();
      let ada;
      let bob;
      if (first === 'ours') {
        ada = await ours(t, token);
        bob = await plain(t, token, role, 'plain');
      } else {
        bob = await plain(t, token, role, 'plain');
        ada = await ours(t, token);
      }
      await ada.exec("INSERT INTO notes VALUES ('ours', 'from ours')");
      await ada.sees('SELECT id FROM notes ORDER BY id', [['ours'], ['plain']]);
      await shows(bob, { ours: 'from ours', plain: 'from plain' });

      await bob.evaluate(() => peer.update('notes', { id: 'ours' }, { content: 'changed' }));
      await ada.sees("SELECT content FROM notes WHERE id = 'ours'", [['changed']]);
      await ada.exec("UPDATE notes SET content = 'again' WHERE id = 'plain'; DELETE FROM notes WHERE id = 'ours'");
      await shows(bob, { plain: 'again' });
      const types = await bob.evaluate(() => [...new Set(peer.received.map(({ data }) => (typeof data === 'string' ? JSON.parse(data).type : 'binary')))]);
      assert.ok(!types.includes('binary'), `a plain peer gets what the specification knows: ${types}`);
    });
  }
}

test('a plain peer sends its database as a file of sql.js, and a ping: the file fills gaps, is passed on, and a pong comes', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const [ada, bob] = [await ours(t, token), await ours(t, token)];
  await ada.exec("INSERT INTO notes VALUES ('both', 'from ours')");
  const { Database } = await initSqlJs();
  const database = new Database();
  database.run("CREATE TABLE notes (id TEXT PRIMARY KEY, content TEXT); INSERT INTO notes VALUES ('both', 'from the file'), ('file', 'Grüße 🔋')");
  const file = Buffer.from(database.export()).toString('base64');
  const cleo = await plain(t, token, 'newcomer', 'cleo');
  await cleo.evaluate(async (database) => {
    await peer.until(() => peer.peers().length === 2);
    const [to] = peer.peers();
    peer.send(to, { type: 'sync-full', database });
    peer.send(to, { type: 'ping' });
    await peer.until(() => peer.received.some(({ peerId, message }) => peerId === to && message.type === 'pong'));
  }, file);
  for (const peer of [ada, bob]) {
    await peer.sees('SELECT id, content FROM notes ORDER BY id', [['both', 'from ours'], ['cleo', 'from cleo'], ['file', 'Grüße 🔋']]);
  }
});

test('in a mixed room everything reaches everyone, relayed where they are not connected', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const ada = await ours(t, token);
  const bob = await ours(t, token);
  // Two that never offer: they are connected to ours and not to each other, and do not relay.
  const cleo = await plain(t, token, 'answerer', 'cleo');
  const dan = await plain(t, token, 'answerer', 'dan');
  await ada.exec("INSERT INTO notes VALUES ('ada', 'from ada')");
  await Promise.all([shows(cleo, { ada: 'from ada', cleo: 'from cleo', dan: 'from dan' }), shows(dan, { ada: 'from ada', cleo: 'from cleo', dan: 'from dan' })]);
  await cleo.evaluate(() => peer.update('notes', { id: 'ada' }, { content: 'by cleo' }));
  await shows(dan, { ada: 'by cleo', cleo: 'from cleo', dan: 'from dan' });
  await agree([ada, bob], ['notes']);
  await bob.sees("SELECT content FROM notes WHERE id = 'ada'", [['by cleo']]);
});
