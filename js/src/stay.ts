// In a room or not: when what is done there begins, ends, and may be asked for anything.

import { RTCBatteryError } from './errors.js';

/** What is done in a room, from entering it to leaving it. */
export interface Visit {
  open(): Promise<void>;
  close(): Promise<void>;
}

type State<V> =
  | { kind: 'disconnected'; visit?: undefined }
  | { kind: 'connecting'; visit: V; done: Promise<void> }
  | { kind: 'connected'; visit: V }
  | { kind: 'disconnecting'; visit: V; done: Promise<void> };

/** One visit at a time. */
export class Stay<V extends Visit> {
  private state: State<V> = { kind: 'disconnected' };

  /** `over` hears of every visit that came to an end. */
  constructor(private readonly over: (visit: V) => void = () => undefined) {}

  /** The visit, also while it begins or ends. */
  get visit(): V | undefined {
    return this.state.visit;
  }

  /** Begins a visit unless there is one; what it is given it calls if the visit breaks. */
  begin(make: (lost: () => void) => V): Promise<void> {
    switch (this.state.kind) {
      case 'connected':
        return Promise.resolve();
      case 'connecting':
        return this.state.done;
      case 'disconnecting':
        return this.state.done.then(() => this.begin(make));
      case 'disconnected': {
        const visit: V = make(() => this.forget(visit));
        const done = visit.open().then(
          () => {
            if (this.state.visit === visit) this.state = { kind: 'connected', visit };
          },
          (error: unknown) => {
            this.forget(visit);
            throw error;
          },
        );
        this.state = { kind: 'connecting', visit, done };
        return done;
      }
    }
  }

  /** Ends the visit. */
  end(): Promise<void> {
    const { state } = this;
    switch (state.kind) {
      case 'disconnected':
        return Promise.resolve();
      case 'disconnecting':
        return state.done;
      case 'connecting':
        return state.done.then(
          () => this.end(),
          () => undefined,
        );
      case 'connected': {
        const { visit } = state;
        const done = visit.close().finally(() => this.forget(visit));
        this.state = { kind: 'disconnecting', visit, done };
        return done;
      }
    }
  }

  /**
   * What may be asked for things.
   * @throws RTCBatteryError of code `not-connected`.
   */
  connected(): V {
    if (this.state.kind === 'connected') return this.state.visit;
    const message =
      this.state.kind === 'connecting' ? 'still connecting: await connect() first' : 'not connected: call connect() first';
    throw new RTCBatteryError(message, 'not-connected');
  }

  private forget(visit: V): void {
    if (this.state.visit !== visit) return;
    this.state = { kind: 'disconnected' };
    this.over(visit);
  }
}
