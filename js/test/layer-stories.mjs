// What SQLLayer does, told by functions that need nothing but the class: Node and pages run the same ones and must tell the same.

/** Everything in a table, exactly: the type and the literal of every value. */
const HELPERS = `
  const dump = (layer, table) => {
    const columns = layer.execute('SELECT name FROM pragma_table_info(?)', [table]).result.values.map(([name]) => '"' + name.replace(/"/g, '""') + '"');
    const list = columns.map((name) => "typeof(" + name + ") || ' ' || quote(" + name + ")").join(', ');
    return layer.execute('SELECT ' + list + ' FROM "' + table.replace(/"/g, '""') + '" ORDER BY 1, 2').result.values.map((row) => row.join(' | '));
  };
  const thrown = (act) => {
    try { act(); } catch (error) { return error; }
    return undefined;
  };
`;

/** A story as code that takes the library and returns a promise of what it tells. */
export const tell = (story) => `(async (library) => { ${HELPERS} return (${story})(library, { dump, thrown }); })`;

/** Two layers write; each applies what the other did, backwards and twice. */
export async function twoLayers({ SQLLayer }, { dump }) {
  const [ada, bob] = await Promise.all([SQLLayer.create(), SQLLayer.create()]);
  const operations = [];
  const run = (layer, sql, params) => operations.push(...layer.execute(sql, params).operations);
  run(ada, 'CREATE TABLE notes (id TEXT PRIMARY KEY, n, price REAL, any)');
  run(ada, 'INSERT INTO notes VALUES (?, ?, ?, ?)', ['a', 9007199254740993n, 2, new Uint8Array([0, 255])]);
  run(ada, "INSERT INTO notes VALUES ('b', -9223372036854775808, 0.5, 1.0), ('c', 1, 1e300, '-0'), ('d', 9e999, -9e999, CAST(x'ff' AS TEXT))");
  for (const operation of [...operations].reverse()) bob.applyOperation(operation);
  const first = [dump(ada, 'notes'), dump(bob, 'notes')];

  const mark = operations.length;
  run(ada, "UPDATE notes SET n = 'ada' WHERE id IN ('a', 'b'); DELETE FROM notes WHERE id = 'c'; INSERT INTO notes VALUES ('naïve 🔋', NULL, NULL, '\u0001')");
  run(bob, "UPDATE notes SET price = 3 WHERE id = 'a'; DELETE FROM notes WHERE id = 'd'");
  for (const operation of operations.slice(mark).concat(operations)) {
    ada.applyOperation(operation);
    bob.applyOperation(operation);
  }
  return { first, then: [dump(ada, 'notes'), dump(bob, 'notes')] };
}

/** Names that JavaScript and SQL could stumble over are columns like any other. */
export async function names({ SQLLayer }, { dump }) {
  const [ada, bob] = await Promise.all([SQLLayer.create(), SQLLayer.create()]);
  const { operations } = ada.execute(`
    CREATE TABLE "__proto__" ("__proto__" TEXT PRIMARY KEY, "constructor", "a ""quoted"" 'name'; --", "naïve 🔋", "toString", "$int");
    INSERT INTO "__proto__" VALUES ('polluted', 1, 2, 3, 4, 5);
    UPDATE "__proto__" SET "constructor" = 6, "$int" = 'x'`);
  // As they would travel.
  for (const operation of operations) bob.applyOperation(JSON.parse(JSON.stringify(operation)));
  const last = operations[2];
  return {
    dumps: [dump(ada, '__proto__'), dump(bob, '__proto__')],
    last: JSON.stringify({ table: last.table, pk: last.pk, values: last.values, prev: last.prev }),
    polluted: {}.polluted ?? Object.keys(Object.prototype).length,
  };
}

/** Errors say what they are, and take nothing with them. */
export async function errors({ SQLLayer, SqlError, RTCBatteryError }, { thrown }) {
  const layer = await SQLLayer.create();
  layer.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  const failed = thrown(() => layer.execute('INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)'));
  const codes = [
    () => layer.execute('SELECT ?', [new Date()]),
    () => layer.execute(42),
    () => layer.applyOperation({}),
    () => layer.importDatabase(new Uint8Array([1, 2, 3])),
    () => layer.importDatabase('text'),
    () => layer.execute('BEGIN').result && layer.applyOperation(failed.operations[0]),
    () => layer.exportDatabase(),
    () => layer.importDatabase(new Uint8Array()),
    () => layer.close() ?? layer.execute('SELECT 1'),
  ].map((act) => {
    const error = thrown(act);
    return [error instanceof RTCBatteryError, error?.code];
  });
  return { sql: [failed instanceof SqlError, failed.code, failed.operations.map(({ type, pk }) => [type, pk])], codes };
}

/** What each story must tell. */
export const EXPECTED = new Map([
  [
    twoLayers,
    (() => {
      const [a, b, c, d] = [
        "text 'a' | integer 9007199254740993 | real 2.0 | blob X'00FF'",
        "text 'b' | integer -9223372036854775808 | real 0.5 | real 1.0",
        "text 'c' | integer 1 | real 1.0e+300 | text '-0'",
        "text 'd' | real 9.0e+999 | real -9.0e+999 | text '\ufffd'",
      ];
      const first = [a, b, c, d];
      const then = [a.replace('integer 9007199254740993 | real 2.0', "text 'ada' | real 3.0"), b.replace('integer -9223372036854775808', "text 'ada'"), "text 'naïve 🔋' | null NULL | null NULL | text '\u0001'"];
      return { first: [first, first], then: [then, then] };
    })(),
  ],
  [
    names,
    {
      dumps: Array(2).fill(["text 'polluted' | integer 6 | integer 2 | integer 3 | integer 4 | text 'x'"]),
      last: '{"table":"__proto__","pk":{"__proto__":"polluted"},"values":{"$int":"x","constructor":6},"prev":{"$int":5,"constructor":1}}',
      polluted: 0,
    },
  ],
  [
    errors,
    {
      sql: [true, 1555, [['INSERT', { id: 1 }]]],
      codes: ['bad-parameter', 'bad-parameter', 'bad-operation', 'bad-file', 'bad-file', 'in-transaction', 'in-transaction', 'in-transaction', 'closed'].map((code) => [true, code]),
    },
  ],
]);
