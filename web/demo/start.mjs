// npm start: builds what has changed, serves the demo page and opens its address.
//
//   npm start [-- --no-open] [-- --port N]
//
// Listens on loopback only, with the headers that threads need. A machine without a browser or a
// screen gets the address printed, as all do.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { modelFolder } from '../../models/fetch/fetch.mjs';
import { serve } from '../../tests/browser/server.mjs';
import { buildTypeScript, buildWasm } from '../../wasm/toolchain/build.mjs';
import { Stop, main, say } from '../../wasm/toolchain/shell.mjs';
import { buildDemo, site } from './build.mjs';
import { policy } from './build/page-texts.mjs';

const usage = 'usage: npm start [-- --no-open] [-- --port N]';

function parse(args) {
  const options = { open: true, port: 8032 };
  for (let i = 0; i < args.length; i += 1) {
    if (args[i] === '--no-open') options.open = false;
    else if (args[i] === '--port') options.port = Number(args[i += 1]);
    else throw new Stop(`no such option: ${args[i]}\n${usage}`);
  }
  if (!Number.isInteger(options.port) || options.port < 0 || options.port > 65535) {
    throw new Stop(`--port takes a number up to 65535\n${usage}`);
  }
  return options;
}

/** The first program of the list that is there and can show something. */
function opener() {
  if (process.platform === 'darwin') return ['open'];
  if (process.platform === 'win32') return ['cmd', '/c', 'start', ''];
  if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return undefined;
  const found = (process.env.PATH ?? '').split(delimiter)
    .map((folder) => join(folder, 'xdg-open')).find((file) => existsSync(file));
  return found && [found];
}

function open(address) {
  const [program, ...args] = opener() ?? [];
  if (program === undefined) return;
  // Whether it can be opened is not ours to say: the address is printed.
  spawn(program, [...args, address], { stdio: 'ignore', detached: true })
    .on('error', () => {}).unref();
}

async function listen(port) {
  const options = {
    mounts: { '/': site, '/fetched/': modelFolder }, isolated: true, strict: policy,
  };
  try {
    return await serve({ ...options, port });
  } catch (error) {
    if (error.code !== 'EADDRINUSE') throw error;
    say(`port ${port} is taken; another one is used`);
    return serve(options);
  }
}

await main(async () => {
  const options = parse(process.argv.slice(2));
  const steps = [
    ['the WebAssembly modules (minutes the first time, then only what has changed)', buildWasm],
    ['the package', buildTypeScript], ['the page', buildDemo],
  ];
  for (const [i, [what, build]] of steps.entries()) {
    say(`step ${i + 1} of ${steps.length}: building ${what}`);
    await build();
  }
  const { origin } = await listen(options.port);
  console.log(`OneKV is at ${origin}/ (Ctrl-C ends it)`);
  if (options.open) open(`${origin}/`);
});
