// The demo for everyone: axe finds nothing in any state, size and colour; the keyboard reaches everything; what happens is told.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { look, LOOKS, ready, run, STATES } from './demo-states.mjs';
import { stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const my = stage({ chromium: startChromium });

const opener = (t, options) => async (url = `${my.server.url}/demo/`, beside) => {
  const page = beside === undefined ? await my.chromium.page(options) : await beside.context().newPage();
  page.setDefaultTimeout(WATCHDOG_MS);
  t.after(() => page.context().close());
  await page.goto(url);
  return page;
};

for (const [name, reach] of Object.entries(STATES)) {
  test(`${name}: axe finds nothing, and nothing is wider than the screen`, { timeout: 2 * WATCHDOG_MS }, async (t) => {
    const page = await reach(opener(t), my.folder);
    await page.evaluate(AXE);
    for (const { name: lookName, ...how } of LOOKS) {
      await look(page, how);
      const violations = await page.evaluate(async () => {
        const { violations } = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
        return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join('; ')}`);
      });
      assert.deepEqual(violations, [], lookName);
      const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(content <= screen, `${lookName}: ${content} px on a screen of ${screen}`);
    }
  });
}

test('by keyboard alone: everything is reached in the order it is read, and shows where one is', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await opener(t)();
  await ready(page);
  await run(page, 'WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 450) SELECT i FROM n');
  await page.getByText('450 rows').waitFor();
  await page.getByRole('heading', { level: 1 }).click();
  const stops = [];
  for (;;) {
    await page.keyboard.press('Tab');
    const [stop, ring] = await page.evaluate(() => {
      const { activeElement: here } = document;
      return [here === document.body ? '' : here.id || here.textContent, getComputedStyle(here).outlineStyle];
    });
    if (stop === '' || stop === stops[0]) break;
    assert.notEqual(ring, 'none', stop);
    stops.push(stop);
  }
  assert.deepEqual(stops, ['share-url', 'copy', 'new-room', 'Show notes', 'Add a note', 'Edit the newest', 'Tables', 'sql', 'run', 'table-box', 'more', 'log']);

  // An example, run, and the next part of a long result, without a mouse.
  await page.getByRole('button', { name: 'Show 200 more rows' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Show 50 more rows' }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('cell', { name: '450', exact: true }).waitFor();
  // The button is gone; whoever was on it is still in the table.
  assert.equal(await page.evaluate(() => document.activeElement.id), 'table-box');
  await page.getByRole('button', { name: 'Add a note' }).focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'sql');
  await page.keyboard.press('Control+Enter');
  await page.getByRole('status').getByText('1 row changed').waitFor();
  // Where one types one stays.
  assert.equal(await page.evaluate(() => document.activeElement.id), 'sql');
  await page.getByRole('button', { name: 'Run Query' }).focus();
  await page.keyboard.press('Enter');
  await page.getByText('1 row changed').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'run');
});

test('what happens is told to who does not see it', { timeout: WATCHDOG_MS }, async (t) => {
  const page = await opener(t, { permissions: ['clipboard-read', 'clipboard-write'] })();
  await ready(page);
  // What a screen reader is told: the texts that come up in regions that are live.
  await page.evaluate(() => {
    window.told = [];
    const live = '[role=status], [role=alert], [role=log]';
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const region = (target.nodeType === Node.TEXT_NODE ? target.parentElement : target).closest(live);
        if (region !== null && !region.hidden) told.push(region.getAttribute('role') === 'log' ? region.lastElementChild?.textContent : region.textContent);
      }
    }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['hidden'] });
  });
  const tells = (pattern) => page.waitForFunction((pattern) => told.some((text) => new RegExp(pattern).test(text)), pattern);
  await page.getByRole('button', { name: 'Copy' }).click();
  await tells('^Link copied$');
  await run(page, 'SELECT 1 UNION SELECT 2 UNION SELECT 3');
  await tells('^3 rows$');
  await run(page, 'SELEKT');
  await tells('near "SELEKT": syntax error');
  await run(page, "INSERT INTO notes (id) VALUES ('a')");
  await tells('^Done: 1 row changed$');
  const friend = await opener(t)(page.url());
  await tells('^1 peer connected$');
  await tells('Peer [0-9a-f]{6} joined');
  await friend.context().close();
  await tells('^0 peers connected$');
});
