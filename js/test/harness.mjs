// Real servers, real browsers, and a peer to drive: a bare page with the built library in it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
const SERVER = process.env.RTC_BATTERY_SIGNAL ?? join(TARGET, 'debug/rtc-battery-signal');

/** How long anything may take before it counts as broken. */
export const WATCHDOG_MS = 60_000;

const CHROMIUM_FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const PAGE = `<!doctype html><meta charset="utf-8"><title>peer</title><link rel="icon" href="data:,">
<script type="module">
  import * as library from './package/rtc-battery.js';
  window.library = library;
  window.loaded?.();
</script>`;

/** Servers that a test run which breaks off must not leave behind. */
const running = new Set();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** The real signaling server. It keeps its port when it is started again. */
export class Server {
  #folder;
  #flags = [];
  #process;
  /** A command that runs another where the server is to be. */
  #within = [];
  address = '127.0.0.1:0';

  /** Starts one, with a folder to serve if one is given, and with more flags; on this machine's loopback, or elsewhere. */
  static async start(folder, flags = [], { host = '127.0.0.1', within = [] } = {}) {
    const server = new Server();
    server.#folder = folder;
    server.#flags = flags;
    server.#within = within;
    server.address = `${host}:0`;
    await server.start();
    return server;
  }

  /** A server that has a port and is not started. */
  static async down() {
    const server = new Server();
    const probe = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => probe.once('listening', resolve));
    server.address = `127.0.0.1:${probe.address().port}`;
    await new Promise((resolve) => probe.close(resolve));
    return server;
  }

  async start() {
    const folder = this.#folder === undefined ? [] : ['--static', this.#folder];
    const [command, ...words] = [...this.#within, SERVER, '--listen', this.address, '--log', 'error', ...folder, ...this.#flags];
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    running.add(child);
    this.address = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`${SERVER} ended with ${code}`)));
      createInterface(child.stdout).once('line', (line) => resolve(new URL(line.split(' ').pop()).host));
    });
  }

  /** Kills it, as a crash would. */
  async stop() {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    running.delete(child);
  }

  get url() {
    return `http://${this.address}`;
  }

  get signal() {
    return `ws://${this.address}/signal`;
  }
}

/** A folder with the bare page at `/`, the npm package as it is at `/package/`, and the demo at `/demo/`. */
export function makeSite() {
  const folder = mkdtempSync(join(tmpdir(), 'rtc-battery-site-'));
  writeFileSync(join(folder, 'index.html'), PAGE);
  symlinkSync(join(ROOT, 'js/dist'), join(folder, 'package'));
  symlinkSync(join(ROOT, 'demo/dist'), join(folder, 'demo'));
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}

/**
 * What a test file needs, from before its first test until after its last: a server with the site, and browsers.
 * Its fields are there once the tests run; `ready` is called with them before that.
 */
export function stage(starts, ready) {
  const site = makeSite();
  const stage = { folder: site.folder };
  before(async () => {
    stage.server = await Server.start(site.folder);
    await Promise.all(Object.entries(starts).map(async ([name, start]) => (stage[name] = await start())));
    await ready?.(stage);
  });
  after(async () => {
    for (const name of Object.keys(starts)) await stage[name]?.close();
    await stage.server?.stop();
    site.remove();
  });
  return stage;
}

/** Chromium; each `page()` is in a profile of its own, as on another machine. The back/forward cache hides loads from the driver. */
export async function startChromium({ backForwardCache = false, executablePath = '/usr/bin/chromium', flags = [] } = {}) {
  const ignoreDefaultArgs = backForwardCache ? ['--disable-back-forward-cache'] : [];
  const browser = await chromium.launch({ executablePath, args: [...CHROMIUM_FLAGS, ...flags], ignoreDefaultArgs });
  return {
    page: async (options) => watched(await (await browser.newContext(options)).newPage()),
    processOf: (page) => processOf(browser, page),
    close: () => browser.close(),
  };
}

/**
 * A Chromium whose pages are hidden when another one is in front, as a user's are, and so can be frozen: with the driver of the others none is ever
 * hidden. `page.createCDPSession()`, `Page.setWebLifecycleState`.
 */
