// Makes a vector of every paragraph of a folder's notes, and lists those nearest to a question.
// The model is fetched when the first folder is chosen, and kept for the next visit.
import { OneKV } from 'onekv';

const [folder, ask, question, found, state, file] =
  ['folder', 'ask', 'question', 'found', 'state', 'model'].map((id) => document.getElementById(id));
const named = new URLSearchParams(location.search).get('model') ??
  'hf:second-state/All-MiniLM-L6-v2-Embedding-GGUF:Q8_0';

/** { path, text, vector } of each paragraph. */
let notes = [];
let model;
let reading = new AbortController();

const say = (text) => { state.textContent = text; };
const told = (work) => work().catch((error) => {
  if (error.name !== 'AbortError') say(`failed: ${error.message}`);
});

/** One model for all calls; another one once a file was chosen. */
function loaded() {
  model ??= OneKV.load(file.files[0] ?? named).catch((error) => {
    model = undefined;
    throw error;
  });
  return model;
}

const paragraphsOf = async (note) => (await note.text()).split(/\n\s*\n/)
  .map((text) => ({ path: note.webkitRelativePath || note.name, text: text.trim() }))
  .filter(({ text }) => text !== '');

async function read() {
  reading.abort();
  const { signal } = reading = new AbortController();
  notes = [];
  found.replaceChildren();
  say('loading the model');
  const encoder = await loaded();
  const files = [...folder.files].filter(({ name }) => /\.(md|txt)$/i.test(name));
  const paragraphs = (await Promise.all(files.map(paragraphsOf))).flat();
  const seen = [];
  for (let at = 0; at < paragraphs.length; at += 16) {
    say(`read ${at} of ${paragraphs.length} paragraphs`);
    const some = paragraphs.slice(at, at + 16);
    const { vectors } = await encoder.embed(some.map(({ text }) => text),
      { truncate: true, signal });
    some.forEach((paragraph, i) => seen.push({ ...paragraph, vector: vectors[i] }));
  }
  notes = seen;
  say(`${paragraphs.length} paragraphs of ${files.length} notes`);
}

const cosine = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

async function search() {
  const text = question.value.trim();
  if (text === '' || notes.length === 0) return;
  const { vectors: [asked] } = await (await loaded()).embed(text, { truncate: true });
  const ranked = notes.map((note) => ({ ...note, close: cosine(note.vector, asked) }))
    .sort((a, b) => b.close - a.close).slice(0, 5);
  found.replaceChildren(...ranked.map((note) => {
    const item = document.createElement('li');
    // As text: what stands in a note is not the page's.
    item.textContent = `${note.path} (${note.close.toFixed(2)}): ${note.text}`;
    return item;
  }));
}

folder.addEventListener('change', () => told(read));
ask.addEventListener('submit', (event) => {
  event.preventDefault();
  told(search);
});
file.addEventListener('change', () => told(async () => {
  // Vectors of two models have nothing to do with each other.
  const before = model;
  model = undefined;
  if (folder.files.length > 0) await read();
  await (await before)?.unload();
}));
// One may be chosen already: before this script ran, or before the page was loaded anew.
if (folder.files.length > 0) told(read);
else say('choose a folder');
