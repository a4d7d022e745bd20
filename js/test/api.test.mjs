// The library's contract with those who call it, from a plain module script on the package's own files.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IMPATIENT, newToken, Peer, Server, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

let context;
let peer;

const my = stage({ chromium: startChromium }, async ({ chromium, server }) => {
  const page = await chromium.page();
  context = page.context();
  peer = await Peer.open(page, server.url, { signalingUrl: server.signal, token: newToken() });
});

/** Runs in the page; `refused(promise)` tells how a promise was rejected. */
function inPage(body, argument) {
  return peer.page.evaluate(
    ([body, argument]) => {
      const refused = (promise) =>
        promise.then(
          (value) => ({ resolved: value }),
          (error) => ({ class: error.name, isError: error instanceof Error, code: error.code, message: error.message }),
        );
      return new Function('refused', 'argument', `return (${body})(refused, argument)`)(refused, argument);
    },
    [body.toString(), argument],
  );
}

test('exec before connect and after disconnect is refused clearly', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [before, connecting, twice, after, again] = await inPage(async (refused, config) => {
    const battery = new library.RTCBattery(config);
    const before = await refused(battery.exec('SELECT 1'));
    const opening = battery.connect();
    const connecting = await refused(battery.execLocal('SELECT 1'));
    const twice = battery.connect() === opening;
    await opening;
    const leaving = battery.disconnect();
    const after = await refused(battery.exec('SELECT 1'));
    await leaving;
    await battery.disconnect();
    await battery.connect();
    const again = await battery.exec('SELECT 1');
    await battery.disconnect();
    return [before, connecting, twice, after, again.values];
  }, config);
  for (const refusal of [before, connecting, after]) {
    assert.deepEqual([refusal.class, refusal.isError, refusal.code], ['RTCBatteryError', true, 'not-connected']);
    assert.match(refusal.message, /connect\(\) first/);
  }
  assert.equal(twice, true);
  assert.deepEqual(again, [[1]]);
});

test('what was asked last stands: connect, disconnect, connect', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const outcomes = await inPage(async (refused, config) => {
    const outcomes = [];
    const manager = new library.WebRTCManager();
    const enter = manager.connect.bind(manager, config.signalingUrl, config.token);
    const battery = new library.RTCBattery(config);
    const deletion = { hlc: { ts: 1, counter: 0, nodeId: 'n' }, type: 'DELETE', table: 't', pk: { id: 1 } };
    const [useBattery, useManager] = [() => battery.exec('SELECT 1'), async () => manager.broadcast(deletion)];
    for (const [room, connect, use] of [[battery, () => battery.connect(), useBattery], [manager, enter, useManager]]) {
      await Promise.all([connect(), room.disconnect(), connect()]);
      outcomes.push((await refused(use())).code);
      await Promise.all([room.disconnect(), connect(), room.disconnect()]);
      outcomes.push((await refused(use())).code);
    }
    return outcomes;
  }, config);
  assert.deepEqual(outcomes, [undefined, 'not-connected', undefined, 'not-connected']);
});

test('disconnect waits until everything is saved', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const values = await inPage(async (refused, config) => {
    const battery = new library.RTCBattery(config);
    await battery.connect();
    const writes = [battery.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)')];
    for (let i = 0; i < 100; i++) writes.push(battery.exec('INSERT INTO t VALUES (?)', [i]));
    await battery.disconnect();
    const settled = (await Promise.all(writes.map(refused))).filter(({ resolved }) => resolved).length;
    const version = battery.getLocalVersion();
    await battery.connect();
    const { values } = await battery.exec('SELECT count(*) FROM t');
    await battery.disconnect();
    return [settled, version, values[0][0]];
  }, config);
  assert.deepEqual(values, [101, 101, 100]);
});

