// What capture and merge cost in WebAssembly, in Node: a node's `exec`, beside `execLocal` on the same engine, and beside sql.js.
// Wall time, ratios in one run, medians of several rounds. Run: cargo xtask bench capture

import { readFileSync } from 'node:fs';
import initSqlJs from '../js/node_modules/sql.js/dist/sql-wasm.js';
import init, { BatteryNode, roomOf, Storage } from '../js/pkg/rtc_battery.js';

const [rounds = 5, rows = 100_000] = process.argv.slice(2).map(Number);
const SINGLE = 10_000;
const BATCH = 1000;
const SCHEMA = 'CREATE TABLE items (id TEXT PRIMARY KEY, title TEXT, body TEXT, done INTEGER, rank REAL)';
const INSERT = 'INSERT INTO items VALUES (?, ?, ?, ?, ?)';

await init({ module_or_path: readFileSync(new URL('../js/pkg/rtc_battery.wasm', import.meta.url)) });
const SQL = await initSqlJs();

const row = (n) => [crypto.randomUUID(), `title ${n}`.padEnd(20), `the body of item ${n}`.padEnd(80), n % 2, n + 0.5];
const many = Array.from({ length: rows }, (_, n) => row(n));
const few = many.slice(0, SINGLE);
const now = () => ({ wallMs: Date.now(), monoMs: Math.floor(performance.now()) });

/** A node whose commits nobody saves: IndexedDB is not what is measured here. */
function node(local) {
  const config = { signalingUrl: 'ws://host/signal', token: 't', room: roomOf('t'), seed: new Uint8Array(32), replicaId: new Uint8Array(16) };
  const made = new BatteryNode(new Storage(), config, now());
  const run = (sql, params = []) => made.exec(sql, params, local, now());
  run(SCHEMA);
  return { node: made, run, each: (sql, sets) => sets.forEach((set) => run(sql, set)), close: () => made.free() };
}

function sqlJs() {
  const db = new SQL.Database();
  db.run(SCHEMA);
  const each = (sql, sets) => {
    const statement = db.prepare(sql);
    for (const set of sets) statement.run(set);
    statement.free();
  };
  return { run: (sql, params) => db.run(sql, params), each, close: () => db.close() };
}

const SDP = 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n';

/** What is sent on one of a link's channels: as what the peer hears it, and as what it leaves the buffer. That the second one opens both hear. */
const HEARD = {
  sendText: ['channelText', 'channelDrained'],
  sendBinary: ['channelBinary', 'channelDrained'],
  openBulk: ['bulkOpened', 'bulkOpened'],
  sendBulk: ['bulkBinary', 'bulkDrained'],
};

/** A node with an open link to a peer, which made the offer or `offers` not; what it says goes to `hear`. */
function linked(offers = false, made = node(false)) {
  const linked = { ...made, hear: () => {} };
  let link;
  linked.input = (value) => {
    let yields = false;
    made.node.handleInput({ link, ...value }, now());
    for (;;) {
      const { output, value: effect } = made.node.pollOutput(now());
      if (output === 'idle') {
        if (!yields) return;
        yields = false;
        made.node.handleInput({ kind: 'resumed' }, now());
        continue;
      }
      if (effect.kind === 'openLink') link = effect.link;
      yields ||= effect.kind === 'yield';
      if (effect.kind in HEARD) linked.hear(effect);
    }
  };
  const signaling = (message) => linked.input({ kind: 'signalingText', text: JSON.stringify(message) });
  made.node.connect(now());
  linked.input({ kind: 'signalingOpened' });
  signaling({ type: 'peers', peerIds: offers ? ['peer'] : [] });
  if (offers) linked.input({ kind: 'localDescription', description: { type: 'offer', sdp: SDP } });
  else signaling({ type: 'offer', from: 'peer', sdp: { type: 'offer', sdp: SDP } });
  linked.open = () => linked.input({ kind: 'channelOpened', maxMessageBytes: 262_144 });
  return linked;
}

const size = ({ text, bytes }) => text?.length ?? bytes?.length ?? 0;

