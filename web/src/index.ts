// The package's public face: the synchronous engine, text, and what joins them. Nothing here
// needs Node; node.ts adds what does.
export { Engine, Loader } from './engine.js';
export type { ModelEstimate, ModelOptions } from './engine.js';
export { Model } from './model.js';
export type { AdvanceOptions, AdvanceOutcome, AdvanceRequest, AppendRequest, Choice, Encoded,
  ModelMemory }  from './model.js';
export { Session } from './session.js';
export type { SessionMemory, SessionOptions } from './session.js';
export type { SamplingOptions } from './sampling.js';
export { headsName } from './description.js';
export type { Arithmetic, CacheType, ModelDescription, Projection } from './description.js';
export { Metadata } from './metadata.js';
export type { MetadataScalar, MetadataValue } from './metadata.js';
export { loadModel, readHeader } from './load.js';
export type { LoadOptions, LoadProgress } from './load.js';
export { openSource } from './model-source.js';
export type { ModelSource, OpenedSource } from './model-source.js';
export { TextStream, Tokenizer } from './tokenizer.js';
export type { DecodeOptions, EncodeOptions, StreamOptions } from './tokenizer.js';
export { ChatTemplate } from './chat-template.js';
export type { ChatMessage, ChatTemplateOptions } from './chat-template.js';
export { generate } from './generate.js';
export type { FinishReason, GenerateOptions, GenerateResult, TextPart } from './generate.js';
export { hasRelaxedSimd } from './simd-probe.js';
export { automaticThreads } from './wasm-module.js';
export type { EngineOptions, SimdLevel } from './wasm-module.js';
export { serveThreads } from './thread-host.js';
export { threadsFromPage } from './thread-guest.js';
export { OneKVError } from './errors.js';
export type { CoreErrorCode, ErrorCode, LayerErrorCode } from './errors.js';
