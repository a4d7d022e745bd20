// What every host of a core does: hands it what happened, performs what it asks for in the order given, and keeps its one alarm. Decides
// nothing.

import { assertNever } from '../assert-never.js';
import type { Effect } from '../generated/Effect.js';
import type { Event } from '../generated/Event.js';
import type { Input } from '../generated/Input.js';
import type { Now } from '../generated/Now.js';
import type { Output } from '../generated/Output.js';
import type { LinkEffect } from '../messages.js';
import { Alarm, now } from './clock.js';
import { SignalingSocket } from './socket.js';
import { Turn } from './turn.js';

/** A core, as the bindings have it. */
export interface Core {
  handleInput(input: Input, now: Now): void;
  pollOutput(now: Now): Output;
}

/** What is special about a host. */
export interface Surroundings {
  /** Performs effects on links, in this order. */
  perform(effects: LinkEffect[]): void;
  /** Tells an event. */
  tell(event: Event): void;
  /** The core has nothing left to say for now. */
  rested(): void;
  /** The core is beyond use. Called once. */
  failed(error: unknown): void;
}

/** Drives one core. */
export class Pump {
  private readonly socket = new SignalingSocket((input) => this.deliver(input));
  private readonly alarm = new Alarm(() => this.run());
  private readonly turn = new Turn(() => this.deliver({ kind: 'resumed' }));
  private linkEffects: LinkEffect[] = [];
  private running = false;
  private again = false;
  private stopped = false;

  constructor(
    private readonly core: Core,
    private readonly surroundings: Surroundings,
  ) {}

  /** Hands the core what happened. */
  deliver(input: Input): void {
    if (this.stopped) return;
    try {
      this.core.handleInput(input, now());
    } catch (error) {
      this.fail(error);
    }
    this.run();
  }

  /** Does what the core asks for; to be called after every command. What happens meanwhile and comes back here is dealt with in its turn. */
  run(): void {
    this.again = true;
    if (this.running) return;
    this.running = true;
    try {
      while (this.again && !this.stopped) {
        this.again = false;
        this.drain();
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.running = false;
    }
  }

  /** Nothing is heard or done any more. */
  stop(): void {
    this.stopped = true;
    this.alarm.set(null);
    this.turn.stop();
    this.socket.close();
  }

  /** Stops, and says why. */
  fail(error: unknown): void {
    if (this.stopped) return;
    this.stop();
    this.surroundings.failed(error);
  }

  private drain(): void {
    for (;;) {
      const { output, value } = this.core.pollOutput(now());
      if (output === 'idle') {
        this.alarm.set(value);
        break;
      }
      if (output === 'effect') this.perform(value);
      else this.surroundings.tell(value);
      // Whoever was told may have ended it.
      if (this.stopped) return;
    }
    const effects = this.linkEffects;
    this.linkEffects = [];
    if (effects.length > 0) this.surroundings.perform(effects);
    this.surroundings.rested();
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
      case 'yield':
        this.turn.wait();
        break;
      default:
        assertNever(effect);
    }
  }
}
