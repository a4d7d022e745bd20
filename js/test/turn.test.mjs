// Relays: through a real coturn, with credentials that the signaling server gives out; and who gives out servers, and when they are asked again.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { keepConnections, newToken, Peer, Server, stage, startChromium } from './harness.mjs';

const SECRET = 'north';

const my = stage({ chromium: startChromium });

/** Whether `socket` gets its address, which is given back. */
function binds(socket) {
  return new Promise((resolve) => socket.once('error', () => resolve(false)).once('listening', () => socket.close(() => resolve(true))));
}

/**
 * A port that is free for datagrams and for streams, below those that connections are given: coturn binds both, and while one is
 * taken it waits and serves nobody.
 */
async function freePort() {
  const address = '127.0.0.1';
  for (let port = 20_000 + (process.pid % 10_000); ; port += 1) {
    const free = [createSocket('udp4').bind(port, address), createServer().listen(port, address)].map(binds);
    if ((await Promise.all(free)).every(Boolean)) return port;
  }
}

/** A relay on this host; gives its URL. */
async function coturn(t) {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'coturn-'));
  const child = spawn('turnserver', [
    ...['-n', '--use-auth-secret', '--static-auth-secret', SECRET, '--realm', 'example.com', '--log-file', 'stdout'],
    ...['--listening-ip', '127.0.0.1', '--relay-ip', '127.0.0.1', '--listening-port', String(port), '--allow-loopback-peers'],
    ...['--no-tls', '--no-dtls', '--no-cli', '--pidfile', join(folder, 'pid'), '--userdb', join(folder, 'users')],
  ]);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stdout.resume();
  t.after(async () => {
    child.kill();
    await ended;
    rmSync(folder, { recursive: true });
  });
  return `turn:127.0.0.1:${port}?transport=tcp`;
}

/** The kinds of both ends of the pair of candidates that a connection uses. */
async function candidatesInUse() {
  const stats = new Map((await connections.at(-1).getStats()).entries());
  const transport = [...stats.values()].find(({ type, selectedCandidatePairId }) => type === 'transport' && selectedCandidatePairId);
  const { localCandidateId, remoteCandidateId } = stats.get(transport.selectedCandidatePairId);
  return [localCandidateId, remoteCandidateId].map((id) => stats.get(id).candidateType);
}

async function open(t, server, config) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.addInitScript(keepConnections);
  return Peer.open(page, server.url, { signalingUrl: server.signal, ...config });
}

test('relays only: two pages meet and sync through coturn, over TCP, with credentials of the signaling server', async (t) => {
  const relay = await coturn(t);
  const server = await Server.start(my.folder, ['--turn-url', relay, '--turn-secret', SECRET, '--turn-ttl', '600']);
  t.after(() => server.stop());
  const config = { token: newToken(), iceServers: '/ice', iceTransportPolicy: 'relay' };
  const [ada, bob] = [await open(t, server, config), await open(t, server, config)];
  await Promise.all([ada.meets(1), bob.meets(1)]);
  await ada.exec('CREATE TABLE notes (id INTEGER PRIMARY KEY, body)');
  await ada.exec('INSERT INTO notes SELECT value, randomblob(100000) FROM json_each(?)', ['[1, 2, 3, 4, 5, 6, 7, 8, 9]']);
  await bob.sees('SELECT count(*), sum(length(body)) FROM notes', [[9, 900_000]]);
  for (const peer of [ada, bob]) assert.deepEqual(await peer.page.evaluate(candidatesInUse), ['relay', 'relay']);
});

test('who gives out ICE servers is asked again before they end, and one that fails is told and gone on without', async (t) => {
  const server = await Server.start(my.folder);
  t.after(() => server.stop());
  const token = newToken();
  const ada = await open(t, server, { token });
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  await page.addInitScript(keepConnections);
  const bob = await Peer.open(page, server.url);
  await bob.page.evaluate(
    async ({ signalingUrl, token }) => {
      window.asked = 0;
      // Good for half a second; from the third time on nobody answers.
      const iceServers = () => {
        asked += 1;
        stirred();
        if (asked >= 3) throw new Error('the line is busy');
        return { iceServers: [{ urls: `stun:127.0.0.1:${asked}` }], ttl: 0.5 };
      };
      window.battery = new library.RTCBattery({ signalingUrl, token, iceServers });
      battery.on('peer-join', () => events.push(['peer-join']) && stirred());
      battery.on('error', ({ code, message }) => events.push(['error', code, message]) && stirred());
      await battery.connect();
      await until('a peer', () => events.some(([event]) => event === 'peer-join'));
      await until('a renewal that failed', () => events.some(([, code]) => code === 'ice-servers'));
    },
    { signalingUrl: server.signal, token },
  );
  await ada.meets(1);
  const { events, urls } = await bob.page.evaluate(() => ({
    events: events.filter(([event]) => event === 'error'),
    urls: connections.at(-1).getConfiguration().iceServers.flatMap((server) => server.urls),
  }));
  assert.deepEqual(events[0], ['error', 'ice-servers', 'no ICE servers were given out: the line is busy']);
  assert.deepEqual(urls, ['stun:127.0.0.1:2'], 'an open connection has the servers that were given out last');
});
