// dist/src/facades/xgrammar.js: @mlc-ai/web-xgrammar as a module (wasm/toolchain/bundle.mjs).
export { GrammarCompiler, GrammarMatcher, TokenizerInfo } from '@mlc-ai/web-xgrammar';
/** What the library printed since the last call. */
export function takeSaid(): string;