export async function startFreezableChromium() {
  const browser = await puppeteer.launch({ executablePath: '/usr/bin/chromium', headless: true, args: CHROMIUM_FLAGS });
  return {
    page: async () => watched(await (await browser.createBrowserContext()).newPage()),
    close: () => browser.close(),
  };
}

/** The id of the process that runs a page: the one that works while the page is kept busy. */
async function processOf(browser, page) {
  const devtools = await browser.newBrowserCDPSession();
  const processes = async () => (await devtools.send('SystemInfo.getProcessInfo')).processInfo.filter(({ type }) => type === 'renderer');
  const before = new Map((await processes()).map(({ id, cpuTime }) => [id, cpuTime]));
  await page.evaluate(() => {
    const end = performance.now() + 500;
    while (performance.now() < end);
  });
  const worked = ({ id, cpuTime }) => cpuTime - (before.get(id) ?? 0);
  return (await processes()).reduce((most, one) => (worked(one) > worked(most) ? one : most)).id;
}

/** A browser that keeps its profile when it is killed and started again. */
export class MortalBrowser {
  #name;
  #profile;
  #child;

  constructor(name) {
    this.#name = name;
    this.#profile = mkdtempSync(join(tmpdir(), 'rtc-battery-profile-'));
  }

  get pid() {
    return this.#child.pid;
  }

  /** The folder of its profile. */
  get profile() {
    return this.#profile;
  }

  /** Gives a page. */
  async start() {
    return this.#name === 'chromium' ? this.#startChromium() : this.#startFirefox();
  }

  async #startChromium() {
    const flags = [...CHROMIUM_FLAGS, '--headless=new', '--remote-debugging-port=0', `--user-data-dir=${this.#profile}`, 'about:blank'];
    const browser = await chromium.connectOverCDP(await this.#spawn('/usr/bin/chromium', flags, 'DevTools listening on '));
    return browser.contexts()[0].newPage();
  }

  async #startFirefox() {
    // By hand: Puppeteer puts files of a profile that it was given back after the process has ended, and in the way of the next one.
    const flags = ['--headless', '--remote-debugging-port=0', '--profile', this.#profile];
    const address = await this.#spawn('/usr/bin/firefox-esr', flags, 'WebDriver BiDi listening on ');
    const browser = await puppeteer.connect({ browserWSEndpoint: `${address}/session`, protocol: 'webDriverBiDi' });
    return browser.newPage();
  }

