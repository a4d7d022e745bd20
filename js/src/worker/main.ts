// The worker: takes the page's calls to a host, and the host's words to the page.

import { assertNever } from '../assert-never.js';
import type { Call, FromWorker, ToWorker } from '../messages.js';
import { toFailure } from '../core/failure.js';
import { Host, type Page } from './host.js';

// The worker's global scope, for the messages that we know.
const scope = self as unknown as {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
};

const page: Page = {
  perform: (effects) =>
    scope.postMessage(
      { kind: 'effects', effects },
      effects.flatMap((effect) => (effect.kind === 'sendBinary' ? [effect.bytes.buffer as ArrayBuffer] : [])),
    ),
  tell: (event) => scope.postMessage({ kind: 'event', event }),
  status: (version, peers) => scope.postMessage({ kind: 'status', version, peers }),
  trouble: (failure) => scope.postMessage({ kind: 'trouble', failure }),
  failed: (failure) => scope.postMessage({ kind: 'failed', failure }),
};

let host: Host | undefined;

scope.onmessage = ({ data }) => {
  switch (data.kind) {
    case 'call':
      answer(data).then(
        (result) => scope.postMessage({ kind: 'reply', id: data.id, result }),
        (error: unknown) => scope.postMessage({ kind: 'refusal', id: data.id, failure: toFailure(error) }),
      );
      break;
    case 'input':
      host?.deliver(data.input);
      break;
    default:
      assertNever(data);
  }
};

async function answer(call: Call) {
  if (call.name === 'open') {
    host = await Host.open(call.argument, page);
    return undefined;
  }
  if (host === undefined) throw new TypeError('the first call must be `open`');
  switch (call.name) {
    case 'exec':
      return host.exec(call.argument);
    case 'export':
      return host.export();
    case 'import':
      return host.import(call.argument);
    case 'close':
      return host.close();
    default:
      return assertNever(call);
  }
}
