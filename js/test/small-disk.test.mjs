// A disk that is really full, and not just a quota: Chromium's IndexedDB on a tmpfs of a few megabytes that is filled up in the middle of a storm of
// writes. (Of Chromium itself nothing is on it: a browser whose own files find no room does not get as far as our pages.)

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MortalBrowser, newToken, Peer, stage, WATCHDOG_MS } from './harness.mjs';

const my = stage({});

const DISK_MB = 16;

/** A browser whose databases have a disk of their own, with what fills it; none where nothing may be mounted. */
function browserOnSmallDisk(t) {
  const browser = new MortalBrowser('chromium');
  const folder = join(browser.profile, 'Default/IndexedDB');
  mkdirSync(folder, { recursive: true });
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'tmpfs', folder], { encoding: 'utf8' });
  t.after(async () => {
    await browser.kill();
    if (mounted.status === 0) spawnSync('umount', [folder]);
    await browser.remove();
  });
  if (mounted.status !== 0) {
    t.skip(`nothing can be mounted here: ${mounted.error?.message ?? mounted.stderr.trim()}`);
    return undefined;
  }
  const ballast = join(folder, 'ballast');
  const fill = () => {
    const file = openSync(ballast, 'a');
    for (const bytes of [1 << 20, 1 << 12, 1]) writeUntilFull(file, Buffer.alloc(bytes));
    closeSync(file);
  };
  return { browser, fill, makeRoom: () => rmSync(ballast) };
}

function writeUntilFull(file, block) {
  try {
    while (writeSync(file, block) > 0);
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  }
}

/** Three writers, who note what was answered and what was refused. */
function storm({ page }) {
  return page.evaluate(() => {
    window.answered = [];
    window.refused = [];
    let next = 1;
    const write = async () => {
      for (;;) {
        const id = next++;
        await battery.exec(`BEGIN; INSERT INTO t VALUES (${id}, randomblob(5000)); UPDATE c SET n = n + 1; COMMIT`).then(
          () => answered.push(id),
          async ({ name, code, message }) => {
            refused.push([id, name, code, message]);
            // A COMMIT that failed leaves its transaction open.
            await battery.exec('ROLLBACK').catch(() => undefined);
          },
        );
        stirred();
      }
    };
    void write();
    void write();
    void write();
  });
}

/** Waits for more of them. */
const comes = ({ page }, what, more) =>
  page.evaluate(
    ([what, more]) => {
      const goal = window[what].length + more;
      return until(`${more} more ${what}`, () => window[what].length >= goal);
    },
    [what, more],
  );

test('on a disk that is full reads go on and writes are refused; with room again they go on; nothing acknowledged is lost, though the browser is killed on it', { timeout: WATCHDOG_MS }, async (t) => {
  const disk = browserOnSmallDisk(t);
  if (disk === undefined) return;
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const peer = await Peer.open(await disk.browser.start(), my.server.url, config);
  await peer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, body); CREATE TABLE c (id INTEGER PRIMARY KEY, n); INSERT INTO c VALUES (1, 0)');
  await storm(peer);
  await comes(peer, 'answered', 20);
  disk.fill();
  const isRefused = () => peer.page.evaluate(() => until('a write that is refused', () => refused.find(([, , code]) => code === 13)));
  const [, name, , message] = await isRefused();
  assert.equal(name, 'SqlError');
  assert.match(message, /^nothing can be written now: the browser's storage failed: .*; what was written is kept in memory/);
  assert.ok((await peer.rows('SELECT count(*) FROM t'))[0][0] >= 20);
  await peer.hears('error', 'not-saved');

  disk.makeRoom();
  await comes(peer, 'answered', 20);
  disk.fill();
  await comes(peer, 'refused', 1);
  const [answered, refused] = await peer.page.evaluate(() => [answered, refused]);
  await disk.browser.kill();
  disk.makeRoom();

  const again = await Peer.open(await disk.browser.start(), my.server.url, config);
  const ids = new Set((await again.rows('SELECT id FROM t')).flat());
  assert.deepEqual(answered.filter((id) => !ids.has(id)), [], 'acknowledged and lost');
  assert.deepEqual(refused.filter(([id, , code]) => code === 13 && ids.has(id)), [], 'refused and there');
  assert.deepEqual(await again.rows('SELECT n FROM c'), [[ids.size]], 'a transaction is there in part');
  assert.deepEqual(await again.rows('PRAGMA integrity_check'), [['ok']]);
});
