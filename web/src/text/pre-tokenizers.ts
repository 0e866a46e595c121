// How text is cut into words before BPE merges pieces inside of them, by the name that a file
// gives as tokenizer.ggml.pre.
//
// The names are those that llama.cpp knows; the expressions are those of the tokenizer.json that
// the models' authors publish. Each expression of a name cuts further what the one before left:
// its matches and the stretches between them stand apart. \s is Unicode's White_Space here, with
// U+0085 and without U+FEFF, as in the authors' Rust and Python.

export interface PreTokenizer {
  /** Expressions in the order in which they cut. */
  splits: readonly string[];
  /** A word that is a token stays whole, whatever the merges make of it. */
  ignoresMerges?: true;
  /** A text begins with bos unless the file says otherwise. */
  addsBos?: true;
  /** A text ends with the separator (or eos) unless the file says otherwise. */
  addsSeparator?: true;
  /** Text is put in Unicode's composed form first. */
  composes?: true;
}

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Llama 3's and Qwen 2's cut; they differ in how many digits stand together. */
const words = (digits: string, blanks = spaces) => `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|` +
  `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${blanks}`;

/** GPT-4o's cut, which parts words where a capital letter begins the next. */
function capitals(digits: string, ending = `${contraction}?`, more = '', letters = ''): string {
  const upper = `[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}${letters}]`;
  const lower = `[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}${letters}]`;
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  return `${more}${before}${upper}*${lower}+${ending}|${before}${upper}+${lower}*${ending}|` +
    `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n${letters === '' ? '/' : ''}]*|${spaces}`;
}

const ascii = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+';
const kana = '[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+';
/** DeepSeek-V3's last cut, up to the punctuation's line ends. */
const deepseekWords = `${ascii}|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+`;
const deepseek3 = ['\\p{N}{1,3}', kana, `${deepseekWords}[\\r\\n]*|${spaces}`];
const cjkOrHangul = '[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+';

/** Letters of scripts with capitals, as DeepSeek LLM lists them. */
const cased = 'A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293' +
  '\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c' +
  '\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5' +
  '\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15' +
  '\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d' +
  '\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb' +
  '\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124' +
  '\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184' +
  '\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f' +
  '\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a' +
  '\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}' +
  '\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}';
const deepseekLlm = ['[\\r\\n]', `\\s?[${cased}]+`,
  '\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+', '\\s+$', cjkOrHangul,
  '\\p{N}+'];
const deepseekCoder = ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', cjkOrHangul, '\\p{N}'];

const youtu = ['[\uac00-\ud7a3\u3131-\u318e]+|' +
  '[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|' +
  `[\u3105-\u312f]+|${kana}`, capitals('')];

/** Digits in threes, counted from their end. */
const threes = '\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))';
const afmoe = [threes, '[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff' +
  '\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f' +
  '\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+', `${deepseekWords}[\\r\\n]*|${spaces}`];

const jaisBlanks = `\\s*[\\r\\n]+|${[512, 256, 128, 64, 32, 16, 8, 4, '1,2']
  .map((count) => `\\s{${count}}(?!\\S)`).join('|')}|\\s{1}`;
const bailing = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+" +
  '[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+';
const exaone = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|` +
  '\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+';
const qwen35 = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|` +
  ` ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`;
const seedCoder = `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|` +
  ` ?[^\\s\\p{L}\\p{N}\\r\\n]+|${spaces}`;
const bloom = ' ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+';
const chameleon = ['<sentinel:[0-9]+>', '(?:IMGIMG)[A-I]{1,4}Z', '[\\t\\n]|    |  ', '\\p{N}',
  '[\\p{P}!-/:-@\\[-`{-~]', gpt2];
const marks = '[\\p{P}$+<=>^~|]+';
const falcon = ['[\\p{P}$+<=>^~|`]+', gpt2, '[0-9][0-9][0-9]'];

/** [how text is cut, names] */
const table: [PreTokenizer, string][] = [
  [{ splits: [gpt2] }, 'gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 ' +
    'mellum modern-bert exaone4 mpt olmo jais trillion granite-docling'],
  [{ splits: [gpt2], addsSeparator: true }, 'jina-v1-en jina-v2-code roberta-bpe'],
  [{ splits: ['\\p{N}', gpt2] }, 'smollm starcoder refact command-r codeshell exaone minerva-7b ' +
    'mellum2'],
  [{ splits: [words('{1,3}')], ignoresMerges: true, addsBos: true }, 'llama-bpe llama3 llama-v3 ' +
    'falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano'],
  [{ splits: [words('{1,3}')], ignoresMerges: true }, 'glm4 glm5'],
  [{ splits: [words('{1,3}')] }, 'dbrx smaug-bpe chatglm-bpe'],
  [{ splits: [words('')], composes: true }, 'qwen2'],
  [{ splits: [words('')] }, 'stablelm2 deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open ' +
    'grok-2'],
  // transformers composes first, llama.cpp's vectors of this name do not: they are followed.
  [{ splits: [qwen35] }, 'qwen35'],
  [{ splits: [words('').slice(contraction.length + 1)] }, 'ufakzeka'],
  [{ splits: ['[^\\n]+|[\\n]+', words('')] }, 'laguna'],
  [{ splits: ['\\p{N}{1,3}', words('+')], ignoresMerges: true }, 'minicpm5'],
  [{ splits: [capitals('{1,3}')] }, 'gpt-4o llama4 kanana2 talkie minimax-m2'],
  [{ splits: [capitals('{1,3}')], ignoresMerges: true }, 'granite-embed-multi-97m'],
  [{ splits: [capitals('', '')], ignoresMerges: true, addsBos: true }, 'tekken'],
  [{ splits: ['\\d{1,3}(?=(?:\\d{3})*\\b)', capitals('{1,3}')] }, 'tiny_aya cohere2moe'],
  [{ splits: [capitals('{1,3}', `${contraction}?`, '\\p{Han}+|', '&&[^\\p{Han}]')] }, 'kimi-k2'],
  [{ splits: youtu, ignoresMerges: true }, 'youtu'],
  [{ splits: deepseekLlm }, 'deepseek-llm'],
  [{ splits: deepseekCoder }, 'deepseek-coder'],
  [{ splits: deepseek3 }, 'deepseek-v3 hunyuan-dense joyai-llm hy_v4'],
  [{ splits: ['\\p{N}{1,3}', kana, `${deepseekWords}|[\\r\\n]|\\s+(?!\\S)|\\s+`, '\\p{N}'] },
    'spark2_5'],
  [{ splits: afmoe }, 'afmoe'],
  [{ splits: falcon }, 'falcon'],
  [{ splits: [marks, gpt2, '\\p{N}+', '[0-9][0-9][0-9]'] }, 'default'],
  [{ splits: [words('{1,3}', jaisBlanks)] }, 'jais-2'],
  [{ splits: [bailing] }, 'bailingmoe bailingmoe2 llada-moe'],
  [{ splits: [exaone] }, 'exaone-moe'],
  [{ splits: [seedCoder] }, 'seed-coder'],
  [{ splits: [bloom] }, 'bloom poro-chat gpt3-finnish'],
  [{ splits: [bloom, '\\p{N}'] }, 'viking'],
  [{ splits: ['\\p{N}+', '(?=(?:\\d{3})+(?!\\d))'] }, 'superbpe'],
  [{ splits: chameleon, addsBos: true }, 'chameleon'],
];

/** By tokenizer.ggml.pre. */
export const preTokenizers: ReadonlyMap<string, PreTokenizer> =
  new Map(table.flatMap(([kind, names]) => names.split(' ').map((name) => [name, kind])));