test('results: columns, rows, rows affected; of several statements the last that returns rows', async () => {
  const results = await inPage(async () => {
    const results = [];
    for (const sql of [
      "CREATE TABLE r (id INTEGER PRIMARY KEY, v); INSERT INTO r VALUES (1, 'a'), (2, 'b'); INSERT INTO r VALUES (3, NULL)",
      'SELECT v, id AS "the id" FROM r ORDER BY id',
      'SELECT 1; SELECT 2 AS two; UPDATE r SET v = 0 WHERE id > 1;',
      'DELETE FROM r WHERE id = 3 RETURNING id, v',
      'SELECT * FROM r WHERE 0',
      '',
      '-- nothing',
    ]) {
      results.push(await battery.exec(sql));
    }
    return results;
  });
  assert.deepEqual(results, [
    { columns: [], values: [], rowsAffected: 3 },
    { columns: ['v', 'the id'], values: [['a', 1], ['b', 2], [null, 3]], rowsAffected: 0 },
    { columns: ['two'], values: [[2]], rowsAffected: 2 },
    { columns: ['id', 'v'], values: [[3, 0]], rowsAffected: 1 },
    { columns: ['id', 'v'], values: [], rowsAffected: 0 },
    { columns: [], values: [], rowsAffected: 0 },
    { columns: [], values: [], rowsAffected: 0 },
  ]);
});

test('parameters by position and by name', async () => {
  const [positions, names, prefixed, statements] = await inPage(async () => {
    const rows = async (sql, params) => (await battery.exec(sql, params)).values;
    return [
      await rows('SELECT ?, ?2, ?1', ['a', 'b']),
      await rows('SELECT :x, @y, $z', { x: 1, y: 'two', z: null }),
      await rows('SELECT :x, @y', { ':x': 1, '@y': 2 }),
      await rows('CREATE TABLE p (id INTEGER PRIMARY KEY, v); INSERT INTO p VALUES (?, ?); INSERT INTO p VALUES (?, ?); SELECT * FROM p', [1, 'a', 2, 'b']),
    ];
  });
  assert.deepEqual(positions, [['a', 'b', 'a']]);
  assert.deepEqual(names, [[1, 'two', null]]);
  assert.deepEqual(prefixed, [[1, 2]]);
  assert.deepEqual(statements, [[1, 'a'], [2, 'b']]);
});

test('values come back with their type, bit for bit', async () => {
  const rows = await inPage(async () => {
    const values = [
      0, 1, -1, 2 ** 53 - 1, 2 ** 53, 1.5, 1e300, Infinity, NaN, 5n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), true, false, null, undefined,
      '', 'Grüße 🔋', 'a\0b', new Uint8Array([0, 255]), new Uint8Array(0), new Uint8Array([1, 2, 3, 4]).subarray(1, 3), new Uint8Array([9]).buffer,
    ];
    const rows = [];
    for (const value of values) {
      const [[type, back]] = (await battery.exec('SELECT typeof(?1), ?1', [value])).values;
      rows.push(`${type} ${typeof back} ${back instanceof Uint8Array ? `bytes ${back.join()}` : back}`);
    }
    return rows;
  });
  assert.deepEqual(rows, [
    'integer number 0', 'integer number 1', 'integer number -1', 'integer number 9007199254740991', 'real number 9007199254740992',
    'real number 1.5', 'real number 1e+300', 'real number Infinity', 'null object null', 'integer number 5', 'integer bigint 9007199254740992',
    'integer bigint 9223372036854775807', 'integer bigint -9223372036854775808', 'integer number 1', 'integer number 0', 'null object null',
    'null object null', 'text string ', 'text string Grüße 🔋', 'text string a\0b', 'blob object bytes 0,255', 'blob object bytes ',
    'blob object bytes 2,3', 'blob object bytes 9',
  ]);
});

