// Pictures of the demo: docs/demo.png with two peers in sync for the README, and every state in the sizes and colours that people have to look at.
// Needs a build: `cargo xtask build` and `cargo build --package rtc-battery-signal`. Run: node js/scripts/screenshots.mjs [folder for the others]

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { look, LOOKS, STATES } from '../test/demo-states.mjs';
import { makeSite, Server, startChromium } from '../test/harness.mjs';

const README_PICTURE = fileURLToPath(new URL('../../docs/demo.png', import.meta.url));
const folder = process.argv[2];

const site = makeSite();
const server = await Server.start(site.folder);
const browser = await startChromium();

async function visit(url, options) {
  const page = await browser.page(options);
  page.setDefaultTimeout(60_000);
  await page.goto(url);
  return page;
}

async function run(page, sql) {
  await page.getByLabel('SQL', { exact: true }).fill(sql);
  await page.getByRole('button', { name: 'Run Query' }).and(page.locator(':enabled')).click();
}

/** One picture of several pages at the same height. */
async function sideBySide(pages, path) {
  const sheet = await browser.page({ viewport: { width: 1400, height: 760 } });
  const shots = await Promise.all(pages.map((page) => page.screenshot({ animations: 'disabled' })));
  const images = shots.map((shot) => `<img src="data:image/png;base64,${shot.toString('base64')}">`).join('');
  await sheet.setContent(`<style>
    body { margin: 0; padding: 24px; display: inline-flex; gap: 24px; background: #8fa39a }
    img { height: 640px; border-radius: 12px; box-shadow: 0 4px 16px rgb(0 0 0 / 30%) }
  </style>${images}`);
  await sheet.evaluate(() => Promise.all([...document.images].map((image) => image.decode())));
  await sheet.locator('body').screenshot({ path });
}

const token = '4f1c09a2be77d3588e61a4b0c25d9f13';
const ada = await visit(`${server.url}/demo/#${token}`, { viewport: { width: 1000, height: 744 }, colorScheme: 'light' });
const bob = await visit(ada.url(), { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: 'dark' });
await ada.getByText('1 peer connected').waitFor();
const note = (id, content, time) => `INSERT INTO notes VALUES ('${id}', '${content}', '2026-11-22 ${time}')`;
await run(ada, note('7c2e', 'Bring the tent and the big pan', '09:30:00'));
await run(bob, note('b41d', 'Train leaves at 10:42, platform 3', '09:41:12'));
await run(ada, note('03fa', 'Who has the map?', '10:00:05'));
await ada.getByRole('cell', { name: /platform 3/ }).waitFor();
await bob.getByRole('cell', { name: /the map/ }).waitFor();
await run(ada, 'SELECT * FROM notes ORDER BY created_at DESC;');
await run(bob, "UPDATE notes SET content = 'Who has the map? I do!'\nWHERE id = '03fa'");
await ada.getByRole('cell', { name: /I do!/ }).waitFor();
await ada.mouse.move(0, 0);
mkdirSync(join(README_PICTURE, '..'), { recursive: true });
await sideBySide([ada, bob], README_PICTURE);

if (folder !== undefined) {
  mkdirSync(folder, { recursive: true });
  const open = async (url = `${server.url}/demo/`, beside) => {
    const page = beside === undefined ? await browser.page() : await beside.context().newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(url);
    return page;
  };
  for (const [state, reach] of Object.entries(STATES)) {
    const page = await reach(open, site.folder);
    for (const { name, ...how } of LOOKS) {
      await look(page, how);
      await page.screenshot({ path: join(folder, `${state}, ${name}.png`), fullPage: true, animations: 'disabled' });
    }
  }
}

await browser.close();
await server.stop();
site.remove();
