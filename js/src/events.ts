// The events of an RTCBattery and who listens to them.

import type { RTCBatteryError } from './errors.js';

/** Who a `sync` event names where it was no peer that wrote, but another tab of this browser on the same database. */
export const ANOTHER_TAB = 'another tab';

/** Who a `sync` event names where time has caught up with operations that were set aside because they were stamped ahead of this device's clock. */
export const SET_ASIDE = 'set aside';

/** A row that is kept and not shown: a row of `rtc_conflicts`. */
export interface Conflict {
  /** Its table. */
  table: string;
  /** Its primary key: a JSON array of the key's values. */
  pk: string;
  /** Why, as SQLite says it. */
  reason: string;
  /** The primary key of the row that has its value, where that is the reason. */
  withPk: string | null;
}

/** What `on` takes, by event. */
export interface RTCBatteryEvents {
  /**
   * Operations of a peer were applied; or another tab on this database wrote (`peerId` is {@link ANOTHER_TAB}); or what a peer told before its time is
   * shown now ({@link SET_ASIDE}).
   */
  sync: (peerId: string, change: { operations: number }) => void;
  /**
   * A peer is sending a large series of operations: all that was missed, or one large transaction. Told about ten times a second while it comes, with `done`
   * below `total` (counts of operations; `total` is an estimate), and when it is applied, with `done` equal to `total`. What breaks off with its
   * connection is begun again, from that peer or another.
   */
  'sync-progress': (peerId: string, progress: { done: number; total: number }) => void;
  /** A peer can be talked to. */
  'peer-join': (peerId: string) => void;
  /** A peer is gone. */
  'peer-leave': (peerId: string) => void;
  /**
   * A row that two devices' writes left without its place is kept and not shown: another row has its value of a UNIQUE index, or SQLite refuses
   * it. It is listed in `rtc_conflicts` for as long as that is so, and comes back by itself.
   */
  conflict: (conflict: Conflict) => void;
  /** The signaling server was reached, for the first time or again: new peers can be met. That it cannot be is an `error`. */
  online: () => void;
  /**
   * This device's clock is fast by more than five minutes, if most peers' are right, so that they do not show what it writes until their clocks get
   * there: ask the user to set it. Told once, until it was right again.
   */
  'clock-skew': (skew: { aheadMs: number }) => void;
  /**
   * A synced table has given a row the next number as its key (an `INTEGER PRIMARY KEY` without a value), which a device that is offline gives too: both
   * write one row then. `TEXT PRIMARY KEY DEFAULT (uuid7())` does not. Told once for each table.
   */
  'automatic-keys': (keys: { table: string }) => void;
  /** `connect` reads the stored database: how many of its pages are here. In the tab that reads it, several times for a large one. */
  progress: (progress: { loaded: number; total: number }) => void;
  /** Something went wrong; the session goes on unless the code is `storage`, `database-busy` or `internal`. */
  error: (error: RTCBatteryError) => void;
}

/** Who listens. */
export class Listeners {
  private readonly byEvent: { [E in keyof RTCBatteryEvents]: Set<RTCBatteryEvents[E]> } = {
    sync: new Set(),
    'sync-progress': new Set(),
    'peer-join': new Set(),
    'peer-leave': new Set(),
    conflict: new Set(),
    online: new Set(),
    'clock-skew': new Set(),
    'automatic-keys': new Set(),
    progress: new Set(),
    error: new Set(),
  };

  add<E extends keyof RTCBatteryEvents>(event: E, callback: RTCBatteryEvents[E]): () => void {
    const listeners: Set<RTCBatteryEvents[E]> | undefined = this.byEvent[event];
    if (listeners === undefined) throw new TypeError(`RTCBattery: there is no event ${JSON.stringify(event)}`);
    // The same function may listen twice; each `on` has an end of its own.
    const listener = ((...values: Parameters<RTCBatteryEvents[E]>) =>
      (callback as (...values: Parameters<RTCBatteryEvents[E]>) => void)(...values)) as RTCBatteryEvents[E];
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
    };
  }

  emit<E extends keyof RTCBatteryEvents>(event: E, ...values: Parameters<RTCBatteryEvents[E]>): void {
    const listeners = this.byEvent[event] as Set<(...values: Parameters<RTCBatteryEvents[E]>) => void>;
    // An error that nobody listens to would be a riddle to whoever opens the console.
    if (event === 'error' && listeners.size === 0) console.warn('RTCBattery:', values[0]);
    for (const listener of [...listeners]) call(listener, ...values);
  }
}

/** Calls what a user gave us. Its own mistake is told where uncaught errors are told, and does no harm to others. */
export function call<V extends unknown[]>(listener: (...values: V) => void, ...values: V): void {
  try {
    listener(...values);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
