// The database's pages in IndexedDB: store `pages`, one record a page from 1 on, and store `meta` with the fence.
//
// Invariant: `pages` is always what one commit left. A batch of pages is one transaction, and its first request adds the key
// [epoch, generation] to `meta` (`connection.ts`). A connection that is lost is replaced, unless somebody else has written meanwhile.

import type { Durability } from '../durability.js';
import { Refusal, toFailure } from '../core/failure.js';
import { type Claim, claim, completion, connect, type Fence, NothingStored, result, ShutOut } from './connection.js';
import { beginFreshLog } from './fresh-log.js';
import { copyPages } from './set-aside.js';

/** How much is read at a time. */
const RANGE_BYTES = 4 * 1024 * 1024;

/** How many records of a damaged database are read at a time. */
const SALVAGED_AT_ONCE = 256;

const NO_RECORD = new Uint8Array();

/** SQLite's page sizes are multiples of this, and a record is its page with a digest after it. (Those of an earlier version have none.) */
const SMALLEST_PAGE_BYTES = 512;

/** When to look again for a database that was closed by the browser and could not be opened. */
const RECONNECT_MS = 500;

/** What is written at once. `digest`: of all pages, after that. */
export interface Pages {
  readonly pageCount: number;
  readonly digest: string;
  readonly pages: readonly (readonly [pageNo: number, record: Uint8Array])[];
}

/** What pages are loaded into. */
export interface Receiver {
  load(firstPage: number, bytes: Uint8Array): void;
  digest(): string;
}

/** What the pages of a damaged database are loaded into, one after the other; it looks which of them are what was saved. */
export interface Salvager {
  loadSound(record: Uint8Array): void;
}

/** What is stored is not what was saved. */
export class Damaged extends Refusal {
  constructor(what: string) {
    super('damaged', `the stored database is damaged: ${what}`);
  }
}

/** Tells whether this worker may have the database, or nothing if there can be no doubt. */
export type Confirm = () => Promise<boolean> | undefined;

/** Where pages are kept. */
export interface PageStorage {
  /** Whether they are there after a reload. */
  readonly persistent: boolean;
  /** Why the browser threw away what was stored, where it did. */
  readonly thrownAway: string | undefined;
  /** Reads all pages in order, several at a time. @throws Damaged */
  load(into: Receiver, progress: (loaded: number, total: number) => void): Promise<void>;
  /** Copies what is stored, as it is, into an IndexedDB database of another name, which it gives. The next batch that is saved must be a whole database. */
  setAside(): Promise<string>;
  /** Reads those pages of a damaged database that are there. */
  salvage(into: Salvager): Promise<void>;
  /** Writes pages and cuts what is beyond `pageCount` off: all of it or nothing. */
  save(pages: Pages, durability: Durability): Promise<void>;
  /** Has what was written before on the disk. */
  sync(): Promise<void>;
  close(): void;
}

/**
 * Opens or makes a database, and shuts its previous writer out, unless `confirm` says that somebody else's turn has come meanwhile. `lost` is called if it
 * is gone for good, or somebody else's.
 */
export async function openPages(dbName: string, confirm: Confirm, lost: (reason: Refusal) => void): Promise<PageStorage> {
  try {
    const { database, thrownAway } = await connect(dbName);
    await beginFreshLog();
    const confirmed = confirm();
    if (confirmed !== undefined && !(await confirmed)) {
      database.close();
      throw new ShutOut('database-busy', 'another tab has the database by now');
    }
    return new PageDatabase(dbName, lost, database, await claim(database), thrownAway);
  } catch (error) {
    if (error instanceof NothingStored) return NOWHERE;
    throw error;
  }
}

/** Pages; none and no digest where the fence alone is written, over a database that has none yet. */
type Saving = Omit<Pages, 'digest'> & { readonly digest?: string | undefined };

/** Where the browser stores nothing the database is what is in memory. */
const NOWHERE: PageStorage = {
  persistent: false,
  thrownAway: undefined,
  load: () => Promise.resolve(),
  setAside: () => Promise.reject(new Refusal('internal', 'nothing is stored')),
  salvage: () => Promise.resolve(),
  save: () => Promise.resolve(),
  sync: () => Promise.resolve(),
  close: () => undefined,
};

class PageDatabase implements PageStorage {
  readonly persistent = true;
  /** None while the connection is lost. */
  private database: IDBDatabase | undefined;
  private connecting: Promise<IDBDatabase> | undefined;
  private closed = false;

  constructor(
    private readonly dbName: string,
    private readonly lost: (reason: Refusal) => void,
    database: IDBDatabase,
    private claim: Claim,
    readonly thrownAway: string | undefined,
  ) {
    this.adopt(database);
  }

