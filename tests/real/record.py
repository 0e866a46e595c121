"""Records what llama.cpp, an independent runtime, says with a model file.

    python -m tests.real.record smollm2 SmolLM2-135M-Instruct.Q4_1.gguf   writes smollm2.json
    python -m tests.real.record expanded                                  writes expanded.json
    python -m tests.real.record twins                                     writes twins/
    python -m tests.real.record gemma3 gemma-3-270m-q4_k_m.gguf           writes gemma3.json
    python -m tests.real.record qwen2 qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
    python -m tests.real.record families [--prefix NAME]                  writes families.json

Greedy decoding runs on the file converted to F32 with an F32 cache ("exact": then llama.cpp's
arithmetic is float like ours, and a difference is a fault), and the text is read once more with the
file as it is and llama.cpp's defaults ("quantised": activations rounded to 8 bits, F16 cache). A
prompt on which the two choose different tokens is refused: its text would prove nothing.
Needs llama-cpp-python, gguf, jinja2 and xxhash; README.md beside this file has the whole recipe.
"""
import argparse
import hashlib
import json
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import xxhash
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from gguf.quants import dequantize
from llama_cpp import Llama

from models.format import expand, gguf_out

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
MODELS = HERE.parents[1] / "models"

LENGTH = 64
CONTEXT = 512
DIGITS = 5

SONG = (
    "Old MacDonald had a farm, E-I-E-I-O! And on his farm he had a cow, E-I-E-I-O! With a moo-moo "
    "here and a moo-moo there, here a moo, there a moo, everywhere a moo-moo. Old MacDonald had a "
    "farm, E-I-E-I-O! And on his farm he had a pig,"
)
CODE = (
    "class Vector:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n\n"
    "    def __add__(self, other):\n        return Vector(self.x + other.x, self.y + other.y)\n\n"
    "    def __sub__(self, other):\n        return Vector(self.x - other.x, self.y - other.y)\n\n"
    "    def __mul__(self, other):"
)
LIST = (
    "The months of the year and the number of their days:\n\n1. January: 31 days\n"
    "2. February: 28 days\n3. March: 31 days\n4. April: 30 days\n5. May: 31 days\n"
    "6. June: 30 days\n7."
)
FRENCH = (
    "Il était une fois un petit garçon qui s'appelait Pierre. Il habitait avec sa mère et son père "
    "dans une petite maison au bord de la mer. Tous les matins, il allait à l'école avec sa sœur "
    "Marie, et tous les soirs, il"
)
QUESTION = (
    "Write down the letters of the English alphabet in order, in capital letters, each letter "
    "followed by a comma and a space. Do not write anything else before or after it, only the "
    "letters."
)
PROMPTS = {  # the short one is for builds that are slow (tests/native/test_smollm2.c)
    "short": ("The capital of France is", 4),
    "song": (SONG, LENGTH),
    "chat": ([{"role": "user", "content": QUESTION}], LENGTH),
    "code": (CODE, LENGTH),
    "list": (LIST, LENGTH),
    "french": (FRENCH, LENGTH),
}
STORIES = {
    name: (text, LENGTH) for name, text in {
        "lily": "Once upon a time there was a little girl named Lily. She",
        "car": "Tom had a red car. He",
        "sea": "Sara and Ben went to the sea.",
        "fox": "The old fox was hungry. He walked",
        "once": "Once upon a time",
        "day": "One day, a boy named Tim went to the park with his mom.",
        "bird": "There was a small bird. The bird",
        "ball": "Mia had a big ball. She liked to",
        "rain": "It was a rainy day. Max wanted to play outside, but",
        "cake": "Mom made a cake for Anna. Anna was",
        "king": "A king lived in a castle. He had",
        "dog": "The dog ran to the tree and",
        "box": "Ben found a box. In the box there was",
        "moon": "At night, the moon looked at the",
    }.items()
}

