// When a page is put to sleep, as far as browsers say so: it is frozen, or kept in the back/forward cache when it is left.

/** How long a page that is about to be frozen lets its worker finish what it is at. */
const GRACE_MS = 100;

/** What is to be done. */
export interface Sleeper {
  /** The page is left: it may come back, or not. */
  hidden(): void;
  /** The page is put to sleep: nothing of it runs until it wakes. */
  rest(): void;
  wake(): void;
}

/** Watches over the page; gives what ends that. */
export function watchSleep(sleeper: Sleeper): () => void {
  const hide = ({ persisted }: PageTransitionEvent): void => {
    sleeper.hidden();
    if (persisted) sleeper.rest();
  };
  const show = ({ persisted }: PageTransitionEvent): void => {
    if (persisted) sleeper.wake();
  };
  const freeze = (): void => {
    sleeper.rest();
    linger();
  };
  const resume = (): void => sleeper.wake();
  addEventListener('pagehide', hide);
  addEventListener('pageshow', show);
  // Chromium's own.
  document.addEventListener('freeze', freeze);
  document.addEventListener('resume', resume);
  return () => {
    removeEventListener('pagehide', hide);
    removeEventListener('pageshow', show);
    document.removeEventListener('freeze', freeze);
    document.removeEventListener('resume', resume);
  };
}

/**
 * A page is frozen as soon as it was told, and its worker with it wherever that is: if it has begun a transaction with IndexedDB and not ended it, everybody
 * else waits for a minute. Until this returns the worker goes on.
 */
function linger(): void {
  const until = performance.now() + GRACE_MS;
  while (performance.now() < until);
}