/** One of ours that has the rows, and a newcomer that asks for them: how long the newcomer works, and what came, in bytes. */
function sync(made) {
  const [writer, reader] = [linked(true, made), linked()];
  const waiting = [];
  let [took, bytes] = [0, 0];
  const carry = (from, to) => {
    const sent = {};
    from.hear = ({ kind, text, bytes }) => {
      const [heard, left] = HEARD[kind];
      sent[left] = (sent[left] ?? 0) + size({ text, bytes });
      const sentBytes = sent[left];
      waiting.push(() => to({ kind: heard, text, bytes }), () => from.input({ kind: left, sentBytes }));
    };
  };
  carry(reader, writer.input);
  carry(writer, (input) => {
    bytes += size(input);
    const start = performance.now();
    reader.input(input);
    took += performance.now() - start;
  });
  reader.open();
  writer.open();
  while (waiting.length > 0) waiting.shift()();
  const [[count]] = reader.run('SELECT count(*) FROM items').values;
  if (count !== rows) throw new Error(`${count} rows were applied`);
  reader.close();
  return { took, bytes };
}

const operation = ([id, title, body, done, rank], n) => ({
  hlc: { ts: 1_760_000_000_000 + n, counter: 0, nodeId: 'peer' },
  type: 'INSERT',
  table: 'items',
  pk: { id },
  values: { id, title, body, done, rank },
});
const transaction = (engine, sets) => {
  engine.run('BEGIN');
  engine.each(INSERT, sets);
  engine.run('COMMIT');
};
const update = (engine, sets) => sets.forEach(([id], n) => engine.run('UPDATE items SET rank = ? WHERE id = ?', [n + 0.25, id]));
const autocommit = (engine) => few.forEach((set) => engine.run(INSERT, set));

/** What is measured, by engine: `prepare` gives what is timed. */
const measurements = {
  [`${rows} rows in one transaction, a statement each`]: (engine) => () => transaction(engine, many),
  [`${SINGLE} autocommit inserts`]: (engine) => () => autocommit(engine),
  [`${SINGLE} one-column updates`]: (engine) => {
    transaction(engine, many);
    return () => update(engine, few);
  },
};

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

function time(make, prepare) {
  const engine = make();
  const act = prepare(engine);
  const start = performance.now();
  act();
  const took = performance.now() - start;
  engine.close();
  return took;
}

function compare(what, columns, runs) {
  const times = runs.map(() => []);
  for (let round = 0; round < rounds; round += 1) runs.forEach((run, n) => times[n].push(run()));
  const [first, ...others] = times.map(median);
  const ratios = others.map((other, n) => `${columns[0]}/${columns[n + 1]} ${(first / other).toFixed(2)}`);
  const figures = [first, ...others].map((ms, n) => `${columns[n]} ${ms.toFixed(0)}`);
  console.log(`${what.padEnd(48)} ${figures.join(', ').padEnd(44)} ${ratios.join(', ')}`);
}

console.log(`WebAssembly in Node ${process.version}, wall time in ms, medians of ${rounds}`);
for (const [what, prepare] of Object.entries(measurements)) {
  compare(what, ['exec', 'execLocal', 'sql.js'], [() => time(() => node(false), prepare), () => time(() => node(true), prepare), () => time(sqlJs, prepare)]);
}
const told = Array.from({ length: rows / BATCH }, (_, n) => ({
  type: 'sync-response',
  operations: many.slice(n * BATCH, (n + 1) * BATCH).map((set, at) => operation(set, n * BATCH + at)),
}));
const plain = () => {
  const peer = linked();
  peer.open();
  return peer;
};
const applied = (peer) => () => told.forEach((message) => peer.input({ kind: 'channelText', text: JSON.stringify(message) }));
const inserted = () => time(sqlJs, (engine) => () => transaction(engine, many));
compare(`${rows} rows of a plain peer applied, ${BATCH} a message`, ['applied', 'sql.js inserts'], [() => time(plain, applied), inserted]);
const check = plain();
applied(check)();
const [[count]] = check.run('SELECT count(*) FROM items').values;
if (count !== rows) throw new Error(`${count} rows were applied`);

/** Who has the rows is made anew for each round: it tells a link once. */
const writer = () => {
  const made = node(false);
  transaction(made, many);
  made.node.handleInput({ kind: 'saved', version: made.node.version() }, now());
  return made;
};
let bytes = 0;
const synced = () => {
  const made = writer();
  const result = sync(made);
  made.close();
  ({ bytes } = result);
  return result.took;
};
compare(`${rows} rows of ours asked for, told, applied`, ['applied', 'sql.js inserts'], [synced, inserted]);
console.log(`${rows} rows of ours on the wire: ${(bytes / 1e6).toFixed(2)} MB`);
