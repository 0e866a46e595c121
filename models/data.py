"""Text corpora to token files: cleaning, split, tokenizer, and the order in which stories are read.

A folder of .txt files becomes NAME.{train,validation}.{bin,npy} (uint16 tokens, story offsets),
NAME.validation.txt, tokenizer.json and stats.json. Invariants: a story is in the validation set or
in the training set by a fixed hash of its own text, whatever else is in the folder; every story is
followed by one <|endoftext|>; the training order is a function of (seed, weights, epoch) alone.
"""
import argparse
import hashlib
import json
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
SEPARATORS = {"<|end|>", END}
VALIDATION_SHARE = 0.03
SHORTEST, LONGEST = 100, 4000
# Old books are read less often than stories in today's plain language.
DEFAULT_WEIGHTS = {"fairytaleqa_pd": 0.25, "pd_children_books": 0.1}
PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"',
    "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00a0": " ", "\t": " ", "\ufeff": None,
})
OPENING = re.compile(r"^(Once upon a time|Once there (was|were|lived))\b")


def clean(text):
    """One story in plain punctuation: no control characters, no blank lines, single spaces."""
    text = text.translate(PLAIN)
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


def read_stories(path):
    """Yield the cleaned stories of one file, in file order, without holding the file in memory."""
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip() in SEPARATORS:
                yield from split_run_on(clean("".join(lines)))
                lines = []
            else:
                lines.append(line)
    yield from split_run_on(clean("".join(lines)))


def fingerprint(story):
    """Hash of the first 160 letters: equal for stories that differ in spacing or in their tail."""
    letters = re.sub(r"[^a-z]", "", story[:400].lower())[:160]
    return hashlib.sha256(letters.encode()).digest()


def split_stories(path, seen):
    """Stories of one file as (train, validation); repeated, too short or garbled ones are dropped.

    A file of a release that has its own validation part (`*-valid.txt`) stays whole.
    """
    parts = ([], [])
    whole = re.search(r"[-_]valid(ation)?$", path.stem) is not None
    for story in read_stories(path):
        key = fingerprint(story)
        if len(story) < SHORTEST or "\ufffd" in story or key in seen:
            continue
        seen.add(key)
        held_out = int.from_bytes(key[:8], "big") / 2**64 < VALIDATION_SHARE
        parts[whole or held_out].append(story)
    return parts


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


def write_tokens(tokenizer, stories, stem):
    """Write stem.bin (uint16) and stem.npy (offsets, stories + 1); return tokens."""
    end, offsets = tokenizer.token_to_id(END), [0]
    with open(f"{stem}.bin", "wb") as file:
        for start in range(0, len(stories), 1000):
            for item in tokenizer.encode_batch(stories[start:start + 1000]):
                np.array(item.ids + [end], np.uint16).tofile(file)
                offsets.append(offsets[-1] + len(item.ids) + 1)
    np.save(f"{stem}.npy", np.array(offsets, np.int64))
    return offsets[-1]


