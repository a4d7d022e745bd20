// The demo, driven as a person would: what is typed, pressed, read.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Server, stage, startChromium } from './harness.mjs';

const my = stage({ chromium: startChromium });

/** Opens the demo in a profile of its own and waits until it is ready for SQL. */
async function visit(t, url = `${my.server.url}/demo/`, options) {
  const page = await my.chromium.page(options);
  page.setDefaultTimeout(60_000);
  t.after(() => page.context().close());
  await page.goto(url);
  await page.getByRole('button', { name: 'Run Query' }).and(page.locator(':enabled')).waitFor();
  return page;
}

async function run(page, sql) {
  await page.getByLabel('SQL', { exact: true }).fill(sql);
  await page.keyboard.press('Control+Enter');
}

const cell = (page, text) => page.getByRole('cell', { name: text, exact: true });
const logged = (page, text) => page.getByRole('log').getByText(text);

test('a link is made, sent, opened; both see what either writes, by itself', async (t) => {
  const ada = await visit(t);
  const link = await ada.getByRole('textbox', { name: 'Share URL' }).inputValue();
  assert.match(link, /#[0-9a-f]{32}$/);
  assert.equal(ada.url(), link);
  await ada.getByText('0 peers connected').waitFor();
  await ada.getByText('No rows').waitFor();

  const bob = await visit(t, link);
  await ada.getByText('1 peer connected').waitFor();
  await bob.getByText('1 peer connected').waitFor();
  await logged(ada, /^Peer [0-9a-f]{6} joined$/).waitFor();
  // Behind the name it says how far away the peer is, once it has looked.
  assert.equal(await ada.getByRole('list').getByRole('listitem').filter({ hasText: /^[0-9a-f]{6}( |$)/ }).count(), 1);

  // Both look at the notes since they came; what is written appears there without their doing.
  await run(ada, "INSERT INTO notes (id, content) VALUES ('n1', 'Hello from Ada')");
  await cell(bob, 'Hello from Ada').waitFor();
  await cell(ada, 'Hello from Ada').waitFor();
  await ada.getByText('1 row changed').waitFor();
  await logged(bob, /^Synced \d+ operations? from peer [0-9a-f]{6}$/).first().waitFor();

  await bob.getByRole('button', { name: 'Add a note' }).click();
  await bob.getByRole('button', { name: 'Run Query' }).click();
  await cell(ada, 'Hello world').waitFor();
  await run(bob, "DELETE FROM notes WHERE id = 'n1'");
  await cell(ada, 'Hello from Ada').waitFor({ state: 'detached' });

  await bob.close();
  await ada.getByText('0 peers connected').waitFor();
  await logged(ada, /left$/).waitFor();
  await ada.reload();
  await cell(ada, 'Hello world').waitFor();
});

test('the same room in two tabs: what one writes the other shows', async (t) => {
  const ada = await visit(t);
  const second = await ada.context().newPage();
  second.setDefaultTimeout(60_000);
  await second.goto(ada.url());
  await second.getByRole('button', { name: 'Run Query' }).and(second.locator(':enabled')).waitFor();
  await run(second, "INSERT INTO notes (id, content) VALUES ('n1', 'From the second tab')");
  await cell(ada, 'From the second tab').waitFor();
  await logged(ada, 'Synced 1 operation from another tab').waitFor();
  await ada.close();
  await run(second, "UPDATE notes SET content = 'And on without the first'");
  await cell(second, 'And on without the first').waitFor();
});

test('what goes wrong is said where one looks, and goes when it is mended', async (t) => {
  const page = await visit(t);
  await run(page, 'SELEKT * FROM notes');
  await page.getByRole('alert').getByText('near "SELEKT": syntax error').waitFor();
  assert.equal(await page.getByLabel('SQL', { exact: true }).getAttribute('aria-invalid'), 'true');
  await run(page, "SELECT 1.5 AS real, NULL AS empty, x'00ff' AS bytes, '<b>' AS markup");
  await cell(page, '1.5').waitFor();
  await page.getByRole('alert').waitFor({ state: 'hidden' });
  for (const text of ['NULL', "x'00ff'", '<b>']) await cell(page, text).waitFor();
});

test('the copy button copies, and says so', async (t) => {
  const page = await visit(t, undefined, { permissions: ['clipboard-read', 'clipboard-write'] });
  await page.getByRole('button', { name: 'Copy' }).click();
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), page.url());
  await page.getByRole('button', { name: 'Copy', exact: true }).waitFor();
});

test('a long result is shown in parts', async (t) => {
  const page = await visit(t);
  await run(page, 'WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 450) SELECT i FROM n');
  await page.getByText('450 rows').waitFor();
  assert.equal(await page.locator('tbody tr').count(), 200);
  await page.getByRole('button', { name: 'Show 200 more rows' }).click();
  await page.getByRole('button', { name: 'Show 50 more rows' }).click();
  assert.equal(await page.locator('tbody tr').count(), 450);
  assert.equal(await page.getByRole('button', { name: /more row/ }).count(), 0);
});

test('a long text is shown in part', async (t) => {
  const page = await visit(t);
  await run(page, "SELECT 'short' AS first, hex(zeroblob(3000000)) AS text");
  await cell(page, 'short').waitFor();
  const shown = await page.locator('tbody td').nth(1).textContent();
  assert.match(shown, /^0{2000}… \(6,000,000 characters\)$/);
});

test('a link that names no room is told, and another one is opened from there', async (t) => {
  const page = await my.chromium.page();
  page.setDefaultTimeout(60_000);
  t.after(() => page.context().close());
  await page.goto(`${my.server.url}/demo/#${'x'.repeat(16 * 1024 + 1)}`);
  await page.getByRole('alert').getByText('token is longer than').waitFor();
  await page.getByRole('link', { name: 'Start a new room' }).click();
  await page.getByText('0 peers connected').waitFor();
  assert.equal(await page.getByRole('alert').count(), 0);
});

test('another hash is another room, and the way back leads back', async (t) => {
  const page = await visit(t);
  const first = page.url();
  await run(page, "INSERT INTO notes (id, content) VALUES ('n1', 'in the first room')");
  await cell(page, 'in the first room').waitFor();
  await page.getByRole('link', { name: 'Start a new room' }).click();
  await page.getByText('No rows').waitFor();
  assert.notEqual(page.url(), first);
  assert.equal(await page.getByRole('textbox', { name: 'Share URL' }).inputValue(), page.url());
  await page.goBack();
  await cell(page, 'in the first room').waitFor();
});

test('with the server gone it says so, goes on working, and finds back', async (t) => {
  const other = await Server.start(my.folder);
  t.after(() => other.stop());
  const page = await visit(t, `${other.url}/demo/#${encodeURIComponent(newToken())}`);
  await other.stop();
  await page.getByText(/^Offline/).waitFor();
  await page.getByText('Nobody is in reach.').waitFor();
  await run(page, "INSERT INTO notes (id, content) VALUES ('n1', 'written offline')");
  await cell(page, 'written offline').waitFor();
  await other.start();
  await page.getByText('0 peers connected').waitFor();
});
