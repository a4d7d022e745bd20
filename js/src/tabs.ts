// How tabs on one database find each other: the names of its locks and of its channel.

/** The lock of a database, held by the tab that has it open. */
export function lockOf(dbName: string): string {
  return `rtc-battery:${dbName}`;
}

/** The lock of a tab that has the database open, or would. */
export function lockOfTab(dbName: string, tab: string): string {
  return `rtc-battery:${dbName}:${tab}`;
}

/** The BroadcastChannel of a database. */
export function channelOf(dbName: string): string {
  return `rtc-battery:${dbName}`;
}

/** To every tab: the database is about to be deleted. */
export interface Deleting {
  readonly kind: 'deleting';
}

/** To every tab: is anybody there who leads? */
export interface Ping {
  readonly kind: 'ping';
}

/** From the tab that leads, that is, has the lock of the database: from its worker, and from its page, since a worker may be busy for long. */
export interface Pong {
  readonly kind: 'pong';
  readonly leader: string;
}

/** Whether tabs of this browser can find each other: Safari below 15.4 has neither, Firefox below 96 has no locks, nor have pages that are not served securely. */
export function tabsMeet(): boolean {
  return navigator.locks !== undefined && typeof BroadcastChannel === 'function';
}
