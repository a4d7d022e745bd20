// Bundles src into dist: the library and its SQL layer alone as ES modules, the worker as a classic script (Firefox below 114 and Safari below 15 have
// no module workers). `cargo xtask build` runs this after wasm-bindgen and tsc.
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const shared = {
  absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
  bundle: true,
  minify: true,
  sourcemap: true,
  target: ['es2019', 'chrome80', 'edge80', 'firefox78', 'safari14'],
  // All four have destructuring; esbuild withholds it for a corner case (a default that throws) and cannot lower it. They also have these two
  // of ES2020.
  supported: { destructuring: true, 'import-meta': true, 'dynamic-import': true },
  logLevel: 'warning',
};

await build({ ...shared, entryPoints: ['src/rtc-battery.ts', 'src/core.ts'], format: 'esm', outdir: 'dist' });
await build({ ...shared, entryPoints: ['src/worker/main.ts'], format: 'iife', outfile: 'dist/worker.js' });
