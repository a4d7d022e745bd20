// In a room or not: when what is done there begins, ends, and may be asked for anything.

import { RTCBatteryError } from './errors.js';

/** What is done in a room, from entering it to leaving it. */
export interface Visit {
  open(): Promise<void>;
  close(): Promise<void>;
}

type State<V> =
  | { kind: 'disconnected'; visit?: undefined; broken?: Error | undefined }
  | { kind: 'connecting'; visit: V }
  | { kind: 'connected'; visit: V }
  | { kind: 'disconnecting'; visit: V };

/** What was asked for last, while it is not done. */
interface Plan {
  readonly present: boolean;
  readonly done: Promise<void>;
}

/** One visit at a time. Beginnings and ends follow one another in the order in which they were asked for. */
export class Stay<V extends Visit> {
  private state: State<V> = { kind: 'disconnected' };
  private plan: Plan | undefined;

  /** `over` hears of every visit that came to an end. */
  constructor(private readonly over: (visit: V) => void = () => undefined) {}

  /** The visit, also while it begins or ends. */
  get visit(): V | undefined {
    return this.state.visit;
  }

  /** Begins a visit unless there is one; what it is given it calls if the visit breaks, with the reason. */
  begin(make: (lost: (reason: Error) => void) => V): Promise<void> {
    return this.ask(true, () => this.enter(make));
  }

  /** Ends the visit. */
  end(): Promise<void> {
    return this.ask(false, () => this.leave());
  }

  /**
   * What may be asked for things.
   * @throws RTCBatteryError of code `not-connected`, or why there is no visit: it broke, or could not begin.
   */
  connected(): V {
    if (this.state.kind === 'connected') return this.state.visit;
    if (this.state.kind === 'disconnected' && this.state.broken !== undefined) throw this.state.broken;
    const message =
      this.state.kind === 'connecting' ? 'still connecting: await connect() first' : 'not connected: call connect() first';
    throw new RTCBatteryError(message, 'not-connected');
  }

  private ask(present: boolean, act: () => Promise<void>): Promise<void> {
    const before = this.plan;
    if (before?.present === present) return before.done;
    // How what was asked before ends is for those who asked for it.
    const done = (before === undefined ? act() : before.done.then(act, act)).finally(() => {
      if (this.plan === plan) this.plan = undefined;
    });
    const plan: Plan = { present, done };
    this.plan = plan;
    return done;
  }

  private async enter(make: (lost: (reason: Error) => void) => V): Promise<void> {
    if (this.state.kind === 'connected') return;
    const visit: V = make((reason) => this.forget(visit, reason));
    this.state = { kind: 'connecting', visit };
    try {
      await visit.open();
    } catch (error) {
      this.forget(visit, error as Error);
      throw error;
    }
    if (this.state.visit === visit) this.state = { kind: 'connected', visit };
  }

  private async leave(): Promise<void> {
    if (this.state.kind === 'disconnected') this.state = { kind: 'disconnected' };
    if (this.state.kind !== 'connected') return;
    const { visit } = this.state;
    this.state = { kind: 'disconnecting', visit };
    try {
      await visit.close();
    } finally {
      this.forget(visit);
    }
  }

  private forget(visit: V, broken?: Error): void {
    if (this.state.visit !== visit) return;
    this.state = { kind: 'disconnected', broken };
    this.over(visit);
  }
}
