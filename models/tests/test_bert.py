"""An encoder of transformers becomes the file that the golden data has."""
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

from models.convert.bert import NAMES, convert
from models.format import gguf_out

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "bert-mean.gguf"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "max_position_embeddings": 128, "hidden_size": 32,
    "num_hidden_layers": 3, "intermediate_size": 64, "num_attention_heads": 4,
    "layer_norm_eps": 1e-3, "type_vocab_size": 2,
}


def hugging_name(name):
    """What transformers calls a tensor of the file."""
    stem, kind = name.rsplit(".", 1)
    own = {short: long for long, short in NAMES.items()}
    if not stem.startswith("blk."):
        return f"bert.{own[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"bert.encoder.layer.{layer}.{own[part]}.{kind}"


def write_folder(folder, tensors, **changes):
    described = {
        "model": {"vocab": {word: i for i, word in enumerate(WORDS)}},
        "normalizer": {"lowercase": True},
        "added_tokens": [{"content": word, "special": True} for word in WORDS[:5]]}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in (("config.json", CONFIG | changes), ("tokenizer.json", described),
                          ("1_Pooling/config.json", {"pooling_mode_cls_token": False,
                                                     "pooling_mode_mean_tokens": True})):
        (folder / name).write_text(json.dumps(content))
    save_file(tensors, folder / "model.safetensors")


class Bert(unittest.TestCase):
    def setUp(self):
        self.golden = GGUFReader(GOLDEN)
        self.tensors = {hugging_name(tensor.name): np.array(tensor.data)
                        for tensor in self.golden.tensors}
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_tensors_and_keys_are_those_of_the_golden_file(self):
        pooler = {"bert.pooler.dense.weight": np.zeros((32, 32), np.float32)}
        write_folder(self.folder, self.tensors | pooler)
        convert(self.folder, self.folder / "out.gguf", gguf_out.TYPES["f32"])
        found = GGUFReader(self.folder / "out.gguf")
        names = {tensor.name: tensor.data for tensor in found.tensors}
        self.assertEqual(set(names), {tensor.name for tensor in self.golden.tensors})
        for tensor in self.golden.tensors:
            np.testing.assert_array_equal(names[tensor.name], tensor.data)
        for name, field in self.golden.fields.items():
            if name.startswith("bert."):
                self.assertEqual(found.get_field(name).contents(), field.contents(), name)
        self.assertEqual(found.get_field("tokenizer.ggml.tokens").contents(),
                         [*WORDS[:5], "\u2581a", "b"])

    def test_another_model_is_refused(self):
        write_folder(self.folder, self.tensors, hidden_act="relu")
        with self.assertRaisesRegex(SystemExit, "found bert with relu, expected bert with gelu"):
            convert(self.folder, self.folder / "out.gguf", gguf_out.TYPES["f32"])


if __name__ == "__main__":
    unittest.main()
