// The core's WebAssembly module, once for each page, worker or process.

import init from '../../pkg/rtc_battery.js';
import { Refusal, toFailure } from './failure.js';

let loading: Promise<unknown> | undefined;

/**
 * Loads the module, from `bytes` if they are given and otherwise from `wasmUrl`. Whoever comes later shares what the first one loaded; after a
 * failure it is tried anew.
 */
export async function loadCore(wasmUrl: string, bytes?: Promise<BufferSource>): Promise<void> {
  // One that is not waited for may fail too.
  bytes?.catch(() => undefined);
  loading ??= init({ module_or_path: bytes ?? wasmUrl });
  try {
    await loading;
  } catch (error) {
    loading = undefined;
    throw new Refusal('load', `cannot load ${wasmUrl}: ${toFailure(error).message}; see wasmUrl`);
  }
}
