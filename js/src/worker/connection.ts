// A connection to a database of pages in IndexedDB, and the fence in its store `meta` that lets one writer in at a time.
//
// A writer's batches add the keys [epoch, 1], [epoch, 2] and so on. Whoever takes the database over adds the key that the previous writer's next
// batch would need (whoever it is and wherever it hangs), so that batch fails as a whole, and goes on in an epoch of its own.

import { Refusal } from '../core/failure.js';

/** Version of this layout. */
const FORMAT = 1;

/** How many epochs' fences are kept. Each stops a writer that hangs since then. */
const KEPT_EPOCHS = 100;

const TAKEN_OVER = 'another tab or window has taken this database over; call takeOver() or reload this one to go on here';

/** A record of the fence. */
export interface Fence {
  pageCount: number;
  /** Of all pages; none in databases that were last written before there were digests. */
  digest?: string;
}

/** What a writer that was let in may go on from. */
export interface Claim {
  readonly epoch: number;
  /** Of the newest batch of this epoch. */
  readonly generation: number;
  /** What is stored. */
  readonly fence: Fence;
}

/** The browser stores nothing for this page: a private window of some browsers, or a setting. */
export class NothingStored extends Refusal {
  constructor(error: unknown) {
    super('storage', `the browser stores nothing for this page: ${String(error)}`);
  }
}

/** A writer that was here before is not let in any more: what is in its memory is not what is stored. */
export class ShutOut extends Refusal {}

/** An open database. */
export interface Connection {
  readonly database: IDBDatabase;
  /** Why the browser threw away whatever this site had stored, if it did so now. Only Chromium says it; any other begins with an empty database. */
  readonly thrownAway: string | undefined;
}

/** Chromium's own. */
type VersionChange = IDBVersionChangeEvent & { readonly dataLoss?: 'none' | 'total'; readonly dataLossMessage?: string };

/** Opens or makes a database. */
export function connect(dbName: string): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let thrownAway: string | undefined;
    let request: IDBOpenDBRequest;
    try {
      request = indexedDB.open(dbName, FORMAT);
    } catch (error) {
      // No IndexedDB at all, or one that this page may not use.
      reject(new NothingStored(error));
      return;
    }
    request.onupgradeneeded = (event) => {
      const { dataLoss, dataLossMessage } = event as VersionChange;
      if (dataLoss === 'total') thrownAway = dataLossMessage;
      request.result.createObjectStore('pages');
      request.result.createObjectStore('meta');
    };
    request.onsuccess = () => resolve({ database: request.result, thrownAway });
    request.onerror = () => {
      const name = request.error?.name ?? '';
      if (name === 'VersionError') {
        reject(new Refusal('newer-format', 'this database was written by a newer version of RTC Battery; reload to get it'));
      } else if (name === 'InvalidStateError' || name === 'SecurityError') {
        // Private windows of Firefox below 115.
        reject(new NothingStored(request.error));
      } else {
        reject(failed(request.error));
      }
    };
  });
}

/** Shuts the previous writer out. Without `before` that is anybody; else it is this very writer, who goes on only if nobody else has written since. */
export async function claim(database: IDBDatabase, before?: Claim): Promise<Claim> {
  const transaction = database.transaction('meta', 'readwrite');
  const completed = completion(transaction);
  const meta = transaction.objectStore('meta');
  const last = await result(meta.openCursor(null, 'prev'));
  const [epoch, generation] = (last?.key ?? [0, 0]) as [number, number];
  const fence = (last?.value as Fence | undefined) ?? { pageCount: 0 };
  meta.add(fence, [epoch, generation + 1]);
  if (before === undefined) {
    meta.add(fence, [epoch + 1, 0]);
    meta.delete(IDBKeyRange.bound([0], [Math.max(0, epoch - KEPT_EPOCHS)]));
    await completed;
    return { epoch: epoch + 1, generation: 0, fence };
  }
  // Whether the batch that was on its way when the connection broke is stored nobody said.
  if (epoch !== before.epoch || generation < before.generation || generation > before.generation + 1) {
    transaction.abort();
    await completed.catch(() => undefined);
    throw last === null ? new ShutOut('storage', 'what was stored was cleared or deleted') : new ShutOut('database-busy', TAKEN_OVER);
  }
  meta.delete([epoch, generation]);
  await completed;
  return { epoch, generation: generation + 1, fence };
}

/** What a request gives. */
export function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(failed(request.error));
  });
}

/** Resolves when a transaction is complete. */
export function completion(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(failed(transaction.error));
  });
}

function failed(error: DOMException | null): Refusal {
  // Only the fence can collide.
  if (error?.name === 'ConstraintError') return new Refusal('database-busy', TAKEN_OVER);
  return new Refusal('storage', `the browser's storage failed: ${error?.name ?? 'aborted'} ${error?.message ?? ''}`.trim());
}
