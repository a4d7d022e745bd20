// The host of a core with a database: has its commits saved, and tells the page what it cannot perform itself. Decides nothing.

import { BatteryNode, roomOf, Storage } from '../../pkg/rtc_battery.js';
import { now } from '../core/clock.js';
import { Refusal, toFailure } from '../core/failure.js';
import { loadCore } from '../core/load.js';
import { Pump } from '../core/pump.js';
import { random, REPLICA_ID_BYTES, SEED_BYTES } from '../core/random.js';
import type { Failure } from '../errors.js';
import type { Event } from '../generated/Event.js';
import type { Input } from '../generated/Input.js';
import type { Calls, LinkEffect, UserEvent } from '../messages.js';
import type { FileBytes, QueryResult } from '../values.js';
import { hold } from './lock.js';
import { PageDatabase } from './pages.js';
import { Saver } from './saver.js';

/** The page, as the host sees it. */
export interface Page {
  perform(effects: LinkEffect[]): void;
  tell(event: UserEvent): void;
  status(version: number, peers: string[]): void;
  trouble(failure: Failure): void;
  failed(failure: Failure): void;
}

/** One open database in its room. */
export class Host {
  private readonly pump: Pump;
  private readonly saver: Saver;
  private toldStatus = '';
  private left: () => void = () => undefined;

  private constructor(
    private readonly page: Page,
    private readonly node: BatteryNode,
    private readonly storage: Storage,
    private readonly pages: PageDatabase,
  ) {
    this.pump = new Pump(node, {
      perform: (effects) => page.perform(effects),
      tell: (event) => this.tell(event),
      rested: () => this.rested(),
      failed: (error) => page.failed(toFailure(error)),
    });
    this.saver = new Saver(storage, pages, () => node.version(), {
      saved: (version) => this.deliver({ kind: 'saved', version }),
      failed: (error) => this.saveFailed(error),
    });
  }

  /** Loads the core, opens the database and joins the room. */
  static async open({ signalingUrl, token, dbName, wasmUrl }: Calls['open']['argument'], page: Page): Promise<Host> {
    await loadCore(wasmUrl);
    const room = roomOf(token);
    const name = dbName ?? `rtc-battery-${room}`;
    await hold(name);
    let host: Host | undefined;
    const pages = await PageDatabase.open(name, (reason) => host?.pump.fail(new Refusal('storage', reason)));
    const storage = new Storage();
    await pages.load((firstPage, bytes) => storage.load(firstPage, bytes));
    const [seed, replicaId] = [random(SEED_BYTES), random(REPLICA_ID_BYTES)];
    const node = new BatteryNode(storage, { signalingUrl, token, room, seed, replicaId }, now());
    host = new Host(page, node, storage, pages);
    node.connect(now());
    host.pump.run();
    return host;
  }

  /** Runs SQL; resolves when what it committed is saved. */
  exec({ sql, params, local }: Calls['exec']['argument']): Promise<QueryResult> {
    return this.write(() => this.node.exec(sql, params, local, now()));
  }

  /** The database as a plain SQLite file. */
  export(): FileBytes {
    return this.node.exportFile() as FileBytes;
  }

  /** Takes in a plain SQLite file; resolves when what it brought is saved. */
  import({ file }: Calls['import']['argument']): Promise<string[]> {
    return this.write(() => this.node.importFile(file, now()));
  }

  /** Does what may commit; resolves when what it committed is saved. */
  private async write<T>(act: () => T): Promise<T> {
    const committed = this.storage.commits();
    let result: T;
    try {
      result = act();
    } finally {
      // Also after a failure: statements before the one that failed may have committed.
      this.pump.run();
    }
    if (this.storage.commits() !== committed) await this.saver.saved();
    return result;
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
    await this.saver.saved();
    this.pump.stop();
    this.pages.close();
  }

  private rested(): void {
    this.tellStatus();
    this.saver.flush();
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

  private saveFailed(error: unknown): void {
    const failure = toFailure(error);
    // A full disk may have room again. Shut out by the fence, what is in memory here is not what is stored any more.
    if (failure.code === 'storage') this.page.trouble(failure);
    else this.pump.fail(error);
  }
}