# A pretrained model that goes on with a text; "long" is longer than its window of 512.
GEMMA_PROMPTS = {
    "short": ("<bos>The capital of France is", 4),
    "long": ("<bos>" + "".join(
        f"Day {day}: the ship sailed {day} miles and the crew counted {day} birds.\n"
        for day in range(1, 41)) + "Day 41:", LENGTH),
}
SUM = "Write a Python function that returns the sum of the squares of a list. Only the code."
QWEN_PROMPTS = {
    "short": ("def fibonacci(n):\n", 4),
    "code": (CODE, LENGTH),
    "chat": ([{"role": "user", "content": SUM}], LENGTH),
}
ALICE = GOLDEN / "tokenizers" / "training.txt"
PERPLEXITY_CHARACTERS = 4000
LONG = 1280  # longest text of a long prompt or a perplexity, tokens
FAMILY_PROMPT = 60

REAL = {"gemma3": (GEMMA_PROMPTS, "<bos>"), "qwen2": (QWEN_PROMPTS, "")}

# Golden models (tests/golden) whose twins are kept: each sharing, head count and architecture.
TWINS = (
    "llama-keqv-mha", "llama-keqv-gqa", "llama-keqv-mqa", "llama-keqv-yarn",
    "llama-qeqk-gqa", "llama-qeqkeqv-mqa", "gpt2-keqv-mqa", "gpt2-qeqkeqv-gqa", "qwen2-keqv-mqa",
    "qwen3-keqv-mqa", "qwen3-qeqk-gqa",
)


def rows_of(reader, name):
    return int(next(tensor for tensor in reader.tensors if tensor.name == name).shape[1])


def as_f32(source, target, without_words=False):
    """The same model with every tensor as F32; without words where it has no tokenizer."""
    reader = GGUFReader(source)
    arch = reader.get_field("general.architecture").contents()
    keys = expand.copied_keys(reader)
    if without_words:
        keys |= {"tokenizer.ggml.model": "no_vocab",
                 f"{arch}.vocab_size": rows_of(reader, "token_embd.weight")}
    tensors = {tensor.name: gguf_out.encoded(tuple(map(int, tensor.shape[::-1])), Type.F32,
                                             partial(dequantize, tensor.data, tensor.tensor_type))
               for tensor in reader.tensors}
    gguf_out.write(target, arch, keys, tensors)
    return target


class Runtime:
    """llama.cpp with the logits of every position."""

    def __init__(self, path, exact, n_context=CONTEXT):
        cache = {"type_k": 0, "type_v": 0} if exact else {}  # 0: GGML_TYPE_F32
        reader = GGUFReader(path)
        arch = reader.get_field("general.architecture").contents()
        longest = reader.get_field(f"{arch}.context_length").contents()
        self.llama = Llama(str(path), n_ctx=min(n_context, longest), n_threads=1, n_threads_batch=1,
                           logits_all=True, verbose=False, **cache)

    def tokenize(self, text):
        return self.llama.tokenize(text.encode(), add_bos=False, special=True)

    def logits(self, ids):
        """Rows of logits [len(ids)][vocabulary] of a text, read in one batch."""
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[: len(ids)], dtype=np.float64)

    def greedy(self, ids, n):
        """The n likeliest tokens, one after the other."""
        self.llama.reset()
        self.llama.eval(ids)
        found = []
        for _ in range(n):
            found.append(int(np.argmax(self.llama.scores[self.llama.n_tokens - 1])))
            self.llama.eval(found[-1:])
        return found

    def text(self, ids):
        return self.llama.detokenize(ids, special=True).decode(errors="replace")


def render(path, prompt):
    """A prompt as text: a chat is put through the file's own template."""
    if isinstance(prompt, str):
        return prompt
    template = GGUFReader(path).get_field("tokenizer.chat_template").contents()
    return jinja2.Template(template).render(messages=prompt, add_generation_prompt=True)


def figures(rows, ids):
    """Of the rows that choose ids, and of the one behind them."""
    two = np.sort(rows[:-1], axis=1)[:, -2:]
    best = np.argsort(-rows[-1], kind="stable")[:10]
    return {
        "margins": [round(x, DIGITS) for x in (two[:, 1] - two[:, 0]).tolist()],
        "chosen": [round(rows[i, token], DIGITS) for i, token in enumerate(ids)],
        "top10": [[int(i), round(rows[-1, i], DIGITS)] for i in best],
    }


