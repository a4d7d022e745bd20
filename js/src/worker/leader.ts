// The tab that has the database open works for the others too: it does what they ask for, tells them what it tells its own page, and sees it
// when one of them is gone, by the lock that each tab holds.

import type { TabCall } from '../../pkg/rtc_battery.js';
import { ANOTHER_TAB } from '../events.js';
import { lockOfTab } from '../tabs.js';
import type { FromLeader, Notice, SharedCall, Standing, TabChannel, ToLeader } from './channel.js';
import { type Done, Host, type Page, type Room } from './host.js';

/** At first. */
const NOWHERE: Standing = { version: 0, peers: [], online: false, temporary: false };

/** The leader's side of the channel. */
export class Leader {
  private readonly watched = new Set<string>();
  private standing: Standing = NOWHERE;
  private closing = false;

  private constructor(
    readonly host: Host,
    private readonly room: Room,
    private readonly page: Page,
    private readonly channel: TabChannel,
    private readonly id: string,
  ) {}

  /** Opens the database for the tab of this id. */
  static async open(room: Room, page: Page, channel: TabChannel, id: string): Promise<Leader> {
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
    const host = await Host.open(room, {
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
    });
    leader = new Leader(host, room, page, channel, id);
    leader.standing = standing;
    leader.announce();
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

  /** Says goodbye to the room and closes the database. */
  close(): Promise<void> {
    this.closing = true;
    return this.host.close();
  }

  private announce(): void {
    this.say({ kind: 'leader', leader: this.id, standing: this.standing });
  }

  private greet({ tab, room, durability }: Extract<ToLeader, { kind: 'hello' }>): void {
    if (room !== this.room.room) {
      const message = 'this database is open in another tab, in another room; give this room a dbName of its own';
      this.say({ kind: 'refused', to: tab, failure: { code: 'other-room', message } });
      return;
    }
    this.host.require(durability);
    this.watch(tab);
    this.announce();
  }

  /** Does what a tab asks for, and tells the others if it wrote. */
  async call(by: TabCall, call: SharedCall): Promise<Done> {
    const done = await this.host.call(by, call);
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
    const done = await this.call({ caller: tab, number: call.id, heard, stranded }, call);
    this.say({ kind: 'done', to: tab, id: call.id, done });
  }

  /** A tab holds its lock as long as it lives. */
  private watch(tab: string): void {
    if (this.watched.has(tab)) return;
    this.watched.add(tab);
    void navigator.locks.request(lockOfTab(this.room.dbName, tab), () => {
      this.watched.delete(tab);
      if (!this.closing) this.host.gone(tab);
    });
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
