// The specification's WebRTCManager: peers and operations, without a database.

import { roomOf, sealedOf } from './config.js';
import { RTCBatteryError } from './errors.js';
import { call } from './events.js';
import { type IceServers, iceServersOf, iceTransportPolicyOf } from './ice-servers.js';
import { type Hearer, MessengerSession } from './messenger-session.js';
import type { Operation } from './operation.js';
import { Stay } from './stay.js';

/** How to meet peers. */
export interface WebRTCManagerOptions {
  /**
   * Whether the token stays here, and signaling is sealed with it. True by default; `false` is the specification's letter, and meets peers that speak
   * nothing else.
   */
  sealed?: boolean;
  /** STUN and TURN servers for peers behind different NATs, or who gives them out. None by default. */
  iceServers?: IceServers;
  /** `'relay'`: peers are met through TURN servers only, and learn no address of this device. `'all'` by default. */
  iceTransportPolicy?: RTCIceTransportPolicy;
  /** Where `rtc_battery.wasm` is, if not beside `rtc-battery.js`. The module is loaded once: the first `wasmUrl` counts. */
  wasmUrl?: string | URL;
}

/**
 * Operations to and from the peers of a room, for programs with a storage of their own. Nothing is kept: who asks this one for a sync gets
 * nothing.
 *
 * ```js
 * const manager = new WebRTCManager();
 * manager.onOperation = (op, peerId) => layer.applyOperation(op);
 * manager.onPeerJoin = async (peerId) => (await manager.requestSync(peerId)).forEach((op) => layer.applyOperation(op));
 * await manager.connect('wss://example.com/signal', token);
 * layer.execute("INSERT INTO notes VALUES ('2', 'Hi')").operations.forEach((op) => manager.broadcast(op));
 * ```
 */
export class WebRTCManager {
  /** An operation came that nobody asked for. It may be one that came before. */
  onOperation: (op: Operation, peerId: string) => void = () => undefined;
  /** A peer can be talked to. */
  onPeerJoin: (peerId: string) => void = () => undefined;
  /** A peer is gone. */
  onPeerLeave: (peerId: string) => void = () => undefined;
  /** Something went wrong; the session goes on unless the code is `internal`. By default the console hears of it. */
  onError: (error: RTCBatteryError) => void = (error) => console.warn('WebRTCManager:', error);

  private readonly stay = new Stay<MessengerSession>();
  /** Where we are, or were last. */
  private room = '';

  constructor(private readonly options: WebRTCManagerOptions = {}) {}

  /**
   * Joins a room. Resolves once the core is loaded, also when the signaling server cannot be reached: that is an error for `onError`, and tried
   * again until it can. May be called again after `disconnect`.
   *
   * Rejects with a TypeError where the arguments are no URL and token, with an {@link RTCBatteryError} of code `load`, or, while connected to
   * another room, `already-connected`.
   */
  async connect(signalingUrl: string, token: string): Promise<void> {
    const room = roomOf('WebRTCManager', signalingUrl, token);
    const { wasmUrl } = this.options;
    const iceServers = iceServersOf('WebRTCManager', this.options.iceServers);
    const iceTransportPolicy = iceTransportPolicyOf('WebRTCManager', this.options.iceTransportPolicy);
    const sealed = sealedOf('WebRTCManager', this.options.sealed);
    const name = JSON.stringify(room);
    await this.stay.begin((lost) => {
      this.room = name;
      return new MessengerSession({ ...room, sealed, iceServers, iceTransportPolicy, wasmUrl }, this.hearer(), lost);
    });
    if (this.room !== name) throw new RTCBatteryError('connected to another room: call disconnect() first', 'already-connected');
  }

  /**
   * Sends an operation to all peers that can be talked to now.
   *
   * @throws RTCBatteryError of code `bad-operation` where it is none, or of code `not-connected`.
   */
  broadcast(op: Operation): void {
    this.stay.connected().broadcast(op);
  }

  /**
   * Asks a peer for all its operations.
   *
   * Rejects with an {@link RTCBatteryError} of code `unknown-peer`, `unanswered` or `not-connected`.
   */
  async requestSync(peerId: string): Promise<Operation[]> {
    return this.stay.connected().requestSync(peerId);
  }

  /** Ids of the peers that can be talked to. */
  getPeers(): string[] {
    return this.stay.visit?.peers() ?? [];
  }

  /** Leaves the room. What was broadcast is let out first, for 2 s at most. */
  disconnect(): Promise<void> {
    return this.stay.end();
  }

  /** The handlers as they are when something happens: they may be set at any time. */
  private hearer(): Hearer {
    return {
      operation: (operation, peerId) => call((...values) => this.onOperation(...values), operation, peerId),
      peerJoin: (peerId) => call((...values) => this.onPeerJoin(...values), peerId),
      peerLeave: (peerId) => call((...values) => this.onPeerLeave(...values), peerId),
      error: (error) => call((...values) => this.onError(...values), error),
    };
  }
}
