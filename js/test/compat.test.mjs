// What is shipped must run as it is in the oldest browsers that we name: read as ES2019, and every API and style that came later is listed here
// with what stands in its place there. The tables of who has what since when are MDN's and caniuse's.
//
// An API is known by its name alone, so that methods of whatever object are seen: a name counts as too new when everything on the web
// platform that has this name is too new for one of our browsers.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'acorn';
import { full } from 'acorn-walk';
import doiuse from 'doiuse';
import postcss from 'postcss';

const OLDEST = { chrome: 80, edge: 80, firefox: 78, safari: 14, safari_ios: 14 };
const OLDEST_FOR_STYLES = ['chrome 80', 'edge 80', 'firefox 78', 'safari 14', 'ios_saf 14.0-14.4'];

/** Newer APIs that are used, and what is done where they are missing. */
const GUARDED = {
  connectionState: 'link.ts: where it is undefined iceConnectionState is read',
  setConfiguration: 'link.ts: `?.`; renewed ICE servers are then used by the next connection',
  sctp: 'link.ts: `?.`; the limit is then unknown, and the core assumes the least',
  FinalizationRegistry: "wasm-bindgen's glue: `typeof`; objects are then freed by hand, which we do",
  detached: "wasm-bindgen's glue: where it is undefined buffers are compared",
  encodeInto: "wasm-bindgen's glue: `in`; written there with `encode`",
  Atomics: 'sqlite-wasm-rs: only where SQLite sleeps, which it does for a lock that another connection holds; there is none',
  locks: 'tabs.ts, lock.ts: where it is undefined a tab is alone, and the fence in IndexedDB keeps the data safe',
  BroadcastChannel: 'tabs.ts: where it is undefined a tab is alone',
  persist: 'storage-report.ts: `?.`; where it is undefined nobody is asked',
  durability: 'pages.ts: a member of a dictionary; who does not know it ignores it',
  commit: 'pages.ts: `?.`; the transaction then commits by itself',
};

/** Names of our own that newer APIs happen to have too. */
const OURS = ['bytes', 'closing', 'connection', 'dispose', 'fence', 'memory', 'number', 'role', 'sync', 'take', 'turn'];

/** Newer styles, and what is seen where they are missing. */
const STYLES = {
  'css-overflow': 'only `overflow: clip` and two values are missing',
  'css-clip-path': 'only shapes on SVG and `path()` are missing',
  'css-masks': 'taken for a mask; it is the clip path',
  'css-resize': 'the field cannot be made larger on a phone',
  'css-focus-visible': "the rule is dropped; the browser's own focus ring stays",
  'css-sticky': 'only table rows and sections are missing; cells stick',
};

const file = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const scripts = [
  ...readdirSync(file('js/dist')).filter((name) => name.endsWith('.js')).map((name) => `js/dist/${name}`),
  'demo/dist/app.js',
];

