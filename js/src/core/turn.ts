// The end of the line: comes back when all that has happened by now was told. (A timer would not do: nested ones wait for 4 ms.)

/** Waits for its turn behind everything else. */
export class Turn {
  private channel: MessageChannel | undefined;

  constructor(private readonly come: () => void) {}

  /** Comes back once for each time. */
  wait(): void {
    if (this.channel === undefined) {
      this.channel = new MessageChannel();
      this.channel.port1.onmessage = () => this.come();
    }
    this.channel.port2.postMessage(undefined);
  }

  stop(): void {
    this.channel?.port1.close();
  }
}