  /** Starts a browser in a process group of its own, so that all its processes can be killed at once. Gives the address that it says after `sign`. */
  async #spawn(command, flags, sign) {
    const child = spawn(command, flags, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    running.add(child);
    return new Promise((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`${command} ended with ${code}`)));
      createInterface(child.stderr).on('line', (line) => line.startsWith(sign) && resolve(line.slice(sign.length)));
    });
  }

  /** Ends all its processes without a word, if it runs. */
  async kill() {
    const child = this.#child;
    if (!running.has(child)) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    process.kill(-child.pid, 'SIGKILL');
    await ended;
    running.delete(child);
  }

  /** Sends a signal to all its processes. */
  signal(name) {
    process.kill(-this.#child.pid, name);
  }

  async remove() {
    await this.kill();
    rmSync(this.#profile, { recursive: true, maxRetries: 10 });
  }
}

/** Firefox; each `page()` is in a container of its own. */
export async function startFirefox() {
  return containers(await puppeteer.launch({ browser: 'firefox', executablePath: '/usr/bin/firefox-esr', headless: true }));
}

/** A browser of Puppeteer's whose pages are in a container each. */
export function containers(browser) {
  return {
    page: async () => watched(await (await browser.createBrowserContext()).newPage()),
    close: () => browser.close(),
  };
}

/** What a page complains of is seen in the test's output. */
function watched(page) {
  page.on('pageerror', (error) => console.error('page error:', error));
  page.on('console', (message) => message.type() === 'error' && console.error('page console:', message.text()));
  return page;
}

let workers = 0;

/** Makes a worker on the site that runs some code before it is the worker; returns its `workerUrl` for pages at the site's root. */
export function workerAfter(code, folder) {
  workers += 1;
  const name = `worker-${workers}.js`;
  writeFileSync(join(folder, name), `${code}\nimportScripts('package/worker.js');`);
  return name;
}

/** Code by which who waits for a tab to let go of its database gives up at once, and not after 5 s. */
export const IMPATIENT = `
  const { setTimeout: patiently } = self;
  self.setTimeout = (act, ms, ...values) => patiently(act, ms === 5000 ? 200 : ms, ...values);`;

/** Which browsers meet which. */
export const PAIRS = [
  ['chromium', 'chromium'],
  ['chromium', 'firefox'],
  ['firefox', 'chromium'],
  ['firefox', 'firefox'],
];

/** Does something with each of some pairs at once; what is thrown says with which. */
export async function each(pairs, act) {
  await Promise.all(
    pairs.map(async (pair, n) => {
      try {
        await act(pair, n);
      } catch (error) {
        throw new Error(`${PAIRS[n].join(' and ')}: ${error.message}`, { cause: error });
      }
    }),
  );
}

/** Has a page run a function before its scripts, whichever driver it is of. */
export function runFirst(page, prepare) {
  return page.addInitScript === undefined ? page.evaluateOnNewDocument(prepare) : page.addInitScript(prepare);
}

/** Closes a page and its profile, whichever driver it is of. */
export function leave(page) {
  return (page.context?.() ?? page.browserContext()).close();
}

let rooms = 0;

/** A token that no other test uses. */
export function newToken() {
  rooms += 1;
  return `room ${process.pid}/${rooms}`;
}

/** Runs in a page before its scripts: keeps its connections, to be asked what they use and how full their channels are. */
export function keepConnections() {
  globalThis.connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(configuration);
      connections.push(this);
    }
  };
}

/** Run in a page that keeps its connections: notes each generation of ICE that the first one has on this side. */
export function watchGenerations() {
  window.generations = new Set();
  setInterval(() => {
    // Firefox throws.
    if (connections[0].signalingState === 'closed') return;
    generations.add(/a=ice-ufrag:(\S+)/.exec(connections[0].localDescription.sdp)[1]);
    stirred();
  }, 50);
}

/** Each adds rows to `t` until it is told to stop, with a pause after each; gives what ends it, and how many there are then. */
export function flow(peers, pauseMs) {
  // No evaluation lasts as long as the writing: drivers give one up after three minutes.
  const begun = peers.map((peer, n) =>
    peer.page.evaluate(
      ([name, pauseMs]) => {
        window.writing = true;
        window.written = (async () => {
          let written = 0;
          while (window.writing) {
            await battery.exec('INSERT INTO t (id) VALUES (?)', [`${name}-${written++}`]);
            await new Promise((resolve) => setTimeout(resolve, pauseMs));
          }
          return written;
        })();
      },
      [`writer ${n}`, pauseMs],
    ),
  );
  return async () => {
    await Promise.all(begun);
    for (const peer of peers) await peer.page.evaluate(() => (window.writing = false));
    const written = await Promise.all(peers.map((peer) => peer.page.evaluate(() => window.written)));
    return written.reduce((sum, count) => sum + count);
  };
}

/** Nobody left, nobody came again, and each has made one connection to each of so many others. */
export async function assertSameConnections(peers, others) {
  for (const peer of peers) {
    const comings = await peer.page.evaluate(() => events.map(([event]) => event).filter((event) => event.startsWith('peer-')));
    assert.deepEqual([comings, await peer.page.evaluate(() => connections.length)], [Array(others).fill('peer-join'), others]);
  }
}

/** One user with the bare page open. */
export class Peer {
  constructor(page, url) {
    this.page = page;
    this.url = url;
  }

  /** Opens the page and, if a config is given, a database. */
  static async open(page, url, config) {
    const peer = new Peer(page, url);
    await page.goto(url);
    await peer.#prepare();
    if (config !== undefined) await peer.connect(config);
    return peer;
  }

  /** Loads the page again. */
  async load() {
    await this.page.reload();
    await this.#prepare();
  }

