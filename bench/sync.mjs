// What a user waits for when two pages sync: a newcomer's first sync beside the raw channel, the bare insert and Yjs; one edit from `exec` to the other
// page's query; edits while 50 MB go by. Chromium, wall time, ratios in one run, medians. Run: cargo xtask bench sync

import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { build } from '../js/node_modules/esbuild/lib/main.js';
import { makeSite, newToken, Peer, Server, startChromium } from '../js/test/harness.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const [rounds = 5, rows = 100_000, edits = 200, bulkMegabytes = 50] = process.argv.slice(2).map(Number);
/** y-webrtc is not waited for longer, in milliseconds. */
const PATIENCE_MS = 20_000;

const site = makeSite();
await build({
  stdin: { contents: "export * as Y from 'yjs'; export { WebrtcProvider } from 'y-webrtc';", resolveDir: HERE },
  bundle: true,
  format: 'iife',
  globalName: 'yjs',
  define: { global: 'globalThis', 'process.env': '{}' },
  outfile: join(site.folder, 'yjs.js'),
});
const server = await Server.start(site.folder);
const browser = await startChromium();

/** Given to every page: a clock that all pages of this machine share, in milliseconds, and the rows. */
function prepare() {
  globalThis.clock = () => performance.timeOrigin + performance.now();
  globalThis.rowsOf = (count) => Array.from({ length: count }, (_, n) => [`key ${n}`.padEnd(16), `title ${n}`.padEnd(20), `the body of item ${n}`.padEnd(80), n % 2, n + 0.5]);
  globalThis.SCHEMA = 'CREATE TABLE items (id TEXT PRIMARY KEY, title TEXT, body TEXT, done INTEGER, rank REAL)';
  globalThis.insertAll = async (run, count) => {
    await run('BEGIN');
    const rows = rowsOf(count);
    const calls = [];
    for (let n = 0; n < count; n += 100) {
      const part = rows.slice(n, n + 100);
      calls.push(run(`INSERT INTO items VALUES ${part.map(() => '(?, ?, ?, ?, ?)').join(', ')}`, part.flat()));
    }
    await Promise.all(calls);
    await run('COMMIT');
  };
}

async function open(config) {
  const page = await browser.page();
  await page.addInitScript(prepare);
  return Peer.open(page, server.url, config);
}

const close = (...peers) => Promise.all(peers.map((peer) => peer.page.context().close()));

/** Two bare pages with one data channel between them. */
async function rawPair() {
  const pages = [(await open()).page, (await open()).page];
  const [offerer, answerer] = pages;
  const gathered = () =>
    new Promise((resolve) => {
      if (connection.iceGatheringState === 'complete') resolve(JSON.stringify(connection.localDescription));
      else connection.onicegatheringstatechange = () => connection.iceGatheringState === 'complete' && resolve(JSON.stringify(connection.localDescription));
    });
  await offerer.evaluate(async () => {
    window.connection = new RTCPeerConnection();
    window.channel = connection.createDataChannel('raw');
    channel.binaryType = 'arraybuffer';
    await connection.setLocalDescription();
  });
  const offer = await offerer.evaluate(gathered);
  await answerer.evaluate(async (offer) => {
    window.connection = new RTCPeerConnection();
    window.opened = new Promise((resolve) => (connection.ondatachannel = ({ channel }) => resolve((window.channel = channel))));
    await connection.setRemoteDescription(JSON.parse(offer));
    await connection.setLocalDescription();
  }, offer);
  const answer = await answerer.evaluate(gathered);
  await offerer.evaluate(async (answer) => {
    const open = new Promise((resolve) => (channel.onopen = resolve));
    await connection.setRemoteDescription(JSON.parse(answer));
    await open;
  }, answer);
  await answerer.evaluate(() => opened.then(() => void (channel.binaryType = 'arraybuffer')));
  return { offerer, answerer, close: () => Promise.all(pages.map((page) => page.context().close())) };
}

/** How long so many bytes take over a raw channel, in frames of 16 KiB. */
async function rawTransfer(raw, bytes) {
  const arrived = raw.answerer.evaluate(
    (bytes) =>
      new Promise((resolve) => {
        let left = bytes;
        channel.onmessage = ({ data }) => (left -= data.byteLength) <= 0 && resolve(clock());
      }),
    bytes,
  );
  const begun = await raw.offerer.evaluate(async (bytes) => {
    channel.bufferedAmountLowThreshold = 128 * 1024;
    const frame = crypto.getRandomValues(new Uint8Array(16 * 1024));
    const begun = clock();
    for (let left = bytes; left > 0; left -= frame.length) {
      if (channel.bufferedAmount > 256 * 1024) await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
      channel.send(left < frame.length ? frame.subarray(0, left) : frame);
    }
    return begun;
  }, bytes);
  return (await arrived) - begun;
}

