// WebKitGTK, which is as near to Safari as Linux gets, driven by its own WebDriver on a screen that nobody sees. Debian builds it without
// WebRTC, and an automated run keeps its storage in memory: data outlives a reload, not the browser.

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Builder, Capabilities } from 'selenium-webdriver';
import { WATCHDOG_MS } from './harness.mjs';

const LIBRARIES = '/usr/lib';

const ENVIRONMENT = {
  ...process.env,
  GDK_BACKEND: 'x11',
  // No graphics hardware, and the sandbox needs namespaces that containers do not give.
  LIBGL_ALWAYS_SOFTWARE: '1',
  WEBKIT_DISABLE_COMPOSITING_MODE: '1',
  WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
};

const running = new Set();
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));

function start(program, args, options) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

async function end(child) {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill();
  await ended;
}

/** A screen; resolves with it and its number once it is there. */
async function startScreen() {
  const screen = start('Xvfb', ['-displayfd', '1', '-screen', '0', '1280x1024x24', '-nolisten', 'tcp']);
  const display = await new Promise((resolve, reject) => {
    screen.once('error', reject);
    screen.once('exit', (code) => reject(new Error(`Xvfb ended with ${code}`)));
    createInterface(screen.stdout).once('line', resolve);
  });
  return { screen, display };
}

/** The driver does not say when it listens, nor which port it would choose. */
async function startDriver(display) {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  const driver = start('WebKitWebDriver', [`--port=${port}`], { env: { ...ENVIRONMENT, DISPLAY: `:${display}` } });
  let failure;
  driver.once('error', (error) => (failure = error));
  driver.once('exit', (code) => (failure = new Error(`WebKitWebDriver ended with ${code}`)));
  const url = `http://127.0.0.1:${port}`;
  for (const giveUp = Date.now() + WATCHDOG_MS; ; ) {
    const ready = await fetch(`${url}/status`).then(({ ok }) => ok, () => false);
    if (ready) return { driver, url };
    if (failure !== undefined || Date.now() > giveUp) throw failure ?? new Error('WebKitWebDriver does not answer');
  }
}

/** Where Debian puts the browser depends on the version of its library. */
function miniBrowser() {
  for (const architecture of readdirSync(LIBRARIES).filter((name) => name.includes('-linux-gnu'))) {
    const folder = join(LIBRARIES, architecture);
    for (const library of readdirSync(folder).filter((name) => name.startsWith('webkit'))) {
      if (readdirSync(join(folder, library)).includes('MiniBrowser')) return join(folder, library, 'MiniBrowser');
    }
  }
  throw new Error('WebKitGTK has no MiniBrowser here');
}

/** A browser with one window. */
export async function startWebKit() {
  const { screen, display } = await startScreen();
  const { driver, url } = await startDriver(display);
  const options = { binary: miniBrowser(), args: ['--automation'] };
  const browser = await new Builder()
    .usingServer(url)
    .withCapabilities(new Capabilities({ browserName: 'MiniBrowser', 'webkitgtk:browserOptions': options }))
    .build();
  await browser.manage().setTimeouts({ script: WATCHDOG_MS });
  return {
    browser,
    /** Runs an async function in the page; arguments and result travel as JSON. */
    run: async (body, ...args) => {
      const [error, value] = await browser.executeAsyncScript(
        `const [args, done] = arguments;
        Promise.resolve(args).then((args) => (${body})(...args)).then((value) => done([null, value]), (error) => done([String(error), null]));`,
        args,
      );
      if (error !== null) throw new Error(`in WebKit: ${error}`);
      return value;
    },
    close: async () => {
      await browser.quit();
      await end(driver);
      await end(screen);
    },
  };
}