  /** Loads the page again and connects as before. */
  async reload() {
    await this.load();
    await this.connect(this.config);
  }

  async connect(config) {
    this.config = config;
    await this.page.evaluate(async (config) => {
      const battery = new library.RTCBattery(config);
      for (const event of ['sync', 'peer-join', 'peer-leave', 'sync-progress', 'conflict', 'online', 'progress', 'error']) {
        battery.on(event, (...values) => {
          events.push([event, ...values.map((value) => (value instanceof Error ? { code: value.code, message: value.message, peer: value.peer, salvaged: value.salvaged } : value))]);
          stirred();
        });
      }
      window.battery = battery;
      await battery.connect();
    }, config);
  }

  /** Functions that tests use inside the page. */
  async #prepare() {
    await this.page.evaluate(async (watchdogMs) => {
      if (window.library === undefined) await new Promise((resolve) => (window.loaded = resolve));
      window.events = [];
      window.stirred = () => undefined;
      // Waits until `look` returns something true; looks again whenever anything happened, and a few times a second.
      window.until = async (what, look) => {
        const giveUp = Date.now() + watchdogMs;
        for (let found; ; ) {
          const stir = new Promise((resolve) => {
            window.stirred = resolve;
            setTimeout(resolve, 100);
          });
          if ((found = await look())) return found;
          if (Date.now() > giveUp) throw new Error(`waited in vain for ${what}; events: ${JSON.stringify(events.slice(-20))}`);
          await stir;
        }
      };
      // All that a table holds, exactly: the type and the literal of every value.
      window.dump = async (table) => {
        const columns = (await battery.exec('SELECT name, pk FROM pragma_table_info(?)', [table])).values;
        if (columns.length === 0) return undefined;
        const values = columns.map(([name]) => `typeof("${name}") || ' ' || quote("${name}")`).join(', ');
        const key = columns.filter(([, pk]) => pk > 0).map(([name]) => `"${name}"`).join(', ');
        return (await battery.exec(`SELECT ${values} FROM "${table}" ORDER BY ${key}`)).values.map((row) => row.join(' | '));
      };
    }, WATCHDOG_MS);
  }

  exec(sql, params) {
    return this.page.evaluate(([sql, params]) => battery.exec(sql, params), [sql, params]);
  }

  /** The rows of a query. */
  async rows(sql, params) {
    return (await this.exec(sql, params)).values;
  }

  dump(table) {
    return this.page.evaluate((table) => dump(table), table);
  }

  /** Waits until a query gives these rows. */
  async sees(sql, rows) {
    await this.page.evaluate(
      ([sql, expected]) =>
        until(`${sql} to give ${expected}`, async () => {
          // Until CREATE TABLE has come there is no such table.
          const result = await battery.exec(sql).catch((error) => error);
          return JSON.stringify(result.values) === expected;
        }),
      [sql, JSON.stringify(rows)],
    );
  }

  /** Waits until there are this many peers. */
  async meets(count) {
    await this.page.evaluate((count) => until(`${count} peers`, () => battery.getPeers().length === count), count);
  }

  /** Waits for an event. */
  async hears(event, code) {
    return this.page.evaluate(
      ([event, code]) => until(`${event} ${code ?? ''}`, () => events.find(([name, value]) => name === event && (code === undefined || value.code === code))),
      [event, code],
    );
  }

  async close() {
    await this.page.close();
  }
}

/** Waits until all peers hold the same in these tables; returns it. */
export async function agree(peers, tables) {
  const giveUp = Date.now() + WATCHDOG_MS;
  for (;;) {
    const dumps = await Promise.all(peers.map((peer) => Promise.all(tables.map((table) => peer.dump(table)))));
    const complete = dumps[0].every((dump) => dump !== undefined && dump !== null);
    const [reference, ...rest] = dumps.map((dump) => JSON.stringify(dump));
    if (complete && rest.every((dump) => dump === reference)) return dumps[0];
    if (Date.now() > giveUp) throw new Error(`the peers do not agree:\n${dumps.map((dump) => JSON.stringify(dump)).join('\n')}`);
  }
}
