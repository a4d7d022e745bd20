// The operations of the specification, as a stranger would merge them: the clock, the log, and the tables
// that follow from the log in whatever order its operations came.
//
// Where the specification is silent, this state chose: an operation later than a delete brings the row
// back with all columns it had, for the delete has lost. It knows no SQL: no schema, no types, no
// defaults; a value is what JSON made of it, and a column that no operation named does not exist.

'use strict';

function compareHlc(a, b) {
  if (a.ts !== b.ts) return a.ts - b.ts;
  if (a.counter !== b.counter) return a.counter - b.counter;
  if (a.nodeId === b.nodeId) return 0;
  return a.nodeId < b.nodeId ? -1 : 1;
}

function later(a, b) {
  return b === undefined || compareHlc(a, b) > 0;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isOperation(value) {
  return (
    isObject(value) &&
    isObject(value.hlc) &&
    Number.isFinite(value.hlc.ts) &&
    Number.isFinite(value.hlc.counter) &&
    typeof value.hlc.nodeId === 'string' &&
    ['INSERT', 'UPDATE', 'DELETE'].includes(value.type) &&
    typeof value.table === 'string' &&
    isObject(value.pk) &&
    (value.values === undefined || isObject(value.values))
  );
}

/** The same text for the same primary key, whatever the order of its columns. */
function rowKey(pk) {
  return JSON.stringify(Object.entries(pk).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The Hybrid Logical Clock of one node. */
class Clock {
  #ts = 0;
  #counter = 0;

  constructor(nodeId) {
    this.nodeId = nodeId;
  }

  tick() {
    const now = Date.now();
    this.#counter = now > this.#ts ? 0 : this.#counter + 1;
    this.#ts = Math.max(now, this.#ts);
    return { ts: this.#ts, counter: this.#counter, nodeId: this.nodeId };
  }

  /** What happens from now on is later than this. */
  witness({ ts, counter }) {
    if (ts > this.#ts) this.#counter = counter;
    else if (ts === this.#ts) this.#counter = Math.max(counter, this.#counter);
    this.#ts = Math.max(ts, this.#ts);
  }
}

/** The log, and the state that follows from it in whatever order the operations came. */
class Tables {
  log = [];
  #known = new Set();
  #tables = new Map();

  /** False if the operation was known already. */
  apply(operation) {
    const { hlc, type, table, pk, values } = operation;
    const id = JSON.stringify([hlc.ts, hlc.counter, hlc.nodeId]);
    if (this.#known.has(id)) return false;
    this.#known.add(id);
    this.log.push(operation);

    if (!this.#tables.has(table)) this.#tables.set(table, new Map());
    const rows = this.#tables.get(table);
    const key = rowKey(pk);
    if (!rows.has(key)) rows.set(key, { pk, columns: new Map(), written: undefined, deleted: undefined });
    const row = rows.get(key);
    if (type === 'DELETE') {
      if (later(hlc, row.deleted)) row.deleted = hlc;
      return true;
    }
    if (later(hlc, row.written)) row.written = hlc;
    for (const [column, value] of Object.entries(values ?? {})) {
      if (later(hlc, row.columns.get(column)?.hlc)) row.columns.set(column, { value, hlc });
    }
    return true;
  }

  /** The values of one row, or undefined if there is none. */
  row(table, pk) {
    const row = this.#tables.get(table)?.get(rowKey(pk));
    if (row?.written === undefined || !later(row.written, row.deleted)) return undefined;
    const values = [...row.columns].map(([column, { value }]) => [column, value]);
    return Object.fromEntries([...Object.entries(row.pk), ...values, ...Object.entries(row.pk)]);
  }

  /** All rows of a table, by primary key. */
  rows(table) {
    const rows = [...(this.#tables.get(table) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
    return rows.map(([, { pk }]) => this.row(table, pk)).filter((row) => row !== undefined);
  }
}
