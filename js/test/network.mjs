// Networks as people have them, made of network namespaces: a wide one with the servers, and homes behind a NAT of their own. Needs root.
//
//   home 1: 10.0.1.2 -- 10.0.1.1 [NAT] 203.0.113.11 --+
//   home 2: 10.0.2.2 -- 10.0.2.1 [NAT] 203.0.113.12 --+-- 203.0.113.1: signaling server, coturn

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startFirefoxWithin } from './firefox-within.mjs';
import { Peer, runFirst, startChromium } from './harness.mjs';

const WIDE = '203.0.113.1';

let networks = 0;

/** Runs a command to its end. */
function run(command) {
  execFileSync('/bin/sh', ['-ec', command], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** A wide network and homes. */
export class Network {
  #name;
  #homes = 0;
  #folder = mkdtempSync(join(tmpdir(), 'rtc-battery-net-'));
  host = WIDE;

  constructor() {
    networks += 1;
    this.#name = `rtcb${process.pid}n${networks}`;
    run(`ip netns add ${this.wide}
      ip -n ${this.wide} link set lo up
      ip -n ${this.wide} link add wide type bridge
      ip -n ${this.wide} addr add ${WIDE}/24 dev wide
      ip -n ${this.wide} link set wide up
      ip -n ${this.wide} link add rest type bridge
      ip -n ${this.wide} link set rest arp off up
      ip -n ${this.wide} route add default dev rest`);
  }

  get wide() {
    return `${this.#name}w`;
  }

  /** What puts a server on the wide network. */
  get within() {
    return ['ip', 'netns', 'exec', this.wide];
  }

  /** A home with a Chromium and a Firefox in it, for pages of a site. */
  async home(url) {
    this.#homes += 1;
    const home = new Home(this.#name, this.#homes, this.wide);
    const executablePath = join(this.#folder, home.inside);
    writeFileSync(executablePath, `#!/bin/sh\nexec ip netns exec ${home.inside} /usr/bin/chromium "$@"\n`);
    chmodSync(executablePath, 0o755);
    // Addresses are not hidden behind names that only mDNS resolves, and locks and digests need a page that counts as secure.
    const flags = ['--disable-features=WebRtcHideLocalIpsWithMdns', `--unsafely-treat-insecure-origin-as-secure=${url}`];
    const within = ['ip', 'netns', 'exec', home.inside];
    [home.chromium, home.firefox] = await Promise.all([startChromium({ executablePath, flags }), startFirefoxWithin(within, WIDE)]);
    home.url = url;
    return home;
  }

  /** A relay that accepts what the signaling server gives out; gives a function that ends it. */
  async coturn(secret, { port = 3478 } = {}) {
    const child = spawn('ip', [
      ...['netns', 'exec', this.wide, 'turnserver', '-n', '--use-auth-secret', '--static-auth-secret', secret, '--realm', 'example.com'],
      ...['--listening-ip', WIDE, '--relay-ip', WIDE, '--listening-port', String(port), '--log-file', 'stdout', '--no-tls', '--no-dtls', '--no-cli'],
      ...['--pidfile', join(this.#folder, `pid${port}`), '--userdb', join(this.#folder, `users${port}`)],
    ]);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const log = [];
    await new Promise((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`turnserver ended with ${code}`)));
      child.stdout.on('data', (text) => {
        log.push(String(text));
        if (log.join('').includes('admin thread')) resolve();
      });
    });
    const end = async () => {
      child.kill('SIGKILL');
      await ended;
    };
    return { end, log: () => log.join('') };
  }

  remove() {
    const names = [this.wide];
    for (let n = 1; n <= this.#homes; n++) names.push(`${this.#name}r${n}`, `${this.#name}h${n}`);
    for (const name of names) run(`ip netns del ${name}`);
    rmSync(this.#folder, { recursive: true, maxRetries: 10 });
  }
}

/** A machine behind a router that translates addresses, another port for each destination, and lets in only what answers. */
class Home {
  constructor(network, n, wide) {
    this.inside = `${network}h${n}`;
    this.router = `${network}r${n}`;
    run(`ip netns add ${this.router}
      ip netns add ${this.inside}
      ip -n ${this.router} link set lo up
      ip -n ${this.inside} link set lo up
      ip -n ${wide} link add port${n} type veth peer name out netns ${this.router}
      ip -n ${wide} link set port${n} master wide up
      ip -n ${this.router} addr add 203.0.113.${10 + n}/24 dev out
      ip -n ${this.router} link set out up
      ip -n ${this.router} link add in type veth peer name eth0 netns ${this.inside}
      ip -n ${this.router} addr add 10.0.${n}.1/24 dev in
      ip -n ${this.router} link set in up
      ip -n ${this.inside} addr add 10.0.${n}.2/24 dev eth0
      ip -n ${this.inside} link set eth0 up
      ip -n ${this.inside} route add default via 10.0.${n}.1
      ip netns exec ${this.router} sysctl -q -w net.ipv4.ip_forward=1
      ip netns exec ${this.router} iptables -t nat -A POSTROUTING -o out -j MASQUERADE --random
      ip netns exec ${this.router} iptables -A FORWARD -i out -m state ! --state ESTABLISHED,RELATED -j DROP`);
  }

  /** The router drops what matches, both ways. Gives what ends it. */
  drop(matching) {
    const rule = `FORWARD ${matching} -j DROP`;
    run(`ip netns exec ${this.router} iptables -I ${rule}`);
    return () => run(`ip netns exec ${this.router} iptables -D ${rule}`);
  }

  /** The line carries no more than this, both ways. Gives what ends it. */
  slow(rate) {
    const each = (words) => ['in', 'out'].forEach((device) => run(`ip netns exec ${this.router} tc qdisc ${words(device)}`));
    each((device) => `add dev ${device} root tbf rate ${rate} burst 16kb latency 300ms`);
    return () => each((device) => `del dev ${device} root`);
  }

  /** Whoever uses a browser there. */
  async peer(browser, config, prepare) {
    const page = await this[browser].page();
    if (prepare !== undefined) await runFirst(page, prepare);
    return Peer.open(page, this.url, config);
  }

  async close() {
    await Promise.all([this.chromium.close(), this.firefox.close()]);
  }
}
