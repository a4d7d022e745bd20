// The worker that holds the database dies at one step of a call after the other, while another tab adds one to a number a thousand times: each is
// answered once, and done once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newToken, Peer, stage, startChromium, WATCHDOG_MS, workerAfter } from './harness.mjs';

const my = stage({ chromium: startChromium });

const INCREMENTS = 1000;

/** The steps of a call of another tab, where the database is held. */
const STEPS = ['the call has come', 'it is done in memory', 'the transaction is issued', 'the transaction is complete', 'it is answered'];

/** A worker that dies at a step when it is told to: nothing of it runs after that. */
const mortal = (rank) => `
  let step;
  const orders = new BroadcastChannel('orders');
  let mine = false;
  const at = (name) => {
    if (!mine || name !== step) return;
    orders.postMessage({ died: name });
    self.close();
    throw new Error('killed: ' + name);
  };
  orders.onmessage = ({ data }) => {
    if (data.kill === ${rank}) step = data.step;
  };
  const { postMessage } = BroadcastChannel.prototype;
  const { transaction } = IDBDatabase.prototype;
  const { commit } = IDBTransaction.prototype;
  Object.defineProperty(BroadcastChannel.prototype, 'onmessage', {
    set(hear) {
      this.addEventListener('message', (event) => {
        if (event.data.kind === 'call') {
          mine = true;
          at('the call has come');
        }
        hear(event);
      });
    },
  });
  BroadcastChannel.prototype.postMessage = function (message) {
    if (message.kind === 'done') at('the transaction is complete');
    postMessage.call(this, message);
    if (message.kind === 'done') at('it is answered');
  };
  IDBDatabase.prototype.transaction = function (...values) {
    if (values[1] === 'readwrite') at('it is done in memory');
    return transaction.apply(this, values);
  };
  IDBTransaction.prototype.commit = function () {
    commit.call(this);
    at('the transaction is issued');
  };`;

test('a leader that dies at any step of a call loses none and does none twice', { timeout: 2 * WATCHDOG_MS }, async (t) => {
  const page = await my.chromium.page();
  t.after(() => page.context().close());
  const token = newToken();
  // Each is the next to lead when the one before it has died; the last one counts.
  for (const rank of STEPS.keys()) {
    const workerUrl = workerAfter(mortal(rank), my.folder);
    await Peer.open(rank === 0 ? page : await page.context().newPage(), my.server.url, { signalingUrl: my.server.signal, token, workerUrl });
  }
  const last = await Peer.open(await page.context().newPage(), my.server.url, { signalingUrl: my.server.signal, token });
  await last.exec('CREATE TABLE c (id INTEGER PRIMARY KEY, n); INSERT INTO c VALUES (1, 0)');
  const [told, died] = await last.page.evaluate(
    async ([steps, increments]) => {
      const [told, died] = [[], []];
      const orders = new BroadcastChannel('orders');
      orders.onmessage = ({ data }) => data.died && died.push(data.died);
      let asked = 0;
      const count = async () => {
        while (asked < increments) {
          const number = asked++;
          // So many calls after the one before.
          if (number % 150 === 100 && number / 150 < steps.length) orders.postMessage({ kill: Math.floor(number / 150), step: steps[Math.floor(number / 150)] });
          told.push((await battery.exec('UPDATE c SET n = n + 1 RETURNING n')).values[0][0]);
        }
      };
      await Promise.all([count(), count(), count()]);
      return [told.sort((a, b) => a - b), died];
    },
    [STEPS, INCREMENTS],
  );
  assert.deepEqual(died, STEPS);
  assert.deepEqual(told, Array.from({ length: INCREMENTS }, (_, index) => index + 1));
  assert.deepEqual(await last.rows('SELECT n FROM c'), [[INCREMENTS]]);
  await last.reload();
  assert.deepEqual(await last.rows('SELECT n FROM c'), [[INCREMENTS]]);
});