class NearTie(SystemExit):
    """Rounding decides this prompt's text, so that it proves nothing."""


def record(name, text, length, exact, quantised):
    prompt = exact.tokenize(text)
    ids = exact.greedy(prompt, length)
    continuation = exact.text(ids)
    rows = exact.logits(prompt + ids)[len(prompt) - 1 :]
    rounded = quantised.logits(prompt + ids)[len(prompt) - 1 :]
    for runtime, logits in (("exact", rows), ("quantised", rounded)):
        chosen = logits[:-1].argmax(1).tolist()
        if chosen != ids:
            at = [a == b for a, b in zip(chosen, ids)].index(False)
            raise NearTie(f"{name}: {runtime} chooses another token at step {at}; "
                          "take another prompt")
    out = {
        "name": name, "prompt": text, "prompt_ids": prompt, "ids": ids, "text": continuation,
        "exact": figures(rows, ids), "quantised": figures(rounded, ids),
        "distance": round(float(np.abs(rows - rounded).max()), 3),
    }
    print(f"{name}: {len(prompt)} + {len(ids)} tokens, smallest margins "
          f"{min(out['exact']['margins']):.3f} exact, {min(out['quantised']['margins']):.3f} "
          f"quantised, distance {out['distance']}: {continuation!r}", flush=True)
    return out


def made_with():
    return {name: version(name) for name in ("llama-cpp-python", "gguf")}


def write(path, head, prompts):
    lines = ",\n".join(json.dumps(prompt) for prompt in prompts)
    start = json.dumps(head, indent=1)[:-2]
    path.write_text(f'{start},\n "prompts": [\n{lines}\n ]\n}}\n')


def record_file(path, prompts, folder):
    """All prompts with a file and its F32 twin."""
    exact = Runtime(as_f32(path, folder / "f32.gguf"), exact=True)
    quantised = Runtime(path, exact=False)
    return [record(name, render(path, prompt), length, exact, quantised)
            for name, (prompt, length) in prompts.items()]


def record_first(path, prompts, wanted, folder):
    """The first `wanted` prompts whose text rounding does not decide."""
    exact = Runtime(as_f32(path, folder / "f32.gguf"), exact=True)
    quantised = Runtime(path, exact=False)
    found = []
    for name, (prompt, length) in prompts.items():
        try:
            found.append(record(name, prompt, length, exact, quantised))
        except NearTie as tie:
            print(f"passed over: {tie}", flush=True)
        if len(found) == wanted:
            return found
    raise SystemExit(f"only {len(found)} of {wanted} prompts without a near-tie: add some")


def smollm2(path, folder):
    head = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "made_with": made_with()}
    write(HERE / "smollm2.json", head, record_file(path, PROMPTS, folder))


def expanded(path, folder):
    twin = folder / "expanded.gguf"
    copied = expand.expand(path, twin)
    # onekv_model_hash: by it a test knows that it has the same file.
    head = {"file": path.name, "hash": xxhash.xxh64(path.read_bytes()).hexdigest(),
            "expanded": f"{len(copied)} tensors copied by models/format/expand.py",
            "made_with": made_with()}
    write(HERE / "expanded.json", head, record_first(twin, STORIES, 4, folder))


def golden(name):
    """Token ids and expected logits of a golden model (layout: tests/golden/README.md)."""
    data = (GOLDEN / f"{name}.bin").read_bytes()
    n_rows, _, n_out_rows, n_outputs = np.frombuffer(data, "<u4", 4, 12)
    ids = np.frombuffer(data, "<i4", n_rows, 32)
    logits = np.frombuffer(data, "<f4", n_out_rows * n_outputs, 32 + 4 * int(n_rows))
    return ids.tolist(), logits.reshape(n_out_rows, n_outputs)


