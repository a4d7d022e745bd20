// Errors on their way from the core and its hosts to the user.

import type { Failure, RTCBatteryErrorCode } from '../errors.js';
import type { Operation } from '../operation.js';

/** An error of the shell's own. The bindings throw the same shape. */
export class Refusal extends Error {
  constructor(
    readonly code: RTCBatteryErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** What to tell the page. An error without a code is none that we foresaw: a bug, or a trap in WebAssembly. */
export function toFailure(error: unknown): Failure {
  const { code, message, operations } = (error ?? {}) as { code?: unknown; message?: unknown; operations?: Operation[] };
  const text = typeof message === 'string' && message !== '' ? message : String(error);
  // The browser's own errors reach us from its storage and from its locks only.
  if (error instanceof DOMException) return { message: `the browser's storage failed: ${error.name} ${text}`, code: 'storage' };
  if (typeof code === 'number') return operations === undefined ? { message: text, code } : { message: text, code, operations };
  if (typeof code === 'string') return { message: text, code: code as RTCBatteryErrorCode };
  return { message: text, code: 'internal' };
}
