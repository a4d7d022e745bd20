// From commits in memory to IndexedDB: one transaction in flight, and what is committed meanwhile goes into the next one together.
// (Two in flight leave a hole when the first fails and the second does not.)

import type { Storage } from '../../pkg/rtc_battery.js';
import { toFailure } from '../core/failure.js';
import type { Failure } from '../errors.js';
import type { PageStorage } from './pages.js';

/** When to try again after saving failed. */
const RETRY_MS = 2000;

interface Waiter {
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
  private inFlight = false;
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

  /** Saves what is committed and not saved, unless that is going on already. */
  flush(): void {
    if (this.inFlight) return;
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
    this.inFlight = true;
    const version = this.version();
    const saving = batch === undefined ? this.pages.sync() : this.pages.save(batch, sync || this.strict ? 'strict' : 'relaxed');
    saving
      .then(
        () => this.succeed(batch?.generation, waiters, version),
        (error: unknown) => this.fail(batch?.generation, waiters, error),
      )
      .catch((error: unknown) => this.events.failed(toFailure(error)));
  }

  private wait(onDisk: boolean): Promise<void> {
    const saved = new Promise<void>((resolve, reject) => this.waiting.push({ onDisk, resolve, reject }));
    this.flush();
    return saved;
  }

  /** Without a generation where there was no batch. */
  private succeed(generation: number | undefined, waiters: readonly Waiter[], version: number): void {
    this.inFlight = false;
    this.trouble = undefined;
    if (generation !== undefined) this.storage.batchSaved(generation);
    for (const { resolve } of waiters) resolve();
    this.events.saved(version);
    this.flush();
  }

  private fail(generation: number | undefined, waiters: readonly Waiter[], error: unknown): void {
    this.inFlight = false;
    if (generation !== undefined) this.storage.batchFailed(generation);
    const failure = notSaved(error);
    for (const { reject } of waiters) reject(failure);
    this.retry = setTimeout(() => this.flush(), RETRY_MS);
    const known = this.trouble !== undefined;
    this.trouble = failure;
    if (!known) this.events.failed(failure);
  }
}

/** Shut out by the fence, what is in memory here is not what is stored any more. Anything else may pass: a full disk may have room again. */
function notSaved(error: unknown): Failure {
  const failure = toFailure(error);
  if (failure.code !== 'storage') return failure;
  const message = `${failure.message}; what was written is kept in memory and saved as soon as that works, until then no more can be written`;
  return { message, code: 'not-saved' };
}
