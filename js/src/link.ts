// One RTCPeerConnection and its channel. Says what happens to them and does what it is told, one negotiation step after another; why, is the
// core's business.

import type { LinkId } from './generated/LinkId.js';
import type { LinkState } from './generated/LinkState.js';
import type { SessionDescription } from './generated/SessionDescription.js';
import type { LinkInput } from './messages.js';

/** Label of our channel. A peer may call its own otherwise. */
const LABEL = 'rtc-battery';

/** The core's `LOW_WATER_BYTES`. */
const LOW_WATER_BYTES = 128 * 1024;

/** How long a channel that is closing may take to get its last bytes out. */
const LAST_WORDS_MS = 2000;

const encoder = new TextEncoder();

/** `iceConnectionState` in the words of `connectionState`, which Firefox below 113 does not have. */
const ICE_STATES: Record<RTCIceConnectionState, LinkState> = {
  new: 'new',
  checking: 'connecting',
  connected: 'connected',
  completed: 'connected',
  disconnected: 'disconnected',
  failed: 'failed',
  closed: 'closed',
};

/** One connection to a peer. */
export class Link {
  private readonly connection: RTCPeerConnection;
  private channel: RTCDataChannel | undefined;
  private steps: Promise<void> = Promise.resolve();
  private sentBytes = 0;
  private opened = false;
  private ended = false;

  constructor(
    private readonly id: LinkId,
    offers: boolean,
    configuration: RTCConfiguration,
    private readonly send: (input: LinkInput, transfer?: Transferable[]) => void,
  ) {
    const connection = new RTCPeerConnection(configuration);
    this.connection = connection;
    connection.onicecandidate = ({ candidate }) => {
      // `null` says that gathering is over, which the empty candidate before it said to the peer already.
      if (candidate !== null) this.report({ kind: 'localCandidate', link: id, candidate: JSON.stringify(candidate.toJSON()) });
    };
    if (connection.connectionState === undefined) {
      connection.oniceconnectionstatechange = () => this.reportState(ICE_STATES[connection.iceConnectionState]);
    } else {
      connection.onconnectionstatechange = () => this.reportState(connection.connectionState);
    }
    connection.ondatachannel = ({ channel }) => {
      // Our own channel, or the first that came, is the link's; others are not ours to talk on.
      if (this.channel === undefined) this.adopt(channel);
    };
    if (offers) this.adopt(connection.createDataChannel(LABEL));
  }

  /** Makes an offer and reports it. */
  offer(iceRestart: boolean): void {
    this.step(async () => {
      await this.connection.setLocalDescription(await this.connection.createOffer({ iceRestart }));
      this.reportDescription();
    });
  }

  /** Takes the peer's description; answers an offer, and reports the answer. */
  accept(description: SessionDescription): void {
    this.step(async () => {
      // Explicitly: the implicit rollback came with Chrome 86 and Safari 15.4.
      if (description.type === 'offer' && this.connection.signalingState === 'have-local-offer') {
        await this.connection.setLocalDescription({ type: 'rollback' });
      }
      await this.connection.setRemoteDescription(description);
      if (description.type === 'answer') return;
      await this.connection.setLocalDescription(await this.connection.createAnswer());
      this.reportDescription();
    });
  }

  /** Takes one of the peer's candidates. */
  addCandidate(candidate: string): void {
    // One that cannot be used (of an older generation, of an address family that is off) is no loss as long as another can be.
    this.step(() => this.connection.addIceCandidate(JSON.parse(candidate) as RTCIceCandidateInit).catch(() => undefined));
  }

  sendText(text: string): void {
    if (this.trySend((channel) => channel.send(text))) this.sentBytes += encoder.encode(text).length;
  }

  sendBinary(bytes: Uint8Array): void {
    // What came by postMessage is not shared memory.
    if (this.trySend((channel) => channel.send(bytes as Uint8Array<ArrayBuffer>))) this.sentBytes += bytes.length;
  }

  /** Tells how much has left the channel's buffer, if that is nearly empty. */
  reportDrained(): void {
    const buffered = this.channel?.bufferedAmount ?? 0;
    if (buffered > LOW_WATER_BYTES) return;
    this.report({ kind: 'channelDrained', link: this.id, sentBytes: this.sentBytes - buffered });
  }

  /** Closes channel and connection; what was sent before is let out first. */
  async close(): Promise<void> {
    this.ended = true;
    const { channel } = this;
    if (channel?.readyState === 'open' || channel?.readyState === 'closing') {
      await new Promise<void>((resolve) => {
        channel.onclose = () => resolve();
        setTimeout(resolve, LAST_WORDS_MS);
        // Sends what is buffered before it closes, and its end on both sides is what tells us that it did.
        channel.close();
      });
    }
    this.connection.close();
  }

  /** Closes at once, and reports it as if the peer had. */
  abandon(): void {
    this.channel?.close();
    this.connection.close();
    if (this.channel !== undefined) this.report({ kind: 'channelClosed', link: this.id });
    this.reportState('closed');
    this.ended = true;
  }

  /** Handlers go on synchronously: a first message that finds none is lost. */
  private adopt(channel: RTCDataChannel): void {
    this.channel = channel;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    channel.onopen = () => this.reportOpened();
    channel.onclose = () => this.report({ kind: 'channelClosed', link: this.id });
    channel.onbufferedamountlow = () => this.reportDrained();
    channel.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === 'string') {
        this.report({ kind: 'channelText', link: this.id, text: data });
      } else {
        this.report({ kind: 'channelBinary', link: this.id, bytes: new Uint8Array(data) }, [data]);
      }
    };
    // Some browsers announce an incoming channel when it is open already.
    if (channel.readyState === 'open') this.reportOpened();
  }

  /** Steps of negotiation must not overlap; one that fails is reported, and the next is tried. */
  private step(perform: () => Promise<void>): void {
    this.steps = this.steps.then(async () => {
      if (this.ended) return;
      try {
        await perform();
      } catch (error) {
        this.report({ kind: 'linkFailed', link: this.id, reason: String(error) });
      }
    });
  }

  private trySend(send: (channel: RTCDataChannel) => void): boolean {
    // A channel that is closing says so by an event of its own.
    if (this.channel?.readyState !== 'open') return false;
    try {
      send(this.channel);
      return true;
    } catch (error) {
      this.report({ kind: 'linkFailed', link: this.id, reason: String(error) });
      return false;
    }
  }

  private reportOpened(): void {
    if (this.opened) return;
    this.opened = true;
    const limit = this.connection.sctp?.maxMessageSize;
    // 0 and Infinity both say that there is none.
    const maxMessageBytes = limit === undefined ? null : Math.min(limit === 0 ? Infinity : limit, 0xffffffff);
    this.report({ kind: 'channelOpened', link: this.id, maxMessageBytes });
  }

  private reportState(state: LinkState): void {
    this.report({ kind: 'linkState', link: this.id, state });
  }

  private reportDescription(): void {
    const { type, sdp } = this.connection.localDescription ?? {};
    if (type === 'offer' || type === 'answer') {
      this.report({ kind: 'localDescription', link: this.id, description: { type, sdp: sdp ?? '' } });
    }
  }

  private report(input: LinkInput, transfer?: Transferable[]): void {
    if (!this.ended) this.send(input, transfer);
  }
}
