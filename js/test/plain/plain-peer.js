// A peer as somebody would write it who holds only the specification: no dependencies, no build.
//
// It is for tests of whether the library gets on with strangers, so it must not learn from the library:
// nothing here comes from its code or its documents, only from spec.md. This file speaks the messages of
// the DataChannel and is what tests call; plain-links.js connects, plain-tables.js merges.
//
// Where the specification is silent, this peer chose:
// - `fromVersion` counts the operations in the log of the peer that is asked.
// - `sync-full` is kept in `databases` and not read, for that would take SQLite.

'use strict';

/** Messages stay well under the 256 KiB that a DataChannel takes at once. */
const RESPONSE_CHARS = 60_000;

const DEFAULTS = { role: 'newcomer', relay: false, glare: 'by-id', label: 'data', iceServers: [] };

class PlainPeer {
  /** Every message of every DataChannel: { peerId, data, message }; message is the parsed JSON, if it is JSON. */
  received = [];
  /** What came as `sync-full`: { peerId, bytes }. */
  databases = [];

  #links;
  #tables = new Tables();
  #clock;
  #relay;
  #waiting = new Set();

  constructor(options) {
    const complete = { ...DEFAULTS, peerId: crypto.randomUUID(), ...options };
    this.peerId = complete.peerId;
    this.#relay = complete.relay;
    this.#clock = new Clock(complete.peerId);
    this.#links = new Links(complete, {
      onopen: (peerId) => this.send(peerId, { type: 'sync-request', fromVersion: 0 }),
      onmessage: (peerId, data) => this.#onMessage(peerId, data),
      onevent: () => this.#stir(),
    });
  }

  /** In the room; the channels to the others are still to come. */
  static async create(options) {
    const peer = new PlainPeer(options);
    await peer.#links.join();
    return peer;
  }

  insert(table, pk, values) {
    return this.publish({ hlc: this.#clock.tick(), type: 'INSERT', table, pk, values });
  }

  update(table, pk, values) {
    const row = this.#tables.row(table, pk) ?? {};
    const prev = Object.fromEntries(Object.keys(values).map((column) => [column, row[column] ?? null]));
    return this.publish({ hlc: this.#clock.tick(), type: 'UPDATE', table, pk, values, prev });
  }

  remove(table, pk) {
    return this.publish({ hlc: this.#clock.tick(), type: 'DELETE', table, pk });
  }

  /** Applies an operation and sends it to everyone: how a test makes one with an HLC of its own. */
  publish(operation) {
    this.#clock.witness(operation.hlc);
    this.#tables.apply(operation);
    this.#broadcast({ type: 'op', payload: operation });
    this.#stir();
    return operation;
  }

  /** The rows of a table as objects, by primary key. */
  rows(table) {
    return this.#tables.rows(table);
  }

  /** All operations, own and received, as they came. */
  log() {
    return [...this.#tables.log];
  }

  /** Who has an open channel to this peer. */
  peers() {
    return this.#links.peers();
  }

  /** Every message of the signaling server. */
  get signals() {
    return this.#links.signals;
  }

  /** What went wrong and was survived. */
  get errors() {
    return this.#links.errors;
  }

  /** Sends an object as JSON, a string as it is, an ArrayBuffer or a typed array as it is. */
  send(peerId, message) {
    const raw = typeof message === 'string' || message instanceof ArrayBuffer || ArrayBuffer.isView(message);
    this.#links.send(peerId, raw ? message : JSON.stringify(message));
  }

  /** Resolves with what the predicate returns as soon as that is true; asks it now and after every event. */
  until(predicate) {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          const found = predicate();
          if (!found) return;
          resolve(found);
        } catch (error) {
          reject(error);
        }
        this.#waiting.delete(look);
      };
      this.#waiting.add(look);
      look();
    });
  }

  close() {
    this.#links.close();
  }

  #stir() {
    for (const look of [...this.#waiting]) look();
  }

  #onMessage(peerId, data) {
    let message;
    try {
      message = typeof data === 'string' ? JSON.parse(data) : undefined;
    } catch (error) {
      this.errors.push(error);
    }
    this.received.push({ peerId, data, message });
    switch (message?.type) {
      case 'op':
        this.#take([message.payload], peerId);
        break;
      case 'sync-request':
        this.#respond(peerId, message.fromVersion);
        break;
      case 'sync-response':
        if (Array.isArray(message.operations)) this.#take(message.operations, peerId);
        break;
      case 'sync-full':
        this.#keep(peerId, message.database);
        break;
      case 'ping':
        this.#tell(peerId, { type: 'pong' });
        break;
    }
  }

  #take(operations, peerId) {
    for (const operation of operations) {
      if (!isOperation(operation)) {
        this.errors.push(new Error(`not an operation: ${JSON.stringify(operation)}`));
        continue;
      }
      this.#clock.witness(operation.hlc);
      const isNew = this.#tables.apply(operation);
      if (isNew && this.#relay) this.#broadcast({ type: 'op', payload: operation }, peerId);
    }
  }

  /** One response, or several where one would be too large for the channel. */
  #respond(peerId, fromVersion) {
    const responses = [[]];
    let chars = 0;
    for (const operation of this.#tables.log.slice(Math.max(0, Number(fromVersion) || 0))) {
      const more = JSON.stringify(operation).length;
      if (chars > 0 && chars + more > RESPONSE_CHARS) {
        responses.push([]);
        chars = 0;
      }
      responses.at(-1).push(operation);
      chars += more;
    }
    for (const operations of responses) this.#tell(peerId, { type: 'sync-response', operations });
  }

  #keep(peerId, database) {
    try {
      this.databases.push({ peerId, bytes: Uint8Array.from(atob(database), (char) => char.charCodeAt(0)) });
    } catch (error) {
      this.errors.push(error);
    }
  }

  #broadcast(message, except) {
    for (const peerId of this.peers()) if (peerId !== except) this.#tell(peerId, message);
  }

  /** Sends if the channel still is open: the other may have gone while its messages were read. */
  #tell(peerId, message) {
    if (this.peers().includes(peerId)) this.send(peerId, message);
  }
}

window.plainPeer = { create: PlainPeer.create };
