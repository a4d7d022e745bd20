// What is measured beside ours in `storage.mjs`: a database in a worker that says what a page asks for and answers when it is stored.

/** The specification's own design: sql.js in memory, and after each write the whole file into IndexedDB. */
async function openSqlJs(name) {
  const text = await (await fetch('/sql.js/sql-wasm.js')).text();
  const SQL = await new Function(`${text}; return initSqlJs;`)()({ locateFile: (file) => `/sql.js/${file}` });
  const start = performance.now();
  const idb = await new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore('db');
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const stored = await new Promise((resolve, reject) => {
    const request = idb.transaction('db').objectStore('db').get('main');
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const db = new SQL.Database(stored);
  const save = () =>
    new Promise((resolve, reject) => {
      const transaction = idb.transaction('db', 'readwrite');
      transaction.objectStore('db').put(db.export(), 'main');
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
  const run = async (sql, writes) => {
    const [result] = db.exec(sql);
    if (writes) await save();
    return result?.values ?? [];
  };
  return { run, start };
}

/** SQLite's own build, on files of the origin's private file system. This VFS of the package is its fastest. */
async function openOpfs(name) {
  const { default: init } = await import('/sqlite-wasm/index.mjs');
  const sqlite3 = await init();
  const start = performance.now();
  const pool = await sqlite3.installOpfsSAHPoolVfs({ directory: name });
  const db = new pool.OpfsSAHPoolDb('/main.db');
  const run = async (sql) => db.exec(sql, { returnValue: 'resultRows', rowMode: 'array' });
  return { run, start };
}

/** The records of one of our databases, as `pages.ts` reads them, and nothing done with them. */
async function readRaw(name) {
  const start = performance.now();
  const idb = await new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const store = idb.transaction('pages').objectStore('pages');
  const all = (range) =>
    new Promise((resolve, reject) => {
      const request = store.getAll(range);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  let bytes = 0;
  for (let first = 1, count = 512; count === 512; first += 512) {
    const records = await all(IDBKeyRange.bound(first, first + 511));
    count = records.length;
    bytes += records.reduce((sum, record) => sum + record.length, 0);
  }
  idb.close();
  return { ms: performance.now() - start, bytes };
}

let db;

onmessage = async ({ data: { id, act, name, sql, writes } }) => {
  try {
    let result;
    if (act === 'raw') result = await readRaw(name);
    else if (act === 'run') result = await db.run(sql, writes);
    else {
      db = await (act === 'sql.js' ? openSqlJs : openOpfs)(name);
      await db.run('SELECT 1 FROM sqlite_schema');
      result = performance.now() - db.start;
    }
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, failure: String(error?.stack ?? error) });
  }
};
