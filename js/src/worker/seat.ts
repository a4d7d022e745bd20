// A seat at a database: as one of several tabs where the browser lets them find each other, else alone.

import { roomOf } from '../../pkg/rtc_battery.js';
import { loadCore } from '../core/load.js';
import type { Input } from '../generated/Input.js';
import type { Calls } from '../messages.js';
import { tabsMeet } from '../tabs.js';
import type { SharedCall } from './channel.js';
import { Host, type Room } from './host.js';
import { holdAlone } from './lock.js';
import { Tab, type TabPage } from './tab.js';

/** What the worker's page can ask of a database, once it is open. */
export interface Seat {
  /** Resolves when it is. */
  readonly opened: Promise<void>;
  /** Ends when what it committed is saved. */
  call(call: SharedCall): Promise<Calls[keyof Calls]['result']>;
  /** Something happened to a link. */
  deliver(input: Input): void;
  /** The page is put to sleep, and this worker with it at any moment. */
  rest(): void;
  /** The page is awake. */
  wake(): void;
  /** Ends when everything is saved. */
  close(): Promise<void>;
}

/** Loads the core and goes to open the database. */
export async function takeSeat({ wasmUrl, signalingUrl, token, sealed, dbName, durability, takeOver }: Calls['open']['argument'], page: TabPage): Promise<Seat> {
  await loadCore(wasmUrl);
  const id = roomOf(token);
  const room: Room = { signalingUrl, token, sealed, room: id, dbName: dbName ?? `rtc-battery-${id}`, durability };
  if (tabsMeet()) return Tab.join(room, page);
  await holdAlone(room.dbName, takeOver);
  return new Alone(await Host.open(room, page, () => undefined));
}

/** The only tab. */
class Alone implements Seat {
  readonly opened = Promise.resolve();

  constructor(private readonly host: Host) {}

  async call(call: SharedCall): Promise<Calls[keyof Calls]['result']> {
    const done = await this.host.call({ caller: '', number: 0, heard: 0, stranded: false }, call);
    if ('result' in done) return done.result;
    throw done.failure;
  }

  deliver(input: Input): void {
    this.host.deliver(input);
  }

  rest(): void {
    // Nobody waits for it: another tab that wants the database takes it over.
  }

  wake(): void {
    this.host.verify();
  }

  close(): Promise<void> {
    return this.host.close();
  }
}
