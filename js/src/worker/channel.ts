// What the tabs of one database say to each other, over a BroadcastChannel: one of them leads, that is, has the database open, and works for all.
//
// A BroadcastChannel keeps nothing for who is not there yet. So a leader that has opened the database says so, a tab that has come says so,
// and what was not answered is asked again of the next leader.

import type { Durability } from '../durability.js';
import type { Failure } from '../errors.js';
import type { Call, FromWorker } from '../messages.js';
import { channelOf, type Deleting, type Ping, type Pong } from '../tabs.js';
import type { Done } from './host.js';

/** What a leader says to everybody of its own accord. */
export type Notice =
  | Extract<FromWorker, { kind: 'event' | 'status' | 'trouble' }>
  /** Whether there are TEMP objects, which go with the leader. */
  | { kind: 'temporary'; there: boolean };

/** Where the leader stands. */
export interface Standing {
  readonly version: number;
  readonly peers: readonly string[];
  /** Whether the signaling server has taken it in. */
  readonly online: boolean;
  readonly temporary: boolean;
}

/** What may be asked of a leader. */
export type SharedCall = Exclude<Call, { name: 'open' | 'close' }>;

/** From a tab to the leader. */
export type ToLeader =
  /** I am here, for this room, and want writes to be as durable as this. */
  | { kind: 'hello'; tab: string; room: string; durability: Durability }
  /** `id` is the call's number. */
  | { kind: 'call'; tab: string; leader: string; call: SharedCall; heard: number; stranded: boolean }
  /** I am going, and what I left open is to be undone. */
  | { kind: 'bye'; tab: string }
  | Ping;

/** From the leader to the tabs. */
export type FromLeader =
  /** I lead: when the database is open (that is news), and to whoever says hello. */
  | { kind: 'leader'; leader: string; news: boolean; standing: Standing }
  /** I lead no more. */
  | { kind: 'resigned'; leader: string }
  | Pong
  /** The database belongs to another room than the tab's. */
  | { kind: 'refused'; to: string; failure: Failure }
  | { kind: 'done'; leader: string; to: string; id: number; done: Done }
  /** A tab has written, which is news for the others. */
  | { kind: 'wrote'; by: string; operations: number }
  | { kind: 'notice'; leader: string; notice: Notice };

/** The channel of a database. */
export class TabChannel {
  private readonly channel: BroadcastChannel;

  constructor(dbName: string, hear: (message: ToLeader | FromLeader | Deleting) => void) {
    this.channel = new BroadcastChannel(channelOf(dbName));
    this.channel.onmessage = ({ data }: MessageEvent<ToLeader | FromLeader | Deleting>) => hear(data);
  }

  say(message: ToLeader | FromLeader): void {
    this.channel.postMessage(message);
  }

  close(): void {
    this.channel.close();
  }
}