  async load(into: Receiver, progress: (loaded: number, total: number) => void): Promise<void> {
    const { pageCount, digest } = this.claim.fence;
    const store = (await this.connected()).transaction('pages').objectStore('pages');
    let atOnce = 1;
    for (let first = 1; first <= pageCount; ) {
      const last = Math.min(first + atOnce - 1, pageCount);
      const records = (await result(store.getAll(IDBKeyRange.bound(first, last)))) as Uint8Array[];
      const pages = records.map((record) => record.subarray(0, record.length - (record.length % SMALLEST_PAGE_BYTES)));
      if (pages.length !== last - first + 1) throw new Damaged(`of the pages ${first} to ${last} there are ${pages.length}`);
      const bytes = joined(pages);
      try {
        into.load(first, bytes);
      } catch (error) {
        throw new Damaged(toFailure(error).message);
      }
      progress(last, pageCount);
      first = last + 1;
      atOnce = Math.max(1, Math.floor(RANGE_BYTES / Math.max(1, bytes.length / pages.length)));
    }
    if (digest !== undefined && digest !== into.digest()) throw new Damaged('its pages are not those that were saved last');
  }

  async setAside(): Promise<string> {
    const { epoch } = this.claim;
    const name = `${this.dbName}-damaged-${epoch}`;
    await copyPages(await this.connected(), name);
    return name;
  }

  async salvage(into: Salvager): Promise<void> {
    const { pageCount } = this.claim.fence;
    const store = (await this.connected()).transaction('pages').objectStore('pages');
    for (let first = 1; first <= pageCount; first += SALVAGED_AT_ONCE) {
      const range = IDBKeyRange.bound(first, Math.min(first + SALVAGED_AT_ONCE - 1, pageCount));
      const [keys, records] = await Promise.all([result(store.getAllKeys(range)), result(store.getAll(range))]);
      const byKey = new Map(keys.map((key, index) => [key, records[index] as Uint8Array]));
      for (let page = first; page <= range.upper; page += 1) into.loadSound(byKey.get(page) ?? NO_RECORD);
    }
  }

  async save(pages: Saving, durability: Durability): Promise<void> {
    const database = this.database ?? (await this.connected());
    try {
      await this.write(database, pages, durability);
    } catch (error) {
      // Not every browser says so when a connection is beyond use.
      database.close();
      if (this.database === database) this.database = undefined;
      throw error;
    }
  }

  /** A strict transaction that writes the fence alone: one log takes all of them in order, so what was written before is on the disk with it. */
  sync(): Promise<void> {
    return this.save({ ...this.claim.fence, pages: [] }, 'strict');
  }

  close(): void {
    this.closed = true;
    this.database?.close();
  }

  private async write(database: IDBDatabase, { pageCount, digest, pages }: Saving, durability: Durability): Promise<void> {
    const { epoch, generation: last, fence: stored } = this.claim;
    const generation = last + 1;
    const fence: Fence = digest === undefined ? { pageCount } : { pageCount, digest };
    // A power cut may take the newest relaxed transactions; a crash of the browser does not. Browsers that do not know the option ignore it.
    const transaction = database.transaction(['meta', 'pages'], 'readwrite', { durability });
    const completed = completion(transaction);
    try {
      const meta = transaction.objectStore('meta');
      meta.add(fence, [epoch, generation]);
      meta.delete([epoch, last]);
      const store = transaction.objectStore('pages');
      for (const [pageNo, record] of pages) store.put(record, pageNo);
      if (pageCount < stored.pageCount) store.delete(IDBKeyRange.lowerBound(pageCount, true));
      // Without waiting for this thread again: what is issued is saved even if the worker is ended now. Safari 14 does not have it.
      transaction.commit?.();
    } catch (error) {
      // What could not be issued as a whole must not be saved in part.
      transaction.abort();
      await completed.catch(() => undefined);
      throw error;
    }
    await completed;
    this.claim = { epoch, generation, fence };
  }

  private adopt(database: IDBDatabase): void {
    this.database = database;
    database.onclose = () => {
      this.database = undefined;
      this.comeBack();
    };
    database.onversionchange = () => {
      database.close();
      this.lost(new Refusal('storage', 'the database was deleted, or is being upgraded, in another tab'));
    };
  }

  /** Also where nothing is to be saved: what was stored may be gone. */
  private comeBack(): void {
    if (this.closed) return;
    this.connected().catch((error: unknown) => {
      if (!(error instanceof ShutOut)) setTimeout(() => this.comeBack(), RECONNECT_MS);
    });
  }

  private connected(): Promise<IDBDatabase> {
    if (this.database !== undefined) return Promise.resolve(this.database);
    this.connecting ??= this.connectAgain().finally(() => {
      this.connecting = undefined;
    });
    return this.connecting;
  }

  private async connectAgain(): Promise<IDBDatabase> {
    const { database } = await connect(this.dbName);
    // What made it necessary may have been a full disk, which leaves half a record too.
    await beginFreshLog();
    try {
      if (this.closed) throw new ShutOut('storage', 'the database was closed');
      this.claim = await claim(database, this.claim);
    } catch (error) {
      database.close();
      if (error instanceof ShutOut && !this.closed) this.lost(error);
      throw error;
    }
    this.adopt(database);
    return database;
  }
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
