// What a user of a page waits for: `exec`, beside the same engine without the log (`execLocal`), and beside sql.js, which keeps nothing.
// Chromium, wall time, ratios in one run, medians of several rounds. Run: cargo xtask bench exec

import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeSite, Peer, Server, startChromium } from '../js/test/harness.mjs';

const SQL_JS = fileURLToPath(new URL('../js/node_modules/sql.js/dist', import.meta.url));
const [rounds = 5, rows = 20_000] = process.argv.slice(2).map(Number);

const site = makeSite();
symlinkSync(SQL_JS, join(site.folder, 'sql.js'));
const server = await Server.start(site.folder);
const browser = await startChromium();

/** Runs in the page: times of every measurement, by engine, for one round. */
async function measure({ rows, signalingUrl }) {
  const SCHEMA = 'CREATE TABLE items (id TEXT PRIMARY KEY, title TEXT, body TEXT, done INTEGER, rank REAL)';
  const INSERT = 'INSERT INTO items VALUES (?, ?, ?, ?, ?)';
  const MANY = 100;
  const AUTOCOMMITS = 500;
  const INSERT_MANY = `INSERT INTO items VALUES ${Array(MANY).fill('(?, ?, ?, ?, ?)').join(', ')}`;
  const row = (n) => [crypto.randomUUID(), `title ${n}`.padEnd(20), `the body of item ${n}`.padEnd(80), n % 2, n + 0.5];
  const all = (count) => Array.from({ length: count }, (_, n) => row(n));
  const SQL = await initSqlJs({ locateFile: (file) => `/sql.js/${file}` });

  /** The three: how to say one statement, and how a program says many of one kind. */
  const open = {
    exec: async () => {
      const battery = new library.RTCBattery({ signalingUrl, token: crypto.randomUUID() });
      await battery.connect();
      await battery.exec(SCHEMA);
      const run = (sql, params) => battery.exec(sql, params);
      return { run, each: (sql, sets) => Promise.all(sets.map((set) => run(sql, set))), close: () => battery.disconnect() };
    },
    execLocal: async () => {
      const battery = new library.RTCBattery({ signalingUrl, token: crypto.randomUUID() });
      await battery.connect();
      await battery.execLocal(SCHEMA);
      const run = (sql, params) => battery.execLocal(sql, params);
      return { run, each: (sql, sets) => Promise.all(sets.map((set) => run(sql, set))), close: () => battery.disconnect() };
    },
    'sql.js': async () => {
      const db = new SQL.Database();
      db.run(SCHEMA);
      const each = (sql, sets) => {
        const statement = db.prepare(sql);
        for (const set of sets) statement.run(set);
        statement.free();
      };
      return { run: (sql, params) => void db.run(sql, params), each, close: () => db.close() };
    },
  };

  const measurements = {
    [`${rows} rows in one transaction, ${MANY} a statement`]: async (engine) => {
      const sets = Array.from({ length: rows / MANY }, () => all(MANY).flat());
      return async () => {
        await engine.run('BEGIN');
        await engine.each(INSERT_MANY, sets);
        await engine.run('COMMIT');
      };
    },
    [`${rows} rows in one transaction, one a statement`]: async (engine) => {
      const sets = all(rows);
      return async () => {
        await engine.run('BEGIN');
        await engine.each(INSERT, sets);
        await engine.run('COMMIT');
      };
    },
    [`${AUTOCOMMITS} inserts, each awaited`]: async (engine) => {
      const sets = all(AUTOCOMMITS);
      return async () => {
        for (const set of sets) await engine.run(INSERT, set);
      };
    },
    [`${AUTOCOMMITS} updates of one column, each awaited`]: async (engine) => {
      const sets = all(rows);
      await engine.run('BEGIN');
      await engine.each(INSERT, sets);
      await engine.run('COMMIT');
      const keys = sets.filter((_, n) => n % (rows / AUTOCOMMITS) === 0).map(([id]) => id);
      return async () => {
        for (const [n, id] of keys.entries()) await engine.run('UPDATE items SET rank = ? WHERE id = ?', [n, id]);
      };
    },
  };

  const times = {};
  for (const [what, prepare] of Object.entries(measurements)) {
    times[what] = {};
    for (const [name, make] of Object.entries(open)) {
      const engine = await make();
      const act = await prepare(engine);
      const start = performance.now();
      await act();
      times[what][name] = performance.now() - start;
      await engine.close();
    }
  }
  return times;
}

const peer = await Peer.open(await browser.page(), server.url);
await peer.page.addScriptTag({ url: '/sql.js/sql-wasm.js' });
const taken = {};
for (let round = 0; round < rounds; round += 1) {
  const times = await peer.page.evaluate(measure, { rows, signalingUrl: server.signal });
  for (const [what, byEngine] of Object.entries(times)) {
    for (const [name, ms] of Object.entries(byEngine)) ((taken[what] ??= {})[name] ??= []).push(ms);
  }
}
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
console.log(`Chromium, wall time in ms, medians of ${rounds}; exec and execLocal save to IndexedDB, sql.js does not`);
for (const [what, byEngine] of Object.entries(taken)) {
  const [exec, local, plain] = ['exec', 'execLocal', 'sql.js'].map((name) => median(byEngine[name]));
  const figures = `exec ${exec.toFixed(0)}, execLocal ${local.toFixed(0)}, sql.js ${plain.toFixed(0)}`;
  console.log(`${what.padEnd(52)} ${figures.padEnd(44)} exec/execLocal ${(exec / local).toFixed(2)}, exec/sql.js ${(exec / plain).toFixed(2)}`);
}

await browser.close();
await server.stop();
site.remove();
