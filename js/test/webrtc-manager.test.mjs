// WebRTCManager on real pages, through the real signaling server: among its own, and with RTCBatteries.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, Server, stage, startChromium, WATCHDOG_MS } from './harness.mjs';

const my = stage({ chromium: () => startChromium({ backForwardCache: true }) });

async function openPage(t) {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  return page;
}

/** A page with a manager, which notes what it hears. */
async function openManager(t, token, signal = my.server.signal) {
  const { page } = await Peer.open(await openPage(t), my.server.url);
  await page.evaluate(
    async ([signal, token]) => {
      window.manager = new library.WebRTCManager();
      window.heard = [];
      const note = (event) => {
        heard.push(event);
        stirred();
      };
      manager.onOperation = (op, peer) => note({ on: 'operation', op, peer });
      manager.onPeerJoin = (peer) => note({ on: 'join', peer });
      manager.onPeerLeave = (peer) => note({ on: 'leave', peer });
      manager.onError = ({ code, message }) => note({ on: 'error', code, message });
      window.hears = (on, count = 1) => until(`${count} ${on}`, () => heard.filter((event) => event.on === on).length >= count);
      // What JSON cannot say, said so that it can be compared.
      window.plain = (value) =>
        JSON.parse(JSON.stringify(value, (_, value) => (typeof value === 'bigint' ? `${value}n` : value instanceof Uint8Array ? `bytes ${value}` : value)));
      window.heardOperations = () => plain(heard.filter((event) => event.on === 'operation').map(({ op }) => op));
      // A name that only the page knows: a number beyond 2^53, bytes, a REAL.
      window.operation = (id, values, ts = Date.now()) => ({ hlc: { ts, counter: 0, nodeId: 'manager' }, type: 'INSERT', table: 't', pk: { id }, values: { id, ...values } });
      await manager.connect(signal, token);
    },
    [signal, token],
  );
  return page;
}

async function openBattery(t, token) {
  return Peer.open(await openPage(t), my.server.url, { signalingUrl: my.server.signal, token });
}

const watchdog = { timeout: WATCHDOG_MS };

test('two managers meet, exchange operations, and part', watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join'))));
  assert.deepEqual(await ada.evaluate(() => manager.getPeers().length), 1);
  await ada.evaluate(() => {
    manager.broadcast({ ...operation(1, { big: 2n ** 63n - 1n, bytes: new Uint8Array([0, 255]), whole: { $real: '1.0' }, text: 'naïve 🔋', none: undefined }, 5), extra: 'ignored' });
    manager.broadcast({ hlc: { ts: 6, counter: 1, nodeId: 'n' }, type: 'UPDATE', table: '__proto__', pk: JSON.parse('{"__proto__":1}'), values: { a: true }, prev: { a: null } });
    manager.broadcast({ hlc: { ts: 7, counter: 0, nodeId: 'n' }, type: 'DELETE', table: 't', pk: { id: 1 } });
  });
  const heard = await bob.evaluate(async () => {
    await hears('operation', 3);
    return JSON.stringify(heardOperations());
  });
  // As text: the driver would make something of its own of `__proto__`.
  assert.equal(
    heard,
    '[{"hlc":{"ts":5,"counter":0,"nodeId":"manager"},"type":"INSERT","table":"t","pk":{"id":1},' +
      '"values":{"big":"9223372036854775807n","bytes":"bytes 0,255","id":1,"none":null,"text":"naïve 🔋","whole":{"$real":"1.0"}}},' +
      '{"hlc":{"ts":6,"counter":1,"nodeId":"n"},"type":"UPDATE","table":"__proto__","pk":{"__proto__":1},"values":{"a":1},"prev":{"a":null}},' +
      '{"hlc":{"ts":7,"counter":0,"nodeId":"n"},"type":"DELETE","table":"t","pk":{"id":1}}]',
  );
  assert.deepEqual(await bob.evaluate(() => heard.filter(({ on, peer }) => on === 'operation' && peer !== manager.getPeers()[0]).length), 0);
  assert.deepEqual(await bob.evaluate(() => manager.requestSync(manager.getPeers()[0])), [], 'a manager keeps nothing');
  await ada.evaluate(() => manager.disconnect());
  await bob.evaluate(() => hears('leave'));
  assert.deepEqual([await ada.evaluate(() => manager.getPeers()), await bob.evaluate(() => manager.getPeers())], [[], []]);
  await ada.evaluate(([signal, token]) => manager.connect(signal, token), [my.server.signal, token]);
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join', 2))));
});

