// Where `rtc_battery.wasm` is, and how it is read where `fetch` knows no files: in Node.

import { loadCore } from './core/load.js';

interface Files {
  promises: { readFile(path: string | URL): Promise<BufferSource> };
}

// Node's, Deno's, Bun's. Asked for its modules at run time: a bundler for browsers stumbles over every built-in module that it finds an import of.
declare const process: { getBuiltinModule?(name: 'fs'): Files | undefined } | undefined;

/** Beside this file. Bundlers find it by this very expression. */
export function defaultWasmUrl(): string {
  return new URL('./rtc_battery.wasm', import.meta.url).href;
}

/** Loads the core here, without a worker. Outside of browsers `wasmUrl` may be a path. */
export function loadCoreHere(wasmUrl: string | URL | undefined): Promise<void> {
  const url = wasmUrl === undefined ? defaultWasmUrl() : String(wasmUrl);
  const files = typeof process === 'object' ? process.getBuiltinModule?.('fs') : undefined;
  if (files === undefined || /^(https?|data|blob):/.test(url)) return loadCore(url);
  return loadCore(url, files.promises.readFile(url.startsWith('file:') ? new URL(url) : url));
}