/** Half a round trip of a raw channel, the median of so many. */
async function rawHalfTrip(raw, count) {
  await raw.answerer.evaluate(() => void (channel.onmessage = ({ data }) => channel.send(data)));
  return raw.offerer.evaluate(async (count) => {
    const times = [];
    for (let n = 0; n < count; n++) {
      const back = new Promise((resolve) => (channel.onmessage = resolve));
      const begun = performance.now();
      channel.send('ping');
      await back;
      times.push((performance.now() - begun) / 2);
    }
    return times.sort((a, b) => a - b)[count >> 1];
  }, count);
}

/** A newcomer's first sync: how long from meeting the peer to the last row, and how many bytes came. */
async function firstSync(config) {
  const bob = await open();
  const result = await bob.page.evaluate(
    async ({ config, rows }) => {
      window.battery = new library.RTCBattery(config);
      let met;
      battery.on('peer-join', () => (met = clock()));
      let done;
      const whole = new Promise((resolve) => (done = resolve));
      battery.on('sync', async () => {
        const { values } = await battery.exec('SELECT count(*) FROM items').catch(() => ({ values: [[0]] }));
        if (values[0][0] >= rows) done(clock());
      });
      await battery.connect();
      const end = await whole;
      const { peers } = await battery.getStatus();
      return { ms: end - met, bytes: peers[0].receivedBytes };
    },
    { config, rows },
  );
  await close(bob);
  return result;
}

/** The bare insert of the same rows: no log, nobody to tell. */
async function bareInsert() {
  const peer = await open({ signalingUrl: server.signal, token: newToken() });
  const ms = await peer.page.evaluate(async (rows) => {
    const run = (sql, params) => battery.execLocal(sql, params);
    await run(SCHEMA);
    const begun = clock();
    await insertAll(run, rows);
    return clock() - begun;
  }, rows);
  await close(peer);
  return ms;
}

/** Yjs with the same rows: encoded, moved over a raw channel, applied. It counts what its own provider would have to do at least. */
async function yjsApply() {
  const peer = await open();
  await peer.page.addScriptTag({ url: '/yjs.js' });
  const result = await peer.page.evaluate((rows) => {
    const { Y } = yjs;
    const doc = new Y.Doc();
    doc.transact(() => {
      const items = doc.getMap('items');
      for (const [id, title, body, done, rank] of rowsOf(rows)) {
        const row = new Y.Map();
        for (const [name, value] of Object.entries({ title, body, done, rank })) row.set(name, value);
        items.set(id, row);
      }
    });
    const begun = clock();
    const update = Y.encodeStateAsUpdate(doc);
    const other = new Y.Doc();
    Y.applyUpdate(other, update);
    if (other.getMap('items').size !== rows) throw new Error('rows are missing');
    return { ms: clock() - begun, bytes: update.length };
  }, rows);
  await close(peer);
  return result;
}