test('who disconnects has told what was broadcast before', watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join'))));
  await ada.evaluate(() => {
    for (let id = 0; id < 3000; id++) manager.broadcast(operation(id, { text: 'x'.repeat(1000) }));
    return manager.disconnect();
  });
  assert.equal(
    await bob.evaluate(async () => {
      await hears('leave');
      return heardOperations().length;
    }),
    3000,
  );
});

test('a manager and a database: live both ways, and everything on request', watchdog, async (t) => {
  const token = newToken();
  const battery = await openBattery(t, token);
  await battery.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, n, price REAL)');
  const manager = await openManager(t, token);
  await manager.evaluate(() => hears('join'));
  await battery.meets(1);

  await manager.evaluate(() => manager.broadcast(operation(1, { n: 9007199254740993n, price: 2 })));
  await battery.sees('SELECT id, quote(n), quote(price) FROM t', [[1, '9007199254740993', '2.0']]);
  await manager.evaluate(() => manager.broadcast(operation(2, { n: new Uint8Array([0, 255]) })));
  await battery.sees('SELECT quote(n) FROM t WHERE id = 2', [["X'00FF'"]]);

  await battery.exec("INSERT INTO t VALUES (3, 9223372036854775807, 0.5), (4, x'0102', 1.0)");
  await battery.exec("UPDATE t SET n = 'new' WHERE id = 3");
  const heard = await manager.evaluate(async () => {
    await until('the update', () => heardOperations().some(({ type }) => type === 'UPDATE'));
    return heardOperations().filter(({ hlc }) => hlc.nodeId !== 'manager');
  });
  const brief = ({ type, pk, values, prev }) => [type, pk.id, values, prev];
  assert.deepEqual(heard.filter(({ table }) => table === 't').map(brief), [
    ['INSERT', 3, { id: 3, n: '9223372036854775807n', price: 0.5 }, undefined],
    ['INSERT', 4, { id: 4, n: 'bytes 1,2', price: { $real: '1.0' } }, undefined],
    ['UPDATE', 3, { n: 'new' }, { n: '9223372036854775807n' }],
  ]);
  for (const operation of heard) assert.deepEqual(Object.keys(operation).filter((key) => !['hlc', 'type', 'table', 'pk', 'values', 'prev'].includes(key)), []);

  // More than a message takes.
  await battery.exec("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3009) SELECT i, hex(zeroblob(200)), i FROM n");
  const answer = await manager.evaluate(async () => {
    const operations = await manager.requestSync(manager.getPeers()[0]);
    const layer = await library.SQLLayer.create();
    layer.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, n, price REAL)');
    for (const operation of operations) layer.applyOperation(operation);
    return [operations.length, layer.execute('SELECT count(*), sum(id), sum(price), count(DISTINCT typeof(n)) FROM t').result.values];
  });
  assert.ok(answer[0] >= 3004);
  assert.deepEqual(answer[1], await battery.rows('SELECT count(*), sum(id), sum(price), count(DISTINCT typeof(n)) FROM t'));
});

