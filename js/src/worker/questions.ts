// What this tab has asked and was not answered. It is asked of whoever leads, again and again as that changes, under a number by which the core knows
// whether it was carried out. A transaction that was open is gone with the tab that led, and the calls that were on their way in it are stranded.

import type { Calls } from '../messages.js';
import type { SharedCall } from './channel.js';
import { type Done, takesTurn } from './host.js';

type Result = Calls[keyof Calls]['result'];

/** A call that is not answered. */
export interface Question {
  readonly call: SharedCall;
  /** Another tab was asked, and may have carried it out. */
  asked: boolean;
  stranded: boolean;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** One tab's open questions. */
export class Questions {
  /** By number, in order. */
  private readonly open = new Map<number, Question>();
  /** Whether a transaction of ours is open, as of the newest call that was answered. */
  private inTransaction = false;
  private lastAnswered = 0;
  /** The transaction is gone and nobody was told. */
  private strandNext = false;
  private settled: () => void = () => undefined;

  /** `send` asks whoever leads, if anybody does; `changed`: whether anything is waited for is another answer now. */
  constructor(
    private readonly send: (question: Question) => void,
    private readonly changed: () => void,
  ) {}

  /** The answers to all calls before this one were heard. */
  get heard(): number | undefined {
    const [first] = this.open.keys();
    return first;
  }

  /** Whether there are any. */
  get waiting(): boolean {
    return this.open.size > 0;
  }

  ask(call: SharedCall): Promise<Result> {
    return new Promise((resolve, reject) => {
      const stranded = this.strandNext && call.name === 'exec';
      if (stranded) this.strandNext = false;
      const question: Question = { call, asked: false, stranded, resolve, reject };
      this.open.set(call.id, question);
      if (this.open.size === 1) this.changed();
      this.send(question);
    });
  }

  /** Asks everything of somebody else, or again. */
  askAgain(): void {
    for (const question of [...this.open.values()]) this.send(question);
  }

  /** The transaction is gone: who is in it is to be told, with the next thing that is asked at the latest. */
  strand(): void {
    if (!this.inTransaction) return;
    const execs = [...this.open.values()].filter(({ call }) => call.name === 'exec');
    for (const question of execs) question.stranded = true;
    this.strandNext = execs.length === 0;
    this.inTransaction = false;
  }

  settle(id: number, done: Done): void {
    const question = this.open.get(id);
    if (question === undefined) return;
    this.open.delete(id);
    if (takesTurn(question.call) && id > this.lastAnswered) {
      this.lastAnswered = id;
      this.inTransaction = done.open;
    }
    if ('result' in done) question.resolve(done.result);
    else question.reject(done.failure);
    if (this.open.size > 0) return;
    this.changed();
    this.settled();
  }

  /** Resolves when all are answered. */
  async answered(): Promise<void> {
    if (this.open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.settled = resolve;
    });
  }
}
