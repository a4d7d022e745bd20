// One RTCPeerConnection and its channels. Says what happens to them and does what it is told, one negotiation step after another; why, is the
// core's business.

import { Channel } from './channel.js';
import type { IceSource } from './ice-servers.js';
import type { LinkId } from './generated/LinkId.js';
import type { LinkState } from './generated/LinkState.js';
import type { SessionDescription } from './generated/SessionDescription.js';
import type { LinkInput } from './messages.js';
import { goesThroughRelay } from './path.js';

/** Label of our channel. A peer may call its own otherwise. */
const LABEL = 'rtc-battery';

/** Label of the second one, which only ours have. */
const BULK_LABEL = 'rtc-battery-bulk';

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
  private channel: Channel | undefined;
  private bulk: Channel | undefined;
  private steps: Promise<void> = Promise.resolve();
  private ended = false;

  constructor(
    private readonly id: LinkId,
    offers: boolean,
    private readonly ice: IceSource,
    private readonly send: (input: LinkInput, transfer?: Transferable[]) => void,
  ) {
    const connection = new RTCPeerConnection(ice.configuration());
    this.connection = connection;
    if (!ice.isFresh()) this.step(() => ice.refresh().then(() => this.configure()));
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
      else if (this.bulk === undefined && channel.label === BULK_LABEL) this.adoptBulk(channel);
    };
    if (offers) this.adopt(connection.createDataChannel(LABEL));
  }

  /** Takes servers with new credentials, and says so. */
  reconfigure(): void {
    this.step(async () => {
      this.configure();
      this.report({ kind: 'serversRenewed', link: this.id });
    });
  }

  /** Says which way the connection goes, if the browser knows. */
  async inspectPath(): Promise<void> {
    const relayed = await goesThroughRelay(this.connection).catch(() => undefined);
    if (relayed !== undefined) this.report({ kind: 'pathInspected', link: this.id, relayed });
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

  /** Opens the second channel. */
  openBulk(): void {
    if (this.bulk !== undefined || this.ended) return;
    try {
      this.adoptBulk(this.connection.createDataChannel(BULK_LABEL));
    } catch {
      // The connection is going, and says so by an event of its own; until then there is the first channel.
    }
  }

  sendText(text: string): void {
    this.channel?.sendText(text);
  }

  sendBinary(bytes: Uint8Array): void {
    this.channel?.sendBinary(bytes);
  }

  sendBulk(bytes: Uint8Array): void {
    this.bulk?.sendBinary(bytes);
  }

  /** Tells how much has left the channels' buffers, where they are nearly empty. */
  reportDrained(): void {
    this.channel?.reportDrained();
    this.bulk?.reportDrained();
  }

  /** Closes channels and connection; what was sent before is let out first. */
  async close(): Promise<void> {
    this.ended = true;
    await Promise.all([this.channel?.close(), this.bulk?.close()]);
    this.connection.close();
  }

  /** Closes at once, and reports it as if the peer had. */
  abandon(): void {
    this.channel?.abandon();
    this.connection.close();
    if (this.channel !== undefined) this.report({ kind: 'channelClosed', link: this.id });
    this.reportState('closed');
    this.ended = true;
  }

  private adopt(channel: RTCDataChannel): void {
    const link = this.id;
    this.channel = new Channel(channel, {
      opened: () => this.reportOpened(),
      text: (text) => this.report({ kind: 'channelText', link, text }),
      binary: (bytes) => this.report({ kind: 'channelBinary', link, bytes }, [bytes.buffer as ArrayBuffer]),
      drained: (sentBytes) => this.report({ kind: 'channelDrained', link, sentBytes }),
      closed: () => this.report({ kind: 'channelClosed', link }),
      failed: (error) => this.reportFailed(error),
    });
  }

  private adoptBulk(channel: RTCDataChannel): void {
    const link = this.id;
    this.bulk = new Channel(channel, {
      opened: () => this.report({ kind: 'bulkOpened', link }),
      // Ours send no text there.
      text: () => undefined,
      binary: (bytes) => this.report({ kind: 'bulkBinary', link, bytes }, [bytes.buffer as ArrayBuffer]),
      drained: (sentBytes) => this.report({ kind: 'bulkDrained', link, sentBytes }),
      closed: () => this.report({ kind: 'bulkClosed', link }),
      failed: (error) => this.reportFailed(error),
    });
  }

  private configure(): void {
    // Firefox has it from 119 on; before, the next connection has the servers.
    this.connection.setConfiguration?.(this.ice.configuration());
  }

  /** Steps of negotiation must not overlap; one that fails is reported, and the next is tried. */
  private step(perform: () => Promise<void>): void {
    this.steps = this.steps.then(async () => {
      if (this.ended) return;
      try {
        await perform();
      } catch (error) {
        this.reportFailed(error);
      }
    });
  }

  private reportOpened(): void {
    const limit = this.connection.sctp?.maxMessageSize;
    // 0 and Infinity both say that there is none.
    const maxMessageBytes = limit === undefined ? null : Math.min(limit === 0 ? Infinity : limit, 0xffffffff);
    this.report({ kind: 'channelOpened', link: this.id, maxMessageBytes });
  }

  private reportFailed(error: unknown): void {
    this.report({ kind: 'linkFailed', link: this.id, reason: String(error) });
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
