// One of the tabs that have a database open: it follows the tab that leads, and leads when that one is gone.
//
// The lock of the database says who leads, and hands it on when a tab is closed, crashes or is thrown away. A call that was on its way then is
// asked again of the next leader, under its number: the core knows whether it was carried out. A transaction that was open is gone, and
// the calls that were on their way in it are stranded.

import { random } from '../core/random.js';
import { Refusal, toFailure } from '../core/failure.js';
import type { Failure } from '../errors.js';
import { ANOTHER_TAB } from '../events.js';
import type { Input } from '../generated/Input.js';
import type { Calls } from '../messages.js';
import { type Deleting, lockOf, lockOfTab } from '../tabs.js';
import { type FromLeader, type Notice, type SharedCall, TabChannel, type ToLeader } from './channel.js';
import { type Done, type Page, type Room, takesTurn } from './host.js';
import { Leader } from './leader.js';
import { hold } from './lock.js';

type Result = Calls[keyof Calls]['result'];

/** A call that is not answered. */
interface Pending {
  readonly call: SharedCall;
  /** Another tab was asked, and may have carried it out. */
  asked: boolean;
  stranded: boolean;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

type Role = { kind: 'waiting' } | { kind: 'following'; leader: string } | { kind: 'leading'; leader: Leader };

const TEMPORARY_LOST: Failure = {
  message: 'the tab that held the database is gone, and with it the TEMP triggers, tables and views: make them again, IF NOT EXISTS',
  code: 'temporary-lost',
};

/** A tab among others. */
export class Tab {
  private readonly id = Array.from(random(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  private readonly channel: TabChannel;
  /** By number, in order. */
  private readonly pending = new Map<number, Pending>();
  private role: Role = { kind: 'waiting' };
  private version = 0;
  private peers: readonly string[] = [];
  /** Whether a transaction of ours is open, as of the newest call that was answered. */
  private inTransaction = false;
  private lastAnswered = 0;
  /** The transaction is gone and nobody was told. */
  private strandNext = false;
  private settled: () => void = () => undefined;
  private wasOpen = false;
  /** Whether whoever leads has TEMP objects. */
  private temporary = false;
  private opened: { resolve(): void; reject(error: unknown): void } = { resolve: () => undefined, reject: () => undefined };

  private constructor(
    private readonly room: Room,
    private readonly page: Page,
  ) {
    this.channel = new TabChannel(room.dbName, (message) => this.hear(message));
  }

  /** Ends when the database is open, here or in another tab. */
  static async open(room: Room, page: Page): Promise<Tab> {
    const tab = new Tab(room, page);
    const opened = new Promise<void>((resolve, reject) => {
      tab.opened = { resolve, reject };
    });
    // Before anybody hears of this tab: a lock that is free means that its tab is gone.
    await hold(lockOfTab(room.dbName, tab.id));
    tab.greet();
    hold(lockOf(room.dbName)).then(
      () => tab.lead(),
      (error: unknown) => tab.fail(error),
    );
    await opened;
    return tab;
  }

  /** Asks whoever leads. */
  call(call: SharedCall): Promise<Result> {
    return new Promise((resolve, reject) => {
      const stranded = this.strandNext && call.name === 'exec';
      if (stranded) this.strandNext = false;
      const pending: Pending = { call, asked: false, stranded, resolve, reject };
      this.pending.set(call.id, pending);
      this.ask(pending);
    });
  }

  /** Something happened to a link: this tab leads, or did. */
  deliver(input: Input): void {
    if (this.role.kind === 'leading') this.role.leader.host.deliver(input);
  }

  /** Leaves the others, once everything that was asked is answered. */
  async close(): Promise<void> {
    if (this.pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.settled = resolve;
      });
    }
    if (this.role.kind === 'leading') await this.role.leader.close();
    else this.say({ kind: 'bye', tab: this.id });
    this.channel.close();
  }

