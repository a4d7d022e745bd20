// The calls of several tabs in a row: while a transaction of one is open, those of the others wait. The core says whose turn it is.

interface Waiting {
  readonly caller: string;
  act(): void;
  drop(): void;
}

/** Calls that are to be carried out one after the other. */
export class Turns {
  private waiting: Waiting[] = [];
  private serving = false;
  private over = false;

  /** `mayCall`: whether a tab need not wait. */
  constructor(private readonly mayCall: (caller: string) => boolean) {}

  /** Carries `act` out when it is its turn: after what the same tab asked before. Gives nothing if its turn never comes. */
  take<T>(caller: string, act: () => Promise<T>): Promise<T | undefined> {
    if (this.over) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.waiting.push({ caller, act: () => void act().then(resolve, reject), drop: () => resolve(undefined) });
      this.serve();
    });
  }

  /** Looks whose turn it is; to be called whenever a transaction may have ended by itself. */
  serve(): void {
    if (this.serving) return;
    this.serving = true;
    try {
      for (let next = this.next(); next !== undefined; next = this.next()) next.act();
    } finally {
      this.serving = false;
    }
  }

  /** A tab is gone: nobody waits for what it asked. */
  forget(caller: string): void {
    this.drop((waiting) => waiting.caller === caller);
  }

  /** Nobody's turn comes any more. */
  end(): void {
    this.over = true;
    this.drop(() => true);
  }

  private drop(which: (waiting: Waiting) => boolean): void {
    const dropped = this.waiting.filter(which);
    this.waiting = this.waiting.filter((waiting) => !which(waiting));
    for (const waiting of dropped) waiting.drop();
  }

  private next(): Waiting | undefined {
    const place = this.waiting.findIndex(({ caller }) => this.mayCall(caller));
    return place < 0 ? undefined : this.waiting.splice(place, 1)[0];
  }
}
