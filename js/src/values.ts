// What goes into SQL and what comes out of it.

import { RTCBatteryError } from './errors.js';

/** A value that SQL returned. An INTEGER is a `bigint` only where a number cannot hold it (beyond 2^53 - 1). */
export type SqlValue = null | number | bigint | string | Uint8Array;

/** A value for a parameter. A number without a fraction is an INTEGER, others are REAL; booleans are 1 and 0; `undefined` is NULL. */
export type SqlInput = SqlValue | undefined | boolean | ArrayBuffer;

/**
 * Parameters by position (`?`, `?2`), or by name (`:a`, `@a`, `$a`; the prefix may be left out here). Of several statements each takes the next
 * ones by position, and all of them those by name.
 */
export type SqlParams = readonly SqlInput[] | { readonly [name: string]: SqlInput };

/** What `exec` returns. Of several statements, the rows are those of the last one that returns any. */
export interface QueryResult {
  /** Column names; empty where no statement returned rows. */
  columns: string[];
  /** The rows. */
  values: SqlValue[][];
  /** Rows inserted, updated or deleted, by all statements together. */
  rowsAffected: number;
}

/** A `Uint8Array` that is a part of a `Blob`: for TypeScript 5.7 and later one that is not shared, which earlier versions cannot say. */
export type FileBytes = ReturnType<Uint8ArrayConstructor['of']>;

/**
 * The bytes of a file.
 * @throws RTCBatteryError of code `bad-file` where it is something else.
 */
export function bytesOf(file: unknown): Uint8Array {
  try {
    if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
    if (file instanceof ArrayBuffer) return new Uint8Array(file);
  } catch {
    throw new RTCBatteryError('the file has no bytes any more: its buffer was transferred', 'bad-file');
  }
  throw new RTCBatteryError('the file is no Uint8Array', 'bad-file');
}
