// Has Chromium begin a new log of its IndexedDB store, so that nothing is written behind what a crash may have left half written.
//
// Chromium keeps a site's IndexedDB in LevelDB. A browser that dies while it writes leaves half a record at the end of LevelDB's log. The next start
// reads up to it and goes on writing behind it, in the same file; the start after that finds a record with a wrong checksum in the middle, and Chromium
// deletes everything the site has stored. Each start may be that one until 4 MiB are written and the log is done with (seen after 1 in some 200 kills of
// a browser that was writing). Deleting a database makes LevelDB compact, for which it puts what its log holds into a table and begins another log.

import { connect, result } from './connection.js';

/** The same for all databases of a site: they share one store. If a crash leaves it behind, it goes the next time. */
const SPARE = 'rtc-battery-fresh-log';

/** How long it is waited for: a tab that stands still in the middle of it keeps all others waiting. */
const PATIENCE_MS = 1000;

/** To be awaited before the first write. Takes some milliseconds, in Chromium alone. */
export async function beginFreshLog(): Promise<void> {
  // No other engine has this property, nor LevelDB.
  if (!('dataLoss' in IDBVersionChangeEvent.prototype)) return;
  await Promise.race([makeAndDelete(), new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
}

async function makeAndDelete(): Promise<void> {
  try {
    (await connect(SPARE)).database.close();
    await result(indexedDB.deleteDatabase(SPARE));
  } catch {
    // This makes it safer, and is not needed to go on.
  }
}
