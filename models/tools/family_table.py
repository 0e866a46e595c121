"""Writes tests/bench/results/families.json: what caches take in published models' shapes, in f16.

Here: `onekv inspect` of a file that is all header (family_shapes.py). llama.cpp: what it says that
it allocates for a file with as many layers, heads and windows and a narrow MLP, for 2048 and
4096 tokens; from 2048 on its bytes grow evenly. Oracles: what tests/real/families.json has of the
family's tiny files. Build first; README.md's table is then written by node tests/bench/readme.mjs.

    python -m models.tools.family_table [NAME…]    all, or these anew
"""

import ctypes
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp

from models.tools import family_shapes

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/families.json"
CONTEXTS = (4096, 32768)
SHAPES = family_shapes.SHAPES | family_shapes.ONE_BIT_SHAPES
MIB = 1 << 20
# How the tiny files of a family are called where not like its architecture.
TINY = {"mistral3": "ministral3", "hunyuan-dense": "hunyuan"}


def inspect(path, name, **changes):
    family_shapes.write(path, *family_shapes.shape_of(name, **changes),
                        wanted=family_shapes.type_of(name), header_only=True)  # fmt: skip
    command = ["node", ROOT / "dist/cli/onekv.js", "inspect", path, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def bytes_here(name, folder):
    """Of a token, and of contexts: this model's cache, and its heads' keys and values."""
    path = folder / "header.gguf"
    report = inspect(path, name)
    own, standard = report["cache"][:2]
    row = {
        "architecture": report["description"]["architecture"],
        "parameters": report["parameters"],
        "layers": report["description"]["layers"],
        "here": own["bytesPerToken"]["f16"],
        "here_i8": own["bytesPerToken"]["i8"],
        "expanded": standard["bytesPerToken"]["f16"],
        "contexts": {},
    }
    for n in CONTEXTS:
        cache = inspect(path, name, context=n)["cache"]
        row["contexts"][n] = {"here": cache[0]["contextBytes"]["f16"],
                              "expanded": cache[1]["contextBytes"]["f16"]}  # fmt: skip
    return row


def llama_allocates(path, n_tokens):
    """Bytes of the caches, from what llama.cpp logs of its buffers."""
    lines = []

    @llama_cpp.llama_log_callback
    def log(_level, text, _data):
        lines.append(text.decode())

    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    llama = llama_cpp.Llama(str(path), n_ctx=n_tokens, n_threads=1, swa_full=False, verbose=True)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    del llama
    # A convolution's rows are a state of its own there.
    found = re.findall(r"llama_(?:kv_cache|memory_recurrent): size = +([\d.]+) MiB",
                       "".join(lines))  # fmt: skip
    return round(sum(map(float, found)) * MIB)


def bytes_in_llama(name, folder):
    """Of a further token, and of contexts."""
    path = folder / "narrow.gguf"
    changes = {"mlp": 256, "vocabulary": 512, "context": max(CONTEXTS)}
    if "wide_mlp" in SHAPES[name][2]:
        changes["wide_mlp"] = 256
    family_shapes.write(path, *family_shapes.shape_of(name, **changes))
    at_2048, at_4096 = (llama_allocates(path, n) for n in (2048, 4096))
    per_token = (at_4096 - at_2048) / 2048
    return round(per_token), {n: round(at_4096 + per_token * (n - 4096)) for n in CONTEXTS}


def main():
    oracles = {}
    for one in json.loads((ROOT / "tests/real/families.json").read_text())["prompts"]:
        oracles.setdefault(one["name"].split("-")[0], []).append(one["distance"])
    names = sys.argv[1:] or list(SHAPES)
    rows = json.loads(RESULTS.read_text())["models"] if sys.argv[1:] else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            row = bytes_here(name, Path(folder))
            row["llama_cpp"], at = bytes_in_llama(name, Path(folder))
            for n, found in at.items():
                row["contexts"][n]["llama_cpp"] = found
            tiny = TINY.get(row["architecture"], row["architecture"])
            row["distance_llama_cpp"] = max(oracles[tiny]) if tiny in oracles else None
            rows[name] = row
            print(name, row, flush=True)
    RESULTS.write_text(json.dumps({"llama-cpp-python": llama_cpp.__version__, "models": rows},
                                  indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
