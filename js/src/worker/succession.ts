// Who leads: the tab that holds the lock of the database. This is where one tab asks for it, gives it up while its page sleeps, finds that it was
// taken away, and takes it from a tab that says nothing (when that is, the core's vigil says).
//
// A lock that is taken away does not stop what its holder does. Its writes are stopped by the fence (`connection.ts`), and what it shows by `confirm`.

import { Vigil } from '../../pkg/rtc_battery.js';
import { Alarm, now } from '../core/clock.js';
import { lockOf } from '../tabs.js';
import { type Held, hold } from './lock.js';

/** Who has heard for so long that it leads may believe it: nobody loses patience with it sooner. */
const SURE_MS = 1000;

/** A vigil's jitter is below this. */
const JITTER_MS = 1000;

/** A tab that may lead. */
export interface Heir {
  /** It leads from now on. */
  lead(): void;
  /** It leads no more. */
  stepDown(): void;
  /** It is to ask whether anybody leads. */
  ask(): void;
  /** It will never lead. */
  fail(error: unknown): void;
}

/** One tab's place in the succession. */
export class Succession {
  private held: Held | undefined;
  /** While this tab has asked for the lock, or has it. */
  private claimed: AbortController | undefined;
  private readonly vigil = new Vigil(Math.random() * JITTER_MS, now().monoMs);
  private readonly alarm = new Alarm(() => this.look());
  private sureAtMs = 0;
  private inquiring: Promise<boolean> | undefined;

  constructor(
    private readonly dbName: string,
    private readonly heir: Heir,
  ) {}

  /** Whether this tab leads, as far as it has heard. */
  get leads(): boolean {
    return this.held !== undefined;
  }

  /** This reign, if this tab leads. */
  get reign(): object | undefined {
    return this.held;
  }

  /** Gets in line, or stays there. */
  enter(): void {
    if (this.claimed === undefined) this.claim(false);
  }

  /** Gives the lead up, or its place in line. */
  leave(): void {
    this.claimed?.abort();
    this.claimed = undefined;
    this.held?.release();
    this.held = undefined;
    this.alarm.set(null);
  }

  /** Whoever leads has said something. */
  heard(): void {
    this.vigil.heard(now().monoMs);
  }

  /** Whether this tab waits for an answer of whoever leads. */
  expect(waiting: boolean): void {
    this.vigil.expect(waiting, now().monoMs);
    this.keepWatch();
  }

  /** Whether this tab leads; none where it knows that it does. One that stood still may not have heard that it was replaced. */
  confirm(): Promise<boolean> | undefined {
    if (this.inquiring === undefined && this.leads && performance.now() - this.sureAtMs < SURE_MS) return undefined;
    return this.inquire();
  }

  /** Whether this tab leads, as the browser knows: it tells a tab that its lock is taken before it answers what the tab asks after that. */
  inquire(): Promise<boolean> {
    this.inquiring ??= this.query().finally(() => {
      this.inquiring = undefined;
    });
    return this.inquiring;
  }

  private async query(): Promise<boolean> {
    const asOfMs = performance.now();
    await navigator.locks.query();
    this.sureAtMs = asOfMs;
    return this.leads;
  }

  private claim(steal: boolean): void {
    const claim = new AbortController();
    this.claimed?.abort();
    this.claimed = claim;
    this.vigil.heard(now().monoMs);
    this.keepWatch();
    hold(lockOf(this.dbName), steal ? { steal } : { signal: claim.signal }).then(
      (held) => this.take(claim, held),
      (error: unknown) => {
        if (this.claimed === claim) this.heir.fail(error);
      },
    );
  }

  private take(claim: AbortController, held: Held): void {
    // Given to somebody who had given it up by then.
    if (this.claimed !== claim) return held.release();
    this.held = held;
    this.alarm.set(null);
    this.sureAtMs = performance.now();
    void held.lost.then(() => this.lose(held));
    this.heir.lead();
  }

  private lose(held: Held): void {
    if (this.held !== held) return;
    this.held = undefined;
    this.claimed = undefined;
    this.heir.stepDown();
    this.enter();
  }

  private look(): void {
    const doubt = this.vigil.look(now().monoMs);
    if (doubt === 'takeOver') return this.claim(true);
    if (doubt === 'ask') this.heir.ask();
    this.keepWatch();
  }

  private keepWatch(): void {
    if (this.claimed !== undefined && !this.leads) this.alarm.set(this.vigil.wakeAtMs());
  }
}
