// The subpath onekv/constraint: answers that are JSON of a schema, or match a regular expression.
// Grammars are compiled and run by XGrammar (1 MB, loaded at the first constraint), here in the
// thread of the caller: a mask takes it some tenths of a millisecond.
import type { Model } from '../api/model.js';
import type { TokenConstraint } from '../api/session.js';
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import type { CompiledGrammar, GrammarCompiler } from '@mlc-ai/web-xgrammar';

/** A JSON schema (an object, or true for any JSON), or a regular expression that the whole answer
 * matches; without look-around, back references and the flags i, m and s. */
export type ResponseConstraint = RegExp | true | object;

type Library = typeof import('./xgrammar.js');

let library: Promise<Library> | undefined;
const compilers = new WeakMap<Model, Promise<GrammarCompiler>>();

/** What the library calls the two ways in which vocabularies are written. */
const vocabularyKinds: Record<string, string> = { gpt2: 'byte_level', llama: 'byte_fallback' };

async function makeCompiler(model: Model): Promise<GrammarCompiler> {
  library ??= import('./xgrammar.js');
  const { GrammarCompiler, TokenizerInfo } = await library;
  const { kind, tokens, ends, controls } = await model.vocabulary();
  const named = vocabularyKinds[kind];
  if (named === undefined) {
    throw new OneKVError('UNSUPPORTED_TOKENIZER', `a vocabulary of kind ${kind} has no grammars`);
  }
  // A token without text is one that a grammar never allows.
  const texts = [...tokens];
  for (const token of controls) texts[token] = '';
  const info = await TokenizerInfo.createTokenizerInfo(texts, named, false,
    model.description.vocabulary, [...ends]);
  return GrammarCompiler.createGrammarCompiler(info);
}

async function compilerOf(model: Model): Promise<GrammarCompiler> {
  const known = compilers.get(model);
  if (known !== undefined) return known;
  const made = makeCompiler(model);
  compilers.set(model, made);
  made.catch(() => compilers.delete(model));
  return made;
}

function checkExpression({ flags, source }: RegExp): string {
  if (/[ims]/.test(flags)) throw invalidArgument('constraint', `the flags ${flags}`, 'no i, m, s');
  return source;
}

function compile(compiler: GrammarCompiler, constraint: ResponseConstraint):
    Promise<CompiledGrammar> {
  if (constraint instanceof RegExp) {
    const format = { type: 'regex' as const, pattern: checkExpression(constraint) };
    return compiler.compileStructuralTag({ type: 'structural_tag', format });
  }
  if (constraint === true) return compiler.compileBuiltinJSONGrammar();
  if (typeof constraint !== 'object' || constraint === null) {
    throw invalidArgument('constraint', constraint, 'a JSON schema or a RegExp');
  }
  // One blank after commas and colons, as most text has it: free white space would let a small
  // model write blanks without end.
  return compiler.compileJSONSchema(JSON.stringify(constraint), false, -1, [', ', ': ']);
}

/** Matchers live in the library's memory, constraints in ours. */
const matchers = typeof FinalizationRegistry === 'function'
  ? new FinalizationRegistry<{ dispose(): void }>((matcher) => matcher.dispose()) : undefined;

/**
 * A constraint for one answer: `session.prompt(text, { constraint: await constrain(model, schema)
 * })`. Compiling takes tens of milliseconds, and less when the model has had the same constraint
 * before. Errors: INVALID_ARGUMENT (a schema or expression that the library does not take, in its
 * own words), UNSUPPORTED_TOKENIZER.
 */
export async function constrain(model: Model,
  constraint: ResponseConstraint): Promise<TokenConstraint> {
  const compiler = await compilerOf(model);
  const { GrammarMatcher, takeSaid } = await (library as Promise<Library>);
  let grammar: CompiledGrammar;
  try {
    grammar = await compile(compiler, constraint);
  } catch (error) {
    if (error instanceof OneKVError) throw error;
    // The library gave up in the middle of its work; what it left is not trusted.
    compilers.delete(model);
    const said = takeSaid().replace(/^\[FATAL\] \S+: |Aborted\(\)|\n+$/gm, '').trim();
    throw new OneKVError('INVALID_ARGUMENT', `constraint: ${said || reasonOf(error)}`,
      { cause: error });
  }
  const matcher = await GrammarMatcher.createGrammarMatcher(grammar);
  const result: TokenConstraint = {
    async allowed() {
      const mask = await matcher.getNextTokenBitmask();
      return new Uint32Array(mask.buffer, mask.byteOffset, mask.length);
    },
    accept(token) {
      if (!matcher.acceptToken(token)) {
        throw new OneKVError('WRONG_STATE', `constraint: token ${token} was not allowed`);
      }
    },
  };
  matchers?.register(result, matcher);
  return result;
}
