"""Text corpora to token files: cleaning, split, tokenizer.

A folder of .txt and .jsonl files becomes NAME.{train,validation}.{bin,npy} (uint16 tokens, story
offsets), NAME.validation.txt, tokenizer.json and stats.json. Invariants: a story is in the
validation set or in the training set by a fixed hash of its own text, whatever else is in the
folder; every story is followed by one <|endoftext|>. With a given tokenizer nothing but a hash of
each story stays in memory, so that corpora may be larger than it. order.py reads what this writes.
"""
import argparse
import hashlib
import json
import re
from array import array
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from models.format.tokenizer import END

SEPARATORS = {"<|end|>", END}
VALIDATION_SHARE = 0.03
SHORTEST, LONGEST = 100, 4000
# Old books are read less often than stories in today's plain language.
DEFAULT_WEIGHTS = {"fairytaleqa_pd": 0.25, "pd_children_books": 0.1}
PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"',
    "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00a0": " ", "\t": " ", "\ufeff": None,
})
# UTF-8 punctuation that was once read as Windows-1252 (\u00e2\u20ac\u2122 for an apostrophe).
# Byte 9D of the closing quote has no character there and may be lost.
DECODED_TWICE = re.compile("\u00e2\u20ac[\u2122\u0153\u02dc\u201c\u201d\u00a6\u009d]?")
OPENING = re.compile(r"^(Once upon a time|Once there (was|were|lived))\b")


def decode_once(match):
    """The punctuation mark that DECODED_TWICE found."""
    found = match.group()
    return '"' if found[2:] in ("", "\u009d") else found.encode("cp1252").decode("utf-8")


