// The model of these trials: a story model with a template that knows tools and thoughts. A model
// of stories calls nothing by itself; a choice of tools makes it, and grammars keep it to schemas.
import { OneKV } from 'onekv';
import { root, withKeys } from '../../tests/node/support.mjs';
import { toolTemplate } from '../../tests/node/tool-template.mjs';

export const modelFile = () => withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
  [['tokenizer.chat_template', 'string', toolTemplate]]);

export const loadModel = () => OneKV.load(modelFile(), { threads: 1 });

export const citySchema = { type: 'object', required: ['city'], additionalProperties: false,
  properties: { city: { type: 'string', enum: ['Rome', 'Paris'] } } };

export const numberSchema = { type: 'object', required: ['n'], additionalProperties: false,
  properties: { n: { type: 'integer', minimum: 1, maximum: 9 } } };

/** The options of a client's fetch. */
export const fetchOf = (handle) => (input, init) => handle(new Request(input, init));
