// One RTCDataChannel: sends what fits, counts what has left its buffer, hands over what comes. What it is for is the link's business.

/** The core's `LOW_WATER_BYTES`. */
const LOW_WATER_BYTES = 128 * 1024;

/** How long a channel that is closing may take to get its last bytes out. */
const LAST_WORDS_MS = 2000;

const encoder = new TextEncoder();

/** What a channel reports. */
export interface ChannelReports {
  opened(): void;
  text(text: string): void;
  binary(bytes: Uint8Array): void;
  /** How many bytes of what was sent have left the buffer so far. */
  drained(sentBytes: number): void;
  closed(): void;
  failed(error: unknown): void;
}

/** One channel of a link. */
export class Channel {
  private sentBytes = 0;
  private reportedBytes = 0;
  private opened = false;

  /** Handlers go on synchronously: a first message that finds none is lost. */
  constructor(
    private readonly channel: RTCDataChannel,
    private readonly reports: ChannelReports,
  ) {
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    channel.onopen = () => this.open();
    channel.onclose = () => reports.closed();
    channel.onbufferedamountlow = () => this.reportDrained();
    channel.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === 'string') reports.text(data);
      else reports.binary(new Uint8Array(data));
    };
    // Some browsers announce an incoming channel when it is open already.
    if (channel.readyState === 'open') this.open();
  }

  sendText(text: string): void {
    if (this.trySend(() => this.channel.send(text))) this.sentBytes += encoder.encode(text).length;
  }

  sendBinary(bytes: Uint8Array): void {
    // What came by postMessage is not shared memory.
    if (this.trySend(() => this.channel.send(bytes as Uint8Array<ArrayBuffer>))) this.sentBytes += bytes.length;
  }

  /** Tells how much has left the buffer, if that is nearly empty and it is more than was told. */
  reportDrained(): void {
    const buffered = this.channel.bufferedAmount;
    const drainedBytes = this.sentBytes - buffered;
    if (buffered > LOW_WATER_BYTES || drainedBytes === this.reportedBytes) return;
    this.reportedBytes = drainedBytes;
    this.reports.drained(drainedBytes);
  }

  /** Closes it; what was sent before is let out first. */
  async close(): Promise<void> {
    const { channel } = this;
    if (channel.readyState !== 'open' && channel.readyState !== 'closing') return;
    await new Promise<void>((resolve) => {
      channel.onclose = () => resolve();
      setTimeout(resolve, LAST_WORDS_MS);
      // Sends what is buffered before it closes, and its end on both sides is what tells us that it did.
      channel.close();
    });
  }

  /** Closes it at once. */
  abandon(): void {
    this.channel.close();
  }

  private open(): void {
    if (this.opened) return;
    this.opened = true;
    this.reports.opened();
  }

  private trySend(send: () => void): boolean {
    // A channel that is closing says so by an event of its own.
    if (this.channel.readyState !== 'open') return false;
    try {
      send();
      return true;
    } catch (error) {
      this.reports.failed(error);
      return false;
    }
  }
}
