// A database that is damaged is not deleted: what somebody may still want to read of it is copied into another one, as it is.

import { completion, connect, result } from './connection.js';

/** How many records are copied at a time. */
const AT_ONCE = 256;

/** Copies all records of `pages` into a database that is made for it. */
export async function copyPages(from: IDBDatabase, name: string): Promise<void> {
  const { database: to } = await connect(name);
  try {
    for (let after = 0; ; ) {
      const range = IDBKeyRange.lowerBound(after, true);
      const source = from.transaction('pages').objectStore('pages');
      const [keys, records] = await Promise.all([result(source.getAllKeys(range, AT_ONCE)), result(source.getAll(range, AT_ONCE))]);
      const last = keys[keys.length - 1];
      if (typeof last !== 'number') return;
      const transaction = to.transaction('pages', 'readwrite');
      const completed = completion(transaction);
      const target = transaction.objectStore('pages');
      keys.forEach((key, index) => target.put(records[index], key));
      await completed;
      after = last;
    }
  } catch (error) {
    // Half a copy is of no use, and takes room that there may be too little of.
    to.close();
    indexedDB.deleteDatabase(name);
    throw error;
  } finally {
    to.close();
  }
}
