// Web Locks: one for a database, held by the tab that has it open, and one for each tab, held as long as it lives.
// The fence in `pages.ts` keeps the data safe where there are no locks, and where one was taken from a tab that does not know yet.

import { Refusal } from '../core/failure.js';
import { lockOf } from '../tabs.js';

/** How long the worker of a page that is being reloaded may take to let go. */
const PATIENCE_MS = 5000;

/** A lock that is held, until it is released or this worker ends. */
export interface Held {
  /** Resolves when somebody has taken it away. */
  readonly lost: Promise<void>;
  release(): void;
}

/** Takes a lock; waits for it, as the options say. */
export function hold(name: string, options: LockOptions = {}): Promise<Held> {
  return new Promise<Held>((resolve, reject) => {
    let taken: () => void = () => undefined;
    const lost = new Promise<void>((resolve) => {
      taken = resolve;
    });
    const request = navigator.locks.request(
      name,
      options,
      () =>
        new Promise<void>((release) => {
          resolve({ lost, release });
        }),
    );
    request.catch((error: unknown) => {
      // Of the two the first one counts.
      reject(error);
      taken();
    });
  });
}

/** Takes a database for this tab alone, as far as the browser can tell; `takeOver`: also from another tab, which the fence shuts out. */
export async function holdAlone(dbName: string, takeOver: boolean): Promise<void> {
  // Safari below 15.4, Firefox below 96, and pages that are not served securely.
  if (navigator.locks === undefined) return;
  if (takeOver) {
    await hold(lockOf(dbName), { steal: true });
    return;
  }
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    await hold(lockOf(dbName), { signal: patience.signal });
  } catch (error) {
    if (patience.signal.aborted) throw new Refusal('database-busy', 'this database is open in another tab or window; close it there, call takeOver(), or give this one a dbName of its own');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
