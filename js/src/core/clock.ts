// Time for a core that has no clock.

import type { Now } from '../generated/Now.js';

/** Longest delay that `setTimeout` takes. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** What the clocks say. */
export function now(): Now {
  return { wallMs: Date.now(), monoMs: Math.floor(performance.now()) };
}

/** One alarm; setting it again moves it. */
export class Alarm {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly ring: () => void) {}

  /** Rings when the monotonic clock reaches `wakeAtMs`, or never. */
  set(wakeAtMs: number | null): void {
    clearTimeout(this.timer);
    if (wakeAtMs === null) return;
    const delayMs = Math.min(Math.max(0, Math.ceil(wakeAtMs - performance.now())), MAX_DELAY_MS);
    this.timer = setTimeout(this.ring, delayMs);
  }
}
