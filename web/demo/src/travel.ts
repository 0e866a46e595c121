// Time travel: a story whose past can be chosen again. Cutting is truncate(), branching is
// clone() and truncate(); saving keeps the cache itself, so that a reload goes on at once.
import type { Session } from 'onekv';
import { announce } from './announce.js';
import { Branch } from './branch.js';
import type { Origin } from './branch.js';
import { find, h, setText } from './dom.js';
import { explain, isAbort } from './errors.js';
import { bytes, count, milliseconds } from './format.js';
import { language } from './language.js';
import { lease, storySampling } from './library.js';
import type { Lease } from './library.js';
import { keep, kept } from './saved.js';

const start = 'Once upon a time, there was a little girl named Lily.';
const tokensEach = 140;
const branchesMax = 6;

export class Travel {
  branches: Branch[] = [];
  /** Called when the text of the first branch has changed. */
  changed: () => void = () => {};
  readonly #lanes = h('div', { class: 'lanes' });
  readonly #says = h('p', { class: 'note', id: 'travel-says' },
    'A story comes first; then its words can be chosen.');
  readonly #mode = h('fieldset', { class: 'modes' }, h('legend', {}, 'Choosing a word'),
    ...[['cut', 'cuts there'], ['branch', 'branches there']].map(([value, text], i) =>
      h('label', { class: 'choice' }, h('input', { type: 'radio', name: 'travel-mode',
        value: value as string, checked: i === 0 }), text)));
  readonly #tell = h('button', { type: 'button', id: 'travel-run' }, 'Begin a story');
  readonly #save = h('button', { type: 'button', class: 'plain', id: 'travel-save',
    disabled: true }, 'Save');
  readonly #restore = h('button', { type: 'button', class: 'plain', id: 'travel-restore',
    disabled: true }, 'Restore');
  #lease: Lease | undefined;
  #seed = 1;
  #names = 0;
  #busy = false;

  constructor() {
    find('#travel .shown').append(h('div', { class: 'row' }, this.#tell, this.#save,
      this.#restore, this.#mode), this.#lanes, this.#says);
    this.#tell.addEventListener('click', () => void this.#do(() => this.#begin()));
    this.#save.addEventListener('click', () => void this.#do(() => this.#keep()));
    this.#restore.addEventListener('click', () => void this.#do(() => this.#bringBack()));
    void this.#offer();
  }

  get session(): Session | undefined {
    return this.branches[0]?.session;
  }

  /** One thing at a time; errors are said where the story is. */
  async #do(work: () => Promise<void>): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    this.#lanes.setAttribute('aria-busy', 'true');
    try {
      await work();
    } catch (error) {
      if (!isAbort(error)) this.#tellProblem(explain(error));
    } finally {
      this.#busy = false;
      this.#lanes.removeAttribute('aria-busy');
      this.#save.disabled = this.branches.length === 0;
      this.changed();
    }
  }

  #tellProblem(text: string): void {
    setText(this.#says, text);
    this.#says.classList.add('error');
    announce(text);
  }

  #tellState(text: string): void {
    this.#says.classList.remove('error');
    setText(this.#says, text);
    announce(text);
  }

  async #model() {
    if (this.#lease?.lost !== false) {
      this.#lease = await lease('stories-q-mqa', 'f16', (loaded, total) =>
        setText(this.#says, `Loading: ${bytes(loaded)} of ${bytes(total)}`));
    }
    return this.#lease.model;
  }

  #add(session: Session, prompt: string, promptTokens: number, origin?: Origin): Branch {
    const name = origin === undefined ? 'The story' : `Branch ${this.#names += 1}`;
    const branch = new Branch(name, session, prompt, promptTokens, origin, (from, at) =>
      void this.#do(() => this.#choose(from, at)));
    this.branches.push(branch);
    this.#lanes.append(branch.element);
    return branch;
  }

  async #clear(): Promise<void> {
    await Promise.all(this.branches.map(({ session }) => session.destroy()));
    this.branches = [];
    this.#names = 0;
    this.#lanes.replaceChildren();
  }

  async #begin(): Promise<void> {
    const model = await this.#model();
    await this.#clear();
    const session = await model.createSession({ chat: false });
    await session.append(start);
    const branch = this.#add(session, start, session.contextUsage);
    await this.#write(branch);
    this.#tellState('Choose a word: the story is cut there and goes on differently.');
  }

  /** Goes on with another seed than ever before. */
  async #write(branch: Branch): Promise<void> {
    const { session } = branch;
    await session.setSampling({ ...storySampling, seed: this.#seed });
    this.#seed += 1;
    branch.element.classList.add('running');
    try {
      for await (const { text, token } of session.generate({ tokens: [] },
        { maxTokens: tokensEach })) {
        branch.add(text, token !== undefined);
      }
    } finally {
      branch.element.classList.remove('running');
      await this.#showMemory();
    }
  }

  async #showMemory(): Promise<void> {
    for (const branch of this.branches) branch.showMemory(await branch.session.memory());
  }

  async #choose(branch: Branch, at: number): Promise<void> {
    const mode = find<HTMLInputElement>('input:checked', this.#mode).value;
    if (mode === 'cut') await this.#cut(branch, at);
    else await this.#fork(branch, at);
  }

  async #cut(branch: Branch, at: number): Promise<void> {
    const before = branch.pieces.length;
    await branch.session.truncate(branch.promptTokens + at);
    branch.cut(at);
    await this.#write(branch);
    this.#tellState(`Cut before word ${at + 1}; ${count(before - at)} were forgotten, and ` +
      'the pages after it given back. The cache before the cut was not computed again.');
  }

  async #fork(branch: Branch, at: number): Promise<void> {
    if (this.branches.length >= branchesMax) {
      this.#tellState(`${branchesMax} lines are enough to see; begin a new story.`);
      return;
    }
    const session = await branch.session.clone();
    await session.truncate(branch.promptTokens + at);
    const next = this.#add(session, branch.prompt, branch.promptTokens,
      { name: branch.name, at: at + 1 });
    for (const piece of branch.pieces.slice(0, at)) next.add(piece, true);
    next.markShared(at);
    next.showMemory(await session.memory());
    await this.#write(next);
    this.#tellState(`${next.name} has what comes before word ${at + 1} in common with ` +
      `${branch.name}. Pages that are full by then are shared; the one with the cut was copied ` +
      'when the branch wrote into it.');
  }

  async #keep(): Promise<void> {
    const [branch] = this.branches;
    if (branch === undefined) return;
    const begun = performance.now();
    const blob = await branch.session.save();
    await keep({ bytes: await blob.arrayBuffer(), prompt: branch.prompt, pieces: branch.pieces,
      savedAt: Date.now() });
    this.#tellState(`Saved ${branch.name.toLowerCase()}, cache and all: ${bytes(blob.size)} in ` +
      `${milliseconds(performance.now() - begun)}. Reload the page and restore it.`);
    await this.#offer();
  }

  async #offer(): Promise<void> {
    const found = await kept().catch(() => undefined);
    this.#restore.disabled = found === undefined;
    if (found === undefined) return;
    const when = new Date(found.savedAt).toLocaleTimeString(language, { timeStyle: 'short' });
    this.#restore.title = `${bytes(found.bytes.byteLength)}, saved at ${when}`;
  }

  async #bringBack(): Promise<void> {
    const found = await kept();
    if (found === undefined) return;
    const model = await this.#model();
    const begun = performance.now();
    const session = await model.restore(found.bytes);
    const took = performance.now() - begun;
    await this.#clear();
    const branch = this.#add(session, found.prompt, session.contextUsage - found.pieces.length);
    for (const piece of found.pieces) branch.add(piece, true);
    await this.#showMemory();
    this.#tellState(`Restored ${count(session.contextUsage)} tokens in ${milliseconds(took)}, ` +
      'without computing any of them again.');
  }
}
