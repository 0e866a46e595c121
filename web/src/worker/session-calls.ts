// The worker's side of a model's sessions: what each call of the protocol that makes or uses one
// does. Calls on one session come one at a time, which server.ts ensures.
import { Conversation } from './conversation.js';
import { OneKVError, checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';
import { plainObject } from '../api/json.js';
import { checkAnswer, generate } from '../engine/generate.js';
import type { GenerateResult } from '../engine/generate.js';
import type { Guesser, Session } from '../engine/session.js';
import { Grammars } from '../engine/grammar.js';
import type { Choice } from '../engine/step.js';
import type { Rule } from '../engine/grammar.js';
import { draftModes, reasoningModes } from '../api/session.js';
import type { DraftMode } from '../api/session.js';
import { AnswerReader } from '../text/answer-reader.js';
import type { AnswerPiece } from '../text/answer-reader.js';
import { checkTools } from '../text/tool-forms.js';
import type { Model } from '../engine/model.js';
import { checkRoom, checkTextRoom } from '../engine/room.js';
import type { Args, CallContext, Handlers, Result, SessionState, WireGenerateOptions } from
  '../wire/protocol.js';
import { emptyPast, emptyStart, noChat, planInput } from './plan.js';
import type { Past, Plan } from './plan.js';
import { sessionReport } from './reports.js';
import { pickSampling } from '../engine/sampling.js';
import { readSaved, refused, writeSaved } from './saved-session.js';
import type { Settings } from './saved-session.js';
import { Scheduler } from './scheduler.js';
import { budgetOf, checkBudget, grammarOfAnswer, partsOf, readingOf, toolAnswerOf } from
  './tool-answers.js';
import type { AnswerContent, Keeping, Reading } from './tool-answers.js';

const sessionMost = 2 ** 31 - 1;

export type SessionCall = 'createSession' | 'restore' | 'generate' | 'append' | 'measure' |
  'clone' | 'constrain' | 'truncate' | 'tokens' | 'setSampling' | 'save' | 'sessionMemory' |
  'attention' | 'destroy';

export class SessionHost {
  readonly handlers: Handlers<SessionCall>;
  readonly #model: Model;
  readonly #drafter: Model | undefined;
  readonly #scheduler: Scheduler;
  readonly #wasmUrl: string | undefined;
  #grammars: Grammars | undefined;
  readonly #conversations = new Map<number, Conversation>();
  #nextSession: number;

  /** `drafter` guesses for 'model'. onRound is called after each round of work. wasmUrl: where the
   * grammar module is. first: the number of the first session. */
  constructor(model: Model, drafter: Model | undefined, onRound: () => void,
    wasmUrl: string | undefined, first = 1) {
    this.#model = model;
    this.#drafter = drafter;
    this.#nextSession = first;
    this.#wasmUrl = wasmUrl;
    this.#scheduler = new Scheduler(model, onRound);
    this.handlers = {
      createSession: (args, call) => this.#createSession(args, call),
      restore: (args, call) => this.#restore(args, call),
      generate: (args, call) => this.#generate(args, call),
      append: async ({ session, input }, call) => {
        const conversation = this.#find(session);
        await this.#append(conversation, conversation.plan(input, false), call);
        return this.state(session) as SessionState;
      },
      measure: ({ session, input }) => this.#find(session).measure(input),
      constrain: async ({ grammar }, call) => {
        (await this.#grammarsOf().rule(grammar, call.signal)).free();
        return undefined;
      },
      clone: ({ session }) => this.#add(this.#find(session).clone()),
      truncate: ({ session, count }) => {
        this.#find(session).truncate(count);
        return this.state(session) as SessionState;
      },
      tokens: ({ session }) => this.#find(session).session.tokens(),
      setSampling: ({ session, sampling }) => {
        const conversation = this.#find(session);
        const picked = pickSampling(sampling ?? {});
        conversation.session.setSampling(picked);
        conversation.settings.sampling = { ...picked, seed: conversation.session.seed };
      },
      save: (args) => this.#save(args),
      sessionMemory: ({ session }) => sessionReport(session, this.#find(session)),
      attention: ({ session, layer, head, queries = 'own' }) => {
        checkOneOf('queries', queries, ['own', 'keys']);
        const tokens = this.#find(session).session.tokens();
        const maps = this.#model.attentionMap(tokens, layer, head, queries === 'keys');
        return { layer, head, tokens: tokens.length, ...maps };
      },
      destroy: ({ session }) => {
        this.#find(session).session.destroy();
        this.#conversations.delete(session);
      },
    };
  }

  /** What a call does changes nothing and sees the session as it is between steps: it need not wait
   * for an answer that is on its way. */
  canRunNow(name: string, session: unknown): boolean {
    if (name === 'sessionMemory') return true;
    return name === 'save' && this.#conversations.get(session as number)?.isAnswering === true;
  }

  get conversations(): ReadonlyMap<number, Conversation> {
    return this.#conversations;
  }

  #find(session: number): Conversation {
    const found = this.#conversations.get(session);
    if (found !== undefined) return found;
    throw new OneKVError('DESTROYED', `there is no session ${String(session).slice(0, 20)}`);
  }

  /** undefined when there is no such session. */
  state(session: unknown): SessionState | undefined {
    const found = this.#conversations.get(session as number);
    if (found === undefined || this.#model.engine.isBroken) return undefined;
    const { chat, slides, messages, session: core } = found;
    const { length, contextWindow } = core;
    return { id: session as number, length, bytes: core.memory().cacheUsed, contextWindow, chat,
      slides, messages };
  }

  #checkFree(id: number): void {
    if (!this.#conversations.has(checkInteger('as', id, 1, sessionMost))) return;
    throw invalidArgument('as', id, 'a number that no session has');
  }

  #add(conversation: Conversation, id = this.#nextSession): SessionState {
    this.#checkFree(id);
    this.#nextSession = Math.max(this.#nextSession, id + 1);
    this.#conversations.set(id, conversation);
    return this.state(id) as SessionState;
  }

  #openConversation(past: Past, settings: Settings): Conversation {
    const { contextWindow, overflow, keep, sampling, draft } = settings;
    const session = this.#model.openSession({ ...sampling, contextWindow, overflow, keep,
      draft: this.#guesser(draft) });
    settings.sampling = { ...sampling, seed: session.seed };
    return new Conversation(session, past, settings);
  }

  #guesser(draft: DraftMode): Guesser {
    if (checkOneOf('draft', draft, draftModes) !== 'model') return draft as Guesser;
    if (this.#drafter !== undefined) return this.#drafter;
    throw new OneKVError('INVALID_ARGUMENT', 'draft: found "model", expected off, lookup, as ' +
      'none was loaded for it: OneKV.load(source, { draft })');
  }

  #windowOf({ contextWindow, contextBytes }: Args<'createSession'>): number {
    if (contextBytes === undefined) {
      return checkInteger('contextWindow', contextWindow ?? 0, 0, sessionMost);
    }
    const { cache } = this.#model;
    const tokens = typeof contextBytes === 'number'
      ? cache.tokens(contextBytes, { wholePages: true }) : 0;
    if (contextWindow !== undefined || tokens === 0) {
      const pageBytes = cache.bytes(1, { wholePages: true }).total;
      throw invalidArgument('contextBytes', contextBytes,
        `at least ${pageBytes}, and no contextWindow beside it`);
    }
    return Math.min(this.#model.contextWindow, tokens);
  }

  async #createSession(options: Args<'createSession'>,
    call: CallContext): Promise<SessionState> {
    const model = this.#model;
    const { initial, chat: asked, overflow = 'error' } = options;
    const sampling = pickSampling(options);
    const chat = asked ?? model.hasChatTemplate;
    if (typeof chat !== 'boolean') throw invalidArgument('chat', chat, 'a boolean');
    const { reasoning = 'separate', reasoningBudget, tools = [], draft = 'off' } = options;
    checkBudget(reasoningBudget);
    const templateArguments = plainObject('templateArguments', options.templateArguments ?? {});
    checkOneOf('reasoning', reasoning, reasoningModes);
    if (tools.length > 0 && !chat) {
      throw invalidArgument('tools', 'some', `none: ${noChat(model)}`);
    }
    const settings: Settings = { contextWindow: this.#windowOf(options), overflow, keep: 0,
      sampling, templateArguments, reasoning, reasoningBudget, draft, tools: checkTools(tools),
      date: Date.now() };
    const past = emptyPast(chat);
    if (initial === undefined) return this.#add(this.#openConversation(past, settings));
    const room = { model, slides: overflow === 'slide',
      contextWindow: settings.contextWindow || model.contextWindow };
    const plan = planInput(emptyStart(model, settings, past), initial, false, {},
      (text) => checkTextRoom(room, text));
    // What sliding keeps must be known when the session opens.
    settings.keep = overflow === 'slide' ? plan.ids.length : 0;
    const conversation = this.#openConversation(past, settings);
    return this.#fill(conversation, () => this.#append(conversation, plan, call));
  }

  /** A new conversation that is kept if `work` succeeds. */
  async #fill(conversation: Conversation, work: () => Promise<unknown>,
    id?: number): Promise<SessionState> {
    try {
      await work();
      return this.#add(conversation, id);
    } catch (error) {
      conversation.session.destroy();
      throw error;
    }
  }

  /** Gives the plan that was carried out. */
  async #append(conversation: Conversation, plan: Plan, call: CallContext): Promise<Plan> {
    const done = await this.#run(conversation, plan, call);
    conversation.commit(done);
    return done;
  }

  /** Runs the tokens of a plan, of which a sliding chat may leave out old turns; when that fails,
   * the session is as it was before. */
  async #run(conversation: Conversation, given: Plan, call: CallContext,
    begin = (plan: Plan) => conversation.begin(plan)): Promise<Plan> {
    checkRoom(conversation.session, given.keep, given.ids.length);
    const settle = conversation.keepForUndo(given);
    let plan: Plan;
    try {
      plan = begin(given);
      let before = 0;
      await this.#scheduler.append(conversation.session, plan.ids, call.signal,
        (done) => {
          conversation.hasGrown(done - before);
          before = done;
          call.notice({ type: 'prefill', done, total: plan.ids.length });
        });
    } catch (error) {
      settle(true);
      throw error;
    }
    settle(false);
    return plan;
  }

  async #generate({ session, input, options }: Args<'generate'>,
    call: CallContext): Promise<Result<'generate'>> {
    const conversation = this.#find(session);
    const { maxTokens, logprobs, stop } = options ?? {};
    checkAnswer({ maxTokens, logprobs, stop }, this.#model);
    const { settings, chat } = conversation;
    const given = options?.tools === undefined ? undefined : checkTools(options.tools);
    const tools = given ?? (chat ? settings.tools : []);
    const answer = toolAnswerOf(this.#model, tools, options ?? {});
    const own = options?.templateArguments;
    const templateArguments = own === undefined ? undefined
      : plainObject('templateArguments', own);
    const plan = conversation.plan(input, true, { opener: answer.opener, templateArguments });
    const isChat = chat || given !== undefined;
    const promptEnd = this.#endOf(conversation.session, plan);
    const budget = budgetOf(options ?? {}, settings);
    const rule = await this.#ruleOf(options ?? {},
      isChat ? { answer, promptEnd, budget } : undefined, call);
    try {
      const reading = isChat ? readingOf(this.#model, { tools, answer, promptEnd,
        reasoning: settings.reasoning, prefix: plan.prefix })
        : { reader: new AnswerReader({}), opening: '' };
      const result = await this.#answer(conversation, plan, options ?? {}, { rule, ...reading },
        call);
      return { ...result, state: this.state(session) as SessionState };
    } finally {
      rule?.free();
    }
  }

  /** The text that a session will end with when a plan is carried out. */
  #endOf(session: Session, { text, keep, ids }: Plan): string {
    if (text !== '') return text;
    const held = Math.min(keep, 8);
    const last = [...session.tokens(keep - held, held), ...ids].slice(-8);
    return this.#model.tokenizer.decode(last, { special: true });
  }

  /** What an answer keeps to: a page's own rule, which sees every token, or a grammar behind
   * thoughts, or calls and thoughts. */
  async #ruleOf({ grammar, constrained }: WireGenerateOptions, keeping: Keeping | undefined,
    { ask, signal }: CallContext): Promise<Rule | undefined> {
    if (constrained === true) {
      return { isOver: false, allowed: () => ask(), accept: () => {}, free: () => {} };
    }
    const lazy = keeping === undefined ? undefined
      : grammarOfAnswer(this.#model, { ...keeping, constraint: grammar });
    if (lazy !== undefined) return this.#grammarsOf().lazyRule(lazy, signal);
    return grammar === undefined ? undefined : this.#grammarsOf().rule(grammar, signal);
  }

  #grammarsOf(): Grammars {
    const { tokenizer, description } = this.#model;
    this.#grammars ??= new Grammars(tokenizer, description.outputs, this.#wasmUrl);
    return this.#grammars;
  }

  async #answer(conversation: Conversation, plan: Plan, options: Args<'generate'>['options'],
    { rule, reader, opening }: Reading & { rule: Rule | undefined },
    call: CallContext): Promise<Omit<Result<'generate'>, 'state'>> {
    const { maxTokens, stop, logprobs } = options;
    const { tokenizer } = this.#model;
    const started = performance.now();
    const { keep, ids } = await this.#append(conversation, plan, call);
    const prefillMs = performance.now() - started;
    const parts = generate(conversation.session, tokenizer, [], {
      signal: call.signal,
      stepper: this.#scheduler,
      maxTokens, stop, logprobs, constraint: rule,
    });
    const result = await this.#stream(conversation, plan, { reader, opening }, parts, call);
    const { promptTokens: _, ...rest } = result;
    return { ...rest, prefillMs, promptTokens: keep + ids.length, cachedTokens: keep };
  }

  /** Tells the parts; the conversation gets what came, whether all or not. */
  async #stream(conversation: Conversation, plan: Plan, { reader, opening }: Reading,
    parts: ReturnType<typeof generate>,
    call: CallContext): Promise<GenerateResult & AnswerContent> {
    conversation.beginAnswer(plan, reader);
    const content: AnswerContent = { text: '', reasoning: '', toolCalls: [] };
    const tell = (pieces: readonly AnswerPiece[], choice: Choice | undefined) => {
      const { session, slides } = conversation;
      const rest = { length: session.length, bytes: session.memory().cacheUsed, slides };
      for (const part of partsOf(pieces, choice, content)) {
        call.notice({ type: 'part', part, ...rest });
      }
    };
    try {
      if (opening !== '') tell(conversation.growAnswer(opening, undefined), undefined);
      for (;;) {
        const { done, value } = await parts.next();
        if (done === true) {
          tell(conversation.endAnswer(), undefined);
          return { ...value, ...content };
        }
        tell(conversation.growAnswer(value.text, value.choice?.token), value.choice);
      }
    } finally {
      if (!this.#model.engine.isBroken) conversation.endAnswer();
    }
  }

  #save({ session, format }: Args<'save'>): Uint8Array<ArrayBuffer> {
    const { session: core, past, settings } = this.#find(session);
    const payload = format === 'tokens' ? new Uint8Array(core.tokens().buffer) : core.save();
    return writeSaved({ format: format === 'tokens' ? 'tokens' : 'cache',
      model: this.#model.hash, past, settings, payload });
  }

  async #restore({ bytes, as }: Args<'restore'>, call: CallContext): Promise<SessionState> {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('bytes', bytes, 'a Uint8Array');
    if (as !== undefined) this.#checkFree(as);
    const { format, past, settings, payload } = readSaved(bytes, this.#model.hash);
    // The answers are the same without the model that guessed.
    if (this.#drafter === undefined && settings.draft === 'model') settings.draft = 'off';
    if (format === 'cache') {
      const session = this.#model.restoreSession(payload, this.#guesser(settings.draft));
      return this.#fill(new Conversation(session, past, settings), async () => {}, as);
    }
    try {
      const tokens = new Int32Array(payload.slice(0, payload.length & ~3).buffer);
      const ids = this.#model.checkTokens(tokens);
      const conversation = this.#openConversation(past, settings);
      const plan = { keep: 0, ids, messages: past.messages, text: past.text };
      return await this.#fill(conversation,
        () => this.#run(conversation, plan, call, () => plan), as);
    } catch (error) {
      const own = ['INVALID_ARGUMENT', 'TOKEN_OUT_OF_RANGE', 'CONTEXT_FULL'];
      const isIts = error instanceof OneKVError && own.includes(error.code);
      throw isIts ? refused(`does not fit the model: ${error.message}`) : error;
    }
  }
}
