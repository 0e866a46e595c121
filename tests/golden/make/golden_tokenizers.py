"""Writes tests/golden/tokenizers: tokenizer-only GGUF files and the ids that are right for them.

Byte-level vocabularies are trained here on training.txt with `tokenizers`, the SentencePiece one
with `sentencepiece`; the keys are those that llama.cpp's converter writes. The expected ids come
from a `tokenizers` pipeline built from the keys of the file alone with the published
pre-tokenizer of each kind; for SentencePiece the library itself must agree.

    python -m tests.golden.make.golden_tokenizers [--smollm2 FILE]
"""

import argparse
import io
import json
from importlib.metadata import version
from pathlib import Path

import jinja2.sandbox
import sentencepiece
from gguf import GGUFReader
from gguf import TokenType as Type
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

from models.format import gguf_out
from tests.golden.make.golden_strings import CHATS, TEXTS, texts_with

FOLDER = Path(__file__).resolve().parents[1] / "tokenizers"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD_SPLIT = (
    CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The word that a vocabulary holds though no merge leads to it: only with `ignore_merges`, which
# Llama 3 sets, does it become one token.
UNREACHABLE = "Ġquick"
# name: special tokens in front of the vocabulary, and after it with their types
CONTROL, USER = Type.CONTROL, Type.USER_DEFINED
SPECIAL = {
    "gpt-2": ([], {"<|endoftext|>": CONTROL}),
    "smollm": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {}),
    "llama-bpe": ([], {"<|begin_of_text|>": CONTROL, "<|eot_id|>": CONTROL}),
    "qwen2": (
        [],
        {"<|endoftext|>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL,
         "<tool_call>": USER},
    ),
}
# name: {key: token}, and whether a text begins with the first of them
ROLES = {
    "gpt-2": ({"bos": "<|endoftext|>", "eos": "<|endoftext|>"}, False),
    "smollm": ({"bos": "<|im_start|>", "eos": "<|im_end|>", "unknown": "<|endoftext|>"}, False),
    "llama-bpe": ({"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"}, True),
    "qwen2": ({"bos": "<|endoftext|>", "eos": "<|im_end|>", "padding": "<|endoftext|>"}, False),
}


