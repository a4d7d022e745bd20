// The specification's operation, as `SQLLayer` and `WebRTCManager` give and take it.

/** A hybrid logical clock's value. Compared by `ts`, then `counter`, then `nodeId`. */
export interface HLC {
  /** Physical timestamp, in milliseconds since 1970. */
  ts: number;
  /** Order within one millisecond. */
  counter: number;
  /** The database that wrote: 1 to 128 printable ASCII characters. */
  nodeId: string;
}

/**
 * One change of one row.
 *
 * Column values are as in results: null, number, bigint beyond 2^53 - 1, string, Uint8Array. Two things that these cannot say are objects with
 * one key: `{ $real: '1.0' }` for a REAL without a fraction where the column would take a plain 1 for an INTEGER (a REAL column does not), and
 * `{ $text: base64 }` for text that is not UTF-8. Taken are also `{ $int: digits }`, `{ $blob: base64 }`, booleans (1 and 0), ArrayBuffer, and
 * undefined for NULL.
 *
 * A table made by CREATE TABLE is an INSERT into `rtc_schema`: apply it as any other, in any order.
 */
export interface Operation {
  /** When, and by whom. */
  hlc: HLC;
  /** What it did to the row. */
  type: 'INSERT' | 'UPDATE' | 'DELETE';
  /** Which table. */
  table: string;
  /** Primary key of the row. */
  pk: Record<string, any>;
  /** Of an INSERT all columns, of an UPDATE those that changed. */
  values?: Record<string, any>;
  /** Of an UPDATE: what it overwrote. */
  prev?: Record<string, any>;
}
