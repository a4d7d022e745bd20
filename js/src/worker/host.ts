// The host of a core with a database: has its commits saved, and tells the page what it cannot perform itself. Decides nothing.

import { BatteryNode, Storage, type TabCall } from '../../pkg/rtc_battery.js';
import { assertNever } from '../assert-never.js';
import { now } from '../core/clock.js';
import { toFailure } from '../core/failure.js';
import { Pump } from '../core/pump.js';
import { random, REPLICA_ID_BYTES, SEED_BYTES } from '../core/random.js';
import type { Durability } from '../durability.js';
import type { Failure } from '../errors.js';
import type { Event } from '../generated/Event.js';
import type { Input } from '../generated/Input.js';
import type { Calls, LinkEffect, UserEvent } from '../messages.js';
import type { FileBytes } from '../values.js';
import type { SharedCall } from './channel.js';
import { type Confirm, Damaged, openPages, type PageStorage } from './pages.js';
import { Saver } from './saver.js';
import { Turns } from './turns.js';

/** What to open. */
export interface Room {
  readonly signalingUrl: string;
  readonly token: string;
  readonly sealed: boolean;
  /** `roomOf(token)`. */
  readonly room: string;
  readonly dbName: string;
  readonly durability: Durability;
}

/** How a call ended. `open`: whether a transaction of its tab's is open now; `wrote`: how many operations it made for everybody. */
export type Done = { readonly open: boolean; readonly wrote: number } & ({ readonly result: Calls[keyof Calls]['result'] } | { readonly failure: Failure });

/** A call that waits for open transactions of other tabs. */
type TurnCall = Exclude<SharedCall, { name: 'flush' | 'storage' | 'status' }>;

/** Whether a call waits for transactions, and its answer says whether one is open. */
export function takesTurn(call: SharedCall): call is TurnCall {
  return call.name !== 'flush' && call.name !== 'storage' && call.name !== 'status';
}

const HANDED_OVER_FAILURE: Failure = { message: 'another tab has the database by now', code: 'database-busy' };

/** How a call ends that was not done, since the database is another tab's by now. No user hears of it: that tab is asked. */
export const HANDED_OVER: Done = { open: false, wrote: 0, failure: HANDED_OVER_FAILURE };

/** Whether a call was not done for that reason: the fence says it in other words. */
export function isHandedOver(done: Done): boolean {
  return 'failure' in done && done.failure.code === 'database-busy';
}

/** SQLite's result code. */
const SQLITE_FULL = 13;

const NOTHING_STORED: Failure = {
  message: 'the browser stores nothing for this page (a private window, or a setting): the database is in memory, and gone with this page',
  code: 'not-saved',
};

/** The browser keeps what it throws away nowhere. */
const thrownAway = (reason: string): Failure => ({
  message: `the browser found what this site had stored damaged and threw it away (${reason}): the database begins anew, and what peers have is fetched from them`,
  code: 'damaged',
  salvaged: 0,
});

/** The page, as the host sees it. */
export interface Page {
  perform(effects: LinkEffect[]): void;
  tell(event: UserEvent): void;
  status(version: number, peers: string[]): void;
  trouble(failure: Failure): void;
  /** The database is being opened: pages of it that are here, and all. */
  progress(loaded: number, total: number): void;
  failed(failure: Failure): void;
}

/** One open database in its room. */
export class Host {
  private readonly pump: Pump;
  private readonly saver: Saver;
  private readonly turns: Turns;
  private toldStatus = '';
  private savedVersion: number;
  /** The database is somebody else's. */
  private over = false;
  private left: () => void = () => undefined;

  private constructor(
    private readonly page: Page,
    private readonly node: BatteryNode,
    private readonly storage: Storage,
    private readonly pages: PageStorage,
    private readonly dbName: string,
  ) {
    this.pump = new Pump(node, {
      perform: (effects) => page.perform(effects),
      tell: (event) => this.tell(event),
      rested: () => this.rested(),
      failed: (error) => page.failed(toFailure(error)),
    });
    this.turns = new Turns((caller) => node.mayCall(caller));
    this.savedVersion = node.version();
    this.saver = new Saver(storage, pages, () => node.version(), {
      saved: (version) => {
        this.savedVersion = version;
        this.deliver({ kind: 'saved', version });
      },
      failed: (failure) => this.saveFailed(failure),
    });
  }

