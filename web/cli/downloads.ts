// Models that come from the network: names on a hub and addresses, kept in the cache folder.
import { join } from 'node:path';
import type { LoadOptions } from '../src/engine-entry-node.js';
import type { ModelStore, StoredModel } from '../src/api/store.js';
import { chooseFiles, isHubName, nameOfFile, parseHubName } from '../src/source/hub.js';
import { folderStore } from '../src/store/folder-node.js';
import { listModels } from '../src/store/models.js';
import { cacheFolder } from './model-file.js';

export const downloads = (): ModelStore => folderStore(join(cacheFolder(), 'downloads'));

export const isRemote = (file: string): boolean =>
  isHubName(file) || /^https?:\/\//i.test(file);

/** How a FILE is read: of the network, with what the environment says of it, and kept. */
export function accessTo(file: string, onNote: (text: string) => void): LoadOptions {
  if (!isRemote(file)) return {};
  const { env } = process;
  const common = { store: downloads(), onNote };
  if (!isHubName(file)) return common;
  const [hub, token] = [env['HF_ENDPOINT'], env['HF_TOKEN']];
  return { ...common, ...(hub ? { hub } : {}), ...(token ? { token } : {}) };
}

/** What is kept of a name: the files that it stands for, or the copies of that key or address. */
export async function findDownloads(name: string): Promise<StoredModel[]> {
  const stored = await listModels({ store: downloads() });
  const exact = stored.filter(({ key, from }) => key === name || from === name);
  if (exact.length > 0 || !isHubName(name)) return exact;
  const hubName = parseHubName(name);
  const files = stored.flatMap(({ from, sha256 }) => {
    const path = from.slice(`hf:${hubName.repo}/`.length).split('@')[0] ?? '';
    return from === nameOfFile(hubName, path) ? [{ path, sha256 }] : [];
  });
  if (files.length === 0) return [];
  const names = chooseFiles(hubName, files).map(({ path }) => nameOfFile(hubName, path));
  return stored.filter(({ from }) => names.includes(from));
}
