// One stay in a room, from connect to disconnect: a worker with the database, the links that it asks for, and what it last told of itself.

import { assertNever } from './assert-never.js';
import type { Settings } from './config.js';
import { RTCBatteryError, toError } from './errors.js';
import { type Listeners, SET_ASIDE } from './events.js';
import { IceSource } from './ice-servers.js';
import type { Status } from './generated/Status.js';
import { Links } from './links.js';
import type { UserEvent } from './messages.js';
import { Pulse } from './pulse.js';
import { watchSleep } from './sleep.js';
import { askToPersist, report, type StorageReport } from './storage-report.js';
import { bytesOf, type FileBytes, type QueryResult, type SqlParams } from './values.js';
import { type Notice, WorkerClient } from './worker-client.js';

/** A session that is open, opening or closing. */
export class Session {
  /** Peers that can be talked to. */
  peers: readonly string[] = [];
  /** How many transactions the replica has committed or applied. */
  version = 0;
  private opened = false;
  private readonly worker: WorkerClient;
  private readonly ice: IceSource;
  private readonly links: Links;
  private readonly pulse = new Pulse();
  private readonly unwatchSleep: () => void;

  /** `lost` is called once, with the reason, if the session breaks. */
  constructor(
    private readonly settings: Settings,
    private readonly takeOver: boolean,
    private readonly listeners: Listeners,
    private readonly lost: (reason: Error) => void,
  ) {
    this.worker = new WorkerClient(
      settings.workerUrl,
      (notice) => this.hear(notice),
      (error) => this.fail(error),
    );
    this.ice = new IceSource(settings.iceServers, settings.iceTransportPolicy, (error) => listeners.emit('error', error));
    this.links = new Links(this.ice, (input, transfer) => this.worker.input(input, transfer));
    this.unwatchSleep = watchSleep({
      hidden: () => {
        this.links.abandon();
        this.pulse.rest();
      },
      rest: () => {
        // Chromium delivers to a frozen page what others say on a channel.
        this.pulse.rest();
        this.worker.rest();
      },
      wake: () => {
        this.pulse.wake();
        this.worker.wake();
      },
    });
  }

  /** Opens the database; the room is joined as soon as it can be reached. */
  async open(): Promise<void> {
    const { signalingUrl, token, sealed, dbName, durability, wasmUrl } = this.settings;
    try {
      await this.worker.call('open', { signalingUrl, token, sealed, dbName, durability, wasmUrl, takeOver: this.takeOver });
      this.opened = true;
      askToPersist();
    } catch (error) {
      this.end(error as Error);
      throw error;
    }
  }

  exec(sql: string, params: SqlParams | undefined, local: boolean): Promise<QueryResult> {
    return this.worker.call('exec', { sql, params, local });
  }

  export(): Promise<FileBytes> {
    return this.worker.call('export', undefined);
  }

  async import(file: Uint8Array): Promise<string[]> {
    return this.worker.call('import', { file: bytesOf(file) });
  }

  flush(): Promise<void> {
    return this.worker.call('flush', undefined);
  }

  async estimate(): Promise<StorageReport> {
    return report(await this.worker.call('storage', undefined));
  }

  status(): Promise<Status> {
    return this.worker.call('status', undefined);
  }

  /** Says goodbye to the peers and waits until everything is saved. */
  async close(): Promise<void> {
    try {
      await this.worker.call('close', undefined);
      await this.links.closed();
    } finally {
      this.end(new RTCBatteryError('the database was disconnected', 'not-connected'));
    }
  }

  private hear(notice: Notice): void {
    switch (notice.kind) {
      case 'effects':
        this.links.perform(notice.effects);
        break;
      case 'status':
        // One that another tab told before it was closed may not have been saved.
        this.version = Math.max(this.version, notice.version);
        this.peers = notice.peers;
        break;
      case 'event':
        this.emit(notice.event);
        break;
      case 'trouble':
        this.listeners.emit('error', toError(notice.failure) as RTCBatteryError);
        break;
      case 'progress':
        this.listeners.emit('progress', { loaded: notice.loaded, total: notice.total });
        break;
      case 'leads':
        this.pulse.set(notice.as);
        if (notice.as === undefined) this.links.reset();
        break;
      case 'failed':
        this.fail(toError(notice.failure) as RTCBatteryError);
        break;
      default:
        assertNever(notice);
    }
  }

  private emit(event: UserEvent): void {
    switch (event.kind) {
      case 'online':
        this.listeners.emit('online');
        break;
      case 'peerJoin':
        this.listeners.emit('peer-join', event.peer);
        break;
      case 'peerLeave':
        this.listeners.emit('peer-leave', event.peer);
        break;
      case 'sync':
        this.listeners.emit('sync', event.peer, { operations: event.operations });
        break;
      case 'syncProgress':
        this.listeners.emit('sync-progress', event.peer, { done: event.done, total: event.total });
        break;
      case 'clockSkew':
        this.listeners.emit('clock-skew', { aheadMs: event.aheadMs });
        break;
      case 'automaticKeys':
        this.listeners.emit('automatic-keys', { table: event.table });
        break;
      case 'released':
        this.listeners.emit('sync', SET_ASIDE, { operations: event.operations });
        break;
      case 'conflict': {
        const { table, pk, reason, withPk } = event;
        this.listeners.emit('conflict', { table, pk, reason, withPk });
        break;
      }
      case 'error':
        this.listeners.emit('error', new RTCBatteryError(event.message, event.code, event.peer));
        break;
      default:
        assertNever(event);
    }
  }

  private fail(error: RTCBatteryError): void {
    this.end(error);
    this.lost(error);
    // Before, the rejection of `open` says it.
    if (this.opened) this.listeners.emit('error', error);
  }

  private end(error: Error): void {
    this.unwatchSleep();
    this.pulse.set(undefined);
    this.ice.stop();
    this.links.abandon();
    this.worker.terminate(error);
    this.peers = [];
  }
}
