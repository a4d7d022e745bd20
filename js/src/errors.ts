// Everything that can go wrong, as a caller would tell it apart: SQL that failed, and the rest by a stable code.

import type { ErrorCode } from './generated/ErrorCode.js';
import type { Operation } from './operation.js';

/** Why SQL failed. The message is SQLite's. */
export class SqlError extends Error {
  override readonly name: string = 'SqlError';

  constructor(
    message: string,
    /** SQLite's extended result code, such as 1555 for a duplicate primary key; 23 where RTC Battery itself refuses. */
    readonly code: number,
    /** Of `SQLLayer.execute`: what statements before the failing one committed. */
    readonly operations: Operation[] = [],
  ) {
    super(message);
  }
}

/** What kind of thing went wrong, where it was not SQL. */
export type RTCBatteryErrorCode =
  | ErrorCode
  /** Before `connect()` resolved, or after `disconnect()`. (What is asked of a session that broke rejects with what broke it, until `connect()`.) */
  | 'not-connected'
  /** Another tab or window has this database open. */
  | 'database-busy'
  /** The database belongs to another room. */
  | 'other-room'
  /** The database was written by a newer version of RTC Battery. */
  | 'newer-format'
  /** A parameter is of a type that SQL does not know. */
  | 'bad-parameter'
  /** An operation is none, or is not one that can be applied. */
  | 'bad-operation'
  /** A transaction is open: COMMIT or ROLLBACK first. */
  | 'in-transaction'
  /** `WebRTCManager.requestSync` of somebody who is not in the room, or cannot be talked to yet. */
  | 'unknown-peer'
  /** `WebRTCManager.requestSync`: the peer did not answer, or is gone. */
  | 'unanswered'
  /** `WebRTCManager.connect` while connected to another room. */
  | 'already-connected'
  /** After `SQLLayer.close()`. */
  | 'closed'
  /** `iceServers` is a function or a URL and gave none; the session goes on with what it knows. */
  | 'ice-servers'
  /** What was given to `importDatabase` is no sound SQLite file. */
  | 'bad-file'
  /** The browser's storage failed, or the database was cleared or deleted while it was open. */
  | 'storage'
  /**
   * What was written cannot be saved now: the disk is full, or the browser stores nothing for this page. It is kept in memory; a full disk is tried
   * again, and until then reads go on and writes fail with SQLite's code 13.
   */
  | 'not-saved'
  /**
   * What was stored is not what was saved last. It is set aside under another name, which the message tells, and the database begins anew, as a new
   * replica, with what of this device's own writes can still be read (`salvaged` says how many operations); what peers have comes from them.
   */
  | 'damaged'
  /**
   * The tab that held the database is gone, and with it the TEMP triggers, tables and views that any tab had made: make them again
   * (`CREATE TEMP ... IF NOT EXISTS`, since every tab is told).
   */
  | 'temporary-lost'
  /** `worker.js` or `rtc_battery.wasm` could not be loaded. */
  | 'load'
  /** A bug in RTC Battery; the database is as it was last saved. */
  | 'internal';

/** Anything but SQL that went wrong. */
export class RTCBatteryError extends Error {
  override readonly name: string = 'RTCBatteryError';

  constructor(
    message: string,
    /** A stable word to act on. */
    readonly code: RTCBatteryErrorCode,
    /** Who is to blame, where it is a peer. */
    readonly peer: string | null = null,
    /** Of `damaged`: how many operations were read out of what was set aside. */
    readonly salvaged: number | null = null,
  ) {
    super(message);
  }
}

/** Another tab or window has this database open. */
export class DatabaseBusy extends RTCBatteryError {
  override readonly name = 'DatabaseBusy';

  constructor(message: string) {
    super(message, 'database-busy');
  }
}

/** An error on its way from the worker: structured cloning would strip a class off. A numeric code is SQLite's. */
export interface Failure {
  readonly message: string;
  readonly code: number | RTCBatteryErrorCode;
  readonly operations?: Operation[];
  readonly salvaged?: number;
}

/** The error that a failure stands for. */
export function toError({ message, code, operations, salvaged }: Failure): SqlError | RTCBatteryError {
  if (typeof code === 'number') return new SqlError(message, code, operations);
  return code === 'database-busy' ? new DatabaseBusy(message) : new RTCBatteryError(message, code, null, salvaged);
}
