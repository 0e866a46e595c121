// The package's public face: the synchronous engine, text, and what joins them. Nothing here
// needs Node; node.ts adds what does.
export { Engine, Loader } from './engine/engine.js';
export type { ModelEstimate, ModelOptions } from './engine/engine.js';
export { Model } from './engine/model.js';
export type { Encoded, ModelMemory } from './engine/model.js';
export type { AdvanceOptions, AdvanceOutcome, AdvanceRequest, AppendRequest,
  Choice } from './engine/step.js';
export { Session } from './engine/session.js';
export type { SessionMemory, SessionOptions } from './engine/session.js';
export type { SamplerOrder, SamplingOptions } from './engine/sampling.js';
export { CacheCounter } from './engine/cache-bytes.js';
export type { CacheBytes, CacheQuestion } from './engine/cache-bytes.js';
export { headsName } from './engine/description.js';
export type { Arithmetic, CacheType, ModelDescription, Projection } from './engine/description.js';
export { Metadata } from './engine/metadata.js';
export type { MetadataScalar, MetadataValue } from './engine/metadata.js';
export { loadModel, readHeader } from './source/load.js';
export type { LoadOptions, LoadProgress } from './source/load.js';
export { openSource } from './source/source.js';
export type { ModelSource, OpenedSource } from './source/source.js';
export { TextStream, Tokenizer } from './text/tokenizer.js';
export type { DecodeOptions, EncodeOptions, StreamOptions } from './text/tokenizer.js';
export { ChatTemplate } from './text/chat-template.js';
export type { ChatMessage, ChatTemplateOptions } from './text/chat-template.js';
export { generate } from './engine/generate.js';
export type { FinishReason, GenerateOptions, GenerateResult, TextPart } from './engine/generate.js';
export { hasRelaxedSimd } from './engine/simd-probe.js';
export { automaticThreads } from './engine/module.js';
export type { EngineOptions } from './engine/module.js';
export type { SimdLevel } from './engine/simd-probe.js';
export { serveThreads } from './page/thread-host.js';
export { threadsFromPage } from './engine/thread-guest.js';
export { OneKVError } from './api/errors.js';
export type { CoreErrorCode, ErrorCode, LayerErrorCode } from './api/errors.js';
