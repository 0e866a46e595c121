"""Writes tests/bench/results/families.json: what a token's cache takes in published models' shapes.

Here: `onekv inspect` of a file that is all header (family_shapes.py). llama.cpp: what it says that
it allocates for a file of two layers of that shape, times layers / 2. Oracles: what
tests/real/families.json has of the family's tiny files. Build first; README.md's table is then
written by node tests/bench/readme.mjs.

    python -m models.tools.family_table
"""

import ctypes
import json
import re
import subprocess
import tempfile
from pathlib import Path

import llama_cpp

from models.tools import family_shapes

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/families.json"
CONTEXT = 1024
MIB = 1 << 20


def bytes_here(name, folder):
    """Of a token's cache in f16: this model's, and that of its heads' keys and values."""
    path = folder / "header.gguf"
    family_shapes.write(path, *family_shapes.SHAPES[name](), header_only=True)
    command = ["node", ROOT / "dist/cli/onekv.js", "inspect", path, "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    own, standard = report["cache"][:2]
    return {
        "architecture": report["description"]["architecture"],
        "parameters": report["parameters"],
        "here": own["bytesPerToken"]["f16"],
        "here_i8": own["bytesPerToken"]["i8"],
        "expanded": standard["bytesPerToken"]["f16"],
    }


def bytes_in_llama(name, folder):
    """The same in llama.cpp, from what it logs of its buffers."""
    arch, keys, tensors = family_shapes.SHAPES[name](layers=2)
    path = folder / "two.gguf"
    family_shapes.write(path, arch, keys | {"vocab_size": 512},
                        tensors | {"token_embd": (512, *tensors["token_embd"][1:])},
                        without_words=True)  # fmt: skip
    lines = []

    @llama_cpp.llama_log_callback
    def log(_level, text, _data):
        lines.append(text.decode())

    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    llama = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_threads=1, verbose=True)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    del llama
    found = re.search(r"llama_kv_cache: size = +([\d.]+) MiB", "".join(lines))
    layers = family_shapes.SHAPES[name]()[1]["block_count"]
    return round(float(found.group(1)) * MIB / CONTEXT * layers / 2)


def main():
    oracles = {}
    for one in json.loads((ROOT / "tests/real/families.json").read_text())["prompts"]:
        oracles.setdefault(one["name"].split("-")[0], []).append(one["distance"])
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in family_shapes.SHAPES:
            row = bytes_here(name, Path(folder))
            row["llama_cpp"] = bytes_in_llama(name, Path(folder))
            row["distance_llama_cpp"] = max(oracles[row["architecture"]])
            rows[name] = row
            print(name, row, flush=True)
    RESULTS.write_text(json.dumps({"llama-cpp-python": llama_cpp.__version__, "models": rows},
                                  indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