def twins(_path, folder):
    """Expands the golden models, and has llama.cpp agree with the reference on each twin."""
    (HERE / "twins").mkdir(exist_ok=True)
    for name in TWINS:
        twin = HERE / "twins" / f"{name}.gguf"
        expand.expand(GOLDEN / f"{name}.gguf", twin)
        ids, expected = golden(name)
        found = Runtime(as_f32(twin, folder / "f32.gguf", without_words=True), True).logits(ids)
        distance = np.abs(found - expected).max() / np.abs(expected).max()
        print(f"{name}: distance {distance:.1e}", flush=True)
        # ggml looks GELU up in a table of f16 numbers.
        if not distance <= (1e-3 if name.startswith("gpt2") else 1e-4):
            raise SystemExit(f"{name}: llama.cpp and the reference differ")


def perplexity(rows, ids):
    """exp of the mean negative log probability of ids[1:], of which rows[i] judges ids[i + 1]."""
    top = rows.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(rows - top).sum(axis=1)) + top[:, 0]
    chosen = rows[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp(np.mean(log_sums[:-1] - chosen)))


def real(name, prompts, start, path, folder):
    """Greedy text of a real model's file, and the perplexity of a text behind `start`."""
    exact = Runtime(as_f32(path, folder / "f32.gguf"), exact=True, n_context=LONG)
    quantised = Runtime(path, exact=False, n_context=LONG)
    found = [record(one, render(path, prompt), length, exact, quantised)
             for one, (prompt, length) in prompts.items()]
    text = ALICE.read_text()[:PERPLEXITY_CHARACTERS]
    ids = exact.tokenize(start + text)
    head = {
        "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_with": made_with(),
        "perplexity_characters": len(text),  # of tests/golden/tokenizers/training.txt
        "perplexity_tokens": len(ids),
        "perplexity_exact": round(perplexity(exact.logits(ids), ids), DIGITS),
        "perplexity_quantised": round(perplexity(quantised.logits(ids), ids), DIGITS),
    }
    print(head)
    write(HERE / f"{name}.json", head, found)


def families(prefix, folder):
    """What llama.cpp computes with the golden files of published families, as far as it loads
    them: 64 greedy tokens behind the first ids of the file, and its distance from the expected
    logits."""
    path = HERE / "families.json"
    known = json.loads(path.read_text())["prompts"] if path.exists() else []
    found = {one["name"]: one for one in known}
    for name in json.loads((GOLDEN / "families.json").read_text()):
        if not name.startswith(prefix):
            continue
        file = as_f32(GOLDEN / f"{name}.gguf", folder / "f32.gguf", without_words=True)
        runtime = Runtime(file, exact=True)
        ids, expected = golden(name)
        distance = np.abs(runtime.logits(ids) - expected).max() / np.abs(expected).max()
        if distance > 0.1:  # another model: it does not know a key of this one
            print(f"{name}: not what llama.cpp computes ({distance:.1e})", flush=True)
            found.pop(name, None)
            continue
        prompt = ids[:FAMILY_PROMPT]
        continuation = runtime.greedy(prompt, LENGTH)
        rows = runtime.logits(prompt + continuation)[len(prompt) - 1 :]
        found[name] = {"name": name, "prompt_ids": prompt, "ids": continuation,
                       "exact": figures(rows, continuation), "distance": float(f"{distance:.1e}")}
        print(f"{name}: {distance:.1e} from the expected logits", flush=True)
    write(path, {"made_with": made_with()}, [found[name] for name in sorted(found)])


def main():
    parser = argparse.ArgumentParser(description="Record what llama.cpp says.")
    parser.add_argument("what", choices=["smollm2", "expanded", "twins", *REAL, "families"])
    parser.add_argument("file", type=Path, nargs="?", default=MODELS / "stories-q-mqa.q8_0.gguf")
    parser.add_argument("--prefix", default="", help="families: names that begin so, not all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = {"smollm2": smollm2, "expanded": expanded, "twins": twins,
                "families": lambda file, folder: families(args.prefix, folder),
                **{name: partial(real, name, *how) for name, how in REAL.items()}}[args.what]
        work(args.file, Path(folder))


if __name__ == "__main__":
    main()