  private hear(message: ToLeader | FromLeader | Deleting): void {
    switch (message.kind) {
      case 'deleting':
        this.fail(new Refusal('storage', 'the database was deleted, in this tab or another'));
        break;
      case 'leader':
        this.follow(message);
        break;
      case 'refused':
        if (message.to === this.id) this.fail(message.failure);
        break;
      case 'done':
        if (message.to === this.id) this.settle(message.id, message.done);
        break;
      case 'wrote':
        if (message.by !== this.id) this.page.tell({ kind: 'sync', peer: ANOTHER_TAB, operations: message.operations });
        break;
      case 'notice':
        if (this.role.kind === 'following' && this.role.leader === message.leader) this.notice(message.notice);
        break;
      default:
        if (this.role.kind === 'leading') this.role.leader.hear(message);
    }
  }

  private follow({ leader, standing }: Extract<FromLeader, { kind: 'leader' }>): void {
    if (this.role.kind === 'leading' || (this.role.kind === 'following' && this.role.leader === leader)) return;
    this.lose();
    this.role = { kind: 'following', leader };
    // So that it sees when this tab is gone.
    this.greet();
    this.isOpen();
    this.temporary = standing.temporary;
    this.notice({ kind: 'status', version: standing.version, peers: [...standing.peers] });
    if (standing.online) this.page.tell({ kind: 'online' });
    for (const peer of standing.peers) this.page.tell({ kind: 'peerJoin', peer });
    this.askAll();
  }

  /** The lock is ours: whoever led is gone. */
  private async lead(): Promise<void> {
    this.lose();
    this.role = { kind: 'waiting' };
    try {
      this.role = { kind: 'leading', leader: await Leader.open(this.room, this.page, this.channel, this.id) };
      this.isOpen();
      this.askAll();
    } catch (error) {
      this.fail(error);
    }
  }

  /** What the tab that led had open is gone with it. */
  private lose(): void {
    if (this.role.kind !== 'following') return;
    const { peers } = this;
    if (this.inTransaction) {
      const execs = [...this.pending.values()].filter(({ call }) => call.name === 'exec');
      for (const pending of execs) pending.stranded = true;
      this.strandNext = execs.length === 0;
      this.inTransaction = false;
    }
    if (this.temporary) this.page.trouble(TEMPORARY_LOST);
    this.temporary = false;
    this.notice({ kind: 'status', version: this.version, peers: [] });
    for (const peer of peers) this.page.tell({ kind: 'peerLeave', peer });
  }

  private notice(notice: Notice): void {
    switch (notice.kind) {
      case 'status':
        this.version = notice.version;
        this.peers = notice.peers;
        this.page.status(notice.version, notice.peers);
        break;
      case 'event':
        this.page.tell(notice.event);
        break;
      case 'trouble':
        this.page.trouble(notice.failure);
        break;
      case 'temporary':
        this.temporary = notice.there;
        break;
    }
  }

  private askAll(): void {
    for (const pending of [...this.pending.values()]) this.ask(pending);
  }

  private ask(pending: Pending): void {
    const { call, asked, stranded } = pending;
    const [heard = call.id] = this.pending.keys();
    if (this.role.kind === 'following') {
      pending.asked = true;
      this.say({ kind: 'call', tab: this.id, leader: this.role.leader, call, heard, stranded });
    } else if (this.role.kind === 'leading') {
      // Nobody asks again what this tab has asked itself: it would be gone.
      const by = { caller: this.id, number: asked ? call.id : 0, heard, stranded };
      void this.role.leader.call(by, call).then((done) => this.settle(call.id, done));
    }
  }

  private settle(id: number, done: Done): void {
    const pending = this.pending.get(id);
    if (pending === undefined) return;
    this.pending.delete(id);
    if (takesTurn(pending.call) && id > this.lastAnswered) {
      this.lastAnswered = id;
      this.inTransaction = done.open;
    }
    if ('result' in done) pending.resolve(done.result);
    else pending.reject(done.failure);
    if (this.pending.size === 0) this.settled();
  }

  private fail(error: unknown): void {
    if (!this.wasOpen) this.opened.reject(error);
    else this.page.failed(toFailure(error));
  }

  private isOpen(): void {
    this.wasOpen = true;
    this.opened.resolve();
  }

  private greet(): void {
    this.say({ kind: 'hello', tab: this.id, room: this.room.room, durability: this.room.durability });
  }

  private say(message: ToLeader): void {
    this.channel.say(message);
  }
}
