// The public face: the specification's names, and the state in which each may be called.

import { type RTCBatteryConfig, type Settings, settingsOf } from './config.js';
import { Listeners, type RTCBatteryEvents } from './events.js';
import type { Status } from './generated/Status.js';
import { Session } from './session.js';
import { Stay } from './stay.js';
import type { StorageReport } from './storage-report.js';
import type { FileBytes, QueryResult, SqlParams } from './values.js';

/**
 * A SQL database in the browser that everyone with the same token shares.
 *
 * ```js
 * const battery = new RTCBattery({ signalingUrl: 'wss://example.com/signal', token });
 * await battery.connect();
 * await battery.exec('CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, content TEXT)');
 * await battery.exec('INSERT INTO notes VALUES (?, ?)', [crypto.randomUUID(), 'Hello']);
 * const { columns, values } = await battery.exec('SELECT * FROM notes');
 * ```
 */
export class RTCBattery {
  private readonly settings: Settings;
  private readonly listeners = new Listeners();
  /** What a session that is over had reached. */
  private lastVersion = 0;
  private readonly stay = new Stay<Session>((session) => {
    this.lastVersion = session.version;
  });

  /** @throws TypeError if the config is none. */
  constructor(config: RTCBatteryConfig) {
    this.settings = settingsOf(config);
  }

  /**
   * Opens the database and joins the room. Resolves once the database is open, also when the signaling server cannot be reached: that is
   * an `error` event, and tried again until it can. May be called again after `disconnect`.
   *
   * Rejects with {@link DatabaseBusy} if another tab has the database open and this browser cannot share it ({@link takeOver}), otherwise with an
   * {@link RTCBatteryError}.
   */
  connect(): Promise<void> {
    return this.enter(false);
  }

  /**
   * Connects where another tab has the database open, in browsers whose tabs cannot share one: that tab is shut out, and told with
   * {@link DatabaseBusy} when it writes next. What it was promised is here. Anywhere else this is `connect`.
   */
  takeOver(): Promise<void> {
    return this.enter(true);
  }

  /**
   * Runs one or several SQL statements. What they write is synced with the room; the promise resolves when it is saved on this device.
   *
   * Rejects with {@link SqlError}: what the failing statement did is undone, what statements before it did stands. Rejects with an
   * {@link RTCBatteryError} of code `not-saved` where it was done and cannot be saved now.
   */
  exec(sql: string, params?: SqlParams): Promise<QueryResult> {
    return this.run(sql, params, false);
  }

  /** Runs SQL whose writes stay on this device. */
  execLocal(sql: string, params?: SqlParams): Promise<QueryResult> {
    return this.run(sql, params, true);
  }

  /** The whole database as a plain SQLite file, which sql.js, the sqlite3 shell and any other SQLite open. */
  exportDatabase(): Promise<FileBytes> {
    return this.inSession((session) => session.export());
  }

  /**
   * Takes in a plain SQLite file, from `exportDatabase` or any other SQLite: creates the tables that are missing and adds the rows that are
   * missing. A row that is here, or was deleted here, stays as it is: the file does not say when its rows were written. Resolves, when saved,
   * with what had to be left out and why.
   *
   * Rejects with an {@link RTCBatteryError} of code `bad-file` where the file is no sound SQLite file; nothing is changed then.
   */
  importDatabase(file: Uint8Array): Promise<string[]> {
    return this.inSession((session) => session.import(file));
  }

  /**
   * Resolves when everything that is committed by now is saved, what peers sent included, and on the disk, also under relaxed durability (as far as
   * the browser can be asked for that). An open transaction is not committed.
   *
   * Rejects with an {@link RTCBatteryError} of code `not-saved` where saving fails; it is tried again.
   */
  flush(): Promise<void> {
    return this.inSession((session) => session.flush());
  }

  /** Where the database is, and what the browser says of the room there is. */
  estimate(): Promise<StorageReport> {
    return this.inSession((session) => session.estimate());
  }

  /** Listens to an event. Call what it returns to stop. */
  on<E extends keyof RTCBatteryEvents>(event: E, callback: RTCBatteryEvents[E]): () => void {
    return this.listeners.add(event, callback);
  }

  /** Ids of the peers that are connected. */
  getPeers(): string[] {
    return [...(this.stay.visit?.peers ?? [])];
  }

  /**
   * How it stands with everyone in the room: whether each can be talked to, how far away it is, whether through a relay, how much was sent, and how
   * many transactions either side lacks. The same in every tab. What is measured (the round trip, the way) is at most a few seconds old, and is measured anew when it is asked
   * for: ask again to see it change.
   */
  getStatus(): Promise<Status> {
    return this.inSession((session) => session.status());
  }

  /** How many transactions this database has committed or applied. Only grows, also across reloads; 0 before the first `connect`. */
  getLocalVersion(): number {
    return this.stay.visit?.version ?? this.lastVersion;
  }

  /**
   * Leaves the room and closes the database. Resolves when everything is saved and the peers were told what they lacked, as far as that goes
   * in 2 s; the rest they learn from others, or when this one is back.
   */
  disconnect(): Promise<void> {
    return this.stay.end();
  }

  private enter(takeOver: boolean): Promise<void> {
    return this.stay.begin((lost) => new Session(this.settings, takeOver, this.listeners, lost));
  }

  private run(sql: string, params: SqlParams | undefined, local: boolean): Promise<QueryResult> {
    return this.inSession((session) => session.exec(sql, params, local));
  }

  private async inSession<T>(act: (session: Session) => Promise<T>): Promise<T> {
    return act(this.stay.connected());
  }
}