def prepare(folder, out, vocabulary=2048, weights=None, tokenizer_path=None):
    """Prepare every .txt of `folder` into `out`; return the statistics written to stats.json."""
    weights = DEFAULT_WEIGHTS | (weights or {})
    out.mkdir(parents=True, exist_ok=True)
    seen, corpora = set(), {}
    for path in sorted(Path(folder).glob("*.txt")):
        corpora[path.stem] = split_stories(path, seen)
    if not any(train for train, _ in corpora.values()):
        raise SystemExit(f"{folder}: no .txt file with stories of {SHORTEST} characters or more")
    if tokenizer_path:
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        sample = (story for name, (train, _) in corpora.items()
                  for story in train[:max(1, int(len(train) * weights.get(name, 1)))])
        tokenizer = train_tokenizer(sample, vocabulary)
    tokenizer.save(str(out / "tokenizer.json"))
    stats = {"vocabulary": tokenizer.get_vocab_size(), "files": {}}
    for name, parts in corpora.items():
        entry = stats["files"][name] = {"weight": weights.get(name, 1)}
        for part, stories in zip(("train", "validation"), parts):
            entry[part] = {
                "stories": len(stories), "bytes": sum(len(s.encode()) for s in stories),
                "tokens": write_tokens(tokenizer, stories, out / f"{name}.{part}")}
        text = "".join(f"{story}\n<|end|>\n" for story in parts[1])
        (out / f"{name}.validation.txt").write_text(text, encoding="utf-8")
    (out / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    return stats


class TokenSet:
    """One part ("train" or "validation") of one prepared file: tokens and story offsets."""

    def __init__(self, folder, name, part):
        self.tokens = np.memmap(folder / f"{name}.{part}.bin", np.uint16, "r")
        self.offsets = np.load(folder / f"{name}.{part}.npy")

    def __len__(self):
        return len(self.offsets) - 1

    def story(self, index):
        return self.tokens[self.offsets[index]:self.offsets[index + 1]]


class TrainingOrder:
    """The endless training text: epochs of shuffled stories, addressed by token position.

    In each epoch a file of weight w gives w times its stories, going round its own shuffled list,
    so a weight below 1 still reads every story in the end.
    """

    def __init__(self, folder, weights, seed):
        folder = Path(folder)
        stats = json.loads((folder / "stats.json").read_text())
        self.seed, self.sets, self.weights = seed, [], []
        for name, entry in sorted(stats["files"].items()):
            weight = weights.get(name, entry["weight"])
            if weight > 0 and entry["train"]["stories"]:
                self.sets.append(TokenSet(folder, name, "train"))
                self.weights.append(weight)
        self.epochs = []     # first token position of each epoch seen so far
        self.cached = (-1, np.empty(0, np.uint16))

    def _stories(self, epoch):
        for number, (tokens, weight) in enumerate(zip(self.sets, self.weights)):
            count = len(tokens)
            first, last = int(weight * epoch * count), int(weight * (epoch + 1) * count)
            for turn in range(first // count, -(-last // count)):
                order = np.random.default_rng((self.seed, number, turn)).permutation(count)
                start, stop = max(first - turn * count, 0), min(last - turn * count, count)
                for index in order[start:stop]:
                    yield tokens.story(index)

    def _epoch(self, epoch):
        if self.cached[0] != epoch:
            stories = list(self._stories(epoch))
            order = np.random.default_rng((self.seed, 1 << 20, epoch)).permutation(len(stories))
            self.cached = (epoch, np.concatenate([stories[index] for index in order]))
        return self.cached[1]

    def read(self, position, count):
        """Tokens [position, position + count) of the endless text."""
        pieces = []
        while count > 0:
            epoch = int(np.searchsorted(self.epochs, position, "right")) - 1
            if epoch < 0:
                epoch, self.epochs = 0, [0]
            text = self._epoch(epoch)
            if len(self.epochs) == epoch + 1:
                self.epochs.append(self.epochs[epoch] + len(text))
            start = position - self.epochs[epoch]
            piece = text[start:start + count]
            pieces.append(piece)
            position, count = position + len(piece), count - len(piece)
        return np.concatenate(pieces)


def main():
    parser = argparse.ArgumentParser(description="Prepare a folder of story files for training.")
    parser.add_argument("folder", type=Path, help="folder of .txt files; stories end with a line "
                        "<|end|> or <|endoftext|>")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json, train none")
    parser.add_argument("--weight", action="append", default=[], metavar="NAME=W",
                        help="share of a file's stories read per epoch (default 1, books less)")
    args = parser.parse_args()
    weights = {name: float(w) for name, w in (item.split("=") for item in args.weight)}
    stats = prepare(args.folder, args.out, args.vocabulary, weights, args.tokenizer)
    print(json.dumps(stats, indent=1))


if __name__ == "__main__":
    main()
