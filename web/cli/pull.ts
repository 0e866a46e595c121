// onekv pull, list, remove: models of the network in the cache folder.
import { Engine, storeModel } from '../src/engine-entry-node.js';
import { deleteModel, listModels } from '../src/store/models.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { accessTo, downloads, findDownloads, isRemote } from './downloads.js';
import { Progress } from './progress.js';
import { note, write, writeJson } from './shared.js';
import { interrupted } from './signals.js';
import { bytes, table } from './units.js';

const names = 'NAME is hf:org/repo, which may be followed by :QUANT, /file.gguf and @revision, ' +
  'or an http address. HF_ENDPOINT names another hub, and HF_TOKEN is sent to the hub alone.';

async function runPull(values: Values): Promise<number> {
  const name = values.file();
  if (!isRemote(name)) {
    throw new UsageError(`${name}: found a path, expected hf:org/repo or http:…`);
  }
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
    await write(`${found}: ${bytes(fileBytes)}\n`);
    return 0;
  } finally {
    progress.clear();
    engine.destroy();
  }
}

async function runList(values: Values): Promise<number> {
  const models = await listModels({ store: downloads() });
  if (values.flag('json')) {
    await writeJson(models);
    return 0;
  }
  const rows = models.map(({ from, bytes: there, totalBytes, complete, storedAt, superseded }) =>
    [from, bytes(there), complete ? superseded ? 'older copy' : 'whole'
      : `of ${totalBytes === undefined ? '?' : bytes(totalBytes)}`,
    new Date(storedAt).toISOString().slice(0, 10)]);
  if (rows.length > 0) await write(`${table([['name', 'bytes', '', 'since'], ...rows])}\n`);
  else note('nothing has been pulled yet');
  return 0;
}

async function runRemove(values: Values): Promise<number> {
  const name = values.file();
  const found = await findDownloads(name);
  if (found.length === 0) throw new UsageError(`${name} is not here; onekv list tells what is`);
  for (const { key, from, bytes: there } of found) {
    await deleteModel(key, { store: downloads() });
    await write(`${from}: ${bytes(there)} are free\n`);
  }
  return 0;
}

export const pull: Command = {
  name: 'pull',
  summary: 'download a model into the cache folder; an interrupted download goes on',
  usage: 'NAME',
  details: names,
  options: [],
  run: runPull,
};

export const list: Command = {
  name: 'list',
  summary: 'list the models that have been pulled',
  usage: '[options]',
  details: 'ONEKV_CACHE moves the cache folder.',
  options: [{ name: 'json', help: 'one JSON array on stdout instead of text' }],
  run: runList,
};

export const remove: Command = {
  name: 'remove',
  summary: 'delete a model that was pulled',
  usage: 'NAME',
  details: `${names} The name that onekv list prints works, too.`,
  options: [],
  run: runRemove,
};
