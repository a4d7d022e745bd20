// What page and worker say to each other. Effects, inputs and events are the core's own types, generated from Rust.

import type { Durability } from './durability.js';
import type { Failure } from './errors.js';
import type { Effect } from './generated/Effect.js';
import type { Event } from './generated/Event.js';
import type { Input } from './generated/Input.js';
import type { LinkId } from './generated/LinkId.js';
import type { Status } from './generated/Status.js';
import type { FileBytes, QueryResult, SqlParams } from './values.js';

/** Effects that only the page can perform: workers have no RTCPeerConnection. */
export type LinkEffect = Extract<Effect, { link: LinkId }>;

/** What the page reports of links. */
export type LinkInput = Extract<Input, { link: LinkId }>;

/** What the user may want to know. That the node has left its room is answered as a call is; only messengers tell of single operations. */
export type UserEvent = Exclude<Event, { kind: 'closed' | 'operation' | 'answered' | 'unanswered' }>;

/** What the page asks the worker to do, and what comes back. */
export interface Calls {
  /** Opens the database and joins the room. The first call. `takeOver`: from another tab, where tabs cannot share it. */
  open: {
    argument: { signalingUrl: string; token: string; sealed: boolean; dbName: string | undefined; durability: Durability; wasmUrl: string; takeOver: boolean };
    result: void;
  };
  /** Runs SQL; answered when what it committed is saved. */
  exec: {
    argument: { sql: string; params: SqlParams | undefined; local: boolean };
    result: QueryResult;
  };
  /** Makes a plain SQLite file of the database. */
  export: { argument: undefined; result: FileBytes };
  /** Takes in a plain SQLite file; answered with what was left out when the rest is saved. */
  import: { argument: { file: Uint8Array }; result: string[] };
  /** Answered when what is committed is saved, and on the disk. */
  flush: { argument: undefined; result: void };
  /** Where the database is kept. */
  storage: { argument: undefined; result: { dbName: string; persistent: boolean } };
  /** How it stands with the room and each peer. */
  status: { argument: undefined; result: Status };
  /** Says goodbye to the room; answered when everything is saved. The last call. */
  close: { argument: undefined; result: void };
}

/** A call on its way. */
export type Call = { [N in keyof Calls]: { kind: 'call'; id: number; name: N; argument: Calls[N]['argument'] } }[keyof Calls];

/** From page to worker. */
export type ToWorker =
  | Call
  | { kind: 'input'; input: LinkInput }
  /** The page is put to sleep: frozen, or kept in the back/forward cache. */
  | { kind: 'rest' }
  | { kind: 'wake' };

/** That a tab leads the others that are on its database, and under which name. */
export interface Lead {
  readonly dbName: string;
  readonly tab: string;
}

/** From worker to page. */
export type FromWorker =
  | { kind: 'reply'; id: number; result: Calls[keyof Calls]['result'] }
  | { kind: 'refusal'; id: number; failure: Failure }
  /** To be performed in this order. */
  | { kind: 'effects'; effects: LinkEffect[] }
  | { kind: 'event'; event: UserEvent }
  /** Sent before any reply or event that a change of these goes with. */
  | { kind: 'status'; version: number; peers: string[] }
  /** Saving fails and is tried again. */
  | { kind: 'trouble'; failure: Failure }
  /** The database is being opened: pages that are loaded, and all. */
  | { kind: 'progress'; loaded: number; total: number }
  /** This tab leads the others from now on; or it does no more, and its links are nobody's. */
  | { kind: 'leads'; as: Lead | undefined }
  /** The worker is beyond use. */
  | { kind: 'failed'; failure: Failure };