test('errors carry what SQLite says, and its code', async () => {
  const refusals = await inPage(async (refused) => {
    await battery.exec('CREATE TABLE e (id INTEGER PRIMARY KEY)');
    return [
      await refused(battery.exec('INSERT INTO e VALUES (1); INSERT INTO e VALUES (1)')),
      await refused(battery.exec('SELEKT 1')),
      await refused(battery.exec('SELECT * FROM missing')),
      await refused(battery.exec('CREATE TABLE keyless (a, b)')),
    ];
  });
  assert.deepEqual(refusals.map(({ class: name, isError, code }) => [name, isError, code]), [
    ['SqlError', true, 1555],
    ['SqlError', true, 1],
    ['SqlError', true, 1],
    ['SqlError', true, 23],
  ]);
  assert.match(refusals[0].message, /UNIQUE constraint failed: e\.id/);
  assert.match(refusals[1].message, /near "SELEKT": syntax error/);
  assert.match(refusals[2].message, /no such table: missing/);
  assert.match(refusals[3].message, /PRIMARY KEY/i);
  // What statements before the failing one did stands.
  assert.deepEqual(await peer.rows('SELECT * FROM e'), [[1]]);
});

test('parameters that SQL does not know are refused by name', async () => {
  const refusals = await inPage(async (refused) => [
    await refused(battery.exec('SELECT ?', [new Date(0)])),
    await refused(battery.exec('SELECT ?, ?', [1, { a: 1 }])),
    await refused(battery.exec('SELECT :when', { when: [1] })),
    await refused(battery.exec('SELECT ?', [2n ** 63n])),
    await refused(battery.exec('SELECT ?', [() => 1])),
    await refused(battery.exec('SELECT ?', 'text')),
    await refused(battery.exec(undefined)),
  ]);
  for (const refusal of refusals) assert.deepEqual([refusal.class, refusal.code], ['RTCBatteryError', 'bad-parameter'], refusal.message);
  assert.match(refusals[0].message, /parameter 1 is a Date/);
  assert.match(refusals[1].message, /parameter 2 is/);
  assert.match(refusals[2].message, /parameter when is/);
  assert.match(refusals[3].message, /64 bits/);
});

test('connect() with no server in reach resolves, and tells of it', async () => {
  const nobody = await Server.down();
  const [values, error] = await inPage(
    async (refused, config) => {
      const battery = new library.RTCBattery(config);
      const error = new Promise((resolve) => battery.on('error', resolve));
      await battery.connect();
      const { values } = await battery.exec('SELECT 1');
      const { name, code, message } = await error;
      await battery.disconnect();
      return [values, { name, code, message }];
    },
    { signalingUrl: nobody.signal, token: newToken() },
  );
  assert.deepEqual(values, [[1]]);
  assert.deepEqual([error.name, error.code], ['RTCBatteryError', 'signaling-unreachable']);
});

test('on() gives back the way to stop', async (t) => {
  const friend = await Peer.open(await my.chromium.page(), my.server.url, peer.config);
  t.after(() => friend.page.context().close());
  const heard = await peer.page.evaluate(async () => {
    await until('a friend', () => battery.getPeers().length === 1);
    const heard = [];
    const both = (who) => heard.push(who);
    battery.on('sync', () => both('kept'));
    const stop = battery.on('sync', () => both('stopped'));
    stop();
    stop();
    window.heard = heard;
    return heard;
  });
  assert.deepEqual(heard, []);
  await friend.exec('CREATE TABLE o (id INTEGER PRIMARY KEY)');
  await peer.page.evaluate(() => until('a sync', () => heard.length > 0));
  assert.deepEqual([...new Set(await peer.page.evaluate(() => heard))], ['kept']);
  assert.match(await inPage((refused) => refused(new Promise(() => battery.on('tick', () => 1))).then((refusal) => refusal.message)), /no event "tick"/);
});