  /** Opens the database and joins the room. The core is loaded. */
  static async open({ signalingUrl, token, sealed, room, dbName, durability }: Room, page: Page, confirm: Confirm): Promise<Host> {
    let host: Host | undefined;
    const pages = await openPages(dbName, confirm, (reason) => host?.pump.fail(reason));
    const { storage, damage } = await load(pages, page);
    const [seed, replicaId] = [random(SEED_BYTES), random(REPLICA_ID_BYTES)];
    const node = new BatteryNode(storage, { signalingUrl, token, sealed, room, seed, replicaId }, now());
    host = new Host(page, node, storage, pages, dbName);
    if (!pages.persistent) page.trouble(NOTHING_STORED);
    if (pages.thrownAway !== undefined) page.trouble(thrownAway(pages.thrownAway));
    if (damage !== undefined) page.trouble(await host.salvage(damage));
    host.require(durability);
    node.connect(now());
    host.pump.run();
    return host;
  }

  /** Takes in what can be read of a damaged database. Until the first batch is saved that one is still what is stored, so a crash loses nothing. */
  private async salvage({ error, setAsideAs }: Damage): Promise<Failure> {
    const damaged = new Storage();
    await this.pages.salvage(damaged);
    const { operations, complete } = this.node.salvage(damaged, now());
    damaged.free();
    const salvaged = complete ? `${operations} operations that this device wrote are in the new one` : `${operations} operations that this device wrote could be read and are in the new one, others could not`;
    const message = `${error.message}; it was set aside as the IndexedDB database ${setAsideAs}: ${salvaged}, and what peers have is fetched from them`;
    return { message, code: 'damaged', salvaged: operations };
  }

  /** How many transactions the replica has committed or applied. */
  get version(): number {
    return this.node.version();
  }

  /** Whether nothing is in memory alone, as far as can be helped. */
  get isSaved(): boolean {
    return this.pages.persistent && this.saver.trouble === undefined;
  }

  /** Whether there are TEMP tables, views or triggers. */
  hasTemporary(): boolean {
    return this.node.hasTemporary();
  }

  /** Does what a tab asks for, when it is its turn. Ends when what it committed is saved. */
  async call(by: TabCall, call: SharedCall): Promise<Done> {
    switch (call.name) {
      case 'flush':
        return this.flushed();
      case 'storage':
        return { open: false, wrote: 0, result: { dbName: this.dbName, persistent: this.pages.persistent } };
      case 'status': {
        const result = this.node.status(now());
        // Some are asked how far away they are.
        this.pump.run();
        return { open: false, wrote: 0, result };
      }
      default: {
        const { refused, done } = await this.attempt(by, call);
        // There may be room by now; the saver looks less often than a user asks.
        return refused && (await this.recovers()) ? (await this.attempt(by, call)).done : done;
      }
    }
  }

  /** Tells also whether a write was refused as a whole because earlier ones cannot be saved. */
  private async attempt(by: TabCall, call: TurnCall): Promise<{ refused: boolean; done: Done }> {
    const outcome = await this.turns.take(by.caller, async () => {
      const [committed, written, inTransaction] = [this.storage.commits(), this.node.written(), this.node.inTransaction()];
      const { trouble } = this.saver;
      let outcome: { result: Calls[keyof Calls]['result'] } | { failure: Failure };
      this.storage.setFull(trouble !== undefined);
      try {
        outcome = { result: this.act(by, call) };
      } catch (error) {
        outcome = { failure: toFailure(error) };
      }
      this.storage.setFull(false);
      // An import that fails now may have failed for this.
      const isFull = trouble !== undefined && 'failure' in outcome && (outcome.failure.code === SQLITE_FULL || call.name === 'import');
      if (isFull) outcome = { failure: { message: `nothing can be written now: ${trouble.message}`, code: SQLITE_FULL } };
      const [open, wrote] = [this.node.inTransaction(), this.node.written() - written];
      // Also after a failure: statements before the one that failed may have committed.
      this.pump.run();
      if ('result' in outcome && this.storage.commits() !== committed) {
        try {
          await this.saver.saved();
        } catch (error) {
          outcome = { failure: toFailure(error) };
        }
      }
      return { refused: isFull && !inTransaction && !open, done: { open, wrote, ...outcome } };
    });
    return outcome ?? { refused: false, done: HANDED_OVER };
  }

