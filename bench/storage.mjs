// What it costs to keep a database in a browser: a commit, opening, memory; by the size of the database, beside sql.js exporting the whole file to IndexedDB (the
// specification's own design) and beside SQLite's own build on OPFS. Chromium, wall time as a page sees it, each engine in a worker, ratios in
// one run, medians of several rounds. Run: cargo xtask bench storage

import { readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeSite, MortalBrowser, Peer, Server } from '../js/test/harness.mjs';

const [rounds = 5, ...sizes] = process.argv.slice(2).map(Number);
const MEGABYTES = sizes.length > 0 ? sizes : [1, 10, 100];
const ROW_BYTES = 4000;
const COMMITS = { ours: 40, opfs: 40, 'sql.js': 4 };
const ENGINES = ['ours', 'sql.js', 'opfs'];

const site = makeSite();
const folder = (path) => fileURLToPath(new URL(path, import.meta.url));
symlinkSync(folder('../js/node_modules/sql.js/dist'), join(site.folder, 'sql.js'));
symlinkSync(folder('node_modules/@sqlite.org/sqlite-wasm/dist'), join(site.folder, 'sqlite-wasm'));
symlinkSync(folder('storage-worker.mjs'), join(site.folder, 'storage-worker.mjs'));
const server = await Server.start(site.folder);

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Of all processes of a browser that run pages, in MB: what they share with others counts in part. */
function memory(browser) {
  const field = (pid, file, name) => readFileSync(`/proc/${pid}/${file}`, 'utf8').match(name)?.[1];
  let kilobytes = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const group = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ')[2];
      const isPage = readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('--type=renderer');
      if (Number(group) === browser.pid && isPage) kilobytes += Number(field(pid, 'smaps_rollup', /^Pss: +(\d+)/m));
    } catch (error) {
      // It has ended meanwhile.
      if (!['ENOENT', 'ESRCH'].includes(error.code)) throw error;
    }
  }
  return kilobytes / 1024;
}

/** Puts `engine` into the page: `open` gives the milliseconds that opening took, `run` ends when what it wrote is stored. */
function prepare(page, engine, signalingUrl) {
  return page.evaluate(
    ([engine, signalingUrl]) => {
      const token = 'a room for the benchmark';
      if (engine === 'ours') {
        window.open = async () => {
          window.battery = new library.RTCBattery({ signalingUrl, token, dbName: 'ours' });
          const start = performance.now();
          await battery.connect();
          await battery.exec('SELECT 1 FROM sqlite_schema');
          return performance.now() - start;
        };
        window.run = async (sql) => (await battery.exec(sql)).values;
      }
      const worker = new Worker('storage-worker.mjs', { type: 'module' });
      const answers = [];
      worker.onmessage = ({ data: { id, result, failure } }) => (failure === undefined ? answers[id][0](result) : answers[id][1](new Error(failure)));
      window.ask = (question) => new Promise((...answer) => worker.postMessage({ id: answers.push(answer) - 1, ...question }));
      if (engine !== 'ours') {
        window.open = () => ask({ act: engine, name: engine });
        window.run = (sql, writes = true) => ask({ act: 'run', sql, writes });
      }
    },
    [engine, signalingUrl],
  );
}

/** Fills a new database; gives how long it took to open that. */
async function fill(page, megabytes) {
  const rows = Math.round((megabytes * 1e6) / ROW_BYTES);
  return page.evaluate(
    async ([rows, bytes]) => {
      const ms = await open();
      await run('CREATE TABLE items (id INTEGER PRIMARY KEY, body)', false);
      for (let first = 0; first < rows; first += 2500) {
        const last = Math.min(first + 2500, rows);
        const some = `WITH RECURSIVE n(n) AS (SELECT ${first + 1} UNION ALL SELECT n + 1 FROM n WHERE n < ${last}) SELECT n, randomblob(${bytes}) FROM n`;
        await run(`INSERT INTO items ${some}`, last === rows);
      }
      return ms;
    },
    [rows, ROW_BYTES],
  );
}

/** Milliseconds for each of several commits of one row. */
const commit = (page, count) =>
  page.evaluate(async (count) => {
    const start = performance.now();
    for (let n = 0; n < count; n += 1) await run('INSERT INTO items (body) VALUES (randomblob(100))');
    return (performance.now() - start) / count;
  }, count);

async function measure(engine, megabytes) {
  const browser = new MortalBrowser('chromium');
  const page = await browser.start();
  const peer = await Peer.open(page, server.url);
  const ready = () => prepare(page, engine, server.signal);
  await ready();
  const empty = memory(browser);
  const times = { empty: [await fill(page, megabytes)], commit: [], open: [], raw: [], memory: [] };
  for (let round = 0; round < rounds; round += 1) {
    times.commit.push(await commit(page, COMMITS[engine]));
    await peer.load();
    await ready();
    if (engine === 'ours') {
      const { ms } = await page.evaluate(() => ask({ act: 'raw', name: 'ours' }));
      times.raw.push(ms);
    }
    times.open.push(await page.evaluate(() => open()));
    const [[count]] = await page.evaluate(() => run('SELECT count(*) FROM items', false));
    if (count < (megabytes * 1e6) / ROW_BYTES) throw new Error(`${engine} has ${count} rows`);
    times.memory.push(memory(browser) - empty);
  }
  await browser.remove();
  return Object.fromEntries(Object.entries(times).map(([what, values]) => [what, median(values)]));
}

const ms = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0));
console.log(`Chromium, medians of ${rounds}, rows of ${ROW_BYTES} random bytes; times in ms, memory of the page's process in MB above that of an empty page`);
for (const megabytes of MEGABYTES) {
  const by = {};
  for (const engine of ENGINES) by[engine] = await measure(engine, megabytes);
  const row = (what, of) => {
    const figures = ENGINES.map((engine) => `${engine} ${of(by[engine][what])}`).join(', ');
    const ratios = ['sql.js', 'opfs'].map((other) => `ours/${other} ${(by.ours[what] / by[other][what]).toFixed(3)}`).join(', ');
    console.log(`${`${megabytes} MB`.padStart(6)} ${what.padEnd(7)} ${figures.padEnd(44)} ${ratios}`);
  };
  row('commit', ms);
  row('open', ms);
  console.log(`${`${megabytes} MB`.padStart(6)} raw     ours ${ms(by.ours.raw)}: opening takes ${(by.ours.open / by.ours.raw).toFixed(2)} times as long as reading the records; a new database opened in ${ms(by.ours.empty)}`);
  row('memory', (value) => value.toFixed(0));
}

await server.stop();
site.remove();
