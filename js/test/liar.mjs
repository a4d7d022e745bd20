// A signaling server that does what the specification asks, until a test has it lie.

import { WebSocketServer } from 'ws';

/** One in a room, as the server sees it. */
class Client {
  peerId;
  /** What is on its way from it. */
  said = Promise.resolve();

  constructor(socket) {
    this.socket = socket;
  }

  /** Sends an object as JSON, a string or bytes as they are. */
  say(message) {
    this.socket.send(typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message));
  }
}

/** `joined(client)` and `came(client)` are where tests lie; both may return false to leave the honest answer out. */
export class Liar {
  #server;
  #rooms = new Map();
  /** Called when a socket opens, before it has said anything. */
  came = () => undefined;
  /** Called when somebody joins, before the honest answer. */
  joined = () => undefined;
  /** Which room a token leads to. */
  roomOf = (token) => token;
  /** What becomes of a message on its way from one to another. */
  relayed = (message) => message;
  /** How long a message is on its way. */
  delayMs = () => 0;

  static async start() {
    const liar = new Liar();
    liar.#server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    await new Promise((resolve) => liar.#server.once('listening', resolve));
    liar.signal = `ws://127.0.0.1:${liar.#server.address().port}/signal`;
    liar.#server.on('connection', (socket, { url }) => liar.#serve(new Client(socket), new URL(url, liar.signal).searchParams.get('token')));
    return liar;
  }

  /** All who have joined. */
  everyone() {
    return [...this.#rooms.values()].flatMap((room) => [...room.values()]);
  }

  async close() {
    for (const socket of this.#server.clients) socket.terminate();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(client, token) {
    if (this.came(client) === false) return;
    const name = this.roomOf(token);
    if (!this.#rooms.has(name)) this.#rooms.set(name, new Map());
    const room = this.#rooms.get(name);
    client.socket.on('message', (text) => {
      const { to, ...message } = JSON.parse(text);
      if (message.type === 'join') {
        client.peerId = message.peerId;
        const others = [...room.values()];
        room.set(client.peerId, client);
        if (this.joined(client, others) === false) return;
        client.say({ type: 'peers', peerIds: others.map(({ peerId }) => peerId) });
        for (const other of others) other.say({ type: 'peer-join', peerId: client.peerId });
      } else {
        const relayed = this.relayed({ ...message, from: client.peerId });
        const delayMs = this.delayMs();
        // What one says stays in order.
        client.said = Promise.all([client.said, delayMs === 0 ? undefined : new Promise((resolve) => setTimeout(resolve, delayMs))]).then(() =>
          room.get(to)?.say(relayed),
        );
      }
    });
    client.socket.on('close', () => {
      if (room.get(client.peerId) !== client) return;
      room.delete(client.peerId);
      for (const other of room.values()) other.say({ type: 'peer-leave', peerId: client.peerId });
    });
  }
}