test('a layer and a manager make a peer: two such, and a database', watchdog, async (t) => {
  const token = newToken();
  const pages = [await openManager(t, token), await openManager(t, token)];
  for (const page of pages) {
    await page.evaluate(async () => {
      window.layer = await library.SQLLayer.create();
      layer.execute('CREATE TABLE t (id TEXT PRIMARY KEY, x)');
      manager.onOperation = (op) => {
        layer.applyOperation(op);
        stirred();
      };
      window.run = (sql) => layer.execute(sql).operations.forEach((op) => manager.broadcast(op));
      window.shows = (expected) => until(expected, () => JSON.stringify(layer.execute('SELECT * FROM t ORDER BY id').result.values) === expected);
      await until('a peer', () => manager.getPeers().length > 0);
    });
  }
  const [ada, bob] = pages;
  await ada.evaluate(() => run("INSERT INTO t VALUES ('a', 1)"));
  await bob.evaluate(async () => {
    await shows('[["a",1]]');
    run("UPDATE t SET x = 2; INSERT INTO t VALUES ('b', 3)");
  });
  await ada.evaluate(() => shows('[["a",2],["b",3]]'));
  const battery = await openBattery(t, token);
  await battery.exec('CREATE TABLE t (id TEXT PRIMARY KEY, x)');
  await battery.meets(2);
  await ada.evaluate(async () => {
    await until('two peers', () => manager.getPeers().length === 2);
    run("DELETE FROM t WHERE id = 'b'; INSERT INTO t VALUES ('c', 4)");
  });
  await battery.sees('SELECT * FROM t', [['c', 4]]);
  await bob.evaluate(() => shows('[["a",2],["c",4]]'));
});

test('what is asked wrongly is refused clearly', watchdog, async (t) => {
  const token = newToken();
  const page = await openManager(t, token);
  const told = await page.evaluate(
    async ([signal, token]) => {
      const code = (error) => (error instanceof library.RTCBatteryError ? error.code : error instanceof TypeError ? `TypeError: ${error.message}` : String(error));
      const thrown = (act) => {
        try {
          return act();
        } catch (error) {
          return code(error);
        }
      };
      const fresh = new library.WebRTCManager();
      return [
        thrown(() => manager.broadcast({})),
        thrown(() => manager.broadcast(undefined)),
        thrown(() => manager.broadcast({ ...operation(1, { x: new Date() }) })),
        await manager.requestSync('nobody').catch(code),
        await manager.requestSync('').catch(code),
        await manager.requestSync(5).catch(code),
        await manager.connect(signal, token),
        await manager.connect(signal, 'another').catch(code),
        thrown(() => fresh.broadcast(operation(1, {}))),
        await fresh.requestSync('nobody').catch(code),
        await fresh.disconnect(),
        fresh.getPeers(),
        await fresh.connect('ftp://example.com', 'token').catch(code),
        await fresh.connect(signal, 7).catch(code),
      ];
    },
    [my.server.signal, token],
  );
  const [bad, unknown, off] = ['bad-operation', 'unknown-peer', 'not-connected'];
  const wrongUrl = 'TypeError: WebRTCManager: signalingUrl must be a WebSocket URL such as wss://example.com/signal, not "ftp://example.com"';
  const expected = [bad, bad, bad, unknown, unknown, unknown, undefined, 'already-connected', off, off, undefined, [], wrongUrl, 'TypeError: WebRTCManager: token must be a string'];
  assert.deepEqual(told, expected);
});

test("a handler's own mistake is told where uncaught errors are told, and stops nothing", watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await ada.evaluate(() => hears('join'));
  await bob.evaluate(async () => {
    await hears('join');
    window.uncaught = [];
    addEventListener('error', (event) => {
      uncaught.push(event.message);
      event.preventDefault();
      stirred();
    });
    const note = manager.onOperation;
    manager.onOperation = (op, peer) => {
      note(op, peer);
      throw new Error('my mistake');
    };
  });
  await ada.evaluate(() => {
    manager.broadcast(operation(1, {}));
    manager.broadcast(operation(2, {}));
  });
  const uncaught = await bob.evaluate(async () => {
    await hears('operation', 2);
    await until('two mistakes', () => uncaught.length === 2);
    return uncaught;
  });
  for (const message of uncaught) assert.match(message, /my mistake/);
});

