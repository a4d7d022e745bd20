// The socket to the signaling server. When to open it again is the core's business.

import type { Input } from '../generated/Input.js';

/** At most one WebSocket at a time. */
export class SignalingSocket {
  private socket: WebSocket | undefined;

  constructor(private readonly report: (input: Input) => void) {}

  open(url: string): void {
    this.close();
    let socket: WebSocket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      // Not from inside the effect.
      queueMicrotask(() => this.report({ kind: 'signalingClosed', reason: String(error) }));
      return;
    }
    socket.onopen = () => this.report({ kind: 'signalingOpened' });
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (typeof data === 'string') this.report({ kind: 'signalingText', text: data });
    };
    socket.onclose = ({ code, reason }) => {
      this.socket = undefined;
      this.report({ kind: 'signalingClosed', reason: reason || `closed with code ${code}` });
    };
    this.socket = socket;
  }

  send(text: string): void {
    // One that is closing says so by an event of its own.
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
  }

  /** Closes without a report. */
  close(): void {
    const { socket } = this;
    if (socket === undefined) return;
    this.socket = undefined;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
