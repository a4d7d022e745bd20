// From commits in memory to IndexedDB: one transaction in flight, and what is committed meanwhile goes into the next one together.
// (Two in flight leave a hole when the first fails and the second does not.)

import type { Batch, Storage } from '../../pkg/rtc_battery.js';
import { toFailure } from '../core/failure.js';
import type { Failure } from '../errors.js';
import type { PageStorage } from './pages.js';

/** When to try again after saving failed. */
const RETRY_MS = 2000;

interface Waiter {
  /** Of the storage's commits the last one that it waits for. */
  readonly commit: number;
  readonly onDisk: boolean;
  resolve(): void;
  reject(failure: Failure): void;
}

/** What the saver tells. */
export interface SaverEvents {
  /** Everything up to this version of the replica is saved. */
  saved(version: number): void;
  /** Saving failed; told once until it succeeds again. With the code `not-saved` it is tried again. */
  failed(failure: Failure): void;
}

/** Saves what the storage has to save. */
export class Saver {
  /** Wait for the next batch that is taken, or for none if there is nothing to take. */
  private waiting: Waiter[] = [];
  /** Whether every transaction is to wait for the disk. */
  strict = false;
  /** Why saving fails, while it does. */
  trouble: Failure | undefined;
  private inFlight: Promise<void> | undefined;
  /** Why nothing is saved any more. */
  private over: Failure | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;

  /** `version` tells the replica's version now. */
  constructor(
    private readonly storage: Storage,
    private readonly pages: PageStorage,
    private readonly version: () => number,
    private readonly events: SaverEvents,
  ) {}

  /** Resolves when everything that is committed by now is saved; rejects if the attempt to save it fails. */
  saved(): Promise<void> {
    return this.wait(false);
  }

  /** The same, and what was saved before is on the disk too. */
  onDisk(): Promise<void> {
    return this.wait(true);
  }

  /** Saves nothing more. What is on its way is waited for: it is saved or it is not, and nobody waits for anything else. */
  async abandon(reason: Failure): Promise<void> {
    this.over = reason;
    clearTimeout(this.retry);
    await this.inFlight;
    this.flush();
  }

  /** Saves what is committed and not saved, unless that is going on already. */
  flush(): void {
    if (this.inFlight !== undefined) return;
    if (this.over !== undefined) {
      for (const { reject } of this.waiting) reject(this.over);
      this.waiting = [];
      return;
    }
    const batch = this.storage.takeBatch();
    const waiters = this.waiting;
    this.waiting = [];
    const sync = waiters.some(({ onDisk }) => onDisk);
    // While saving fails nothing but a transaction tells that it works again.
    if (batch === undefined && this.trouble === undefined && (!sync || this.strict)) {
      for (const { resolve } of waiters) resolve();
      return;
    }
    clearTimeout(this.retry);
    const version = this.version();
    const saving = batch === undefined ? this.pages.sync() : this.pages.save(batch, sync || this.strict ? 'strict' : 'relaxed');
    this.inFlight = saving
      .then(
        () => this.succeed(batch, waiters, version),
        (error: unknown) => this.fail(batch, waiters, error),
      )
      .catch((error: unknown) => this.events.failed(toFailure(error)));
  }

  private wait(onDisk: boolean): Promise<void> {
    const saved = new Promise<void>((resolve, reject) => this.waiting.push({ commit: this.storage.commits(), onDisk, resolve, reject }));
    this.flush();
    return saved;
  }

  private succeed(batch: Batch | undefined, waiters: readonly Waiter[], version: number): void {
    this.inFlight = undefined;
    this.trouble = undefined;
    if (batch !== undefined) this.storage.batchSaved(batch.generation);
    for (const { resolve } of [...waiters, ...this.latecomers(batch)]) resolve();
    this.events.saved(version);
    this.flush();
  }

  private fail(batch: Batch | undefined, waiters: readonly Waiter[], error: unknown): void {
    this.inFlight = undefined;
    if (batch !== undefined) this.storage.batchFailed(batch.generation);
    const failure = notSaved(error);
    for (const { reject } of [...waiters, ...this.latecomers(batch)]) reject(failure);
    if (this.over !== undefined) return;
    this.retry = setTimeout(() => this.flush(), RETRY_MS);
    const known = this.trouble !== undefined;
    this.trouble = failure;
    if (!known) this.events.failed(failure);
  }

  /** Takes those who began to wait when the batch that they wait for was on its way: what becomes of it is their answer, and nothing later is. */
  private latecomers(batch: Batch | undefined): Waiter[] {
    const isMeant = ({ commit, onDisk }: Waiter): boolean => batch !== undefined && !onDisk && commit <= batch.commit;
    const meant = this.waiting.filter(isMeant);
    this.waiting = this.waiting.filter((waiter) => !isMeant(waiter));
    return meant;
  }
}

/** Shut out by the fence, what is in memory here is not what is stored any more. Anything else may pass: a full disk may have room again. */
function notSaved(error: unknown): Failure {
  const failure = toFailure(error);
  if (failure.code !== 'storage') return failure;
  const message = `${failure.message}; what was written is kept in memory and saved as soon as that works, until then no more can be written`;
  return { message, code: 'not-saved' };
}
