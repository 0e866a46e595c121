"""Writes tests/golden/vocabularies.json: random texts, and what llama.cpp makes of them.

llama.cpp's sources carry the vocabularies of 15 families (models/fetch/vocabularies.mjs gets them).
The file keeps the texts and, for each family and text, three bytes of the SHA-256 of the ids that
llama.cpp gives; for each name of tokenizer.ggml.pre that it knows, the same for the first 500
texts with the vocabulary of Llama 3 under that name; names with equal results stand together.

    python -m tests.golden.make.golden_vocabularies FOLDER [--show NAME]

--show prints the ids of every text for one family or name, to look at a difference.
"""

import argparse
import base64
import ctypes
import hashlib
import json
import random
import unicodedata
from pathlib import Path

import llama_cpp

from tests.golden.make.golden_strings import TEXTS

FILE = Path(__file__).resolve().parents[1] / "vocabularies.json"
FAMILIES = [
    "bert-bge", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2",
    "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder",
]
NAMES = (
    "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4 "
    "mpt olmo jais trillion granite-docling jina-v1-en jina-v2-code roberta-bpe smollm starcoder "
    "refact command-r codeshell exaone minerva-7b mellum2 llama-bpe llama3 llama-v3 falcon3 "
    "falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano glm4 glm5 dbrx smaug-bpe chatglm-bpe qwen2 "
    "stablelm2 deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open grok-2 qwen35 ufakzeka "
    "laguna minicpm5 gpt-4o llama4 kanana2 talkie minimax-m2 granite-embed-multi-97m tekken "
    "tiny_aya cohere2moe kimi-k2 youtu deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense "
    "joyai-llm hy_v4 spark2_5 afmoe falcon default jais-2 bailingmoe bailingmoe2 llada-moe "
    "exaone-moe seed-coder bloom poro-chat gpt3-finnish viking superbpe chameleon"
).split()
COUNT = 2000
NAMES_COUNT = 500
# Without U+3000, which llama.cpp takes for a space where DeepSeek LLM's class has it for a mark.
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghij", "0123456789", " ",
    " \t\n", "\r\n", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "éèüñçßøåšžłđ", "абвгдежзиАБВ",
    "αβγδεΑΒΓ", "一二三国的是我们在有", "ぁあいうアイウー", "가나다한국어", "، אבגד عربي", "नमस्ते",
    "ไทยภาษา", "½²Ⅷ٣๓①", "€£¥°©™±→∑√", "—–…“”‘’、。，！？", "😀🎉👍🏽🇩🇪", "\u00a0\u2003\u0085\u2028\ufeff",
    "\u0301\u0308\u0330", "\u200b\u200d\u00ad", "𝔘𝟘𐍈𠀀",
]
# What a later Unicode assigns may be of another class in another table.
ASSIGNED = [w for w in " ".join(TEXTS).split() if all(unicodedata.category(c) != "Cn" for c in w)]
WORDS = ASSIGNED + ["I'm", "we'LL", "don't", "'s", "'RE", "IMGIMGABZ", "<sentinel:7>"]


def fragment(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(WORDS)[:24]
    if kind < 0.5:
        return " " * rng.choice([1, 1, 1, 2, 3, 4, 7, 16])
    if kind < 0.6:
        return "".join(rng.choices("0123456789", k=rng.randint(1, 11)))
    if kind < 0.66:
        return rng.choice(["\n", "\n\n", "\r\n", " \n", "\n\n\n\n", "\t\t", "\n  "])
    alphabet = rng.choice(ALPHABETS)
    return "".join(rng.choices(alphabet, k=rng.randint(1, 6)))


def make_texts():
    rng = random.Random(13)
    return ["".join(fragment(rng) for _ in range(rng.randint(1, 9))) for _ in range(COUNT)]


class Vocabulary:
    def __init__(self, path, name=None):
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        overrides = {"tokenizer.ggml.pre": name} if name else None
        self.model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False,
                                     kv_overrides=overrides)

    def ids(self, text):
        return self.model.tokenize(text.encode(), add_bos=False, special=False)


@llama_cpp.llama_log_callback
def _silent(_level, _text, _data):
    pass


def digest(ids):
    return hashlib.sha256(" ".join(map(str, ids)).encode()).digest()[:3]


def hashes(folder, family, name, texts):
    """Three bytes per text, as base64."""
    vocabulary = Vocabulary(folder / f"ggml-vocab-{family}.gguf", name)
    given = [as_given(name or family, text) for text in texts]
    return base64.b64encode(b"".join(digest(vocabulary.ids(text)) for text in given)).decode()


def as_given(family, text):
    """Without what the authors' tokenizers do and llama.cpp leaves out: Qwen 2's composes
    characters, BERT's takes Hangul apart into all its letters, drops U+0085 and keeps marks that
    take space."""
    if family == "bert-bge":
        return "".join(c for c in text if not (
            "\uac00" <= c <= "\ud7a3" or c == "\u0085" or unicodedata.category(c) == "Mc"))
    return unicodedata.normalize("NFC", text) if family == "qwen2" else text


def main():
    parser = argparse.ArgumentParser(description="What llama.cpp makes of random texts.")
    parser.add_argument("folder", type=Path, help="with ggml-vocab-*.gguf")
    parser.add_argument("--show", help="prints the ids of one family or name")
    options = parser.parse_args()
    texts = make_texts()
    if options.show:
        family = options.show if options.show in FAMILIES else "llama-bpe"
        name = None if family == options.show else options.show
        vocabulary = Vocabulary(options.folder / f"ggml-vocab-{family}.gguf", name)
        print(json.dumps([[t, vocabulary.ids(as_given(options.show, t))] for t in texts]))
        return
    families = {
        family: hashes(options.folder, family, None, texts) for family in FAMILIES
    }
    names = {}
    for name in NAMES:
        names.setdefault(hashes(options.folder, "llama-bpe", name, texts[:NAMES_COUNT]), []).append(
            name)
    golden = {"made_with": f"llama-cpp-python {llama_cpp.__version__}", "texts": texts,
              "families": families, "names": [[*pair] for pair in names.items()]}
    FILE.write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()
