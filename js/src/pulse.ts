// The page's sign of life for a worker that leads: other tabs ask whether anybody is there, and a worker may be busy with one statement for long.

import type { Lead } from './messages.js';
import { channelOf, type Ping, type Pong } from './tabs.js';

/** Answers while somebody here leads and the page is awake. */
export class Pulse {
  private lead: Lead | undefined;
  private channel: BroadcastChannel | undefined;

  /** Who leads here, if anybody. */
  set(lead: Lead | undefined): void {
    this.rest();
    this.lead = lead;
    this.wake();
  }

  wake(): void {
    const { lead } = this;
    if (lead === undefined || this.channel !== undefined) return;
    const channel = new BroadcastChannel(channelOf(lead.dbName));
    const pong: Pong = { kind: 'pong', leader: lead.tab };
    channel.onmessage = ({ data }: MessageEvent<Ping | { kind: string }>) => {
      if (data.kind === 'ping') channel.postMessage(pong);
    };
    this.channel = channel;
  }

  /** A page that listens to a channel is not kept in the back/forward cache. */
  rest(): void {
    this.channel?.close();
    this.channel = undefined;
  }
}
