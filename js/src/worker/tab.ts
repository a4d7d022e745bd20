// One of the tabs that have a database open: it follows the tab that leads, or leads. Who does `succession.ts` says, and what this tab asked and was
// not answered `questions.ts` keeps.

import { assertNever } from '../assert-never.js';
import { random } from '../core/random.js';
import { Refusal, toFailure } from '../core/failure.js';
import type { Failure } from '../errors.js';
import { ANOTHER_TAB } from '../events.js';
import type { Input } from '../generated/Input.js';
import type { Calls, Lead } from '../messages.js';
import { type Deleting, lockOfTab } from '../tabs.js';
import { type FromLeader, type Notice, type SharedCall, type Standing, TabChannel, type ToLeader } from './channel.js';
import { isHandedOver, type Page, type Room } from './host.js';
import { Leader } from './leader.js';
import { hold } from './lock.js';
import { type Question, Questions } from './questions.js';
import { Succession } from './succession.js';

type Role =
  /** It knows of nobody who leads. */
  | { kind: 'waiting' }
  /** `doubted`: perhaps somebody else leads by now, or something that it said was not heard. */
  | { kind: 'following'; leader: string; doubted: boolean }
  /** It opens the database, or lets go of it. */
  | { kind: 'changing' }
  | { kind: 'leading'; leader: Leader };

const TEMPORARY_LOST: Failure = {
  message: 'the tab that held the database is gone, and with it the TEMP triggers, tables and views: make them again, IF NOT EXISTS',
  code: 'temporary-lost',
};

const NEVER_SAVED: Failure = {
  message: 'what could not be saved is lost: this page stood still, and another tab that heard nothing of it went on with what was saved',
  code: 'not-saved',
};

/** The page, as one of several sees it. */
export interface TabPage extends Page {
  /** This tab leads, and answers under this name; or it does no more. */
  leads(as: Lead | undefined): void;
}

