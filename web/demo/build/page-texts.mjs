// The texts that index.html takes from the facts, so that it says no number by itself.

/** What the page may do: its own files, WebAssembly, and addresses of models that a visitor gives.
 * Nothing inline, nothing evaluated. */
export const policy = [
  "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self'",
  "connect-src 'self' https: http://localhost:* http://127.0.0.1:*", "style-src 'self'",
  "img-src 'self' data: blob:", "font-src 'self'", "manifest-src 'self'", "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const millions = (count) => `${(count / 1e6).toFixed(1)} M`;

function describe({ description, parameters }) {
  const { kvHeads, queryHeads } = description;
  const heads = kvHeads === 1 ? `one KV head for ${queryHeads} query heads`
    : `${kvHeads} KV heads for ${queryHeads} query heads`;
  return `${heads}, ${millions(parameters)} parameters`;
}

/** What attention keeps of a token in a layer: a cell for each head's key and value; those that
 * the model does without are empty. */
function cells({ description }, most) {
  const { projection, kvHeads } = description;
  const tensors = projection.endsWith('K=V') ? 1 : 2;
  const kept = kvHeads * tensors;
  const cell = (full) => (full ? '<i class="full"></i>' : '<i></i>');
  const drawn = Array.from({ length: most }, (_, i) => cell(i < kept)).join('');
  return `<p class="cells"><span class="sr">Of each token a layer keeps ${kept} of ${most} ` +
    `vectors.</span>${drawn}</p>`;
}

/** { key: text } for every {{key}} of index.html but the policy. */
export function pageTexts({ models }) {
  const one = models['stories-q-mqa'];
  const std = models['stories-qkv'];
  const ratio = std.bytesPerToken.f16 / one.bytesPerToken.f16;
  const most = 2 * std.description.queryHeads;
  return {
    ratio: String(Number(ratio.toFixed(1))),
    'one.name': 'Q-K=V + MQA',
    'one.what': describe(one),
    'one.size': megabytes(one.bytes),
    'one.cells': cells(one, most),
    'std.name': 'Standard QKV',
    'std.what': describe(std),
    'std.cells': cells(std, most),
    'std.size': megabytes(std.bytes),
  };
}
