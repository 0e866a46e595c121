// A model by its name on a hub. The hub is asked for its list of files, which has their SHA-256
// too: what is downloaded is checked without being asked for. A hub that does not answer is done
// without, when the store has the file.
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import { chooseStore } from '../store/choose.js';
import { integrityFailed, parseIntegrity } from '../store/integrity.js';
import { listFiles } from '../store/stored-file.js';
import { accessOf, sharing } from './access.js';
import { askWhole } from './download.js';
import { chooseFiles, fileUrl, hubAddress, nameOfFile, parseHubName, readTree, treeUrl }
  from './hub.js';
import type { HubFile, HubName } from './hub.js';
import type { Answer } from './request.js';
import type { OwnSourceOptions, Reading, Source } from './source.js';
import { SplitSource } from './split.js';
import { UrlSource } from './url.js';

/** A list of files comes in pages. */
const pagesMost = 50;
const pageBytesMost = 16 << 20;

/** The hub has answered, and has nothing for us. */
class Refusal extends OneKVError {}

async function readJson(answer: Answer): Promise<unknown> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  for await (const chunk of answer.chunks()) {
    parts.push(chunk.slice());
    bytes += chunk.length;
    if (bytes > pageBytesMost) throw new Refusal('SOURCE_FAILED', "the hub's list is too long");
  }
  try {
    return JSON.parse(await new Blob(parts).text());
  } catch {
    throw new OneKVError('SOURCE_FAILED', "the hub's list of files is not JSON");
  }
}

/** What went wrong, in words of who asked. */
function refusal(status: number, { repo, revision }: HubName, hasToken: boolean): OneKVError {
  if (status === 401 || status === 403) {
    return new Refusal('SOURCE_FAILED', `the hub shows ${repo} to nobody` +
      `${hasToken ? ' of this token' : ' without a token'}, or has no such model (HTTP status ` +
      `${status})`);
  }
  if (status === 404) {
    return new Refusal('SOURCE_FAILED', `the hub has no ${repo}, or no ${revision} of it (HTTP ` +
      'status 404)');
  }
  return new OneKVError('SOURCE_FAILED', `the hub gave HTTP status ${status}, expected 200`);
}

/** With what else can be done; a page has its own words for that. */
function withHint(error: OneKVError): OneKVError {
  if (error.code !== 'SOURCE_FAILED' || globalThis.location !== undefined) return error;
  return new OneKVError(error.code, `${error.message}; a file on disk needs no hub, and the ` +
    'option hub (of onekv: HF_ENDPOINT) names another', { cause: error });
}

export class HubSource implements Source {
  readonly #name: HubName;
  readonly #hub: URL;
  readonly #options: OwnSourceOptions;
  readonly #asked: string;
  #source: Source | undefined;

  /** Error: INVALID_ARGUMENT. */
  constructor(name: string, options: OwnSourceOptions) {
    this.#asked = name;
    this.#name = parseHubName(name);
    this.#hub = hubAddress(options.hub);
    this.#options = options;
    if (options.refresh !== undefined) {
      throw invalidArgument('refresh', options.refresh, 'none: a hub gives fresh addresses itself');
    }
    accessOf(this.#hub, options); // Checks them.
  }

  mayRead(): boolean {
    return this.#source?.mayRead() === true;
  }

  get name(): string {
    return this.#source?.name ?? this.#asked;
  }

  /** All files of the repository, as the hub lists them. */
  async #list(): Promise<HubFile[]> {
    const files: HubFile[] = [];
    let url: URL | undefined = treeUrl(this.#name, this.#hub);
    for (let page = 0; url !== undefined && page < pagesMost; page++) {
      const answer: Answer = await askWhole(accessOf(url, this.#options));
      if (answer.status !== 200) {
        await answer.cancel();
        throw refusal(answer.status, this.#name, this.#options.token !== undefined);
      }
      for (const file of readTree(await readJson(answer))) files.push(file);
      const next: string | undefined =
        /<([^>]+)>\s*;\s*rel="?next/.exec(answer.headers.get('link') ?? '')?.[1];
      url = next === undefined ? undefined : new URL(next, url);
      if (url !== undefined && url.origin !== this.#hub.origin) url = undefined;
    }
    return files;
  }

  /** The files of the repository that the store has whole. */
  async #listStored(): Promise<HubFile[]> {
    const { store } = chooseStore(this.#options.store ?? 'none');
    const stored = store === undefined ? [] : await listFiles(store);
    const { repo, revision } = this.#name;
    const ending = revision === 'main' ? '' : `@${revision}`;
    return stored.flatMap(({ from, complete, sha256 }) => {
      const isOurs = complete && from.startsWith(`hf:${repo}/`) && from.endsWith(`.gguf${ending}`);
      const path = from.slice(`hf:${repo}/`.length, from.length - ending.length);
      return isOurs ? [{ path, sha256 }] : [];
    });
  }

  /** As the hub lists them; when it does not answer, those that are stored. */
  async #files(): Promise<HubFile[]> {
    try {
      return await this.#list();
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (!(error instanceof OneKVError) || error instanceof Refusal) throw error;
      const stored = await this.#listStored().catch(() => []);
      if (stored.length === 0) throw withHint(error);
      this.#options.onNote?.(`hub: ${reasonOf(error)}; what is stored is used`);
      return stored;
    }
  }

  /** The source that the name stands for. */
  async #resolve(): Promise<Source> {
    if (this.#source !== undefined) return this.#source;
    const files = chooseFiles(this.#name, await this.#files());
    const { integrity, store = 'none', onNote = () => {}, key, mustKeep } = this.#options;
    const asked = integrity === undefined ? undefined : parseIntegrity(integrity);
    if (asked !== undefined && files.length > 1) {
      throw invalidArgument('integrity', integrity, 'none for a model in several files');
    }
    const sources = files.map(({ path, sha256 }, i) => {
      if (asked !== undefined && sha256 !== undefined && asked !== sha256) {
        throw integrityFailed(sha256, asked);
      }
      const access = accessOf(fileUrl(this.#name, path, this.#hub), this.#options);
      const ownKey = key === undefined || files.length === 1 ? key : `${key}-${i + 1}`;
      return new UrlSource({ access, sha256: sha256 ?? asked, store, onNote, key: ownKey,
        mustKeep, from: nameOfFile(this.#name, path),
        ...sharing(this.#options, access.address.url) });
    });
    this.#source = sources.length === 1 ? sources[0] as Source : new SplitSource(sources);
    return this.#source;
  }

  async open(): Promise<Reading> {
    return (await this.#resolve()).open();
  }

  async openHeader(): Promise<Reading> {
    return (await this.#resolve()).openHeader();
  }
}
