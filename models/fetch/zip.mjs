// Reads one member of a zip archive as a stream; no part of the archive is held in memory.
//
// Enough for Python wheels: stored or deflated members of archives below 4 GB. Layout: APPNOTE.TXT
// of PKWARE, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16 (its end).
import { closeSync, createReadStream, openSync, readSync, statSync } from 'node:fs';
import { PassThrough, pipeline } from 'node:stream';
import { createInflateRaw } from 'node:zlib';
import { Stop } from '../../wasm/toolchain/shell.mjs';

const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const COMMENT_BYTES_MAX = 0xffff;

function read(handle, offset, length) {
  const bytes = Buffer.alloc(length);
  const n = readSync(handle, bytes, 0, length, offset);
  if (n !== length) throw new Stop(`zip: ${length} bytes expected at ${offset}, there are ${n}`);
  return bytes;
}

/** The central directory's bytes, found from the end of the file. */
function directory(handle, size) {
  const length = Math.min(size, END_BYTES + COMMENT_BYTES_MAX);
  const tail = read(handle, size - length, length);
  const at = tail.lastIndexOf('PK\x05\x06', -END_BYTES, 'latin1');
  if (at < 0) throw new Stop('zip: no end of a directory; not a zip archive, or cut off');
  return read(handle, tail.readUInt32LE(at + 16), tail.readUInt32LE(at + 12));
}

/** { method, packed, start } of a member: how and where its bytes are stored. */
function find(handle, size, name) {
  const entries = directory(handle, size);
  for (let at = 0; at + ENTRY_BYTES <= entries.length;) {
    const nameBytes = entries.readUInt16LE(at + 28);
    const next = at + ENTRY_BYTES + nameBytes + entries.readUInt16LE(at + 30) +
      entries.readUInt16LE(at + 32);
    if (entries.toString('utf8', at + ENTRY_BYTES, at + ENTRY_BYTES + nameBytes) === name) {
      const offset = entries.readUInt32LE(at + 42);
      const local = read(handle, offset, LOCAL_BYTES);
      const start = offset + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28);
      const method = entries.readUInt16LE(at + 10);
      return { method, packed: entries.readUInt32LE(at + 20), start };
    }
    at = next;
  }
  throw new Stop(`zip: no member ${name}`);
}

/** A stream of the member's bytes. Errors in the packed data are errors of the stream. */
export function openMember(file, name) {
  const handle = openSync(file, 'r');
  try {
    const { method, packed, start } = find(handle, statSync(file).size, name);
    if (method !== 0 && method !== 8) throw new Stop(`zip: ${name}: packing method ${method}`);
    const stream = createReadStream(file, { start, end: start + packed - 1 });
    const unpack = method === 8 ? createInflateRaw() : new PassThrough();
    // Errors come out of the last stream; the callback is only there because it must be.
    return pipeline(stream, unpack, () => {});
  } finally {
    closeSync(handle);
  }
}