test('a handler may answer at once, and leave the room; the next operation is told when it is done', watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join'))));
  await bob.evaluate(() => {
    window.within = window.deepest = 0;
    manager.onOperation = (op) => {
      within += 1;
      deepest = Math.max(deepest, within);
      manager.broadcast({ ...op, pk: { id: op.pk.id + 100 } });
      if (op.pk.id === 3) window.leaving = manager.disconnect();
      within -= 1;
    };
  });
  await ada.evaluate(() => {
    // Several operations in one message, which nobody asked for. (No longer than what it stands for: the link counts bytes.)
    const { send } = RTCDataChannel.prototype;
    RTCDataChannel.prototype.send = function (text) {
      const { type, payload } = JSON.parse(text);
      const operations = [1, 2, 3].map((id) => ({ ...payload, pk: { id }, values: { id } }));
      send.call(this, type === 'op' ? JSON.stringify({ type: 'sync-response', operations }) : text);
    };
    manager.broadcast(operation(0, { padding: ' '.repeat(1000) }));
  });
  const answers = await ada.evaluate(async () => {
    await hears('leave');
    return heardOperations().map(({ pk }) => pk.id);
  });
  assert.deepEqual(answers, [101, 102, 103]);
  assert.equal(await bob.evaluate(() => leaving.then(() => deepest)), 1);
});

test('a request is rejected when its peer goes away, and when the room is left', watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await ada.evaluate(() => hears('join'));
  await bob.evaluate(() => {
    // It hears, and says nothing any more.
    RTCDataChannel.prototype.send = () => undefined;
  });
  await ada.evaluate(() => {
    window.outcome = manager.requestSync(manager.getPeers()[0]).catch(({ code, peer, message }) => ({ code, peer, message }));
    window.bob = manager.getPeers()[0];
  });
  await bob.goto('about:blank');
  const [outcome, bobsId] = await ada.evaluate(async () => [await outcome, bob]);
  assert.deepEqual({ ...outcome, message: '' }, { code: 'unanswered', peer: bobsId, message: '' });
  assert.match(outcome.message, new RegExp(`^peer ${bobsId} did not answer: .`));

  await openManager(t, token);
  const codes = await ada.evaluate(async () => {
    await hears('join', 2);
    const code = ({ code }) => code;
    const [peer] = manager.getPeers();
    const before = manager.requestSync(peer).catch(code);
    const leaving = manager.disconnect();
    const after = manager.requestSync(peer).catch(code);
    await leaving;
    return Promise.all([before, after]);
  });
  assert.deepEqual(codes, ['unanswered', 'not-connected']);
});

test('no server in reach is an error that is told, and the room is joined when there is one', watchdog, async (t) => {
  const server = await Server.down();
  t.after(() => server.stop());
  const token = newToken();
  const [ada, bob] = [await openManager(t, token, server.signal), await openManager(t, token, server.signal)];
  const error = await ada.evaluate(async () => {
    await hears('error');
    return heard[0];
  });
  assert.deepEqual({ ...error, message: '' }, { on: 'error', code: 'signaling-unreachable', message: '' });
  await server.start();
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join'))));
});

test('a page that is left is gone at once for its peers, and back in the room when it is gone back to', watchdog, async (t) => {
  const token = newToken();
  const [ada, bob] = [await openManager(t, token), await openManager(t, token)];
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join'))));
  await bob.evaluate(() => {
    window.shown = new Promise((resolve) => addEventListener('pageshow', ({ persisted }) => resolve(persisted)));
  });
  await bob.goto(`${my.server.url}/demo/style.css`);
  await ada.evaluate(() => hears('leave'));
  await bob.goBack({ waitUntil: 'commit' });
  assert.equal(await bob.evaluate(() => shown), true);
  await Promise.all([ada, bob].map((page) => page.evaluate(() => hears('join', 2))));
  await ada.evaluate(() => manager.broadcast(operation(1, {})));
  await bob.evaluate(() => hears('operation'));
});