/** What a script has that ES2019 does not, as text; an error if even ES2020 does not have it. */
function newerSyntax(code) {
  const found = [];
  // `import.meta` and `import()` are the two of ES2020 that all our browsers have (Chrome 64, Firefox 67, Safari 11.1).
  full(parse(code, { ecmaVersion: 2020, sourceType: 'module' }), (node) => {
    if (node.type === 'ChainExpression') found.push('optional chaining');
    if (node.type === 'LogicalExpression' && node.operator === '??') found.push('??');
    if (node.type === 'ExportAllDeclaration' && node.exported) found.push('export * as');
    if (node.type === 'Literal' && node.bigint !== undefined) found.push(`the literal ${node.bigint}n`);
    // ES2018, and Safari's since 16.4 only.
    if (node.type === 'Literal' && node.regex && /\(\?<[=!]/.test(node.regex.pattern)) found.push(`lookbehind in ${node.raw}`);
  });
  return found;
}

function isTooNew({ support }) {
  return Object.entries(OLDEST).some(([browser, oldest]) => {
    const statements = [support[browser]].flat();
    return !statements.some(({ version_added: added, version_removed: removed, flags, prefix, alternative_name: alias }) => {
      const since = typeof added === 'string' ? parseFloat(added.replace('≤', '')) : Infinity;
      return since <= oldest && removed === undefined && flags === undefined && prefix === undefined && alias === undefined;
    });
  });
}

/** Names of which everything that bears them came too late for one of our browsers. */
function tooNewNames() {
  const known = new Map();
  const learn = (name, compat) => compat && known.set(name, (known.get(name) ?? true) && isTooNew(compat));
  const { api, javascript } = createRequire(import.meta.url)('@mdn/browser-compat-data');
  for (const [name, { __compat: compat, ...members }] of [...Object.entries(api), ...Object.entries(javascript.builtins)]) {
    learn(name, compat);
    // Whoever cannot have an object does not use its members.
    if (compat && isTooNew(compat)) continue;
    for (const [member, { __compat: compat }] of Object.entries(members)) learn(member.replace(/_(static|event)$/, ''), compat);
  }
  return new Set([...known].filter(([, tooNew]) => tooNew).map(([name]) => name));
}

/** Every name in a script that could be an API's. */
function namesIn(code) {
  const names = new Set();
  full(parse(code, { ecmaVersion: 'latest', sourceType: 'module' }), (node) => {
    // No global is named as shortly as the minifier names.
    if (node.type === 'Identifier' && node.name.length > 2) names.add(node.name);
    if (node.type === 'MemberExpression') names.add(node.property.value ?? node.property.name);
    if (node.type === 'Property') names.add(node.key.value ?? node.key.name);
  });
  return names;
}

test('the parser and the tables know what is new', () => {
  for (const newer of ['a?.b', 'a ?? b', '1n', "export * as a from 'b'", '/(?<=a)b/']) assert.equal(newerSyntax(newer).length, 1, newer);
  for (const newest of ['a ??= b', 'class A { b = 1 }', 'class A { #b() {} }', 'await 1']) assert.throws(() => newerSyntax(newest), newest);
  for (const old of ['import.meta.url', "import('a')", 'try { a() } catch { b() }', '({ ...a })', '/(?<a>.)/su']) assert.deepEqual(newerSyntax(old), []);
  const tooNew = tooNewNames();
  for (const name of ['at', 'structuredClone', 'WeakRef', 'BroadcastChannel', 'replaceChildren', 'randomUUID', 'any', 'hasOwn']) assert.ok(tooNew.has(name), name);
  for (const name of ['append', 'fromEntries', 'flatMap', 'writeText', 'postMessage', 'RTCPeerConnection', 'getAll', 'finally']) assert.ok(!tooNew.has(name), name);
});

test('shipped scripts are ES2019', () => {
  assert.ok(scripts.length >= 3);
  for (const script of scripts) assert.deepEqual(newerSyntax(readFileSync(file(script), 'utf8')), [], script);
});

test('shipped scripts use no API that is newer than our browsers, but where it is guarded', () => {
  const tooNew = tooNewNames();
  const used = new Set(scripts.flatMap((script) => [...namesIn(readFileSync(file(script), 'utf8'))]));
  const found = [...used].filter((name) => tooNew.has(name)).sort();
  // Also the other way round: what is not used any more is to be taken off the lists.
  assert.deepEqual(found, [...Object.keys(GUARDED), ...OURS].sort());
});

test("the demo's styles work without what is newer than our browsers", async () => {
  const found = new Set();
  const onFeatureUsage = ({ feature }) => found.add(feature);
  const path = file('demo/dist/style.css');
  await postcss([doiuse({ browsers: OLDEST_FOR_STYLES, onFeatureUsage })]).process(readFileSync(path, 'utf8'), { from: path });
  assert.deepEqual([...found].sort(), Object.keys(STYLES).sort());
});
