// What a user says when making an RTCBattery, and what is made of it.

import type { Durability } from './durability.js';
import { type IceServers, iceServersOf, iceTransportPolicyOf } from './ice-servers.js';
import { defaultWasmUrl } from './wasm-file.js';

/** Longest token in bytes of UTF-8: the signaling server's own default, and what its address may grow to. */
const MAX_TOKEN_BYTES = 16 * 1024;

/** How to open a database and meet its peers. */
export interface RTCBatteryConfig {
  /** Signaling server. `ws:` or `wss:`; `http:`, `https:` and relative URLs are taken for their WebSocket counterparts. */
  signalingUrl: string;
  /** Names the room, and is its secret: who has it reads and writes. Peers with the same token sync together. Any text of up to 16 KiB. */
  token: string;
  /**
   * Whether the token stays on this device, and offers, answers and candidates are sealed with it, so that the signaling server can neither read nor
   * change them. True by default. `false` is the specification's letter: it meets peers that speak nothing else, and none that seal.
   */
  sealed?: boolean;
  /** STUN and TURN servers for peers behind different NATs, or who gives them out. None by default. */
  iceServers?: IceServers;
  /** `'relay'`: peers are met through TURN servers only, and learn no address of this device. `'all'` by default. */
  iceTransportPolicy?: RTCIceTransportPolicy;
  /** Name of the IndexedDB database. By default a name of the room's own, so that rooms on one origin never share a database. */
  dbName?: string;
  /**
   * What a power cut may take. `'relaxed'` (the default): the writes of the last moments, never half of one; a crash of page or browser takes nothing.
   * `'strict'`: nothing, and each write waits for the disk. Where several tabs share a database, one that asks for strict gets it for all.
   */
  durability?: Durability;
  /** Where `worker.js` is, if not beside `rtc-battery.js`. It must be on the page's own origin. */
  workerUrl?: string | URL;
  /** Where `rtc_battery.wasm` is, if not beside `rtc-battery.js`. */
  wasmUrl?: string | URL;
}

/** A config that was checked, with absolute URLs. */
export interface Settings {
  readonly signalingUrl: string;
  readonly token: string;
  readonly sealed: boolean;
  readonly iceServers: IceServers;
  readonly iceTransportPolicy: RTCIceTransportPolicy;
  readonly dbName: string | undefined;
  readonly durability: Durability;
  readonly workerUrl: string | undefined;
  readonly wasmUrl: string;
}

/**
 * Checks a config.
 * @throws TypeError if it is none.
 */
export function settingsOf(config: RTCBatteryConfig): Settings {
  if (typeof config !== 'object' || config === null) throw new TypeError('RTCBattery: the config must be an object');
  if (config.dbName !== undefined && typeof config.dbName !== 'string') throw new TypeError('RTCBattery: dbName must be a string');
  const { durability = 'relaxed' } = config;
  if (durability !== 'relaxed' && durability !== 'strict') throw new TypeError("RTCBattery: durability must be 'relaxed' or 'strict'");
  return {
    ...roomOf('RTCBattery', config.signalingUrl, config.token),
    sealed: sealedOf('RTCBattery', config.sealed),
    iceServers: iceServersOf('RTCBattery', config.iceServers),
    iceTransportPolicy: iceTransportPolicyOf('RTCBattery', config.iceTransportPolicy),
    dbName: config.dbName,
    durability,
    workerUrl: config.workerUrl === undefined ? undefined : fileUrl('workerUrl', config.workerUrl),
    wasmUrl: config.wasmUrl === undefined ? defaultWasmUrl() : fileUrl('wasmUrl', config.wasmUrl),
  };
}

/**
 * Checks what names a room.
 * @throws TypeError if it names none, in the name of who was asked.
 */
export function roomOf(asked: string, signalingUrl: string, token: string): { signalingUrl: string; token: string } {
  if (typeof token !== 'string') throw new TypeError(`${asked}: token must be a string`);
  // Whoever forgot to set a token would share a room with everyone else who did.
  if (token === '') throw new TypeError(`${asked}: token is empty; it is the room's secret`);
  if (new TextEncoder().encode(token).length > MAX_TOKEN_BYTES) throw new TypeError(`${asked}: token is longer than 16,384 bytes`);
  return { signalingUrl: webSocketUrl(asked, signalingUrl), token };
}

/**
 * Checks whether a room is sealed; it is unless somebody says otherwise.
 * @throws TypeError if it is no boolean: what is not sealed is not to be so by mistake.
 */
export function sealedOf(asked: string, sealed: boolean | undefined): boolean {
  if (sealed !== undefined && typeof sealed !== 'boolean') throw new TypeError(`${asked}: sealed must be true or false`);
  return sealed ?? true;
}

function fileUrl(name: string, url: string | URL): string {
  const found = parsed(url);
  if (found === undefined) throw new TypeError(`RTCBattery: ${name} must be a URL, not ${JSON.stringify(url)}`);
  return found.href;
}

function webSocketUrl(asked: string, text: string): string {
  const url = parsed(text);
  if (url?.protocol === 'http:') url.protocol = 'ws:';
  if (url?.protocol === 'https:') url.protocol = 'wss:';
  if (url?.protocol !== 'ws:' && url?.protocol !== 'wss:') {
    throw new TypeError(`${asked}: signalingUrl must be a WebSocket URL such as wss://example.com/signal, not ${JSON.stringify(text)}`);
  }
  url.hash = '';
  return url.href;
}

function parsed(url: string | URL): URL | undefined {
  if (typeof url !== 'string' && !(url instanceof URL)) return undefined;
  try {
    return new URL(url, document.baseURI);
  } catch {
    return undefined;
  }
}
