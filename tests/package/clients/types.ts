// onekv/ai-sdk's own types are those of @ai-sdk/provider, and the clients' fetch takes the handler.
import type { EmbeddingModelV4, LanguageModelV4 } from '@ai-sdk/provider';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText } from 'ai';
import type { EmbeddingModel, LanguageModel } from 'ai';
import OpenAI from 'openai';
import { OneKV } from 'onekv';
import { createOneKV } from 'onekv/ai-sdk';
import { createHandler } from 'onekv/handler';

const model = await OneKV.load('hf:org/repo');
const onekv = createOneKV({ here: model, later: () => OneKV.load('hf:org/repo') });
export const v4: LanguageModelV4 = onekv('here');
export const any: LanguageModel = onekv.languageModel('later');
export const vectors: EmbeddingModelV4 = onekv.embeddingModel('here');
export const anyVectors: EmbeddingModel = onekv.embeddingModel('later');
await generateText({ model: onekv('here'), prompt: 'Once' });

const handle = createHandler({ here: model });
const fetch: typeof globalThis.fetch = (input, init) => handle(new Request(input, init));
export const clients = [new OpenAI({ apiKey: 'none', baseURL: 'http://localhost/v1', fetch }),
  createOpenAICompatible({ name: 'onekv', baseURL: 'http://localhost/v1', fetch })];
