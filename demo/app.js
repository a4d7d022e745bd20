// The demo: one room, named by the URL's hash, and a SQL editor on its database. Uses nothing but the library's public API. It runs as it
// stands here, in browsers as old as the library's: no `?.`, no `??`, no `replaceChildren`.

import { ANOTHER_TAB, RTCBattery, SET_ASIDE } from './rtc-battery.js';

const SCHEMA = `CREATE TABLE IF NOT EXISTS notes (
  id TEXT PRIMARY KEY,
  content TEXT,
  created_at TEXT DEFAULT CURRENT_TIMESTAMP
)`;

const EXAMPLES = {
  'Show notes': 'SELECT * FROM notes ORDER BY created_at DESC;',
  'Add a note': "INSERT INTO notes (id, content)\nVALUES (lower(hex(randomblob(4))), 'Hello world');",
  'Edit the newest': 'UPDATE notes SET content = content || \'!\'\nWHERE id = (SELECT id FROM notes ORDER BY created_at DESC LIMIT 1);',
  Tables: "SELECT name, sql FROM sqlite_schema\nWHERE type = 'table' AND name NOT LIKE 'rtc\\_%' ESCAPE '\\';",
};

const ROWS_AT_ONCE = 200;
const LOG_LINES = 200;
const SHORT_ID = 6;
const SLOW_MS = 300;
const STATUS_EVERY_MS = 2000;
const CELL_CHARACTERS = 2000;
const NO_NOTES = 'No rows. “Add a note” above writes one; it appears here and on every device with the link.';
const NOBODY = 'Nobody else is here yet. Open the share URL in another window, or send it to a friend.';
const NOBODY_OFFLINE = 'Nobody is in reach. Who has the link is found again when the signaling server is.';
const BUSY = 'This room is open in another tab or window. Close it there to go on here.';

const ui = Object.fromEntries([...document.querySelectorAll('[id]')].map((element) => [element.id, element]));

/** The room we are in; replaced as a whole when the hash changes. */
let room;

// Rooms

function randomToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function tokenInUrl() {
  const hash = location.hash.slice(1);
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}

