// The room and the connections: finds the others through the signaling server and keeps one DataChannel to each.
//
// It does not know what is said over the channels: `onopen(peerId)`, `onmessage(peerId, data)` and
// `onevent()` tell its owner what happens. It joins once and does not come back when the server is gone.
//
// Where the specification is silent, it chose:
// - An offer with another SDP session than before is for a new connection, with the same one for the old.
// - When two offers cross, the peer whose id is smaller yields (option `glare`).
// - All channels that the other opens are heard; the first one is spoken on.

'use strict';

const ROLES = ['offerer', 'answerer', 'newcomer'];
const GLARES = ['by-id', 'yield', 'insist'];

/** The session of an SDP: a connection keeps its own when it negotiates again. */
function sdpSession(description) {
  return /^o=\S+ (\S+)/m.exec(description?.sdp ?? '')?.[1];
}

class Links {
  /** Every message of the signaling server. */
  signals = [];
  /** What went wrong and was survived. */
  errors = [];

  #options;
  #socket;
  #links = new Map();
  #signalling = Promise.resolve();

  constructor(options, { onopen, onmessage, onevent }) {
    if (!ROLES.includes(options.role)) throw new Error(`no such role: ${options.role}`);
    if (!GLARES.includes(options.glare)) throw new Error(`no such glare: ${options.glare}`);
    this.#options = options;
    this.onopen = onopen;
    this.onmessage = onmessage;
    this.onevent = onevent;
  }

  /** Joins the room; resolves when the server has said who is there. */
  async join() {
    const url = new URL(this.#options.signalingUrl);
    if (url.pathname === '/') url.pathname = '/signal';
    url.searchParams.set('token', this.#options.token);
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => this.#signal({ type: 'join', peerId: this.#options.peerId });
    await new Promise((resolve, reject) => {
      socket.onclose = ({ code, reason }) => {
        reject(new Error(`the signaling server closed: ${code} ${reason}`));
        this.onevent();
      };
      socket.onmessage = ({ data }) => {
        const signal = JSON.parse(data);
        this.signals.push(signal);
        if (signal.type === 'peers') resolve();
        // One after the other, so that no candidate overtakes its offer.
        this.#signalling = this.#signalling
          .then(() => this.#onSignal(signal))
          .catch((error) => this.errors.push(error))
          .then(() => this.onevent());
        this.onevent();
      };
    });
  }

  /** Who has an open channel to this peer. */
  peers() {
    return [...this.#links].filter(([, { open, channel }]) => open && channel.readyState === 'open').map(([peerId]) => peerId);
  }

  /** Sends a string or bytes as they are. */
  send(peerId, data) {
    this.#links.get(peerId).channel.send(data);
  }

  close() {
    this.#socket.close();
    for (const peerId of [...this.#links.keys()]) this.#drop(peerId);
    this.onevent();
  }

  #signal(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  async #onSignal(signal) {
    const { role } = this.#options;
    switch (signal.type) {
      case 'peers':
        if (role !== 'answerer') for (const peerId of signal.peerIds) await this.#offer(peerId);
        break;
      case 'peer-join':
        if (role === 'offerer') await this.#offer(signal.peerId);
        break;
      case 'peer-leave':
        this.#drop(signal.peerId);
        break;
      case 'offer':
        await this.#answer(signal.from, signal.sdp);
        break;
      case 'answer': {
        const link = this.#links.get(signal.from);
        if (link?.connection.signalingState === 'have-local-offer') await this.#describe(link, signal.sdp);
        break;
      }
      case 'ice': {
        const link = this.#links.get(signal.from);
        if (link === undefined) break;
        link.candidates.push(signal.candidate);
        if (link.connection.remoteDescription !== null) await this.#addCandidates(link);
        break;
      }
    }
  }

  async #offer(peerId) {
    const link = this.#link(peerId);
    const channel = link.connection.createDataChannel(this.#options.label);
    this.#hold(peerId, link, channel, () => undefined);
    await link.connection.setLocalDescription(await link.connection.createOffer());
    this.#signal({ type: 'offer', to: peerId, sdp: link.connection.localDescription });
  }

  async #answer(peerId, sdp) {
    let link = this.#links.get(peerId);
    if (link?.connection.signalingState === 'have-local-offer' && !this.#yields(peerId)) return;
    if (link === undefined || sdpSession(link.connection.remoteDescription) !== sdpSession(sdp)) link = this.#link(peerId);
    await this.#describe(link, sdp);
    await link.connection.setLocalDescription(await link.connection.createAnswer());
    this.#signal({ type: 'answer', to: peerId, sdp: link.connection.localDescription });
  }

  #yields(peerId) {
    const { glare } = this.#options;
    return glare === 'yield' || (glare === 'by-id' && this.#options.peerId < peerId);
  }

  async #describe(link, sdp) {
    await link.connection.setRemoteDescription(sdp);
    await this.#addCandidates(link);
  }

  async #addCandidates(link) {
    for (const candidate of link.candidates.splice(0)) {
      // After two offers have crossed there are candidates of the offer that was not taken.
      await link.connection.addIceCandidate(candidate).catch((error) => this.errors.push(error));
    }
  }

  /** A new connection to a peer, instead of the one there may be. */
  #link(peerId) {
    this.#drop(peerId);
    const connection = new RTCPeerConnection({ iceServers: this.#options.iceServers });
    const link = { connection, channel: undefined, open: false, candidates: [] };
    this.#links.set(peerId, link);
    connection.onicecandidate = ({ candidate }) => {
      if (candidate !== null) this.#signal({ type: 'ice', to: peerId, candidate: candidate.toJSON() });
    };
    connection.ondatachannel = ({ channel }) => this.#hold(peerId, link, channel, () => connection.getStats());
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === 'failed' && this.#links.get(peerId) === link) this.#drop(peerId);
      this.onevent();
    };
    return link;
  }

  #drop(peerId) {
    this.#links.get(peerId)?.connection.close();
    this.#links.delete(peerId);
  }

  /**
   * Listens to a channel. Chromium calls a channel that the other made open a little before it is, and what
   * is sent in between is lost without an error; `settle` waits for the thread that sends.
   */
  #hold(peerId, link, channel, settle) {
    link.channel ??= channel;
    const opened = () => {
      if (link.open || channel !== link.channel || channel.readyState !== 'open') return;
      link.open = true;
      this.onopen(peerId);
    };
    channel.binaryType = 'arraybuffer';
    channel.onopen = async () => {
      await settle();
      opened();
      this.onevent();
    };
    channel.onclose = () => this.onevent();
    channel.onmessage = ({ data }) => {
      opened();
      this.onmessage(peerId, data);
      this.onevent();
    };
  }
}
