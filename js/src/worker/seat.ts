// A seat at a database: as one of several tabs where the browser lets them find each other, else alone.

import { roomOf } from '../../pkg/rtc_battery.js';
import { loadCore } from '../core/load.js';
import type { Input } from '../generated/Input.js';
import type { Calls } from '../messages.js';
import { tabsMeet } from '../tabs.js';
import type { SharedCall } from './channel.js';
import { Host, type Page, type Room } from './host.js';
import { holdAlone } from './lock.js';
import { Tab } from './tab.js';

/** What the worker's page can ask of a database that is open. */
export interface Seat {
  /** Ends when what it committed is saved. */
  call(call: SharedCall): Promise<Calls[keyof Calls]['result']>;
  /** Something happened to a link. */
  deliver(input: Input): void;
  /** Ends when everything is saved. */
  close(): Promise<void>;
}

/** Loads the core and opens the database. */
export async function openSeat({ wasmUrl, signalingUrl, token, sealed, dbName, durability, takeOver }: Calls['open']['argument'], page: Page): Promise<Seat> {
  await loadCore(wasmUrl);
  const id = roomOf(token);
  const room: Room = { signalingUrl, token, sealed, room: id, dbName: dbName ?? `rtc-battery-${id}`, durability };
  if (tabsMeet()) return Tab.open(room, page);
  await holdAlone(room.dbName, takeOver);
  return new Alone(await Host.open(room, page));
}

/** The only tab. */
class Alone implements Seat {
  constructor(private readonly host: Host) {}

  async call(call: SharedCall): Promise<Calls[keyof Calls]['result']> {
    const done = await this.host.call({ caller: '', number: 0, heard: 0, stranded: false }, call);
    if ('result' in done) return done.result;
    throw done.failure;
  }

  deliver(input: Input): void {
    this.host.deliver(input);
  }

  close(): Promise<void> {
    return this.host.close();
  }
}