test('without BroadcastChannel a database that another tab has open is busy, and free when that tab is gone', async (t) => {
  const workerUrl = workerAfter(`delete self.BroadcastChannel;${IMPATIENT}`, my.folder);
  const config = { signalingUrl: my.server.signal, token: newToken(), workerUrl };
  const first = await Peer.open(await context.newPage(), my.server.url, config);
  await first.exec('CREATE TABLE b (id INTEGER PRIMARY KEY)');
  const second = await Peer.open(await context.newPage(), my.server.url);
  t.after(() => second.close());
  const busy = await second.page.evaluate(async (config) => {
    const error = await new library.RTCBattery(config).connect().catch((error) => error);
    return [error.name, error.code, error instanceof library.DatabaseBusy, error.message];
  }, config);
  assert.deepEqual(busy.slice(0, 3), ['DatabaseBusy', 'database-busy', true]);
  await first.exec('INSERT INTO b VALUES (1)');
  await first.close();
  await second.connect(config);
  assert.deepEqual(await second.rows('SELECT * FROM b'), [[1]]);
  // Or it takes the database over: the other one keeps what it was promised, and writes no more until it takes it back.
  const third = await Peer.open(await context.newPage(), my.server.url);
  t.after(() => third.close());
  await third.page.evaluate(async (config) => {
    window.battery = new library.RTCBattery(config);
    await battery.takeOver();
  }, config);
  assert.deepEqual(await third.rows('SELECT * FROM b'), [[1]]);
  await third.exec('INSERT INTO b VALUES (2)');
  const shutOut = await second.page.evaluate(() => battery.exec('INSERT INTO b VALUES (3)').catch(({ name, message }) => [name, message]));
  assert.equal(shutOut[0], 'DatabaseBusy');
  assert.match(shutOut[1], /taken this database over; call takeOver\(\)/);
  await second.hears('error', 'database-busy');
  await second.page.evaluate(() => battery.takeOver());
  assert.deepEqual(await second.rows('SELECT * FROM b'), [[1], [2]]);
});

test('without Web Locks the newer tab takes over, and the older one is told and writes no more', async (t) => {
  const workerUrl = workerAfter("Object.defineProperty(navigator, 'locks', { value: undefined });", my.folder);
  // Nobody is met: what the newer tab told the older one, that one would save.
  const server = await Server.down();
  const config = { signalingUrl: server.signal, token: newToken(), workerUrl };
  const pages = [await context.newPage(), await context.newPage()];
  t.after(() => Promise.all(pages.map((page) => page.close())));
  const first = await Peer.open(pages[0], my.server.url, config);
  await first.exec('CREATE TABLE f (id INTEGER PRIMARY KEY); INSERT INTO f VALUES (1)');
  const second = await Peer.open(pages[1], my.server.url, config);
  await second.exec('INSERT INTO f VALUES (2)');
  const code = await first.page.evaluate(() => battery.exec('INSERT INTO f VALUES (3)').catch((error) => error.code));
  assert.equal(code, 'database-busy');
  await first.hears('error', 'database-busy');
  await second.reload();
  assert.deepEqual(await second.rows('SELECT * FROM f'), [[1], [2]]);
});

test('on a full disk exec rejects, reading goes on, nothing is saved in part, and saving is tried again', async (t) => {
  const page = await context.newPage();
  t.after(() => page.close());
  const workerUrl = workerAfter(
    `const { put } = IDBObjectStore.prototype;
    let room = 1e9;
    const disk = new BroadcastChannel('disk');
    disk.onmessage = ({ data }) => {
      room = data;
      disk.postMessage('so be it');
    };
    IDBObjectStore.prototype.put = function (...values) {
      if (room-- <= 0) throw new DOMException('no space left', 'QuotaExceededError');
      return put.apply(this, values);
    };`,
    my.folder,
  );
  const writer = await Peer.open(page, my.server.url, { signalingUrl: my.server.signal, token: newToken(), workerUrl });
  const setDisk = () =>
    page.evaluate(() => {
      const disk = new BroadcastChannel('disk');
      window.leaveRoom = (pages) =>
        new Promise((resolve) => {
          disk.onmessage = resolve;
          disk.postMessage(pages);
        });
    });
  await setDisk();
  await writer.exec('CREATE TABLE d (id INTEGER PRIMARY KEY, body)');
  const outcome = await page.evaluate(async () => {
    // For some of the pages, and not for all.
    await leaveRoom(3);
    const refused = await battery.exec('INSERT INTO d VALUES (1, randomblob(100000))').catch((error) => error);
    const { values } = await battery.exec('SELECT id, length(body) FROM d');
    return [refused.code, refused.message, values];
  });
  assert.deepEqual([outcome[0], outcome[2]], ['not-saved', [[1, 100000]]]);
  assert.match(outcome[1], /QuotaExceededError/);
  await writer.hears('error', 'not-saved');

  await writer.reload();
  assert.deepEqual(await writer.rows('SELECT id FROM d'), []);

  await setDisk();
  const ids = await page.evaluate(async () => {
    await leaveRoom(0);
    await battery.exec('INSERT INTO d VALUES (2, 0)').catch((error) => error);
    await leaveRoom(1e9);
    await battery.exec('INSERT INTO d VALUES (3, 0)');
    const { values } = await battery.exec('SELECT id FROM d');
    return values;
  });
  await writer.reload();
  assert.deepEqual(await writer.rows('SELECT id FROM d'), ids);
  assert.deepEqual(ids, [[2], [3]]);
});

