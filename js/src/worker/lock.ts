// One worker a database, as long as the browser can tell. The fence in `pages.ts` keeps the data safe where it cannot.

import { Refusal } from '../core/failure.js';

/** How long the worker of a page that is being reloaded may take to let go. */
const PATIENCE_MS = 5000;

/** Holds a database until this worker ends. */
export async function hold(dbName: string): Promise<void> {
  // Safari below 15.4, Firefox below 96, and pages that are not served securely.
  if (navigator.locks === undefined) return;
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    await new Promise<void>((resolve, reject) => {
      const held = navigator.locks.request(`rtc-battery:${dbName}`, { signal: patience.signal }, () => {
        resolve();
        return new Promise<never>(() => undefined);
      });
      held.catch(reject);
    });
  } catch (error) {
    if (patience.signal.aborted) throw new Refusal('database-busy', 'this database is open in another tab or window; close it there, or give this one a dbName of its own');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
