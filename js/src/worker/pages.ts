// The database's pages in IndexedDB: store `pages`, one record a page from 1 on, and store `meta` with the fence.
//
// Invariant: `pages` is always what one commit left. A batch of pages is one transaction, and its first request adds the key
// [epoch, generation] to `meta`. Opening takes the key that the previous writer's next batch would need (whoever it is and wherever it
// hangs), so that batch fails as a whole, and goes on in an epoch of its own.

import type { Durability } from '../durability.js';
import { Refusal } from '../core/failure.js';

/** Version of this layout. */
const FORMAT = 1;

/** How much is read at a time. */
const RANGE_BYTES = 4 * 1024 * 1024;

/** How many epochs' fences are kept. Each stops a writer that hangs since then. */
const KEPT_EPOCHS = 100;

/** What is written at once. */
export interface Pages {
  readonly pageCount: number;
  readonly pages: readonly (readonly [pageNo: number, bytes: Uint8Array])[];
}

/** A record of the fence. */
interface Fence {
  pageCount: number;
}

/** An open database of pages. */
export class PageDatabase {
  private generation = 0;

  private constructor(
    private readonly database: IDBDatabase,
    private readonly epoch: number,
    private pageCount: number,
  ) {}

  /** Opens or makes a database, and shuts its previous writer out. `lost` is called if the browser takes it away again. */
  static async open(dbName: string, lost: (reason: string) => void): Promise<PageDatabase> {
    const database = await connect(dbName);
    database.onclose = () => lost('the browser closed the database');
    database.onversionchange = () => {
      database.close();
      lost('the database was deleted, or is being upgraded, in another tab');
    };
    const transaction = database.transaction('meta', 'readwrite');
    const meta = transaction.objectStore('meta');
    const last = await result(meta.openCursor(null, 'prev'));
    const [epoch, generation] = (last?.key ?? [0, 0]) as [number, number];
    const fence: Fence = (last?.value as Fence | undefined) ?? { pageCount: 0 };
    meta.add(fence, [epoch, generation + 1]);
    meta.add(fence, [epoch + 1, 0]);
    meta.delete(IDBKeyRange.bound([0], [Math.max(0, epoch - KEPT_EPOCHS)]));
    await completion(transaction);
    return new PageDatabase(database, epoch + 1, fence.pageCount);
  }

  /** Reads all pages in order, several at a time. */
  async load(receive: (firstPage: number, bytes: Uint8Array) => void): Promise<void> {
    const store = this.database.transaction('pages').objectStore('pages');
    let atOnce = 1;
    for (let first = 1; first <= this.pageCount; ) {
      const last = Math.min(first + atOnce - 1, this.pageCount);
      const pages = (await result(store.getAll(IDBKeyRange.bound(first, last)))) as Uint8Array[];
      if (pages.length !== last - first + 1) throw new Refusal('storage', `the stored database lacks pages between ${first} and ${last}`);
      receive(first, joined(pages));
      first = last + 1;
      atOnce = Math.max(1, Math.floor(RANGE_BYTES / (pages[0]?.length ?? RANGE_BYTES)));
    }
  }

  /** Writes pages and cuts what is beyond `pageCount` off: all of it or nothing. */
  async save({ pageCount, pages }: Pages, durability: Durability): Promise<void> {
    const generation = this.generation + 1;
    // A power cut may take the newest relaxed transactions; a crash of the browser does not. Browsers that do not know the option ignore it.
    const transaction = this.database.transaction(['meta', 'pages'], 'readwrite', { durability });
    const completed = completion(transaction);
    try {
      const meta = transaction.objectStore('meta');
      const fence: Fence = { pageCount };
      meta.add(fence, [this.epoch, generation]);
      meta.delete([this.epoch, generation - 1]);
      const store = transaction.objectStore('pages');
      for (const [pageNo, bytes] of pages) store.put(bytes, pageNo);
      if (pageCount < this.pageCount) store.delete(IDBKeyRange.lowerBound(pageCount, true));
      // Without waiting for this thread again: what is issued is saved even if the worker is ended now. Safari 14 does not have it.
      transaction.commit?.();
    } catch (error) {
      // What could not be issued as a whole must not be saved in part.
      transaction.abort();
      await completed.catch(() => undefined);
      throw error;
    }
    await completed;
    this.generation = generation;
    this.pageCount = pageCount;
  }

  /** Has what was written before on the disk: a strict transaction that writes the fence alone, since one log takes all of them in order. */
  sync(): Promise<void> {
    return this.save({ pageCount: this.pageCount, pages: [] }, 'strict');
  }

  close(): void {
    this.database.close();
  }
}

function connect(dbName: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(dbName, FORMAT);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('pages');
      request.result.createObjectStore('meta');
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => {
      const newer = request.error?.name === 'VersionError';
      reject(newer ? new Refusal('newer-format', 'this database was written by a newer version of RTC Battery; reload to get it') : failed(request.error));
    };
  });
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(failed(request.error));
  });
}

function completion(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(failed(transaction.error));
  });
}

function failed(error: DOMException | null): Refusal {
  // Only the fence can collide.
  if (error?.name === 'ConstraintError') return new Refusal('database-busy', 'another tab or window has taken this database over; reload this one to go on here');
  return new Refusal('storage', `the browser's storage failed: ${error?.name ?? 'aborted'} ${error?.message ?? ''}`.trim());
}

function joined(pages: readonly Uint8Array[]): Uint8Array {
  const [only] = pages;
  if (pages.length === 1 && only !== undefined) return only;
  const bytes = new Uint8Array(pages.reduce((length, page) => length + page.length, 0));
  let at = 0;
  for (const page of pages) {
    bytes.set(page, at);
    at += page.length;
  }
  return bytes;
}
