#!/usr/bin/env node
// What `npx onekv` starts. It is there before anything is built, unlike the program itself: npx
// remembers for good that a checkout has no program, if it finds none at its first call.
import { existsSync } from 'node:fs';

const program = new URL('../../dist/cli/onekv.js', import.meta.url);
if (existsSync(program)) await import(program.href);
else {
  process.stderr.write('onekv: this checkout has not been built yet: npm run build\n');
  process.exitCode = 1;
}
