// The core's host: hands it what happened, performs what it asks for, keeps its one alarm, and has its commits saved. Decides nothing.

import { BatteryNode, roomOf, Storage } from '../../pkg/rtc_battery';
import { assertNever } from '../assert-never';
import { Alarm, now } from '../core/clock';
import { Refusal, toFailure } from '../core/failure';
import { loadCore } from '../core/load';
import { random, REPLICA_ID_BYTES, SEED_BYTES } from '../core/random';
import { SignalingSocket } from '../core/socket';
import type { Failure } from '../errors';
import type { Effect } from '../generated/Effect';
import type { Event } from '../generated/Event';
import type { Input } from '../generated/Input';
import type { Calls, LinkEffect, UserEvent } from '../messages';
import type { QueryResult } from '../values';
import { hold } from './lock';
import { PageDatabase } from './pages';
import { Saver } from './saver';

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
  private readonly socket = new SignalingSocket((input) => this.deliver(input));
  private readonly alarm = new Alarm(() => this.step(() => undefined));
  private readonly saver: Saver;
  private linkEffects: LinkEffect[] = [];
  private toldStatus = '';
  private broken = false;
  private left: () => void = () => undefined;

  private constructor(
    private readonly page: Page,
    private readonly node: BatteryNode,
    private readonly storage: Storage,
    private readonly pages: PageDatabase,
  ) {
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
    const pages = await PageDatabase.open(name, (reason) => host?.fail(new Refusal('storage', reason)));
    const storage = new Storage();
    await pages.load((firstPage, bytes) => storage.load(firstPage, bytes));
    const [seed, replicaId] = [random(SEED_BYTES), random(REPLICA_ID_BYTES)];
    const node = new BatteryNode(storage, { signalingUrl, token, room, seed, replicaId }, now());
    host = new Host(page, node, storage, pages);
    host.step(() => node.connect(now()));
    return host;
  }

  /** Runs SQL; resolves when what it committed is saved. */
  exec({ sql, params, local }: Calls['exec']['argument']): Promise<QueryResult> {
    return this.write(() => this.node.exec(sql, params, local, now()));
  }

  /** The database as a plain SQLite file. */
  export(): Uint8Array {
    return this.node.exportFile();
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
      this.step(() => undefined);
    }
    if (this.storage.commits() !== committed) await this.saver.saved();
    return result;
  }

  /** Hands the core what happened. */
  deliver(input: Input): void {
    this.step(() => this.node.handleInput(input, now()));
  }

  /** Says goodbye to the room, saves everything and closes the database. */
  async close(): Promise<void> {
    const left = new Promise<void>((resolve) => {
      this.left = resolve;
    });
    this.step(() => this.node.disconnect(now()));
    await left;
    await this.saver.saved();
    this.alarm.set(null);
    this.pages.close();
  }

  /** Does something with the core, then what the core asks for. */
  private step(action: () => void): void {
    if (this.broken) return;
    try {
      action();
      this.pump();
    } catch (error) {
      this.fail(error);
    }
  }

  private pump(): void {
    for (;;) {
      const { output, value } = this.node.pollOutput(now());
      if (output === 'idle') {
        this.alarm.set(value);
        break;
      }
      if (output === 'effect') this.perform(value);
      else this.tell(value);
    }
    this.sendLinkEffects();
    this.tellStatus();
    this.saver.flush();
  }

  private perform(effect: Effect): void {
    if ('link' in effect) {
      this.linkEffects.push(effect);
      return;
    }
    switch (effect.kind) {
      case 'openSignaling':
        this.socket.open(effect.url);
        break;
      case 'sendSignaling':
        this.socket.send(effect.text);
        break;
      case 'closeSignaling':
        this.socket.close();
        break;
      default:
        assertNever(effect);
    }
  }

  private sendLinkEffects(): void {
    if (this.linkEffects.length === 0) return;
    this.page.perform(this.linkEffects);
    this.linkEffects = [];
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
    else this.fail(error);
  }

  private fail(error: unknown): void {
    if (this.broken) return;
    this.broken = true;
    this.alarm.set(null);
    this.page.failed(toFailure(error));
  }
}