/** A tab among others. */
export class Tab {
  /** Ends when the database is open, here or in another tab. */
  readonly opened: Promise<void>;
  private open: { resolve(): void; reject(error: unknown): void } = { resolve: () => undefined, reject: () => undefined };
  private readonly id = Array.from(random(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  private readonly channel: TabChannel;
  private readonly questions: Questions;
  private readonly succession: Succession;
  private role: Role = { kind: 'waiting' };
  /** Until the database is open, or will not be. */
  private opening: Promise<void> = Promise.resolve();
  /** Until the database is let go of. */
  private leaving: Promise<void> = Promise.resolve();
  /** The page is put to sleep. */
  private asleep = false;
  /** What the page was told. */
  private version = 0;
  private peers: readonly string[] = [];
  private wasOpen = false;
  /** Whether whoever leads has TEMP objects. */
  private temporary = false;

  private constructor(
    private readonly room: Room,
    private readonly page: TabPage,
  ) {
    this.opened = new Promise((resolve, reject) => {
      this.open = { resolve, reject };
    });
    this.channel = new TabChannel(room.dbName, (message) => this.hear(message));
    this.succession = new Succession(room.dbName, {
      lead: () => {
        this.opening = this.lead(this.opening);
      },
      stepDown: () => this.stepDown(),
      ask: () => this.say({ kind: 'ping' }),
      fail: (error) => this.fail(error),
    });
    this.questions = new Questions(
      (question) => this.send(question),
      () => this.expect(),
    );
  }

  /** Gets in line for the database, or finds who has it. */
  static async join(room: Room, page: TabPage): Promise<Tab> {
    const tab = new Tab(room, page);
    // Before anybody hears of this tab: a lock that is free means that its tab is gone.
    await hold(lockOfTab(room.dbName, tab.id));
    tab.greet();
    tab.succession.enter();
    tab.expect();
    return tab;
  }

  /** Asks whoever leads. */
  call(call: SharedCall): Promise<Calls[keyof Calls]['result']> {
    return this.questions.ask(call);
  }

  /** Something happened to a link: this tab leads, or did. */
  deliver(input: Input): void {
    if (this.role.kind === 'leading') this.role.leader.host.deliver(input);
  }

  /** The page is put to sleep, and this worker with it at any moment. */
  rest(): void {
    this.asleep = true;
    void this.giveWay();
  }

  /** The page is awake. */
  wake(): void {
    if (!this.asleep) return;
    this.asleep = false;
    // What was said meanwhile may not have been heard.
    if (this.role.kind === 'following') this.role.doubted = true;
    this.greet();
    this.succession.enter();
    this.expect();
  }

  /** Leaves the others, once everything that was asked is answered. */
  async close(): Promise<void> {
    await this.questions.answered();
    if (this.role.kind === 'leading') await this.role.leader.close();
    else this.say({ kind: 'bye', tab: this.id });
    this.channel.close();
  }

  /** Others are to lead while this one sleeps. */
  private async giveWay(): Promise<void> {
    if (this.role.kind === 'leading') {
      const { host } = this.role.leader;
      // What is nowhere but in memory would be lost.
      if (!(await host.restsOnDisk()) || !this.asleep) return;
    }
    this.succession.leave();
    this.stepDown();
  }

  private hear(message: ToLeader | FromLeader | Deleting): void {
    switch (message.kind) {
      case 'deleting':
        this.fail(new Refusal('storage', 'the database was deleted, in this tab or another'));
        break;
      case 'ping':
        void this.answer();
        break;
      case 'hello':
      case 'call':
      case 'bye':
        if (this.role.kind === 'leading') this.role.leader.hear(message);
        break;
      default:
        this.succession.heard();
        this.hearLeader(message);
    }
  }

  private hearLeader(message: FromLeader): void {
    const { role } = this;
    switch (message.kind) {
      case 'leader':
        this.follow(message);
        break;
      case 'refused':
        if (message.to === this.id) this.fail(message.failure);
        break;
      case 'done':
        // Who led before may not know yet that it does no more.
        if (message.to === this.id && role.kind === 'following' && role.leader === message.leader) this.questions.settle(message.id, message.done);
        break;
      case 'wrote':
        if (message.by !== this.id) this.page.tell({ kind: 'sync', peer: ANOTHER_TAB, operations: message.operations });
        break;
      case 'notice':
        if (role.kind === 'following' && role.leader === message.leader) this.notice(message.notice);
        break;
      case 'pong':
        if (role.kind === 'following' && role.leader !== message.leader) this.doubt();
        break;
      case 'resigned':
        if (role.kind === 'following' && role.leader === message.leader) this.doubt();
        break;
      default:
        assertNever(message);
    }
  }

  /** Says that it leads. A frozen worker may hear what others say and not what its storage says: then it is not there for them. */
  private async answer(): Promise<void> {
    if (this.asleep) await this.giveWay();
    if (this.succession.leads) this.say({ kind: 'pong', leader: this.id });
  }

  /** Looks who leads. */
  private doubt(): void {
    if (this.role.kind === 'following') this.role.doubted = true;
    this.greet();
  }

  private follow({ leader, news, standing }: Extract<FromLeader, { kind: 'leader' }>): void {
    const { role } = this;
    if (this.asleep || this.succession.leads || role.kind === 'changing' || role.kind === 'leading') return;
    if (role.kind === 'following' && !role.doubted && (role.leader === leader || !news)) return;
    if (role.kind === 'waiting' || role.leader !== leader) {
      this.lose();
      // So that it sees when this tab is gone.
      this.greet();
    }
    this.role = { kind: 'following', leader, doubted: false };
    this.temporary = standing.temporary;
    this.catchUp(standing);
    this.isOpen();
    this.questions.askAgain();
  }

  /** The page hears how things stand, and that it missed something if it did. */
  private catchUp({ version, peers, online }: Standing): void {
    const [missed, known] = [version - this.version, this.peers];
    this.notice({ kind: 'status', version, peers: [...peers] });
    if (online) this.page.tell({ kind: 'online' });
    for (const peer of known.filter((peer) => !peers.includes(peer))) this.page.tell({ kind: 'peerLeave', peer });
    for (const peer of peers.filter((peer) => !known.includes(peer))) this.page.tell({ kind: 'peerJoin', peer });
    if (this.wasOpen && missed > 0) this.page.tell({ kind: 'sync', peer: ANOTHER_TAB, operations: missed });
  }

  /** The lock is ours. `opened`: one opening at a time, also where it was taken away and given back in the middle of one. */
  private async lead(opened: Promise<void>): Promise<void> {
    const { reign } = this.succession;
    this.page.leads({ dbName: this.room.dbName, tab: this.id });
    // So that nobody else loses patience.
    this.say({ kind: 'pong', leader: this.id });
    await opened;
    await this.leaving;
    // It may have been taken away by now.
    if (this.succession.reign !== reign) return;
    this.lose();
    this.role = { kind: 'changing' };
    const { version } = this;
    try {
      const leader = await Leader.open(this.room, this.ownPage(), this.channel, this.id, () => this.succession.confirm());
      this.role = { kind: 'leading', leader };
    } catch (error) {
      this.role = { kind: 'waiting' };
      await this.succession.inquire();
      if (this.succession.reign === reign) this.fail(error);
      else this.greet();
      return;
    }
    if (this.succession.reign !== reign) {
      this.letGo();
      return;
    }
    const missed = this.role.leader.host.version - version;
    if (this.wasOpen && missed > 0) this.page.tell({ kind: 'sync', peer: ANOTHER_TAB, operations: missed });
    this.role.leader.announce(true);
    this.isOpen();
    this.questions.askAgain();
  }

  /** The lock is ours no more: the database is somebody else's. */
  private stepDown(): void {
    this.page.leads(undefined);
    this.letGo();
  }

  private letGo(): void {
    if (this.role.kind !== 'leading') return;
    const { leader } = this.role;
    this.role = { kind: 'changing' };
    this.leaving = this.leave(leader);
  }

  private async leave(leader: Leader): Promise<void> {
    if (!leader.host.isSaved) this.page.trouble(NEVER_SAVED);
    this.temporary = leader.temporary;
    // What of ours it saved after all is answered; the rest was not done.
    this.version = await leader.abandon();
    this.lose();
    this.role = { kind: 'waiting' };
    this.say({ kind: 'resigned', leader: this.id });
    this.greet();
  }

  /** What the tab that led had open is gone with it. */
  private lose(): void {
    if (this.role.kind === 'waiting') return;
    const { peers } = this;
    this.questions.strand();
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
        this.page.status(notice.version, [...notice.peers]);
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

  /** The page of a leader: this tab knows what it is told, and hears first if the database is somebody else's. */
  private ownPage(): Page {
    return {
      ...this.page,
      status: (version, peers) => this.notice({ kind: 'status', version, peers }),
      failed: (failure) => void this.failed(failure),
    };
  }

  private async failed(failure: Failure): Promise<void> {
    if (failure.code === 'database-busy' && !(await this.succession.inquire())) return;
    this.fail(failure);
  }

  private send(question: Question): void {
    const { call, asked, stranded } = question;
    const { heard = call.id } = this.questions;
    if (this.role.kind === 'following') {
      question.asked = true;
      this.say({ kind: 'call', tab: this.id, leader: this.role.leader, call, heard, stranded });
    } else if (this.role.kind === 'leading') {
      // What this tab asks itself it asks nobody else before it knows that it was not done.
      const by = { caller: this.id, number: asked ? call.id : 0, heard, stranded };
      void this.role.leader.call(by, call).then((done) => {
        if (!isHandedOver(done)) this.questions.settle(call.id, done);
      });
    }
  }

  private fail(error: unknown): void {
    if (!this.wasOpen) this.open.reject(error);
    else this.page.failed(toFailure(error));
  }

  private isOpen(): void {
    this.wasOpen = true;
    this.open.resolve();
    this.expect();
  }

  private expect(): void {
    this.succession.expect(this.questions.waiting || this.role.kind === 'waiting');
  }

  /** Not from a page that sleeps: Chromium throws one out of the back/forward cache when somebody asks for its lock, as a leader does that watches it. */
  private greet(): void {
    if (!this.asleep) this.say({ kind: 'hello', tab: this.id, room: this.room.room, durability: this.room.durability });
  }

  private say(message: ToLeader | FromLeader): void {
    this.channel.say(message);
  }
}