def pre_tokenizer(kind):
    """The split into words that the models of each kind publish in their tokenizer.json."""
    if kind == "gpt-2":
        return pre.ByteLevel(add_prefix_space=False, use_regex=True)
    if kind == "smollm":
        return pre.Sequence([pre.Digits(individual_digits=True), pre_tokenizer("gpt-2")])
    digits = {"llama-bpe": "{1,3}", "qwen2": ""}[kind]
    return pre.Sequence([
        pre.Split(Regex(WORD_SPLIT % digits), behavior="isolated"),
        pre.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def read_keys(path):
    reader = GGUFReader(path)
    prefix = "tokenizer.ggml."
    return {
        f.name.removeprefix(prefix): f.contents()
        for f in reader.fields.values() if f.name.startswith(prefix)
    }


def byte_level(keys):
    """A byte-level BPE pipeline from the keys of a file."""
    vocabulary = {token: i for i, token in enumerate(keys["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in keys["merges"]]
    kind = keys["pre"]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=kind == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizer(kind)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def sentencepiece_merges(tokens, scores):
    """Every pair of pieces that makes a piece, the best piece first, as transformers does it."""
    score = dict(zip(tokens, scores, strict=True))
    merges = []
    for piece in tokens:
        pairs = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        pairs = [pair for pair in pairs if pair[0] in score and pair[1] in score]
        merges += [(*pair, score[piece]) for pair in sorted(pairs, key=lambda p: (
            tokens.index(p[0]), tokens.index(p[1])))]
    merges.sort(key=lambda merge: -merge[2])
    return [merge[:2] for merge in merges]


def sentencepiece_style(keys):
    """A BPE with byte fallback from pieces and scores, shaped like Llama 2's tokenizer.json."""
    vocabulary = {token: i for i, token in enumerate(keys["tokens"])}
    merges = sentencepiece_merges(keys["tokens"], keys["scores"])
    unknown = keys["tokens"][keys["unknown_token_id"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
    ])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    return tokenizer


def pipeline(keys):
    tokenizer = byte_level(keys) if keys["model"] == "gpt2" else sentencepiece_style(keys)
    for token, kind in zip(keys["tokens"], keys["token_type"], strict=True):
        if kind in (Type.CONTROL, Type.UNKNOWN):
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == Type.USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def train_byte_level(kind):
    """[(token, type)] and merges of a vocabulary of about 600 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(kind)
    alphabet = sorted(pre.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=590, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(FOLDER / "training.txt")], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get) + [UNREACHABLE]
    assert len(set(words)) == len(words)
    before, after = SPECIAL[kind]
    tokens = [(token, CONTROL) for token in before]
    tokens += [(token, Type.NORMAL) for token in words] + list(after.items())
    return tokens, [" ".join(merge) for merge in model["merges"]]


def write_byte_level(path, kind):
    tokens, merges = train_byte_level(kind)
    ids = {token: i for i, (token, _) in enumerate(tokens)}
    roles, begins = ROLES[kind]
    keys = {
        "model": "gpt2", "pre": kind, "tokens": [token for token, _ in tokens],
        "token_type": [kind for _, kind in tokens], "merges": merges,
        **{f"{role}_token_id": ids[token] for role, token in roles.items()},
        "add_bos_token": begins,
    }
    write_keys(path, {"gpt-2": "gpt2", "qwen2": "qwen2"}.get(kind, "llama"), keys)


def train_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=str(FOLDER / "training.txt"), model_writer=model, model_type="bpe", vocab_size=640,
        byte_fallback=True, character_coverage=0.99, split_digits=True, num_threads=1,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, user_defined_symbols=["<|sep|>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def write_sentencepiece(path, processor):
    def kind(i):
        if processor.is_unknown(i):
            return Type.UNKNOWN
        if processor.is_control(i):
            return Type.CONTROL
        if processor.is_byte(i):
            return Type.BYTE
        return Type.USER_DEFINED if processor.id_to_piece(i) == "<|sep|>" else Type.NORMAL

    ids = range(processor.vocab_size())
    write_keys(path, "llama", {
        "model": "llama", "pre": "default", "tokens": [processor.id_to_piece(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids], "token_type": [kind(i) for i in ids],
        "bos_token_id": processor.bos_id(), "eos_token_id": processor.eos_id(),
        "unknown_token_id": processor.unk_id(), "add_bos_token": True, "add_eos_token": False,
        "add_space_prefix": True,
    })


def write_keys(path, architecture, keys):
    gguf_out.write(path, architecture, {f"tokenizer.ggml.{k}": v for k, v in keys.items()}, {})


def expected(keys):
    """What a runtime should give for every text; ids are without a beginning-of-text token."""
    tokenizer = pipeline(keys)
    special = [
        token for token, kind in zip(keys["tokens"], keys["token_type"], strict=True)
        if kind in (Type.CONTROL, Type.USER_DEFINED)
    ]
    texts = TEXTS + [text for token in special[:4] for text in texts_with(token)]
    cases = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids}
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        if decoded != text:
            case["decoded"] = decoded
        cases.append(case)
    return {
        "made_with": f"tokenizers {version('tokenizers')}",
        "begins_with": [keys["bos_token_id"]] if keys.get("add_bos_token") else [],
        "cases": cases,
    }


def check_sentencepiece(processor, golden):
    """The library that trained the vocabulary must give the same ids for plain text. (It never
    takes a control piece from text and puts a space in front of the text only, not behind tokens.)
    """
    differ = [c for c in golden["cases"][: len(TEXTS)] if processor.encode(c["text"]) != c["ids"]]
    assert not differ, differ


def rendered_chats(template):
    """The prompts that a chat template makes, with the Jinja settings of transformers."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True
    )
    render = environment.from_string(template).render
    return [
        {"messages": chat, "add_generation_prompt": more,
         "text": render(messages=chat, add_generation_prompt=more)}
        for chat in CHATS for more in (True, False)
    ]


def expected_of_model(path):
    """Ids and rendered chats of a model file that is not kept here."""
    template = GGUFReader(path).fields["tokenizer.chat_template"].contents()
    return {
        "chat_template": template, "chats": rendered_chats(template), **expected(read_keys(path))
    }


def save(path, golden):
    cases = ",\n".join("  " + json.dumps(c, ensure_ascii=True) for c in golden.pop("cases"))
    head = json.dumps(golden)[1:-1]
    path.write_text("{" + head + ',\n "cases": [\n' + cases + "\n]}\n")


def write_all():
    for kind in SPECIAL:
        path = FOLDER / f"{kind}.gguf"
        write_byte_level(path, kind)
        save(FOLDER / f"{kind}.json", expected(read_keys(path)))
    path = FOLDER / "sentencepiece.gguf"
    processor = train_sentencepiece()
    write_sentencepiece(path, processor)
    golden = expected(read_keys(path))
    check_sentencepiece(processor, golden)
    save(FOLDER / "sentencepiece.json", golden)


def main():
    parser = argparse.ArgumentParser(description="Golden token ids.")
    parser.add_argument("--smollm2", help="SmolLM2-135M-Instruct as GGUF: its ids are made too")
    options = parser.parse_args()
    write_all()
    if options.smollm2:
        save(FOLDER / "smollm2.json", expected_of_model(options.smollm2))


if __name__ == "__main__":
    main()
