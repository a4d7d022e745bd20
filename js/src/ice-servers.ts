// STUN and TURN servers: a list, or somebody who gives one out and says how long its credentials are good. They are asked for again in time, and
// what is known stays in use when they cannot be.

import { RTCBatteryError } from './errors.js';

/** A list whose credentials end. */
export interface ExpiringIceServers {
  iceServers: RTCIceServer[];
  /** How long the credentials are good, in seconds. */
  ttl?: number;
}

/**
 * STUN and TURN servers: a list; or who gives one out, a function or the URL of its JSON, such as `/ice` of the signaling server. What says its `ttl`
 * is asked for again at 80 % of it, what does not for each new connection.
 */
export type IceServers =
  | RTCIceServer[]
  | string
  | URL
  | (() => RTCIceServer[] | ExpiringIceServers | Promise<RTCIceServer[] | ExpiringIceServers>);

/** Part of their life after which credentials are renewed. */
const RENEW_AT = 0.8;

/** Who gives no list within this time is gone on without, in milliseconds. */
const TIMEOUT_MS = 10_000;

/** After a failed renewal the next one, in milliseconds. */
const RETRY_MS = 5_000;

/** The longest that a timer takes, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The servers of one session. */
export class IceSource {
  private known: RTCIceServer[] = [];
  private freshUntilMs = 0;
  private asking: Promise<void> | undefined;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;
  /** Called when servers were renewed while connections are open. */
  renewed: () => void = () => undefined;

  constructor(
    private readonly servers: IceServers,
    private readonly iceTransportPolicy: RTCIceTransportPolicy,
    private readonly failed: (error: RTCBatteryError) => void,
  ) {
    if (Array.isArray(servers)) {
      this.known = servers;
      this.freshUntilMs = Infinity;
    }
  }

  /** What is known now. */
  configuration(): RTCConfiguration {
    return { iceServers: this.known, iceTransportPolicy: this.iceTransportPolicy };
  }

  /** Asks, unless what is known is good. Never rejects. */
  refresh(): Promise<void> {
    if (this.stopped || this.isFresh()) return Promise.resolve();
    this.asking ??= this.ask().finally(() => {
      this.asking = undefined;
    });
    return this.asking;
  }

  isFresh(): boolean {
    return performance.now() < this.freshUntilMs;
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.renewal);
  }

  private async ask(): Promise<void> {
    try {
      const { iceServers, ttl } = checked(await inTime(this.given()));
      this.known = iceServers;
      if (ttl !== undefined) this.renewAfter(ttl * 1000 * RENEW_AT);
    } catch (error) {
      if (this.stopped) return;
      this.failed(new RTCBatteryError(`no ICE servers were given out: ${error instanceof Error ? error.message : String(error)}`, 'ice-servers'));
      if (this.renewal !== undefined) this.renewAfter(RETRY_MS, 0);
    }
  }

  private async given(): Promise<unknown> {
    if (typeof this.servers === 'function') return this.servers();
    const response = await fetch(String(this.servers));
    if (!response.ok) throw new Error(`${response.url} answered ${response.status}`);
    return response.json();
  }

  /** Renews after so long, until which what is known is good, or not even now. */
  private renewAfter(ms: number, goodForMs = ms): void {
    clearTimeout(this.renewal);
    if (this.stopped) return;
    this.freshUntilMs = performance.now() + goodForMs;
    this.renewal = setTimeout(() => {
      this.freshUntilMs = 0;
      void this.refresh().then(() => this.stopped || this.renewed());
    }, Math.min(ms, MAX_TIMER_MS));
  }
}

/**
 * Checks what a config says.
 * @throws TypeError if it names no servers.
 */
export function iceServersOf(asked: string, servers: IceServers | undefined): IceServers {
  if (servers === undefined) return [];
  if (Array.isArray(servers) || typeof servers === 'function') return servers;
  if (typeof servers === 'string' || servers instanceof URL) {
    try {
      return new URL(servers, document.baseURI);
    } catch {
      // Told below.
    }
  }
  throw new TypeError(`${asked}: iceServers must be an array, a function that gives one, or a URL`);
}

/**
 * Checks which candidates may be used.
 * @throws TypeError if it is no such policy: who wants relays only must not get others by mistake.
 */
export function iceTransportPolicyOf(asked: string, policy: RTCIceTransportPolicy | undefined): RTCIceTransportPolicy {
  if (policy !== undefined && policy !== 'all' && policy !== 'relay') throw new TypeError(`${asked}: iceTransportPolicy must be 'all' or 'relay'`);
  return policy ?? 'all';
}

function checked(answer: unknown): ExpiringIceServers {
  if (Array.isArray(answer)) return { iceServers: answer as RTCIceServer[] };
  const { iceServers, ttl } = (answer ?? {}) as Partial<ExpiringIceServers>;
  if (!Array.isArray(iceServers)) throw new Error('the answer is no list of ICE servers, nor does it have one as `iceServers`');
  if (ttl === undefined) return { iceServers };
  if (typeof ttl !== 'number' || !(ttl > 0)) throw new Error('the `ttl` of the answer is no number of seconds');
  return { iceServers, ttl };
}

function inTime<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
