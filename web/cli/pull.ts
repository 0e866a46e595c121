// onekv pull, list, remove: models of the network in the cache folder.
import { existsSync, rmSync } from 'node:fs';
import { Engine, storeModel } from '../src/engine-entry-node.js';
import type { StoredModel } from '../src/api/store.js';
import { deleteModel, listModels } from '../src/store/models.js';
import { meant } from '../src/util/nearest.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { accessTo, downloads, findDownloads, isRemote } from './downloads.js';
import { fetchedModels, findModel, hubNameOf, knownNames } from './model-file.js';
import { Progress } from './progress.js';
import { note, write, writeJson } from './shared.js';
import { interrupted } from './signals.js';
import { bytes, table } from './units.js';

const names = 'NAME is hf:org/repo, which may be followed by :QUANT, /file.gguf and @revision, ' +
  'or an http address, or smollm2-135m-instruct, a small chat model.';
const folder = 'The cache folder is ONEKV_CACHE, by default ~/.cache/onekv.';

/** Where a typed name is downloaded from. Error: UsageError. */
function addressOf(typed: string): string {
  const name = hubNameOf(typed) ?? typed;
  if (isRemote(name)) return name;
  const known = knownNames();
  if (existsSync(typed) || known.includes(typed)) {
    throw new UsageError(`${typed} need not be pulled: it is the file ${findModel(typed)}`);
  }
  throw new UsageError(`${typed}: expected hf:org/repo, an http address or a known name` +
    meant(typed, known));
}

/** Says that nothing had to be downloaded. */
const writeStored = (name: string, count: number) =>
  write(`${name}: stored already, ${bytes(count)}\n`);

/** What tells a copy from a newer one. */
const copiesOf = async (name: string): Promise<string[]> => (await findDownloads(name))
  .filter(({ complete }) => complete).map(({ key, storedAt }) => `${storedAt} ${key}`);

async function runPull(values: Values): Promise<number> {
  const typed = values.file();
  const name = addressOf(typed);
  // The other commands take this copy, too, and a known name means one revision for ever.
  const own = fetchedModels().find((model) => model.name === typed && !model.isDamaged);
  if (own !== undefined) {
    await writeStored(own.path, own.bytes);
    return 0;
  }
  const before = await copiesOf(name);
  const engine = await Engine.open({ threads: 1, simd: 'simd128' });
  const progress = new Progress('pulling');
  let found = name;
  try {
    const { fileBytes } = await storeModel(engine, name, {
      ...accessTo(name, note),
      signal: interrupted,
      onProgress: (told) => {
        found = told.name;
        progress.show(told.loaded, told.total);
      },
    });
    progress.clear();
    const after = await copiesOf(name);
    if (after.length > 0 && after.every((copy) => before.includes(copy))) {
      await writeStored(found, fileBytes);
    } else await write(`${found}: ${bytes(fileBytes)}\n`);
    return 0;
  } finally {
    progress.clear();
    engine.destroy();
  }
}

/** What models/fetch has put into the cache folder, as if it had been pulled. */
const fetched = (): StoredModel[] => fetchedModels().map((model) => ({ key: model.path,
  from: model.name, bytes: model.bytes, totalBytes: model.bytes, complete: !model.isDamaged,
  sha256: undefined, storedAt: model.storedAt, superseded: false,
  ...(model.isDamaged ? { damaged: true } : {}) }));

function stateOf({ damaged, complete, superseded, totalBytes }: StoredModel): string {
  if (damaged === true) return 'damaged';
  if (complete) return superseded ? 'older copy' : 'complete';
  return `of ${totalBytes === undefined ? '?' : bytes(totalBytes)}`;
}

async function runList(values: Values): Promise<number> {
  const [extra] = values.positionals;
  if (extra !== undefined) throw new UsageError(`unexpected argument: ${extra}`);
  const models = [...await listModels({ store: downloads() }), ...fetched()];
  if (values.flag('json')) {
    await writeJson(models);
    return 0;
  }
  const rows = models.map((model) => [model.from, bytes(model.bytes), stateOf(model),
    model.storedAt === 0 ? '' : new Date(model.storedAt).toISOString().slice(0, 10)]);
  if (rows.length > 0) await write(`${table([['name', 'size', '', 'stored'], ...rows])}\n`);
  else note('the cache folder has no models yet; onekv pull --help');
  return 0;
}

async function runRemove(values: Values): Promise<number> {
  const name = values.file();
  const found = await findDownloads(hubNameOf(name) ?? name);
  const files = fetched().filter(({ key, from }) => [key, from].includes(name));
  for (const { key, from, bytes: there } of files) {
    rmSync(key, { recursive: true });
    await write(`${from}: deleted, ${bytes(there)}\n`);
  }
  if (found.length + files.length === 0) {
    throw new UsageError(`${name} is not in the cache folder; onekv list shows what is`);
  }
  for (const { key, from, bytes: there } of found) {
    await deleteModel(key, { store: downloads() });
    await write(`${from}: deleted, ${bytes(there)}\n`);
  }
  return 0;
}

export const pull: Command = {
  name: 'pull',
  summary: 'download a model into the cache folder, or resume a download',
  usage: 'NAME',
  details: `${names} HF_ENDPOINT names another hub; HF_TOKEN is sent to the hub alone. ${folder}`,
  example: 'onekv pull smollm2-135m-instruct',
  options: [],
  run: runPull,
};

export const list: Command = {
  name: 'list',
  aliases: ['ls'],
  summary: 'list the models in the cache folder',
  usage: '[options]',
  details: `${folder} It also has what models/fetch of a checkout stored there.`,
  example: 'onekv list',
  options: [{ name: 'json', help: 'one JSON array on stdout instead of text' }],
  run: runList,
};

export const remove: Command = {
  name: 'remove',
  aliases: ['rm'],
  summary: 'delete a model from the cache folder',
  usage: 'NAME',
  details: `NAME is a name that onekv list shows, or one that onekv pull takes. A file that ` +
    `models/fetch stored is deleted too. ${folder}`,
  example: 'onekv remove smollm2-135m-instruct',
  options: [],
  run: runRemove,
};
