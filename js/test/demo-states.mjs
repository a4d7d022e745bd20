// Everything that the demo can look like, for who tests it and for who takes pictures.

import { IMPATIENT, Server } from './harness.mjs';

/** The sizes and colours that people have. */
export const LOOKS = ['desktop', 'phone'].flatMap((size) => ['light', 'dark'].map((colorScheme) => ({ name: `${size}, ${colorScheme}`, size, colorScheme })));
const SIZES = { desktop: { width: 1100, height: 800 }, phone: { width: 360, height: 740 } };

/** Shows a page as it looks on some device. */
export async function look(page, { size, colorScheme }) {
  await page.setViewportSize(SIZES[size]);
  await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
}

/** Waits until the demo takes SQL. */
export async function ready(page) {
  await page.getByRole('button', { name: 'Run Query' }).and(page.locator(':enabled')).waitFor();
}

/** Types SQL and runs it. */
export async function run(page, sql) {
  await page.getByLabel('SQL', { exact: true }).fill(sql);
  await page.keyboard.press('Control+Enter');
}

const NOTES = `INSERT INTO notes VALUES
  ('7c2e', 'Bring the tent and the big pan', '2026-11-22 09:30:00'),
  ('b41d', 'Train leaves at 10:42, platform 3', '2026-11-22 09:41:12'),
  ('03fa', NULL, '2026-11-22 10:00:05'),
  ('long', '${'averylongwordthatdoesnotend'.repeat(12)}', '2026-11-22 10:01:00')`;

/** How to get there: `open(path)` gives a page in a profile of its own, `open(path, page)` another one in the same. */
export const STATES = {
  empty: async (open) => {
    const page = await open();
    await page.getByText('No rows').waitFor();
    return page;
  },
  'results and a peer': async (open) => {
    const page = await open();
    await ready(page);
    await run(page, NOTES);
    const friend = await open(page.url());
    await friend.getByRole('cell', { name: /platform 3/ }).waitFor();
    await run(friend, "UPDATE notes SET content = 'Who has the map?' WHERE id = '03fa'");
    await page.getByRole('cell', { name: /the map/ }).waitFor();
    return page;
  },
  'every type of value': async (open) => {
    const page = await open();
    await ready(page);
    await run(page, "SELECT 1 AS whole, 2.5 AS real, NULL AS none, x'00ff' AS bytes, 'text' AS text, 9007199254740993 AS large, '' AS empty, 'two' || char(10) || 'lines' AS lines, 'Grüße 🔋' AS unicode, 1 AS a, 2 AS b, 3 AS c");
    await page.getByText('1 row', { exact: true }).waitFor();
    return page;
  },
  'an error': async (open) => {
    const page = await open();
    await ready(page);
    await run(page, 'SELECT * FROM notse ORDER BY created_at DESC;');
    await page.getByRole('alert').getByText('no such table').waitFor();
    return page;
  },
  'a long result': async (open) => {
    const page = await open();
    await ready(page);
    await run(page, "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, 'row ' || i AS name FROM n");
    await page.getByText('10,000 rows', { exact: true }).waitFor();
    return page;
  },
  offline: async (open, folder) => {
    const server = await Server.start(folder);
    const page = await open(`${server.url}/demo/`);
    await ready(page);
    await server.stop();
    await page.getByText(/^Offline/).waitFor();
    return page;
  },
  'open in another tab': async (open) => {
    const page = await open();
    // Where tabs cannot speak to each other only one has the database.
    await page.context().route('**/worker.js', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `delete self.BroadcastChannel;${IMPATIENT}\n${await response.text()}` });
    });
    await page.reload();
    await ready(page);
    const second = await open(page.url(), page);
    await second.getByRole('alert').getByText(/another tab/).waitFor();
    return second;
  },
};
