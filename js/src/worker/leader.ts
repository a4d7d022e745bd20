// The tab that has the database open works for the others too: it does what they ask for, tells them what it tells its own page, and sees it
// when one of them is gone, by the lock that each tab holds.

import type { TabCall } from '../../pkg/rtc_battery.js';
import { ANOTHER_TAB } from '../events.js';
import { lockOfTab } from '../tabs.js';
import type { FromLeader, Notice, SharedCall, Standing, TabChannel, ToLeader } from './channel.js';
import { type Done, HANDED_OVER, Host, isHandedOver, type Page, type Room } from './host.js';
import type { Confirm } from './pages.js';

/** At first. */
const NOWHERE: Standing = { version: 0, peers: [], online: false, temporary: false };

/** The leader's side of the channel. */
export class Leader {
  private readonly watched = new Set<string>();
  /** Ends the watch. */
  private readonly unwatch = new AbortController();
  /** What is being done. */
  private readonly working = new Set<Promise<Done>>();
  /** What other tabs have asked and were not told, by tab and number: one that asks again while it is being done is told once. */
  private readonly asked = new Set<string>();
  private standing: Standing = NOWHERE;
  private closing = false;

  private constructor(
    readonly host: Host,
    private readonly room: Room,
    private readonly page: Page,
    private readonly channel: TabChannel,
    private readonly id: string,
    private readonly confirm: Confirm,
  ) {}

  /** Opens the database for the tab of this id. `confirm` tells whether it leads. */
  static async open(room: Room, page: Page, channel: TabChannel, id: string, confirm: Confirm): Promise<Leader> {
    let leader: Leader | undefined;
    let standing = NOWHERE;
    const tell = (notice: Notice): void => {
      if (leader === undefined) {
        standing = after(standing, notice);
        return;
      }
      leader.standing = after(leader.standing, notice);
      leader.say({ kind: 'notice', leader: id, notice });
    };
    const everybody: Page = {
      ...page,
      tell(event) {
        page.tell(event);
        tell({ kind: 'event', event });
      },
      status(version, peers) {
        page.status(version, peers);
        tell({ kind: 'status', version, peers });
      },
      trouble(failure) {
        page.trouble(failure);
        tell({ kind: 'trouble', failure });
      },
    };
    const host = await Host.open(room, everybody, confirm);
    leader = new Leader(host, room, page, channel, id, confirm);
    leader.standing = standing;
    return leader;
  }

  /** Takes what another tab says. */
  hear(message: ToLeader): void {
    // Who asks now asks the next leader again.
    if (this.closing) return;
    switch (message.kind) {
      case 'hello':
        this.greet(message);
        break;
      case 'call':
        if (message.leader === this.id) void this.work(message);
        break;
      case 'bye':
        this.host.gone(message.tab);
        break;
    }
  }

  /** Whether there are TEMP objects. */
  get temporary(): boolean {
    return this.standing.temporary;
  }

  /** Says that it leads. */
  announce(news: boolean): void {
    this.say({ kind: 'leader', leader: this.id, news, standing: this.standing });
  }

  /** Says goodbye to the room and closes the database. */
  close(): Promise<void> {
    this.end();
    return this.host.close();
  }

  /** Lets go of a database that is somebody else's now, and gives the version that was saved. What was asked and is not saved then was not done. */
  async abandon(): Promise<number> {
    this.end();
    const version = await this.host.abandon();
    await Promise.all(this.working);
    this.host.free();
    return version;
  }

  private end(): void {
    this.closing = true;
    this.unwatch.abort();
  }

  private greet({ tab, room, durability }: Extract<ToLeader, { kind: 'hello' }>): void {
    if (room !== this.room.room) {
      const message = 'this database is open in another tab, in another room; give this room a dbName of its own';
      this.say({ kind: 'refused', to: tab, failure: { code: 'other-room', message } });
      return;
    }
    this.host.require(durability);
    this.watch(tab);
    this.announce(false);
  }

  /** Does what a tab asks for, and tells the others if it wrote. */
  call(by: TabCall, call: SharedCall): Promise<Done> {
    const done = this.carryOut(by, call);
    this.working.add(done);
    void done.then(() => this.working.delete(done));
    return done;
  }

  private async carryOut(by: TabCall, call: SharedCall): Promise<Done> {
    const confirmed = this.confirm();
    if (confirmed !== undefined && !(await confirmed)) return HANDED_OVER;
    const done = await this.host.call(by, call);
    if (isHandedOver(done)) return done;
    const there = this.host.hasTemporary();
    if (there !== this.standing.temporary) {
      this.standing = { ...this.standing, temporary: there };
      this.say({ kind: 'notice', leader: this.id, notice: { kind: 'temporary', there } });
    }
    if (done.wrote > 0) {
      this.say({ kind: 'wrote', by: by.caller, operations: done.wrote });
      if (by.caller !== this.id) this.page.tell({ kind: 'sync', peer: ANOTHER_TAB, operations: done.wrote });
    }
    return done;
  }

  private async work({ tab, call, heard, stranded }: Extract<ToLeader, { kind: 'call' }>): Promise<void> {
    const name = `${tab} ${call.id}`;
    if (this.asked.has(name)) return;
    this.asked.add(name);
    const done = await this.call({ caller: tab, number: call.id, heard, stranded }, call);
    this.asked.delete(name);
    // The next leader is asked again.
    if (!isHandedOver(done)) this.say({ kind: 'done', leader: this.id, to: tab, id: call.id, done });
  }

  /** A tab holds its lock as long as it lives. Shared: one that led before may be waiting for it too, and stand still. */
  private watch(tab: string): void {
    if (this.watched.has(tab)) return;
    this.watched.add(tab);
    const gone = (): void => {
      this.watched.delete(tab);
      if (!this.closing) this.host.gone(tab);
    };
    navigator.locks.request(lockOfTab(this.room.dbName, tab), { mode: 'shared', signal: this.unwatch.signal }, gone).catch(() => undefined);
  }

  private say(message: FromLeader): void {
    this.channel.say(message);
  }
}

/** How things stand after a notice. */
function after(standing: Standing, notice: Notice): Standing {
  if (notice.kind === 'status') return { ...standing, version: notice.version, peers: notice.peers };
  if (notice.kind !== 'event') return standing;
  if (notice.event.kind === 'online') return { ...standing, online: true };
  const lost = notice.event.kind === 'error' && notice.event.code === 'signaling-unreachable';
  return lost ? { ...standing, online: false } : standing;
}
