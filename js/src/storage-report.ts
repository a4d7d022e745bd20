// What is known of where a database is kept: the worker knows whether it is, the browser how much room there is and whether it may be taken away.

/** Where a database is kept, as far as anybody can tell. */
export interface StorageReport {
  /** Name of the IndexedDB database. */
  readonly dbName: string;
  /** False where the browser stores nothing for this page (private windows of some browsers): the database is gone with the page. */
  readonly persistent: boolean;
  /** Whether the browser may delete it when the disk is full. `connect` asks that it does not. */
  readonly evictable: boolean;
  /** Bytes that this origin has stored, and may store, where the browser tells. */
  readonly usage: number | undefined;
  readonly quota: number | undefined;
}

/** Asks the browser to keep what this origin stores. Some ask the user, some decide by how the site is used. Workers cannot ask. */
export function askToPersist(): void {
  // Missing in Safari below 15.2, and in pages that are not served securely.
  navigator.storage?.persist?.().catch(() => undefined);
}

/** What the browser says, beside what the worker knows. */
export async function report(kept: Pick<StorageReport, 'dbName' | 'persistent'>): Promise<StorageReport> {
  const { storage } = navigator;
  // Missing in Safari below 17.
  const { usage, quota } = (await storage?.estimate?.()) ?? {};
  const persisted = (await storage?.persisted?.()) ?? false;
  return { ...kept, evictable: kept.persistent && !persisted, usage, quota };
}
