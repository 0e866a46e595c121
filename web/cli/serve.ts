// onekv serve: OpenAI's HTTP interface to a model on this machine.
//
// The first Ctrl-C (or SIGTERM) takes no more requests and lets those that run end; after the time
// of --grace they are ended. The second one ends the program at once.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename } from 'node:path';
import type { Model } from '../src/onekv-node.js';
import { createHandler } from '../src/facades/handler.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { doorOf, isLoopback } from './http.js';
import type { Door, Served } from './http.js';
import { loadInWorker } from './load.js';
import { findModel } from './model-file.js';
import { checkWrites, engineOptions, modelOptions, note, write } from './shared.js';
import { interrupted } from './signals.js';
import { bytes, digits, parseBytes } from './units.js';

/** What requests call the model: a file's name without .gguf, a hub's name without hf:. */
const nameOf = (file: string): string => (/^hf:/i.test(file) ? file.slice(3)
  : basename(file.replace(/[?#].*$/, '')).replace(/\.gguf$/i, ''));

function readLimits(values: Values) {
  const text = values.text('max-bytes');
  const maxBytes = text === undefined ? undefined : parseBytes(text);
  if (text !== undefined && (maxBytes === undefined || maxBytes < 1 || maxBytes >= 2 ** 31)) {
    throw new UsageError(`--max-bytes: found ${JSON.stringify(text)}, expected 1 to 2GB`);
  }
  for (const origin of values.texts('cors')) {
    if (origin === '*' || (URL.canParse(origin) && new URL(origin).origin === origin)) continue;
    throw new UsageError(`--cors: found ${JSON.stringify(origin)}, expected an origin such as ` +
      'http://localhost:5173, or *');
  }
  return {
    host: values.text('host') ?? '127.0.0.1',
    port: values.integer('port', 0, 65535) ?? 8080,
    maxBytes,
    sessions: values.integer('sessions', 1, 1024),
    most: values.integer('max-requests', 1, 1024) ?? 8,
    grace: values.number('grace', 0, 3600) ?? 10,
    origins: values.texts('cors'),
    key: process.env['ONEKV_API_KEY'] || undefined,
  };
}

async function listen(server: Server, port: number, host: string): Promise<string> {
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    throw new UsageError(code === 'EADDRINUSE'
      ? `port ${port} is taken by another program; --port 0 takes a free one`
      : code === 'EACCES' ? `port ${port} is reserved for the system; --port takes one above 1023`
        : `--host ${host}: ${message ?? error}`);
  }
  const { address, family, port: taken } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}/v1`;
}

/** Complains about an address before a model is loaded: it is taken for a moment. */
async function checkAddress(port: number, host: string): Promise<void> {
  const trial = createServer();
  await listen(trial, port, host);
  await new Promise((resolve) => {
    trial.close(resolve);
  });
}

const asked = (signal: AbortSignal): Promise<void> => new Promise((resolve) => {
  // An interrupt that came while the server began to listen counts.
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  process.once('SIGTERM', () => resolve());
});

/** Takes no more, and ends what runs within so many seconds. */
async function end(server: Server, door: Omit<Door, 'server'>, grace: number): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  server.closeIdleConnections();
  const timer = setTimeout(door.abort, grace * 1000);
  await door.idle();
  clearTimeout(timer);
  server.closeAllConnections();
  await closed;
}

const aboutOf = (name: string, { hasChatTemplate, description }: Model): string => [
  `onekv serves ${name} to programs that speak OpenAI's HTTP interface:`, '  GET  /v1/models',
  ...(description.causal ? ['  POST /v1/completions'] : []),
  ...(hasChatTemplate ? ['  POST /v1/chat/completions', '  POST /v1/responses'] : []),
  '  POST /v1/embeddings', ''].join('\n');

/** What a model without a chat template answers. */
const onlyOf = ({ description: { causal } }: Model): string => (causal
  ? 'the file has no chat template: it continues texts, at /v1/completions, and does not chat'
  : 'the model writes no text: /v1/embeddings only');

async function run(values: Values): Promise<number> {
  const limits = readLimits(values);
  const path = findModel(values.file());
  const name = values.text('name') ?? nameOf(values.file());
  const isQuiet = values.flag('quiet');
  await checkAddress(limits.port, limits.host);
  const model = await loadInWorker(values, path);
  const handle = createHandler({ [name]: model },
    { maxBytes: limits.maxBytes, sessions: limits.sessions });
  const log = ({ method, path: at, status, ms }: Served) => {
    if (!isQuiet) note(`${method} ${at.slice(0, 80)} ${status} ${digits(ms / 1000)} s`);
  };
  const { server, ...door } = doorOf(handle, { ...limits, maxBytes: limits.maxBytes ?? 1 << 24,
    isLocal: isLoopback(limits.host), about: aboutOf(name, model) }, log);
  try {
    if (model.description.features > 0) checkWrites(values.file(), model.description);
    const address = await listen(server, limits.port, limits.host);
    await write(`${address}\n`);
    if (!isQuiet) {
      note(`${name}: ${bytes(model.bytesPerToken)} of cache per token, ${model.engine.simd}, ` +
        `${model.engine.threads} thread${model.engine.threads === 1 ? '' : 's'}; Ctrl-C ends`);
      if (!model.hasChatTemplate) note(onlyOf(model));
      if (!isLoopback(limits.host) && limits.key === undefined) {
        note('other machines can send requests too: ONEKV_API_KEY sets a key');
      }
    }
    await asked(interrupted);
    // What the terminal shows next begins on a line of its own.
    if (process.stderr.isTTY) note('');
    await end(server, door, limits.grace);
    return 0;
  } finally {
    server.close();
    await model.unload();
  }
}

export const serve: Command = {
  name: 'serve',
  summary: "serve OpenAI's HTTP interface on this machine",
  usage: 'FILE [options]',
  details: 'Answers /v1/models, /v1/chat/completions, /v1/completions, /v1/responses and ' +
    '/v1/embeddings, and writes its address to stdout. If ONEKV_API_KEY is set in the ' +
    'environment, requests need that key. Ctrl-C lets running answers finish, then ends it.',
  example: 'onekv serve smollm2-135m-instruct --port 8080',
  options: [
    { name: 'port', short: 'p', value: 'N', help: 'default 8080; 0 takes a free one' },
    { name: 'host', value: 'ADDRESS', help: 'where to listen (default 127.0.0.1: only this ' +
      'machine)' },
    { name: 'cors', value: 'ORIGIN', multiple: true, help: 'pages of this origin may send ' +
      'requests, with * any page; may be given several times (default: none)' },
    { name: 'name', value: 'NAME', help: "the model's name in /v1/models (default: the file's)" },
    { name: 'sessions', value: 'N', help: 'how many conversations keep their cache (default 4)' },
    { name: 'max-requests', value: 'N', help: 'answers at a time; further requests get status ' +
      '503 (default 8)' },
    { name: 'max-bytes', value: 'SIZE', help: 'largest request; a larger one gets status 413 ' +
      '(default 16 MiB)' },
    { name: 'grace', value: 'SECONDS', help: 'time that running answers have after Ctrl-C ' +
      '(default 10)' },
    ...modelOptions, ...engineOptions,
    { name: 'quiet', short: 'q', help: 'neither heading nor a line per request' },
  ],
  computes: true,
  run,
};
