// docs/specification.md names tests: each of them must exist, in the file that it is said to be in.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../', import.meta.url);
const at = (path) => fileURLToPath(new URL(path, ROOT));

test('every test that docs/specification.md names is there', () => {
  const text = readFileSync(at('docs/specification.md'), 'utf8');
  const missing = [];
  let named = 0;
  // A file, and the quoted names that follow it until the next file.
  for (const [, file, names] of text.matchAll(/`((?:js|crates|demo|xtask)\/[\w./-]+)`([^`|]*)/g)) {
    if (file === 'demo/dist') continue;
    if (!existsSync(at(file))) missing.push(file);
    else {
      for (const [, name] of names.matchAll(/"([^"]+)"/g)) {
        named += 1;
        if (!readFileSync(at(file), 'utf8').includes(name)) missing.push(`${file}: ${name}`);
      }
    }
  }
  assert.deepEqual(missing, []);
  assert.ok(named > 50, `${named} tests are named`);
});
