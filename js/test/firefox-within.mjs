// A Firefox in a network namespace. Its driver speaks WebSocket on the loopback of that namespace, which nobody outside has; a socket in a folder is
// the same in all of them.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import puppeteer from 'puppeteer-core';
import { WebSocket } from 'ws';
import { containers } from './harness.mjs';

/** Listens on a socket in a folder, and passes everything on to a port of its own namespace's loopback. */
const BRIDGE = `
  const { connect, createServer } = require('node:net');
  const [path, port] = process.argv.slice(1);
  const server = createServer((outside) => {
    const inside = connect(port, '127.0.0.1');
    outside.pipe(inside).pipe(outside);
    for (const end of [outside, inside]) end.on('error', () => [outside, inside].forEach((end) => end.destroy()));
  });
  server.listen(path, () => console.log('listening'));`;

/** Starts one with `within` before the command, for pages of a host that is to count as secure. */
export async function startFirefoxWithin(within, host) {
  const processes = new Processes(within);
  try {
    const profile = processes.folder;
    writeFileSync(join(profile, 'user.js'), preferences(host));
    const address = await processes.start(['/usr/bin/firefox-esr', '--headless', '--remote-debugging-port=0', '--profile', profile], 'WebDriver BiDi listening on ');
    const path = join(profile, 'driver');
    await processes.start([process.execPath, '-e', BRIDGE, path, new URL(address).port], 'listening');
    const transport = await open(`ws+unix:${path}:/session`, new URL(address).host);
    const browser = await puppeteer.connect({ transport, protocol: 'webDriverBiDi' });
    return { ...containers(browser), close: () => processes.end() };
  } catch (error) {
    await processes.end();
    throw error;
  }
}

function preferences(host) {
  const preferences = {
    'dom.securecontext.allowlist': host,
    // Addresses are not hidden behind names that only mDNS resolves.
    'media.peerconnection.ice.obfuscate_host_addresses': false,
  };
  return Object.entries(preferences)
    .map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`)
    .join('');
}

/** What runs for one browser, and its folder. */
class Processes {
  folder = mkdtempSync(join(tmpdir(), 'rtc-battery-firefox-'));
  #within;
  #children = [];
  #kill = () => this.#children.forEach(kill);

  constructor(within) {
    this.#within = within;
    process.once('exit', this.#kill);
  }

  /** Starts a command; gives what it says after `sign`. */
  start(words, sign) {
    const [command, ...others] = [...this.#within, ...words];
    const child = spawn(command, others, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    return new Promise((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`${words[0]} ended with ${code}`)));
      for (const stream of [child.stdout, child.stderr]) {
        createInterface(stream).on('line', (line) => line.startsWith(sign) && resolve(line.slice(sign.length)));
      }
    });
  }

  async end() {
    process.off('exit', this.#kill);
    const ended = this.#children.filter(runs).map((child) => new Promise((resolve) => child.once('exit', resolve)));
    this.#kill();
    await Promise.all(ended);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }
}

function runs(child) {
  return child.exitCode === null && child.signalCode === null;
}

/** Ends a child and all that it started. */
function kill(child) {
  if (runs(child)) process.kill(-child.pid, 'SIGKILL');
}

/** What Puppeteer speaks over. Firefox answers who calls it by the name it has where it listens. */
async function open(url, host) {
  const socket = new WebSocket(url, { headers: { Host: host } });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const transport = { send: (message) => socket.send(message), close: () => socket.close() };
  socket.on('message', (data) => transport.onmessage?.(String(data)));
  socket.on('close', () => transport.onclose?.());
  return transport;
}
