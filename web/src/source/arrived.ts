// What arrived instead of a model, named for what it is: a sign-in page, a pointer, an archive.
import { OneKVError } from '../api/errors.js';
import type { Loader } from '../engine/loader.js';

/** As many of a file's first bytes tell what it is. */
const headMost = 1024;

/** Beginnings that say what a file is; `_` stands for any byte. */
const beginnings: readonly (readonly [beginning: string, kind: string, advice?: string])[] = [
  ['version https://git-lfs', 'a Git LFS pointer', '"git lfs pull" fetches the file that it ' +
    'stands for, and of addresses of a hub those with /resolve/ give it'],
  ['PK\x03\x04', 'a zip archive, as PyTorch writes too'],
  ['\x1f\x8b', 'a gzip archive', 'unpack it first'],
  ['\x28\xb5\x2f\xfd', 'a zstd archive', 'unpack it first'],
  ['BZh', 'a bzip2 archive', 'unpack it first'],
  ['7z\xbc\xaf', 'a 7z archive', 'unpack it first'],
  ['\x80\x02', 'a pickle of PyTorch'],
  ['lmgg', 'a GGML file, from before GGUF'],
  ['fmgg', 'a GGML file, from before GGUF'],
  ['tjgg', 'a GGML file, from before GGUF'],
  ['____TFL3', 'a TensorFlow Lite model'],
  ['%PDF', 'a PDF document'],
  ['<Error>', 'an error message of a file server, in XML'],
  ['<?xml', 'an XML document, as file servers send for errors'],
];

interface Kind {
  kind: string;
  /** What to do about it; undefined when that goes without saying. */
  advice?: string | undefined;
}

const begins = (text: string, beginning: string) =>
  [...beginning].every((c, i) => c === '_' || c === text[i]);

/** The text of the page's title, if it has one. */
function titleOf(page: string): string {
  const title = /<title[^>]*>([^<]{1,80})/i.exec(page)?.[1]?.replace(/\s+/g, ' ').trim();
  return title === undefined || title === '' ? '' : ` ("${title}")`;
}

function jsonOf(text: string): string {
  const message = /"(?:error|message)"\s*:\s*"([^"\\]{1,120})"/.exec(text)?.[1];
  return message === undefined ? 'JSON' : `JSON that says "${message}"`;
}

/** What a file is that begins so; undefined when that is not known. */
export function kindOf(head: Uint8Array): Kind | undefined {
  const bytes = Array.from(head.subarray(0, 24), (byte) => String.fromCharCode(byte)).join('');
  const known = beginnings.find(([beginning]) => begins(bytes, beginning));
  if (known !== undefined) return { kind: known[1], advice: known[2] };
  const text = new TextDecoder().decode(head).trimStart();
  if (/^(<!doctype html|<html|<head|<!--)/i.test(text)) {
    return { kind: `an HTML page${titleOf(text)}`,
      advice: 'some servers send a page where there is no file (does the path lead into the ' +
        'folder that is served?), or to ask to sign in; of a hub, addresses with /resolve/ give ' +
        'the file' };
  }
  // A length of 64 bits, of which the upper ones are never used, then JSON.
  if (/^[^]{4}\0{4}\{"/.test(bytes)) {
    return { kind: 'a safetensors file',
      advice: 'convert it to GGUF first (llama.cpp has convert_hf_to_gguf.py)' };
  }
  if (/^[{[]\s*["{[\]}]/.test(text)) return { kind: jsonOf(text) };
  if (!/^[\x20-\x7e\s]{16,}$/.test(text.slice(0, 200))) return undefined;
  return { kind: `text ("${text.slice(0, 40).replace(/\s+/g, ' ').trim()}…")` };
}

/** What a header says that it belongs to, if that is not a whole model. */
function partOf({ metadata }: Loader): string | undefined {
  const count = metadata.number('split.count') ?? 0;
  if (count > 1) {
    return `this is part ${(metadata.number('split.no') ?? 0) + 1} of ${count} of a model: ` +
      'load all parts, as an array, or by a name that ends in -00001-of-00000.gguf with the ' +
      'count of parts';
  }
  const type = metadata.string('general.type');
  if (type === 'mmproj' || metadata.string('general.architecture') === 'clip') {
    return 'this is a multimodal projector, the part of a model that sees images: load the ' +
      'file of the language model beside it';
  }
  if (type === 'adapter') return 'this is a LoRA adapter, which is merged into a model first';
  return type === 'imatrix' ? 'this is an importance matrix, not a model' : undefined;
}

/** Keeps a file's first bytes, to explain what core says of them. */
export class Arrived {
  #head = new Uint8Array(0);

  /** The next bytes of the file; whether it is any, the loader checks. */
  see(chunk: unknown): void {
    const room = headMost - this.#head.length;
    if (room <= 0 || !(chunk instanceof Uint8Array)) return;
    const head = new Uint8Array(this.#head.length + Math.min(room, chunk.length));
    head.set(this.#head);
    head.set(chunk.subarray(0, room), this.#head.length);
    this.#head = head;
  }

  /** Core's error, in words of where the file comes from when they say more. */
  explain(error: unknown, loader?: Loader): unknown {
    if (!(error instanceof OneKVError)) return error;
    const { code } = error;
    if (code === 'NOT_GGUF') {
      const { kind, advice } = kindOf(this.#head) ?? {};
      if (kind === undefined) return error;
      return new OneKVError(code, `found ${kind}, expected a GGUF file` +
        `${advice === undefined ? '' : `: ${advice}`}`, { cause: error });
    }
    const [, , , , ...version] = this.#head.subarray(0, 8);
    if (code === 'UNSUPPORTED_VERSION' && version[0] === 0 && version[3] !== 0) {
      return new OneKVError(code, 'found a big-endian GGUF file, as few machines read it; ' +
        'expected a little-endian one', { cause: error });
    }
    if (loader === undefined) return error;
    if (!['UNSUPPORTED_MODEL', 'MISSING_KEY', 'MISSING_TENSOR'].includes(code)) return error;
    const part = partOf(loader);
    return part === undefined ? error : new OneKVError(code, part, { cause: error });
  }
}