def clean(text):
    """One story in plain punctuation: no control characters, no blank lines, single spaces."""
    text = DECODED_TWICE.sub(decode_once, text).translate(PLAIN)
    text = "".join(c for c in text if c == "\n" or c.isprintable())
    lines = (re.sub(r" +", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def split_run_on(story):
    """Some excerpts lost their separators: a long text is cut where the next story opens."""
    if len(story) <= LONGEST:
        return [story]
    parts = [[]]
    for line in story.split("\n"):
        if OPENING.match(line) and parts[-1]:
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def read_texts(path):
    """Yield the texts of one file, in file order, without holding the file in memory."""
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if path.suffix == ".jsonl":
                yield json.loads(line)["text"]
            elif line.strip() in SEPARATORS:
                yield "".join(lines)
                lines = []
            else:
                lines.append(line)
    yield "".join(lines)


def read_stories(path, raw):
    """Yield the stories of one file: cleaned, or as they are without the line ends around them."""
    for text in read_texts(path):
        if raw:
            yield text.strip("\n")
        else:
            yield from split_run_on(clean(text))


def fingerprint(story):
    """Hash of the first 160 letters: equal for stories that differ in spacing or in their tail."""
    letters = re.sub(r"[^a-z]", "", story[:400].lower())[:160]
    return hashlib.sha256(letters.encode()).digest()


def stays_whole(path):
    """A release's own validation part (`*-valid.txt`, `*_valid_1000.txt`) is held out whole."""
    return re.search(r"[-_]valid(ation)?([-_]\d+)?$", path.stem) is not None


def split_stories(path, seen, share=VALIDATION_SHARE, raw=False):
    """Yield (part, story) of one file; repeated, too short or garbled ones are dropped."""
    whole = stays_whole(path)
    for story in read_stories(path, raw):
        key = fingerprint(story)
        if len(story) < SHORTEST or "\ufffd" in story or key in seen:
            continue
        seen.add(key)
        held_out = int.from_bytes(key[:8], "big") / 2**64 < share
        yield ("validation" if whole or held_out else "train"), story


def train_tokenizer(stories, vocabulary):
    """Byte-level BPE with GPT-2's splitting, so that `tokenizer.ggml.pre = gpt-2` describes it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(stories, trainer)
    return tokenizer


def read_tokenizer(path):
    """A tokenizer.json, or the tokenizer of a GGUF file that export.py wrote: a run that goes on
    from a model reads tokens of the same numbers."""
    if Path(path).suffix != ".gguf":
        return Tokenizer.from_file(str(path))
    fields = GGUFReader(path).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    tokenizer = Tokenizer(models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return tokenizer


class TokenWriter:
    """Writes stem.bin (uint16), stem.npy (offsets, stories + 1) and, if asked, stem.txt."""

    def __init__(self, tokenizer, stem, text=False):
        self.tokenizer, self.end, self.stem = tokenizer, tokenizer.token_to_id(END), stem
        self.waiting, self.offsets, self.bytes = [], array("q", [0]), 0
        self.tokens = open(f"{stem}.bin", "wb")
        self.text = open(f"{stem}.txt", "w", encoding="utf-8") if text else None

    def add(self, story):
        self.waiting.append(story)
        self.bytes += len(story.encode())
        if self.text:
            self.text.write(f"{story}\n<|end|>\n")
        if len(self.waiting) == 1000:
            self._flush()

    def _flush(self):
        for item in self.tokenizer.encode_batch(self.waiting):
            np.array(item.ids + [self.end], np.uint16).tofile(self.tokens)
            self.offsets.append(self.offsets[-1] + len(item.ids) + 1)
        self.waiting = []

    def close(self):
        """Finish the files; {"stories", "bytes", "tokens"}."""
        self._flush()
        np.save(f"{self.stem}.npy", np.array(self.offsets, np.int64))
        for file in filter(None, (self.tokens, self.text)):
            file.close()
        return {"stories": len(self.offsets) - 1, "bytes": self.bytes, "tokens": self.offsets[-1]}


def tokenizer_for(corpora, vocabulary, weights):
    """A tokenizer of the training stories: of a file of weight w the first w of its stories."""
    def sample():
        for name, items in corpora.items():
            train = [story for part, story in items if part == "train"]
            yield from train[:max(1, int(len(train) * weights.get(name, 1)))]
    return train_tokenizer(sample(), vocabulary)


def prepare(folder, out, vocabulary=2048, weights=None, tokenizer_path=None,
            share=VALIDATION_SHARE, raw=False):
    """Prepare the files of `folder` into `out`; return the statistics written to stats.json."""
    weights = DEFAULT_WEIGHTS | (weights or {})
    out.mkdir(parents=True, exist_ok=True)
    seen = set()
    # Held-out files come first: what begins as one of their stories is not trained on.
    paths = sorted((p for p in Path(folder).iterdir() if p.suffix in (".txt", ".jsonl")),
                   key=lambda path: (not stays_whole(path), path))
    corpora = {path.stem: split_stories(path, seen, share, raw) for path in paths}
    if tokenizer_path:
        tokenizer = read_tokenizer(tokenizer_path)
    else:
        corpora = {name: list(items) for name, items in corpora.items()}
        tokenizer = tokenizer_for(corpora, vocabulary, weights)
    if tokenizer.get_vocab_size() > 1 << 16 or tokenizer.token_to_id(END) is None:
        raise SystemExit(f"the tokenizer must have {END} and at most 65,536 tokens")
    tokenizer.save(str(out / "tokenizer.json"))
    stats = {"vocabulary": tokenizer.get_vocab_size(), "files": {}}
    for name, items in corpora.items():
        writers = {part: TokenWriter(tokenizer, out / f"{name}.{part}", part == "validation")
                   for part in ("train", "validation")}
        for part, story in items:
            writers[part].add(story)
        stats["files"][name] = {"weight": weights.get(name, 1)} | {
            part: writer.close() for part, writer in writers.items()}
    if not any(entry["train"]["stories"] for entry in stats["files"].values()):
        raise SystemExit(f"{folder}: no .txt or .jsonl file with stories of {SHORTEST} characters "
                         "or more")
    (out / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    return stats


def main():
    parser = argparse.ArgumentParser(description="Prepare a folder of story files for training.")
    parser.add_argument("folder", type=Path, help="folder of .txt files, whose stories end with a "
                        "line <|end|> or <|endoftext|>, and .jsonl files with a field text")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--tokenizer", type=Path,
                        help="use this tokenizer.json, or that of a GGUF file; train none")
    parser.add_argument("--weight", action="append", default=[], metavar="NAME=W",
                        help="share of a file's stories read per epoch (default 1, books less)")
    parser.add_argument("--raw", action="store_true", help="leave the texts as they are")
    parser.add_argument("--validation", type=float, default=VALIDATION_SHARE, metavar="SHARE",
                        help=f"held-out share (default {VALIDATION_SHARE})")
    args = parser.parse_args()
    weights = {name: float(w) for name, w in (item.split("=") for item in args.weight)}
    stats = prepare(args.folder, args.out, args.vocabulary, weights, args.tokenizer,
                    args.validation, args.raw)
    print(json.dumps(stats, indent=1))


if __name__ == "__main__":
    main()
