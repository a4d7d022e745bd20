// The page's end of the line to its worker: calls and their answers, and what the worker says of its own accord.

import { RTCBatteryError, toError } from './errors.js';
import type { Call, Calls, FromWorker, LinkInput, ToWorker } from './messages.js';

/** What the worker says of its own accord. */
export type Notice = Exclude<FromWorker, { kind: 'reply' } | { kind: 'refusal' }>;

interface Pending {
  resolve(result: Calls[keyof Calls]['result']): void;
  reject(error: Error): void;
}

/** A worker with a database in it. */
export class WorkerClient {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private end: Error | undefined;

  /** `lost` is called once, if the worker breaks. */
  constructor(workerUrl: string | undefined, hear: (notice: Notice) => void, lost: (error: RTCBatteryError) => void) {
    // Bundlers find the worker's file by this very expression.
    this.worker = workerUrl === undefined ? new Worker(new URL('./worker.js', import.meta.url)) : new Worker(workerUrl);
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      switch (data.kind) {
        case 'reply':
          this.settle(data.id)?.resolve(data.result);
          break;
        case 'refusal':
          this.settle(data.id)?.reject(toError(data.failure));
          break;
        default:
          hear(data);
      }
    };
    this.worker.onerror = (event) => {
      // An event without a message: the file could not be loaded.
      const message = event.message || `cannot load the worker${workerUrl === undefined ? '' : ` from ${workerUrl}`}; see workerUrl in RTCBatteryConfig`;
      lost(new RTCBatteryError(message, event.message ? 'internal' : 'load'));
    };
  }

  /** Asks the worker to do something. */
  call<N extends keyof Calls>(name: N, argument: Calls[N]['argument']): Promise<Calls[N]['result']> {
    if (this.end !== undefined) return Promise.reject(this.end);
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      try {
        this.post({ kind: 'call', id, name, argument } as Call);
      } catch (error) {
        // A function, a Promise, a DOM node: nothing that could travel, so nothing that SQL could store.
        reject(new RTCBatteryError(`a parameter is no SQL value: ${String(error)}`, 'bad-parameter'));
        return;
      }
      this.pending.set(id, { resolve: resolve as Pending['resolve'], reject });
    });
  }

  /** Tells the worker what happened to a link. */
  input(input: LinkInput, transfer?: Transferable[]): void {
    this.post({ kind: 'input', input }, transfer);
  }

  /** Tells the worker that the page is put to sleep. */
  rest(): void {
    this.post({ kind: 'rest' });
  }

  /** Tells the worker that the page is awake. */
  wake(): void {
    this.post({ kind: 'wake' });
  }

  /** Ends the worker; calls that are not answered are rejected with `error`. */
  terminate(error: Error): void {
    this.worker.terminate();
    this.end = error;
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }

  private post(message: ToWorker, transfer: Transferable[] = []): void {
    this.worker.postMessage(message, transfer);
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    return pending;
  }
}