test('two rooms on one origin are two databases; a database of another room is refused', async () => {
  const configs = [1, 2].map(() => ({ signalingUrl: my.server.signal, token: newToken() }));
  const [separate, refusal, names] = await inPage(
    async (refused, [one, other]) => {
      const open = async (config) => {
        const battery = new library.RTCBattery(config);
        await battery.connect();
        return battery;
      };
      const first = await open(one);
      await first.exec('CREATE TABLE mine (id INTEGER PRIMARY KEY)');
      const second = await open(other);
      const separate = await refused(second.exec('SELECT * FROM mine'));
      await Promise.all([first.disconnect(), second.disconnect()]);
      const named = await open({ ...one, dbName: 'named' });
      await named.disconnect();
      const refusal = await refused(open({ ...other, dbName: 'named' }));
      return [separate, refusal, (await indexedDB.databases()).map(({ name }) => name)];
    },
    configs,
  );
  assert.match(separate.message, /no such table: mine/);
  assert.deepEqual([refusal.class, refusal.code], ['RTCBatteryError', 'other-room']);
  // The token is a secret: whoever lists the databases does not learn it.
  assert.ok(names.filter((name) => /^rtc-battery-[0-9a-f]{32}$/.test(name)).length >= 2);
  for (const { token } of configs) assert.ok(names.every((name) => !name.includes(token)));
});

test('a config that is none, and files that are not there, are refused clearly', async () => {
  const config = { signalingUrl: my.server.signal, token: newToken() };
  const [noUrl, noToken, noWorker, noWasm] = await inPage(async (refused, config) => {
    const made = async (config) => {
      const battery = new library.RTCBattery(config);
      await battery.connect();
    };
    return [
      await refused(made({ ...config, signalingUrl: 'mailto:a@b' })),
      await refused(made({ ...config, token: 5 })),
      await refused(made({ ...config, workerUrl: '/nowhere/worker.js' })),
      await refused(made({ ...config, wasmUrl: '/nowhere/rtc_battery.wasm' })),
    ];
  }, config);
  assert.deepEqual([noUrl.class, noToken.class], ['TypeError', 'TypeError']);
  assert.deepEqual([noWorker.code, noWasm.code], ['load', 'load']);
  assert.match(noWorker.message, /workerUrl/);
  assert.match(noWasm.message, /404.*wasmUrl/);
});

test('iceServers reach every connection', { timeout: WATCHDOG_MS }, async (t) => {
  const token = newToken();
  const iceServers = [{ urls: 'stun:127.0.0.1:9' }];
  const [ada, bob] = await Promise.all(
    [0, 1].map(async () => {
      const page = await my.chromium.page();
      t.after(() => page.context().close());
      await page.addInitScript(() => {
        window.configurations = [];
        window.RTCPeerConnection = class extends RTCPeerConnection {
          constructor(configuration) {
            super(configuration);
            configurations.push(this.getConfiguration().iceServers.map(({ urls }) => urls));
          }
        };
      });
      return Peer.open(page, my.server.url, { signalingUrl: my.server.signal, token, iceServers });
    }),
  );
  for (const peer of [ada, bob]) {
    await peer.meets(1);
    assert.deepEqual(await peer.page.evaluate(() => configurations[0]), [['stun:127.0.0.1:9']]);
  }
});
