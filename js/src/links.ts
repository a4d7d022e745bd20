// The core's links by id. Performs link effects; decides nothing. What is asked of a link that is gone is dropped: the core hears of its end
// by a report that is on its way.

import { assertNever } from './assert-never.js';
import type { IceSource } from './ice-servers.js';
import type { LinkId } from './generated/LinkId.js';
import { Link } from './link.js';
import type { LinkEffect, LinkInput } from './messages.js';

/** All links of one session. */
export class Links {
  private readonly open = new Map<LinkId, Link>();
  private readonly closing = new Set<Promise<void>>();

  constructor(
    private readonly ice: IceSource,
    private readonly report: (input: LinkInput, transfer?: Transferable[]) => void,
  ) {
    ice.renewed = () => {
      for (const link of this.open.values()) link.reconfigure();
    };
    // Before the first connection needs them.
    void ice.refresh();
  }

  /** Performs effects in their order. */
  perform(effects: readonly LinkEffect[]): void {
    const sending = new Set<Link>();
    for (const effect of effects) {
      const link = effect.kind === 'openLink' ? this.make(effect.link, effect.offers) : this.open.get(effect.link);
      if (link === undefined) continue;
      switch (effect.kind) {
        case 'openLink':
          break;
        case 'createOffer':
          link.offer(effect.iceRestart);
          break;
        case 'setRemoteDescription':
          link.accept(effect.description);
          break;
        case 'addCandidate':
          link.addCandidate(effect.candidate);
          break;
        case 'sendText':
          link.sendText(effect.text);
          sending.add(link);
          break;
        case 'sendBinary':
          link.sendBinary(effect.bytes);
          sending.add(link);
          break;
        case 'inspectPath':
          void link.inspectPath();
          break;
        case 'openBulk':
          link.openBulk();
          break;
        case 'sendBulk':
          link.sendBulk(effect.bytes);
          sending.add(link);
          break;
        case 'closeLink':
          this.open.delete(effect.link);
          this.end(link);
          break;
        default:
          assertNever(effect);
      }
    }
    for (const link of sending) link.reportDrained();
  }

  /** Resolves when every link that was told to close has. */
  async closed(): Promise<void> {
    await Promise.all(this.closing);
  }

  /** Closes everything at once and says so: the page is going away, and peers should not have to find out. */
  abandon(): void {
    for (const link of this.open.values()) link.abandon();
  }

  /** Closes everything and forgets it: whoever asked for it is not there any more. */
  reset(): void {
    this.abandon();
    this.open.clear();
  }

  private make(id: LinkId, offers: boolean): Link | undefined {
    try {
      const link = new Link(id, offers, this.ice, this.report);
      this.open.set(id, link);
      return link;
    } catch (error) {
      // Wrong ICE servers, or too many connections in this process.
      const reason = typeof RTCPeerConnection === 'undefined' ? 'this browser has no WebRTC' : String(error);
      this.report({ kind: 'linkFailed', link: id, reason });
      return undefined;
    }
  }

  private end(link: Link): void {
    const end = link.close().finally(() => this.closing.delete(end));
    this.closing.add(end);
  }
}