  private recovers(): Promise<boolean> {
    return this.saver.saved().then(
      () => true,
      () => false,
    );
  }

  /** A tab wants its writes to be this durable: all are from now on, if that is more. */
  require(durability: Durability): void {
    if (durability === 'strict') this.saver.strict = true;
  }

  /** Waits for no transaction: one that is open is not committed. */
  private async flushed(): Promise<Done> {
    try {
      await this.saver.onDisk();
      return { open: false, wrote: 0, result: undefined };
    } catch (error) {
      return { open: false, wrote: 0, failure: toFailure(error) };
    }
  }

  /** A tab is gone, and what it left open is undone. */
  gone(tab: string): void {
    this.turns.forget(tab);
    try {
      this.node.callerGone(tab);
    } catch (error) {
      this.pump.fail(error);
    }
    this.pump.run();
  }

  private act(by: TabCall, call: TurnCall): Calls[keyof Calls]['result'] {
    switch (call.name) {
      case 'exec': {
        const { sql, params, local } = call.argument;
        return this.node.call(by, sql, params, local, now());
      }
      case 'export':
        return this.node.exportFile() as FileBytes;
      case 'import':
        return this.node.importFile(call.argument.file, now());
      default:
        return assertNever(call);
    }
  }

  /** Hands the core what happened. */
  deliver(input: Input): void {
    this.pump.deliver(input);
  }

  /** Says goodbye to the room, saves everything and closes the database. */
  async close(): Promise<void> {
    const left = new Promise<void>((resolve) => {
      this.left = resolve;
    });
    this.node.disconnect(now());
    this.pump.run();
    await left;
    if (this.over) return;
    await this.saver.saved();
    this.pump.stop();
    this.pages.close();
  }

  /** Saves everything; tells whether that succeeded. */
  async restsOnDisk(): Promise<boolean> {
    await this.recovers();
    return this.isSaved;
  }

  /** Looks whether the database is still this tab's; else the session ends. */
  verify(): void {
    // The fence tells, and the saver's events tell of it.
    this.saver.onDisk().catch(() => undefined);
  }

  /** Stops at once: the database is somebody else's now. Calls that are not saved end as handed over. Gives the version that was saved. */
  async abandon(): Promise<number> {
    this.over = true;
    this.pump.stop();
    this.turns.end();
    await this.saver.abandon(HANDED_OVER_FAILURE);
    this.pages.close();
    this.left();
    return this.savedVersion;
  }

  /** Gives its memory back. The last call. */
  free(): void {
    this.node.free();
    this.storage.free();
  }

  private rested(): void {
    this.tellStatus();
    this.saver.flush();
    // An idle transaction may have been ended.
    this.turns.serve();
  }

  private tell(event: Event): void {
    switch (event.kind) {
      case 'closed':
        this.left();
        break;
      case 'operation':
      case 'answered':
      case 'unanswered':
        // Told by messengers, not by nodes.
        break;
      default:
        this.tellStatus();
        this.page.tell(event);
    }
  }

  private tellStatus(): void {
    const version = this.node.version();
    const peers = this.node.peers();
    const status = `${version} ${peers.join(' ')}`;
    if (status === this.toldStatus) return;
    this.toldStatus = status;
    this.page.status(version, peers);
  }

  private saveFailed(failure: Failure): void {
    if (failure.code === 'not-saved') this.page.trouble(failure);
    else this.pump.fail(failure);
  }
}

/** A database that was damaged. */
interface Damage {
  readonly error: Damaged;
  readonly setAsideAs: string;
}

/** Reads what is stored. What is damaged is set aside, and a new replica begins with nothing. */
async function load(pages: PageStorage, page: Page): Promise<{ storage: Storage; damage?: Damage }> {
  const storage = new Storage();
  try {
    await pages.load(storage, (loaded, total) => page.progress(loaded, total));
    return { storage };
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    storage.free();
    return { storage: new Storage(), damage: { error, setAsideAs: await pages.setAside() } };
  }
}