/** The same through y-webrtc, from connecting to the last row; `undefined`: it did not come. */
async function yWebrtc(count) {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  const signaling = spawn('node', [join(HERE, 'node_modules/y-webrtc/bin/server.js')], { env: { ...process.env, PORT: String(port) }, stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => signaling.stdout.once('data', resolve));
  const join_ = async (fill) => {
    const peer = await open();
    await peer.page.addScriptTag({ url: '/yjs.js' });
    const waiting = peer.page.evaluate(
      async ({ fill, count, url, patienceMs }) => {
        const { Y, WebrtcProvider } = yjs;
        window.doc = new Y.Doc();
        const items = doc.getMap('items');
        if (fill) {
          doc.transact(() => {
            for (const [id, ...cells] of rowsOf(count)) {
              const row = new Y.Map();
              cells.forEach((value, n) => row.set(`c${n}`, value));
              items.set(id, row);
            }
          });
        }
        const begun = clock();
        const whole = new Promise((resolve) => {
          doc.on('update', () => items.size >= count && resolve(clock() - begun));
          setTimeout(() => resolve(undefined), patienceMs);
        });
        window.provider = new WebrtcProvider('room', doc, { signaling: [url], peerOpts: { config: { iceServers: [] } } });
        return fill ? undefined : whole;
      },
      { fill, count, url: `ws://127.0.0.1:${port}`, patienceMs: PATIENCE_MS },
    );
    return { peer, waiting };
  };
  const ada = await join_(true);
  await ada.waiting;
  const bob = await join_(false);
  const ms = await bob.waiting;
  await close(ada.peer, bob.peer);
  signaling.kill();
  return ms;
}

/** One edit after another: from before `exec` here to the answer of the other page's query, each in milliseconds. `enough` ends it. */
async function latencies(from, to, count, pauseMs) {
  await to.page.evaluate(() => {
    const listens = window.seen !== undefined;
    window.seen = [];
    if (listens) return;
    battery.on('sync', async () => {
      const { values } = await battery.exec('SELECT max(n) FROM live');
      window.seen.push([values[0][0], clock()]);
    });
  });
  const begun = await from.page.evaluate(
    async ({ count, pauseMs }) => {
      const begun = [];
      window.edits ??= 0;
      for (let i = 0; i < count; i++) {
        window.edits += 1;
        begun.push([window.edits, clock()]);
        await battery.exec('INSERT INTO live VALUES (?)', [window.edits]);
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
      return begun;
    },
    { count, pauseMs },
  );
  const last = begun.at(-1)[0];
  const seen = await to.page.evaluate((last) => until('the last edit', () => (setTimeout(stirred, 20), window.seen.some(([n]) => n >= last) && window.seen)), last);
  return begun.map(([n, at]) => Math.min(...seen.filter(([reached]) => reached >= n).map(([, clock]) => clock)) - at);
}

const sorted = (values) => [...values].sort((a, b) => a - b);
const median = (values) => sorted(values)[values.length >> 1];
const percentile = (values, part) => sorted(values)[Math.min(values.length - 1, Math.floor(values.length * part))];
const line = (what, figures) => console.log(`${what.padEnd(46)} ${figures}`);

console.log(`Chromium, wall time, ${rows} rows of five columns, medians of ${rounds}`);
const config = { signalingUrl: server.signal, token: newToken() };
const ada = await open(config);
await ada.page.evaluate(async (rows) => {
  await battery.exec(SCHEMA);
  await insertAll((sql, params) => battery.exec(sql, params), rows);
}, rows);
const taken = { sync: [], raw: [], insert: [], yjs: [] };
const raw = await rawPair();
let bytes;
let yjsBytes;
for (let round = 0; round < rounds; round++) {
  const sync = await firstSync(config);
  bytes = sync.bytes;
  taken.sync.push(sync.ms);
  taken.raw.push(await rawTransfer(raw, bytes));
  taken.insert.push(await bareInsert());
  const yjs = await yjsApply();
  yjsBytes = yjs.bytes;
  taken.yjs.push(yjs.ms + (await rawTransfer(raw, yjsBytes)));
}
await close(ada);
const [sync, rawMs, insert, yjs] = ['sync', 'raw', 'insert', 'yjs'].map((name) => median(taken[name]));
const bound = Math.max(rawMs, insert);
line('first sync, from meeting the peer', `${sync.toFixed(0)} ms, ${(bytes / 1e6).toFixed(2)} MB`);
line('the same bytes over a raw channel', `${rawMs.toFixed(0)} ms`);
line('the bare insert of the same rows (execLocal)', `${insert.toFixed(0)} ms`);
line('sync / the larger of the two (at most 2)', (sync / bound).toFixed(2));
line('Yjs: encode, raw channel, apply', `${yjs.toFixed(0)} ms, ${(yjsBytes / 1e6).toFixed(2)} MB; sync/Yjs ${(sync / yjs).toFixed(2)}`);
for (const count of [1_000, rows]) {
  const ms = await yWebrtc(count);
  line(`y-webrtc, ${count} rows, from connecting`, ms === undefined ? `nothing came in ${PATIENCE_MS / 1000} s` : `${ms.toFixed(0)} ms`);
}

const half = await rawHalfTrip(raw, edits);
await raw.close();
const live = { signalingUrl: server.signal, token: newToken() };
const [here, there] = [await open(live), await open(live)];
await here.exec('CREATE TABLE live (n INTEGER PRIMARY KEY)');
await there.sees('SELECT count(*) FROM live', [[0]]);
const quiet = await latencies(here, there, edits, 5);
line('half a round trip of a raw channel', `p50 ${half.toFixed(1)} ms`);
line("one edit, from exec to the other page's query", `p50 ${median(quiet).toFixed(1)} ms, p99 ${percentile(quiet, 0.99).toFixed(1)} ms`);
line('p50 above half a round trip (at most 5 ms)', `${(median(quiet) - half).toFixed(1)} ms`);
await close(there);

await here.exec('CREATE TABLE bulk (id INTEGER PRIMARY KEY, body)');
await here.exec(`INSERT INTO bulk WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${bulkMegabytes * 100}) SELECT i, randomblob(10000) FROM n`);
const newcomer = await open(live);
// Who has the table is shown its rows before the sync has ended.
await newcomer.exec('CREATE TABLE live (n INTEGER PRIMARY KEY)');
await newcomer.meets(1);
const busy = await latencies(here, newcomer, 60, 10);
const isOver = () => newcomer.page.evaluate(async () => (await battery.exec("SELECT count(*) FROM sqlite_schema WHERE name = 'bulk'")).values[0][0] !== 0);
const over = await isOver();
line(`edits while ${bulkMegabytes} MB go to the same peer`, `p50 ${median(busy).toFixed(1)} ms, p99 ${percentile(busy, 0.99).toFixed(1)} ms (at most 100), sync ${over ? 'over' : 'not over'} at the end`);
if (!over) {
  const until = [];
  while (!(await isOver())) until.push(...(await latencies(here, newcomer, 10, 10)));
  line('the longest wait until all is applied, at once', `${Math.max(...until).toFixed(0)} ms`);
}

await browser.close();
await server.stop();
site.remove();
