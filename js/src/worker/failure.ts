// Errors on their way to the page.

import type { Failure, RTCBatteryErrorCode } from '../errors';

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
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  const text = typeof message === 'string' && message !== '' ? message : String(error);
  // The browser's own errors reach us from its storage and from its locks only.
  if (error instanceof DOMException) return { message: `the browser's storage failed: ${error.name} ${text}`, code: 'storage' };
  if (typeof code === 'number') return { message: text, code };
  if (typeof code === 'string') return { message: text, code: code as RTCBatteryErrorCode };
  return { message: text, code: 'internal' };
}
