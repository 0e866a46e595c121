// The entry onekv/engine: the synchronous engine, text, and what joins them. Nothing here needs
// Node; engine-entry-node.ts adds what does.
export { Engine } from './engine/engine.js';
export { Loader } from './engine/loader.js';
export type { ModelEstimate, ModelOptions } from './engine/loader.js';
export type { SamplerOrder, SamplingOptions } from './api/sampling.js';
export type { Arithmetic, CacheType, ModelDescription, Projection, SimdLevel }
  from './api/description.js';
export type { AccessOptions, Fetch, FreshAddress, ModelPart, ModelSource, OpenedSource, Refused }
  from './api/source.js';
export type { ChatMessage } from './api/messages.js';
export { Model } from './engine/model.js';
export type { Encoded, ModelMemory } from './engine/model.js';
export type { AdvanceOptions, AdvanceOutcome, AdvanceRequest, AppendRequest,
  Choice } from './engine/step.js';
export { Session } from './engine/session.js';
export type { Guesser, SessionMemory, SessionOptions } from './engine/session.js';
export { checkTextRoom } from './engine/room.js';
export { CacheCounter } from './engine/cache-bytes.js';
export type { CacheBytes, CacheQuestion } from './engine/cache-bytes.js';
export { headsName, standardGroups } from './engine/description.js';
export { Metadata } from './engine/metadata.js';
export type { MetadataScalar, MetadataValue } from './engine/metadata.js';
export { loadModel, readHeader, storeModel } from './source/load.js';
export type { LoadOptions, LoadProgress } from './source/load.js';
export { openSource } from './source/source.js';
export { TextStream, Tokenizer } from './text/tokenizer.js';
export type { DecodeOptions, EncodeOptions, StreamOptions } from './text/tokenizer.js';
export { ChatTemplate, encodeChat } from './text/chat-template.js';
export { withoutMarks } from './text/plain-marks.js';
export type { ChatTemplateOptions } from './text/chat-template.js';
export { generate } from './engine/generate.js';
export type { DraftMode, FinishReason } from './api/session.js';
export type { GenerateOptions, GenerateResult, TextPart } from './engine/generate.js';
export { Grammars } from './engine/grammar.js';
export type { Rule } from './engine/grammar.js';
export type { Grammar, LazyGrammar, PlainGrammar } from './api/grammar.js';
export { hasRelaxedSimd } from './engine/simd-probe.js';
export { automaticThreads } from './engine/module.js';
export type { EngineOptions } from './engine/module.js';
export { serveThreads } from './page/thread-host.js';
export { threadsFromPage } from './engine/thread-guest.js';
export { OneKVError } from './api/errors.js';
export type { CoreErrorCode, ErrorCode, LayerErrorCode } from './api/errors.js';
