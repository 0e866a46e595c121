"""Proof of convert.py: official layouts give the same logits after conversion.

    python -m models.tests.test_convert            the tests (unittest)
    python -m models.tests.test_convert --golden   also writes tests/golden/convert-*.{gguf,bin}

The golden pairs let the C engine's own test prove the same files where there is no torch.
"""
import pickle
import struct
import subprocess
import sys
import tempfile
import unittest
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from models.convert import convert
from models.convert import official
from models.convert.torch_file import CheckpointError
from models.format import reference

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
LANGUAGE = {"KQV": None, "QK": None, "KV": None, "K": None, "GQA": 2, "MQA": 1, "QGQA": 2,
            "QMQA": 1}
SMALL = [(kind, plus) for kind in ("qkv", "qk", "kv", "q") for plus in (False, True)
         if not plus or kind in ("qk", "q")]


def spread(model):
    """Weights far enough from zero that every tensor moves the logits."""
    generator = torch.Generator().manual_seed(len(model.state_dict()))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            is_gain = ".ln" in f".{name}" and name.endswith("weight")
            scale = 0.3 if tensor.dim() == 1 else 1.2 * tensor[0].numel() ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale + is_gain)
    return model.eval()


def language_checkpoint(kind, prefix="module."):
    torch.manual_seed(7)
    groups = LANGUAGE[kind] or 4
    model = spread(official.GPT(kind, groups=groups))
    config = {"n_head": 4, "n_embd": 32, "n_layer": 2}
    if LANGUAGE[kind]:
        config["n_kv_groups"] = groups
    weights = OrderedDict((prefix + k, v) for k, v in model.state_dict().items())
    return model, {"step": 7, "model_state_dict": weights, "model_config": config,
                   "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}}}


def save_and_convert(folder, checkpoint, *flags):
    source, target = Path(folder) / "model.pt", Path(folder) / "model.gguf"
    torch.save(checkpoint, source)
    args = convert.parse([str(source), str(target), *flags])
    return target, convert.convert(source, target, args)


def write_golden(name, file, kind, inputs, logits):
    if "--golden" not in sys.argv:
        return
    (GOLDEN / f"convert-{name}.gguf").write_bytes(file.read_bytes())
    features = inputs.shape[1] if kind else 0
    head = struct.pack("<4s7I", b"OKVG", 1, kind, len(inputs), features, *logits.shape, 0)
    (GOLDEN / f"convert-{name}.bin").write_bytes(
        head + inputs.tobytes() + np.float32(logits).tobytes())


class Languages(unittest.TestCase):
    def check(self, kind, prefix, *flags, vocabulary=None):
        model, checkpoint = language_checkpoint(kind, prefix)
        generator = torch.Generator().manual_seed(3)
        tokens = torch.randint(0, vocabulary or 41, (40,), generator=generator)
        expected = model(tokens[None])[0].detach().numpy()[:, :vocabulary]
        with tempfile.TemporaryDirectory() as folder:
            file, layout = save_and_convert(folder, checkpoint, *flags)
            found = reference.logits(reference.Model(file), tokens.tolist()).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
            if not flags and prefix:
                write_golden(f"gpt-{kind.lower()}", file, 0, np.int32(tokens), expected)
        return layout

    def test_every_layout(self):
        for kind in LANGUAGE:
            with self.subTest(kind):
                self.check(kind, "module.")
                self.check(kind, "")
                self.check(kind, "", "--expand")

    def test_untrained_rows_are_dropped(self):
        layout = self.check("QMQA", "module.", "--vocabulary", "37", vocabulary=37)
        self.assertEqual(layout.tensors["token_embd.weight"][0], (37, 32))

    def test_types(self):
        for kind in ("f16", "q8_0", "q4_0"):
            _, checkpoint = language_checkpoint("KV")
            with tempfile.TemporaryDirectory() as folder:
                file, _ = save_and_convert(folder, checkpoint, "--type", kind)
                self.assertEqual(reference.Model(file).projection, "Q-K=V")

    def test_variants_are_recognised(self):
        expected = {"KQV": ("QKV", 4), "QK": ("Q=K-V", 4), "KV": ("Q-K=V", 4), "K": ("Q=K=V", 4),
                    "GQA": ("QKV", 2), "MQA": ("QKV", 1), "QGQA": ("Q-K=V", 2),
                    "QMQA": ("Q-K=V", 1)}
        for kind, variant in expected.items():
            layout = self.check(kind, "module.")
            self.assertEqual((layout.projection, layout.kv_heads), variant, kind)


class Small(unittest.TestCase):
    def check(self, model, name, inputs, kind, flat):
        with tempfile.TemporaryDirectory() as folder:
            file, layout = save_and_convert(folder, {
                "task": "x", "variant": name, "config": {"n_head": 4}, "test_accuracy": 1.0,
                "model": type(model).__name__, "model_state_dict": model.state_dict()})
            expected = model(inputs).detach().numpy()[0]
            expected = expected if expected.ndim == 2 else expected[None]
            found = reference.logits(reference.Model(file), flat).numpy()
            np.testing.assert_allclose(found.reshape(expected.shape), expected,
                                       atol=1e-4 * np.abs(expected).max())
            write_golden(name, file, kind, np.array(flat, np.float32 if kind else np.int32),
                         expected)
        return layout

    def test_encoders(self):
        for kind, plus in SMALL:
            torch.manual_seed(5)
            model = spread(official.Encoder(kind, plus, d=16))
            tokens = torch.randint(0, 10, (1, 40))
            name = f"encoder-{kind}{'-plus' if plus else ''}"
            with self.subTest(name):
                self.check(model, name, tokens, 0, tokens[0].tolist())

    def test_vits(self):
        for kind, plus in SMALL:
            torch.manual_seed(6)
            model = spread(official.ViT(kind, plus, d=16))
            images = torch.randn(1, 3, 12, 12)
            patches = torch.nn.functional.unfold(images, 4, stride=4)[0].T
            name = f"vit-{kind}{'-plus' if plus else ''}"
            with self.subTest(name):
                layout = self.check(model, name, images, 1, patches.numpy())
                self.assertEqual(layout.options["image.size"], 12)


class Danger:
    def __reduce__(self):
        import os
        return os.system, ("echo this must not run > /dev/stderr",)


class Refusals(unittest.TestCase):
    def refused(self, checkpoint, text, *flags):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(CheckpointError) as caught:
                save_and_convert(folder, checkpoint, *flags)
        self.assertIn(text, str(caught.exception))

    def test_code_is_refused(self):
        _, checkpoint = language_checkpoint("KQV")
        self.refused(checkpoint | {"train_config": Danger()}, "system")

    def test_what_does_not_fit(self):
        for change, text in (
                (lambda w: w.pop("h.1.ln_2.weight"), "key h.1.ln_2.weight is missing"),
                (lambda w: w.update({"h.0.extra": torch.ones(2)}), "h.0.extra"),
                (lambda w: w.update({"h.1.mlp.c_fc.weight": torch.ones(47, 32)}), "[47, 32]"),
                (lambda w: w.update({"h.0.attn.c_attn.weight": torch.ones(32, 96)}), "Conv1D"),
                (lambda w: w.pop("wpe.weight"), "no known layout")):
            _, checkpoint = language_checkpoint("KQV", prefix="")
            change(checkpoint["model_state_dict"])
            self.refused(checkpoint, text)

    def test_two_readings_are_an_error(self):
        _, checkpoint = language_checkpoint("GQA")
        del checkpoint["model_config"]["n_kv_groups"]
        self.refused(checkpoint, "--n-kv-groups")
        self.refused(checkpoint, "expected 16", "--n-kv-groups", "1")

    def test_not_a_zip(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            path.write_bytes(pickle.dumps({}))
            with self.assertRaises(CheckpointError):
                convert.convert(path, Path(folder) / "x.gguf", convert.parse(["a", "b"]))


class Memory(unittest.TestCase):
    def test_streaming(self):
        """A checkpoint of 300 MB, a third of it optimizer state, converts in less than half of its
        size beyond what Python with numpy takes: no more than a few tensors at a time."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.pt"
            model = official.GPT("QMQA", layers=10, d=768, heads=12, groups=1, inner=1536,
                                 vocabulary=8192, n_positions=512)
            weights = model.state_dict()
            torch.save({"model_state_dict": weights, "model_config": {"n_head": 12},
                        "optimizer_state_dict": {"exp_avg": torch.ones(25_000_000)}}, source)
            size = source.stat().st_size
            self.assertGreater(size, 250e6)
            program = ("import resource, sys; from models.convert import convert\n"
                       "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
                       "args = convert.parse(sys.argv[1:])\n"
                       "convert.convert(args.checkpoint, args.out, args)\n"
                       "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
            done = subprocess.run(
                [sys.executable, "-c", program, str(source), str(Path(folder) / "out.gguf"),
                 "--type", "q8_0"], cwd=GOLDEN.parents[1], check=True, capture_output=True)
            self.assertLess(int(done.stdout) * 1024, size / 2)


if __name__ == "__main__":
    unittest.main(argv=[a for a in sys.argv if a != "--golden"])
