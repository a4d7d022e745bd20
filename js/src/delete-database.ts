// Deletes a database: whoever has it open is told and lets go of it first, so that no tab goes on with what another one has deleted.

import { DatabaseBusy, RTCBatteryError } from './errors.js';
import { Pulse } from './pulse.js';
import { channelOf, type Deleting, lockOf, tabsMeet } from './tabs.js';

/** How long a tab may take to let go. */
const PATIENCE_MS = 5000;

/**
 * Deletes a database of this browser for good; what peers have they keep. `dbName` is that of the config, or, where none was given, what
 * `estimate()` tells. Tabs that have it open, this one included, are disconnected and told by an `error` event of code `storage`; one that connects
 * again begins with an empty database. There may be none of this name.
 *
 * Rejects with {@link DatabaseBusy} if another tab does not let go of it within 5 s.
 */
export async function deleteDatabase(dbName: string): Promise<void> {
  if (typeof dbName !== 'string' || dbName === '') throw new TypeError('deleteDatabase: dbName must be a string that is not empty');
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    // Otherwise whoever has it open hears of the deletion from IndexedDB.
    await (tabsMeet() ? afterTheOthers(dbName, patience.signal) : deletion(dbName, patience.signal));
  } catch (error) {
    if (!patience.signal.aborted) throw error;
    throw new DatabaseBusy('another tab or window has this database open and does not let go of it; close it there and try again');
  } finally {
    clearTimeout(timer);
  }
}

/** Has every tab end its session, and keeps new ones waiting until the database is gone. */
async function afterTheOthers(dbName: string, signal: AbortSignal): Promise<void> {
  const channel = new BroadcastChannel(channelOf(dbName));
  const pulse = new Pulse();
  const word: Deleting = { kind: 'deleting' };
  channel.postMessage(word);
  try {
    // A tab that was next in line may be let in before it has heard; it lets go then.
    await navigator.locks.request(lockOf(dbName), { signal }, () => {
      // Who connects meanwhile waits.
      pulse.set({ dbName, tab: 'deletion' });
      return deletion(dbName, signal);
    });
  } finally {
    pulse.set(undefined);
    channel.close();
  }
}

function deletion(dbName: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void => reject(new RTCBatteryError(`the browser's storage failed: ${String(error)}`, 'storage'));
    // A connection that is not closed blocks it.
    signal.addEventListener('abort', failed);
    try {
      const request = indexedDB.deleteDatabase(dbName);
      request.onsuccess = () => resolve();
      request.onerror = () => failed(request.error);
    } catch (error) {
      failed(error);
    }
  });
}