async function enter() {
  if (tokenInUrl() === '') history.replaceState(null, '', `#${randomToken()}`);
  const token = tokenInUrl();
  const previous = room;
  const next = { battery: undefined, open: false, offline: false, query: undefined, rows: [], shown: 0, refreshing: undefined, ways: new Map() };
  room = next;
  clear();
  const leaving = previous !== undefined && previous.battery !== undefined ? previous.battery.disconnect() : undefined;
  let battery;
  try {
    battery = new RTCBattery({
      signalingUrl: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/signal`,
      token,
    });
  } catch (error) {
    // A link that names no room.
    fail(error);
    await leaving;
    return;
  }
  next.battery = battery;

  // Events of a room that was left meanwhile are nobody's any more.
  const listen = (event, callback) => battery.on(event, (...values) => room === next && callback(...values));
  listen('peer-join', (peer) => {
    next.offline = false;
    log(`Peer ${short(peer)} joined`);
    showPeers();
  });
  listen('peer-leave', (peer) => {
    // What it was sending breaks off.
    ui.receiving.hidden = true;
    log(`Peer ${short(peer)} left`);
    showPeers();
  });
  listen('sync', (peer, { operations }) => {
    const source = [ANOTHER_TAB, SET_ASIDE].includes(peer) ? peer : `peer ${short(peer)}`;
    log(`Synced ${counted(operations, 'operation')} from ${source}`);
    refresh();
  });
  listen('sync-progress', (peer, { done, total }) => {
    ui.receiving.hidden = done === total;
    ui.receiving.max = total;
    ui.receiving.value = done;
  });
  listen('online', () => {
    if (next.offline) log('The signaling server is back');
    next.offline = false;
    showPeers();
  });
  listen('error', (error) => {
    if (error.code === 'signaling-unreachable') next.offline = true;
    log(error.message, 'error');
    if (['storage', 'database-busy', 'internal'].includes(error.code)) fail(error);
    showPeers();
  });

  try {
    await leaving;
    await battery.connect();
    await battery.exec(SCHEMA);
  } catch (error) {
    if (room === next) fail(error);
    return;
  }
  if (room !== next) {
    await battery.disconnect();
    return;
  }
  next.open = true;
  ui.run.disabled = false;
  showPeers();
  await run();
}

function clear() {
  ui.receiving.hidden = true;
  ui.trouble.hidden = true;
  ui['share-url'].value = location.href;
  ui.run.disabled = true;
  fill(ui.log);
  ui.sql.value = EXAMPLES['Show notes'];
  ui.outcome.textContent = '';
  showError(undefined);
  showResult(undefined);
  showPeers();
}

function fail(error) {
  ui['trouble-text'].textContent = error.code === 'database-busy' ? BUSY : error.message;
  ui.trouble.hidden = false;
  ui.run.disabled = true;
  room.open = false;
  if (room.rows.length === 0) ui.empty.textContent = 'The database is not open.';
  showPeers('failed');
}

// Queries

/** Whether running a text again is harmless: one statement, and one that only reads. */
function onlyReads(sql) {
  const bare = sql.replace(/--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]/g, ' ').trim();
  const single = !/;\s*\S/.test(bare);
  return single && /^(select|values|with)\b/i.test(bare) && !/\b(insert|update|delete|replace)\b/i.test(bare);
}

async function run() {
  const { battery, open } = room;
  const here = room;
  const sql = ui.sql.value;
  if (!open || sql.trim() === '') return;
  // The button stays enabled: disabling it would take the focus from who pressed it by keyboard.
  const slow = setTimeout(() => (ui.outcome.textContent = 'Running…'), SLOW_MS);
  try {
    const result = await battery.exec(sql);
    if (room !== here) return;
    showError(undefined);
    if (result.columns.length > 0) {
      here.query = onlyReads(sql) ? sql : undefined;
      ui.outcome.textContent = '';
      showResult(result);
    } else {
      ui.outcome.textContent = `Done: ${counted(result.rowsAffected, 'row')} changed`;
      refresh();
    }
  } catch (error) {
    if (room !== here) return;
    ui.outcome.textContent = '';
    showError(error);
  } finally {
    clearTimeout(slow);
  }
}

/** Runs the last query that only reads again; changes that come meanwhile make one more round. */
async function refresh() {
  const here = room;
  if (here.query === undefined || !here.open) return;
  if (here.refreshing) {
    here.refreshing = 'again';
    return;
  }
  do {
    here.refreshing = 'once';
    try {
      const { query } = here;
      const result = await here.battery.exec(query);
      if (room === here && here.query === query) showResult(result, true);
    } catch (error) {
      if (room === here) showError(error);
    }
  } while (here.refreshing === 'again' && room === here && here.query !== undefined);
  here.refreshing = undefined;
}

// What is on the screen

function counted(count, noun) {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

function short(peer) {
  return peer.slice(0, SHORT_ID);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function fill(parent, ...children) {
  parent.textContent = '';
  parent.append(...children);
}

function showPeers(state) {
  const peers = room.battery === undefined ? [] : room.battery.getPeers();
  fill(ui.peers, ...peers.map((peer) => element('li', { title: peer }, `${short(peer)} `, element('span', { className: 'hint' }, room.ways.get(peer) || ''))));
  ui.nobody.hidden = peers.length > 0;
  ui.nobody.textContent = room.offline ? NOBODY_OFFLINE : NOBODY;
  const [word, text] =
    state === 'failed'
      ? ['failed', 'Not connected']
      : !room.open
        ? ['opening', 'Opening the database…']
        : peers.length > 0
          ? ['connected', `${counted(peers.length, 'peer')} connected`]
          : room.offline
            ? ['offline', 'Offline: changes are kept and sent later']
            : ['alone', '0 peers connected'];
  ui.status.dataset.state = word;
  if (ui.status.textContent !== text) ui.status.textContent = text;
}

/** Looks how far away each peer is, which way it is reached, and how far behind. */
async function lookAtPeers() {
  const here = room;
  if (!here.open || document.hidden || here.battery.getPeers().length === 0) return;
  try {
    const { peers } = await here.battery.getStatus();
    here.ways = new Map(peers.map((status) => [status.peer, wayTo(status)]));
    if (room === here && here.open) showPeers();
  } catch (error) {
    // A room that is being left.
    if (room === here) log(error.message, 'error');
  }
}

function wayTo({ state, roundTripMs, relayed, peerLacks, weLack }) {
  const behind = (peerLacks || 0) + (weLack || 0);
  const words = [
    state === 'interrupted' ? 'interrupted' : '',
    roundTripMs === null ? '' : `${roundTripMs} ms`,
    relayed === null ? '' : relayed ? 'relayed' : 'direct',
    behind === 0 ? '' : `${counted(behind, 'change')} to go`,
  ];
  return words.filter((word) => word !== '').join(', ');
}

function showError(error) {
  ui.error.hidden = error === undefined;
  ui.error.textContent = error === undefined ? '' : error.message;
  if (error === undefined) ui.sql.removeAttribute('aria-invalid');
  else ui.sql.setAttribute('aria-invalid', 'true');
}

function showResult(result, again = false) {
  const { columns, values } = result || { columns: [], values: [] };
  const old = again ? new Set(room.rows.map(identity)) : undefined;
  room.rows = values;
  room.shown = again ? Math.max(room.shown, ROWS_AT_ONCE) : ROWS_AT_ONCE;
  ui.live.hidden = room.query === undefined;
  ui.count.textContent = result === undefined ? '' : counted(values.length, 'row');
  ui.empty.hidden = values.length > 0;
  ui.empty.textContent = result === undefined ? 'Opening the database…' : room.query === EXAMPLES['Show notes'] ? NO_NOTES : 'No rows.';
  ui['table-box'].hidden = values.length === 0;
  // A heading stands over its values: on the right where the first one does.
  const headings = columns.map((name, index) => element('th', { scope: 'col', className: values.length > 0 ? kindOf(values[0][index]) : '' }, name));
  fill(ui.columns, element('tr', {}, ...headings));
  fill(ui.rows, ...tableRows(values.slice(0, room.shown), old));
  showMore();
}

function showMore() {
  ui.more.hidden = nextPart() === 0;
  ui.more.textContent = `Show ${counted(nextPart(), 'more row')}`;
}

/** As many rows again as there are, so that a few clicks reach the end and none makes the page wait long. */
function nextPart() {
  return Math.max(0, Math.min(room.rows.length - room.shown, room.shown));
}

/** Rows that were not there before are marked. */
function tableRows(values, old) {
  return values.map((row) => element('tr', { className: old && !old.has(identity(row)) ? 'fresh' : '' }, ...row.map(cell)));
}

function identity(row) {
  return JSON.stringify(row.map((value) => [typeof value, text(value)]));
}

function text(value) {
  if (value === null) return 'NULL';
  if (typeof value === 'string' && value.length > CELL_CHARACTERS) {
    return `${value.slice(0, CELL_CHARACTERS)}… (${counted(value.length, 'character')})`;
  }
  if (!(value instanceof Uint8Array)) return String(value);
  const hex = Array.from(value.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return value.length > 16 ? `x'${hex}…' (${counted(value.length, 'byte')})` : `x'${hex}'`;
}

function kindOf(value) {
  return value === null ? 'null' : value instanceof Uint8Array ? 'blob' : typeof value === 'string' ? '' : 'number';
}

function cell(value) {
  return element('td', { className: kindOf(value) }, text(value));
}

function log(line, kind = '') {
  const now = new Date();
  const time = element('time', { dateTime: now.toISOString() }, now.toLocaleTimeString('en-GB'));
  const atEnd = ui.log.scrollTop + ui.log.clientHeight >= ui.log.scrollHeight - 8;
  ui.log.append(element('p', { className: kind }, time, element('span', {}, line)));
  if (ui.log.children.length > LOG_LINES) ui.log.firstElementChild.remove();
  if (atEnd) ui.log.scrollTop = ui.log.scrollHeight;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(ui['share-url'].value);
  } catch {
    // Not a secure page, or not allowed: the old way.
    ui['share-url'].select();
    if (!document.execCommand('copy')) {
      ui.copied.textContent = 'Press Ctrl+C to copy the selected link';
      return;
    }
  }
  ui.copy.textContent = 'Copied ✓';
  ui.copy.classList.add('done');
  ui.copied.textContent = 'Link copied';
  clearTimeout(copy.timer);
  copy.timer = setTimeout(() => {
    ui.copy.textContent = 'Copy';
    ui.copy.classList.remove('done');
    ui.copied.textContent = '';
  }, 2000);
}

for (const [name, sql] of Object.entries(EXAMPLES)) {
  const example = element('button', { type: 'button' }, name);
  example.addEventListener('click', () => {
    ui.sql.value = sql;
    ui.sql.focus();
  });
  ui.examples.append(example);
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) ui.modifier.textContent = '⌘';
ui.run.addEventListener('click', run);
ui.sql.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
});
ui.more.addEventListener('click', () => {
  const part = nextPart();
  ui.rows.append(...tableRows(room.rows.slice(room.shown, room.shown + part)));
  room.shown += part;
  showMore();
  if (ui.more.hidden) ui['table-box'].focus();
});
ui.copy.addEventListener('click', copy);
ui['share-url'].addEventListener('focus', () => ui['share-url'].select());
ui['trouble-retry'].addEventListener('click', enter);
ui['new-room'].addEventListener('click', (event) => {
  event.preventDefault();
  location.hash = randomToken();
});
addEventListener('hashchange', enter);
setInterval(lookAtPeers, STATUS_EVERY_MS);

enter();
