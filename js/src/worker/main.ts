// The worker: takes the page's calls to a host, and the host's words to the page.

import { assertNever } from '../assert-never.js';
import type { Call, FromWorker, ToWorker } from '../messages.js';
import { toFailure } from '../core/failure.js';
import { type Seat, takeSeat } from './seat.js';
import type { TabPage } from './tab.js';

// The worker's global scope, for the messages that we know.
const scope = self as unknown as {
  onmessage: (event: MessageEvent<ToWorker>) => void;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
};

const page: TabPage = {
  perform: (effects) =>
    scope.postMessage(
      { kind: 'effects', effects },
      effects.flatMap((effect) => (effect.kind === 'sendBinary' || effect.kind === 'sendBulk' ? [effect.bytes.buffer as ArrayBuffer] : [])),
    ),
  tell: (event) => scope.postMessage({ kind: 'event', event }),
  status: (version, peers) => scope.postMessage({ kind: 'status', version, peers }),
  trouble: (failure) => scope.postMessage({ kind: 'trouble', failure }),
  progress: (loaded, total) => scope.postMessage({ kind: 'progress', loaded, total }),
  leads: (as) => scope.postMessage({ kind: 'leads', as }),
  failed: (failure) => scope.postMessage({ kind: 'failed', failure }),
};

let seat: Seat | undefined;
/** The page was put to sleep. */
let asleep = false;

scope.onmessage = ({ data }) => {
  switch (data.kind) {
    case 'call':
      answer(data).then(
        (result) => scope.postMessage({ kind: 'reply', id: data.id, result }),
        (error: unknown) => scope.postMessage({ kind: 'refusal', id: data.id, failure: toFailure(error) }),
      );
      break;
    case 'input':
      seat?.deliver(data.input);
      break;
    case 'rest':
      asleep = true;
      seat?.rest();
      break;
    case 'wake':
      asleep = false;
      seat?.wake();
      break;
    default:
      assertNever(data);
  }
};

async function answer(call: Call) {
  if (call.name === 'open') {
    seat = await takeSeat(call.argument, page);
    if (asleep) seat.rest();
    return seat.opened;
  }
  if (seat === undefined) throw new TypeError('the first call must be `open`');
  return call.name === 'close' ? seat.close() : seat.call(call);
}
