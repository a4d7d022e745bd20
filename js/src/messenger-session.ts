// One stay in a room without a database: the core runs here, on the page, beside the links that it asks for.

import { RoomMessenger } from '../pkg/rtc_battery.js';
import { assertNever } from './assert-never.js';
import { now } from './core/clock.js';
import { toFailure } from './core/failure.js';
import { Pump } from './core/pump.js';
import { random, SEED_BYTES } from './core/random.js';
import { RTCBatteryError, toError } from './errors.js';
import type { Event } from './generated/Event.js';
import type { RequestId } from './generated/RequestId.js';
import { IceSource, type IceServers } from './ice-servers.js';
import { Links } from './links.js';
import type { LinkInput } from './messages.js';
import type { Operation } from './operation.js';
import { loadCoreHere } from './wasm-file.js';

/** Where to, and how. */
export interface RoomSettings {
  readonly signalingUrl: string;
  readonly token: string;
  readonly sealed: boolean;
  readonly iceServers: IceServers;
  readonly iceTransportPolicy: RTCIceTransportPolicy;
  readonly wasmUrl: string | URL | undefined;
}

/** Who hears what happens. */
export interface Hearer {
  operation(operation: Operation, peerId: string): void;
  peerJoin(peerId: string): void;
  peerLeave(peerId: string): void;
  error(error: RTCBatteryError): void;
}

interface Pending {
  resolve(operations: Operation[]): void;
  reject(error: Error): void;
}

/** A session that is open, opening or closing. */
export class MessengerSession {
  private core: { messenger: RoomMessenger; pump: Pump } | undefined;
  private readonly ice: IceSource;
  private readonly links: Links;
  private readonly pending = new Map<RequestId, Pending>();
  /** What links said of their end while the page was going away: for when it comes back. */
  private farewells: LinkInput[] | undefined;
  private left: () => void = () => undefined;
  private readonly pageHidden = (): void => this.hide();

  /** `lost` is called once, with the reason, if the session breaks. */
  constructor(
    private readonly settings: RoomSettings,
    private readonly hearer: Hearer,
    private readonly lost: (reason: Error) => void,
  ) {
    this.ice = new IceSource(settings.iceServers, settings.iceTransportPolicy, (error) => this.hearer.error(error));
    this.links = new Links(this.ice, (input) => this.report(input));
  }

  /** Loads the core; the room is joined as soon as it can be reached. */
  async open(): Promise<void> {
    const { signalingUrl, token, sealed, wasmUrl } = this.settings;
    try {
      await loadCoreHere(wasmUrl);
      const messenger = new RoomMessenger({ signalingUrl, token, sealed, seed: random(SEED_BYTES) }, now());
      const pump = new Pump(messenger, {
        perform: (effects) => this.links.perform(effects),
        tell: (event) => this.tell(event),
        rested: () => undefined,
        failed: (error) => this.fail(error),
      });
      this.core = { messenger, pump };
      addEventListener('pagehide', this.pageHidden);
      messenger.connect(now());
      pump.run();
    } catch (error) {
      throw toError(toFailure(error));
    }
  }

  /** Peers that can be talked to. */
  peers(): string[] {
    return this.core?.messenger.peers() ?? [];
  }

  broadcast(operation: Operation): void {
    this.ask((messenger) => messenger.broadcast(operation, now()));
  }

  requestSync(peerId: string): Promise<Operation[]> {
    return new Promise((resolve, reject) => {
      this.ask((messenger) => this.pending.set(messenger.requestSync(peerId, now()), { resolve, reject }));
    });
  }

  /** Says goodbye to the peers. */
  async close(): Promise<void> {
    const left = new Promise<void>((resolve) => {
      this.left = resolve;
    });
    try {
      this.ask((messenger) => messenger.disconnect(now()));
      await left;
      await this.links.closed();
    } finally {
      const messenger = this.core?.messenger;
      this.end(new RTCBatteryError('the room was left', 'not-connected'));
      messenger?.free();
    }
  }

  private ask(act: (messenger: RoomMessenger) => void): void {
    if (this.core === undefined) throw new RTCBatteryError('not connected: call connect() first', 'not-connected');
    const { messenger, pump } = this.core;
    try {
      act(messenger);
    } catch (error) {
      throw toError(toFailure(error));
    }
    pump.run();
  }

  private tell(event: Event): void {
    switch (event.kind) {
      case 'operation':
        this.hearer.operation(event.operation, event.peer);
        break;
      case 'answered':
        this.settle(event.request)?.resolve(event.operations);
        break;
      case 'unanswered':
        this.settle(event.request)?.reject(new RTCBatteryError(`peer ${event.peer} did not answer: ${event.reason}`, 'unanswered', event.peer));
        break;
      case 'peerJoin':
        this.hearer.peerJoin(event.peer);
        break;
      case 'peerLeave':
        this.hearer.peerLeave(event.peer);
        break;
      case 'error':
        this.hearer.error(new RTCBatteryError(event.message, event.code, event.peer));
        break;
      case 'closed':
        this.left();
        break;
      case 'online':
      case 'conflict':
      case 'sync':
      case 'syncProgress':
      case 'released':
      case 'clockSkew':
      case 'automaticKeys':
        // That the server was reached is for those who show it; the rest is what nodes do.
        break;
      default:
        assertNever(event);
    }
  }

  private report(input: LinkInput): void {
    if (this.farewells === undefined) this.core?.pump.deliver(input);
    else this.farewells.push(input);
  }

  /** Closes the links, which would keep the page out of the back/forward cache; what to do about it is asked when it is back. */
  private hide(): void {
    this.farewells = [];
    this.links.abandon();
    setTimeout(() => {
      const farewells = this.farewells ?? [];
      this.farewells = undefined;
      for (const input of farewells) this.report(input);
    });
  }

  private settle(request: RequestId): Pending | undefined {
    const pending = this.pending.get(request);
    this.pending.delete(request);
    return pending;
  }

  private fail(cause: unknown): void {
    const error = toError(toFailure(cause)) as RTCBatteryError;
    this.end(error);
    this.lost(error);
    this.hearer.error(error);
  }

  private end(error: Error): void {
    removeEventListener('pagehide', this.pageHidden);
    const { core } = this;
    this.core = undefined;
    core?.pump.stop();
    this.ice.stop();
    this.links.abandon();
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }
}
