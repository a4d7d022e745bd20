// The specification's SQLLayer: a database by itself, synchronous and in memory, whose operations the caller carries.

import { MemoryLayer } from '../pkg/rtc_battery.js';
import { now } from './core/clock.js';
import { toFailure } from './core/failure.js';
import { random, REPLICA_ID_BYTES } from './core/random.js';
import { RTCBatteryError, toError } from './errors.js';
import type { Operation } from './operation.js';
import { bytesOf, type FileBytes, type QueryResult, type SqlParams } from './values.js';
import { loadCoreHere } from './wasm-file.js';

/** How to make a SQLLayer. */
export interface SQLLayerOptions {
  /**
   * Where `rtc_battery.wasm` is, if not beside this file. In Node a path or a `file:` URL, too. The module is loaded once: the first `wasmUrl`
   * counts.
   */
  wasmUrl?: string | URL;
}

/**
 * A SQL database in memory that gives the operations of what is written to it, and takes those of others.
 *
 * ```js
 * const [ada, bob] = [await SQLLayer.create(), await SQLLayer.create()];
 * const { operations } = ada.execute("CREATE TABLE notes (id TEXT PRIMARY KEY, content); INSERT INTO notes VALUES ('1', 'Hello')");
 * for (const operation of operations) bob.applyOperation(operation);
 * bob.execute('SELECT * FROM notes').result.values; // [['1', 'Hello']]
 * ```
 */
export class SQLLayer {
  private constructor(private layer: MemoryLayer | undefined) {}

  /** Loads the core, once, and makes an empty database. Rejects with an {@link RTCBatteryError} of code `load`. */
  static async create({ wasmUrl }: SQLLayerOptions = {}): Promise<SQLLayer> {
    try {
      await loadCoreHere(wasmUrl);
      return new SQLLayer(new MemoryLayer(random(REPLICA_ID_BYTES)));
    } catch (error) {
      throw toError(toFailure(error));
    }
  }

  /**
   * Runs one or several SQL statements. `operations` is what the call committed, in order; a transaction's come with its COMMIT.
   *
   * @throws SqlError: what the failing statement did is undone; what statements before it did stands and is in the error's `operations`.
   * @throws RTCBatteryError of code `bad-parameter`.
   */
  execute(sql: string, params?: SqlParams): { result: QueryResult; operations: Operation[] } {
    return this.call((layer) => layer.execute(sql, params, now()));
  }

  /**
   * Takes in an operation of another, in any order and any number of times: one that is known changes nothing, of two writes the later one
   * stays, what names a table or a column that is not here yet waits for it, and what is stamped more than five minutes ahead of this device's clock
   * waits for its time: the first call then shows it. Returns what was taken and is not shown, and why.
   *
   * @throws RTCBatteryError of code `bad-operation` where it is none, or of code `in-transaction`; nothing is changed then.
   */
  applyOperation(op: Operation): string[] {
    return this.call((layer) => layer.applyOperation(op, now()));
  }

  /**
   * The whole database as a plain SQLite file.
   *
   * @throws RTCBatteryError of code `in-transaction`.
   */
  exportDatabase(): FileBytes {
    return this.call((layer) => layer.exportFile() as FileBytes);
  }

  /**
   * Takes in a plain SQLite file, as `RTCBattery.importDatabase` does: what is missing is added, what is here stays. Returns what had to be
   * left out and why. What a file brings is no operation: others take the same file.
   *
   * @throws RTCBatteryError of code `bad-file` or `in-transaction`.
   */
  importDatabase(data: Uint8Array): string[] {
    return this.call((layer) => layer.importFile(bytesOf(data), now()));
  }

  /** Gives the memory back. The layer cannot be used any more. */
  close(): void {
    this.layer?.free();
    this.layer = undefined;
  }

  private call<T>(act: (layer: MemoryLayer) => T): T {
    if (this.layer === undefined) throw new RTCBatteryError('this SQLLayer was closed', 'closed');
    try {
      return act(this.layer);
    } catch (error) {
      throw toError(toFailure(error));
    }
  }
}
