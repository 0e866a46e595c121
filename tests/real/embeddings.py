"""Records the vectors of texts that llama.cpp computes: writes embeddings.json.

    python -m tests.real.embeddings [all-MiniLM-L6-v2.f32.gguf]

The golden encoders (tests/golden/bert-*) get a vocabulary, without which llama.cpp loads no
encoder; their texts are token ids. The file of MiniLM is what `python -m models.convert.bert
FOLDER FILE --type f32` writes; without it what is recorded of it stays. llama.cpp looks GELU up
in a table of f16 numbers, which is what keeps its vectors from being closer to ours.
"""
import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from gguf.quants import dequantize

from models.format import expand, gguf_out
from tests.real.record import GOLDEN, HERE, golden, made_with, rows_of

POOLINGS = {"mean": 1, "cls": 2, "last": 3}
DIGITS = 5
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "A fast auburn canine leapt above an idle hound.",
    "Stock markets fell sharply after the announcement.",
    "\u00bfD\u00f3nde est\u00e1 la biblioteca? na\u00efve caf\u00e9 r\u00e9sum\u00e9",
    "\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd\u3002 emoji \U0001f600 a?b=c#d",
    "Don't stop: e-mail me @ 5pm... (OK?)\ttabs\nand lines",
)


def with_words(source, target):
    """The same model in F32, with a vocabulary of made-up words."""
    reader = GGUFReader(source)
    control = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [f"\u2581{i}" for i in range(rows_of(reader, "token_embd.weight") - len(control))]
    keys = expand.copied_keys(reader) | {
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": control + words,
        "tokenizer.ggml.token_type": [3] * len(control) + [1] * len(words),
        "tokenizer.ggml.token_type_count": rows_of(reader, "token_types.weight"),
        "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.seperator_token_id": 3}
    tensors = {tensor.name: gguf_out.encoded(tuple(map(int, tensor.shape[::-1])), Type.F32,
                                             partial(dequantize, tensor.data, tensor.tensor_type))
               for tensor in reader.tensors}
    gguf_out.write(target, "bert", keys, tensors)
    return target


class Encoder:
    def __init__(self, path):
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params())
        self.width = llama_cpp.llama_model_n_embd(self.model)

    def tokenize(self, text):
        data = text.encode()
        ids = (llama_cpp.llama_token * 512)()
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        n = llama_cpp.llama_tokenize(vocabulary, data, len(data), ids, 512, True, False)
        return list(ids[:n])

    def vector(self, ids, pooling):
        """[width], not normalised."""
        how = llama_cpp.llama_context_default_params()
        how.embeddings, how.pooling_type = True, POOLINGS[pooling]
        how.n_ctx = how.n_batch = how.n_ubatch = 128
        how.n_threads = how.n_threads_batch = 1
        context = llama_cpp.llama_init_from_model(self.model, how)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if llama_cpp.llama_encode(context, batch) != 0:
            raise SystemExit("llama.cpp does not encode")
        found = np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context, 0),
                                      (self.width,)).astype(float)
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        return [round(x, DIGITS) for x in found.tolist()]


def record_golden(name, folder):
    ids, _ = golden(name)
    encoder = Encoder(with_words(GOLDEN / f"{name}.gguf", folder / "words.gguf"))
    return {"name": name, "ids": ids,
            **{pooling: encoder.vector(ids, pooling) for pooling in POOLINGS}}


def record_texts(path):
    encoder = Encoder(path)
    found = []
    for text in TEXTS:
        ids = encoder.tokenize(text)
        found.append({"text": text, "ids": ids, "mean": encoder.vector(ids, "mean")})
    return found


def main():
    parser = argparse.ArgumentParser(description="Record llama.cpp's vectors of texts.")
    parser.add_argument("minilm", type=Path, nargs="?")
    args = parser.parse_args()
    llama_cpp.llama_backend_init()
    path = HERE / "embeddings.json"
    minilm = record_texts(args.minilm) if args.minilm else json.loads(path.read_text())["minilm"]
    names = [name for name in json.loads((GOLDEN / "families.json").read_text())
             if name.startswith("bert-")]
    with tempfile.TemporaryDirectory() as folder:
        found = [record_golden(name, Path(folder)) for name in names]
    def lines(items):
        return ",\n".join(json.dumps(item) for item in items)
    path.write_text(f'{{"made_with": {json.dumps(made_with())},\n"golden": [\n{lines(found)}\n],\n'
                    f'"minilm": [\n{lines(minilm)}\n]}}\n')


if __name__ == "__main__":
    main()
