"""Self-checks of the trainer's parts on tiny models: python -m unittest discover -s models.

The exported files are read by reference.py, which shares no code with model.py.
"""
import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import os
import signal
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGUFReader

import data
import evaluate
import expand
import export
import fast_attention
import reference
import train
from model import IGNORED, PROJECTIONS, Config, Transformer
from optimizer import rate_at

SMALL = {"layers": 2, "width": 64, "heads": 4, "mlp_width": 96, "context": 32, "vocabulary": 300}
GPT = {"positions": "learned", "norm": "layer", "activation": "gelu_erf", "bias": True}


def small(**changes):
    torch.manual_seed(7)
    model = Transformer(Config(**(SMALL | changes))).eval()
    with torch.no_grad():       # far from the start, so that every tensor matters
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def variants():
    for projection, groups in itertools.product(PROJECTIONS, (4, 2, 1)):
        for rope in ("rotate-at-read", "rotate-unrotate"):
            if rope == "rotate-at-read" or "v" not in PROJECTIONS[projection]:
                yield {"projection": projection, "kv_heads": groups, "shared_rope": rope}
        yield {"projection": projection, "kv_heads": groups} | GPT


def some_tokens(count=20):
    return torch.randint(0, 300, (count,), generator=torch.Generator().manual_seed(3))


class ModelTest(unittest.TestCase):
    def test_sharing_removes_exactly_the_shared_matrices(self):
        def attention(**changes):
            return sum(p.numel() for p in small(**changes).blocks[0].attention.parameters())
        for projection, roles in PROJECTIONS.items():
            for groups in (4, 2, 1):
                rows = sum(64 if role == "q" else 16 * groups for role in roles) + 64
                self.assertEqual(
                    attention(projection=projection, kv_heads=groups), rows * 64)

    def test_cache_elements(self):
        full = small().config.cached_per_token
        q_mqa = small(projection="Q-K=V", kv_heads=1).config.cached_per_token
        self.assertEqual((full, q_mqa), (2 * 2 * 64, 2 * 16))

    def test_causal_rows_do_not_see_what_follows(self):
        tokens = some_tokens()
        other = tokens.clone()
        other[10:] = 299 - other[10:]
        for changes in variants():
            with self.subTest(**changes), torch.no_grad():
                model = small(**changes)
                a, b = model(tokens[None])[0], model(other[None])[0]
                torch.testing.assert_close(a[:10], b[:10], rtol=0, atol=1e-5)
                self.assertGreater((a[10:] - b[10:]).abs().max(), 1e-2)

    def test_bidirectional_rows_see_everything_but_padding(self):
        model = small(mask="none", **GPT)
        tokens = some_tokens(12)[None]
        mask = torch.zeros(1, 1, 1, 12)
        mask[..., 8:] = -torch.inf
        with torch.no_grad():
            torch.testing.assert_close(
                model(tokens, mask=mask)[:, :8], model(tokens[:, :8]), rtol=0, atol=1e-5)

    def test_padding_is_not_scored(self):
        model, tokens = small(), some_tokens(12)[None]
        targets = tokens.roll(-1, 1)
        padded = targets.clone()
        padded[:, 8:] = IGNORED
        with torch.no_grad():
            torch.testing.assert_close(model(tokens, padded), model(tokens[:, :8], targets[:, :8]))

    def test_unknown_variants_are_refused(self):
        for changes in ({"projection": "Q=V"}, {"kv_heads": 3},
                        {"shared_rope": "rotate-unrotate"}, {"positions": "alibi"}):
            with self.subTest(**changes), self.assertRaises(ValueError):
                small(**changes)


@unittest.skipUnless(fast_attention.library(), "no C compiler")
class FastAttentionTest(unittest.TestCase):
    def test_values_and_gradients_are_pytorchs(self):
        for length, heads, groups, width in (
                (5, 2, 1, 16), (21, 4, 1, 8), (37, 4, 2, 32), (64, 2, 2, 64)):
            torch.manual_seed(1)
            q, k, v = (torch.randn(2, length, n, width, requires_grad=True)
                       for n in (heads, groups, groups))
            weight = torch.randn(2, length, heads, width)

            def plain():
                wide = (x.transpose(1, 2).repeat_interleave(heads // groups, 1) for x in (k, v))
                return F.scaled_dot_product_attention(
                    q.transpose(1, 2), *wide, is_causal=True).transpose(1, 2)
            expected = plain()
            result = fast_attention.attend(q, k, v)
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
            for a, b in zip(torch.autograd.grad((result * weight).sum(), (q, k, v)),
                            torch.autograd.grad((expected * weight).sum(), (q, k, v))):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


class ExportTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file, self.expanded = self.folder / "a.gguf", self.folder / "b.gguf"

    def logits(self, path, rows):
        return reference.logits(reference.Model(path), rows).float()

    def test_every_variant_gives_the_same_logits_from_its_file(self):
        tokens = some_tokens()
        for changes in variants():
            with self.subTest(**changes), torch.no_grad():
                model = small(**changes)
                export.write_gguf(model, self.file)
                torch.testing.assert_close(
                    self.logits(self.file, tokens.tolist()), model(tokens[None])[0],
                    rtol=1e-4, atol=1e-4)

    def test_encoders_and_vit_give_the_same_logits_from_their_files(self):
        rows = torch.randn(9, 10, generator=torch.Generator().manual_seed(1))
        base = GPT | {"mask": "none", "input_kind": "features", "feature_length": 10,
                      "outputs": 5, "tied": False}
        for changes in ({}, {"plus_channels": 10}, {"plus_channels": 7, "projection": "Q=K=V"},
                        {"positions": "none"}, {"class_row": True, "pooling": "first"}):
            with self.subTest(**changes), torch.no_grad():
                model = small(**(base | changes))
                export.write_gguf(model, self.file, labels=list("abcde"))
                expected = model(rows[None])[0]
                torch.testing.assert_close(
                    self.logits(self.file, rows.numpy()), expected.view(-1, 5),
                    rtol=1e-4, atol=1e-4)

    def test_types_and_metadata(self):
        model = small(projection="Q-K=V", kv_heads=1)
        for kind, tolerance in (("f16", 1e-2), ("q8_0", 0.1), ("q4_0", 2.0)):
            export.write_gguf(model, self.file, kind, "tiny", about={"license": "mit"},
                              training={"tokens": 5})
            with torch.no_grad():
                expected = model(some_tokens()[None])[0]
            worst = (self.logits(self.file, some_tokens().tolist()) - expected).abs().max()
            self.assertLess(worst, tolerance)
            fields = GGUFReader(self.file).fields
            self.assertEqual(fields["general.license"].contents(), "mit")
            self.assertEqual(json.loads(fields["onekv.training"].contents()), {"tokens": 5})

    def test_expanded_files_are_standard_and_equal(self):
        tokens = some_tokens().tolist()
        for changes in variants():
            if changes.get("shared_rope") == "rotate-unrotate":
                continue
            with self.subTest(**changes):
                export.write_gguf(small(**changes), self.file, "q8_0")
                expand.expand(self.file, self.expanded)
                names = {field for field in GGUFReader(self.expanded).fields}
                self.assertFalse(names & set(expand.DROPPED))
                torch.testing.assert_close(
                    self.logits(self.expanded, tokens), self.logits(self.file, tokens))

    def test_rotated_values_cannot_be_expanded(self):
        export.write_gguf(small(projection="Q-K=V", shared_rope="rotate-unrotate"), self.file)
        with self.assertRaisesRegex(SystemExit, "no standard twin"):
            expand.expand(self.file, self.expanded)


def write_corpus(folder):
    words = [a + b for a in ("sun", "moon", "star", "rain") for b in ("light", "fall", "ly", "en")]
    for number, name in enumerate(("plain", "old")):
        generator = np.random.default_rng(number)
        stories = (" ".join(generator.choice(words, 50)) for _ in range(60))
        (folder / f"{name}.txt").write_text("".join(f"{s}\n<|end|>\n" for s in stories))


class DataTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(self.folder)
        self.out = self.folder / "out"
        self.stats = data.prepare(self.folder, self.out, 300, {"old": 0.25})

    def test_cleaning_and_separators(self):
        text = "\u201cHi\u2019s\u201d \u2014 a\t b\n\n c\x07 \n<|endoftext|>\nnext\n"
        (self.folder / "x.txt").write_text(text)
        stories = list(data.read_stories(self.folder / "x.txt"))
        self.assertEqual(stories, ['"Hi\'s" - a b\nc', "next"])

    def test_the_split_does_not_depend_on_other_files(self):
        alone = data.split_stories(self.folder / "old.txt", set())
        part = self.stats["files"]["old"]
        self.assertEqual((len(alone[0]), len(alone[1])),
                         (part["train"]["stories"], part["validation"]["stories"]))

    def test_order_is_a_function_of_the_position(self):
        order = data.TrainingOrder(self.out, {"old": 0.25}, 1)
        whole = order.read(0, 20000)
        again = data.TrainingOrder(self.out, {"old": 0.25}, 1)
        np.testing.assert_array_equal(again.read(13000, 500), whole[13000:13500])
        other = data.TrainingOrder(self.out, {"old": 0.25}, 2)
        self.assertTrue((other.read(0, 500) != whole[:500]).any())

    def test_weights_are_shares_of_the_stories(self):
        order = data.TrainingOrder(self.out, {"old": 0.25}, 1)
        stories = int((order._epoch(0) == 0).sum())
        counts = [self.stats["files"][name]["train"]["stories"] for name in ("plain", "old")]
        self.assertEqual(stories, counts[0] + counts[1] // 4)


class TrainTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(self.folder)
        data.prepare(self.folder, self.folder / "data", 300)

    def run_for(self, steps, name, model=None, resume=None):
        """Train to `steps` of the 20 steps of 128 tokens; return the loss of each step."""
        out = self.folder / name
        out.mkdir(exist_ok=True)
        training = train.Training(
            tokens=2560, warmup_tokens=256, decay_tokens=512, evaluate_every=1 << 30, bf16=False,
            stages=[{"until": 1280, "sequence": 16, "batch": 8}, {"sequence": 32, "batch": 4}])
        config = Config(**(SMALL | {"dropout": 0.1} | (model or {})))
        run = train.Run(config, training, self.folder / "data", torch.device("cpu"))
        if resume:
            run.restore(resume)
        arguments = argparse.Namespace(log_every=1, save_minutes=99, minutes=0)
        with unittest.mock.patch.object(train, "train_step", stop_after(run, steps)), \
                contextlib.redirect_stdout(io.StringIO()):
            train.train(run, run.model, out, self.folder / "data", arguments)
        log = (out / "log.jsonl").read_text(encoding="utf-8")
        return [json.loads(line)["loss"] for line in log.splitlines()]

    def test_a_resumed_run_has_the_loss_curve_of_an_unbroken_one(self):
        unbroken = self.run_for(20, "unbroken")
        self.run_for(7, "broken")
        resumed = self.run_for(20, "broken", resume=self.folder / "broken" / "last.pt")
        self.assertEqual(len(unbroken), 20)
        self.assertEqual(unbroken, resumed)
        self.assertLess(unbroken[-1], unbroken[0])

    def test_another_shape_is_refused(self):
        self.run_for(20, "a")
        with self.assertRaisesRegex(SystemExit, "another model"):
            self.run_for(20, "b", {"layers": 1}, self.folder / "a" / "last.pt")

    def test_schedule(self):
        wsd = train.Training(tokens=1000, warmup_tokens=100, decay_tokens=200, rate=1.0)
        rates = [rate_at(tokens, wsd) for tokens in (49, 500, 800, 900, 1000)]
        np.testing.assert_allclose(rates, [0.5, 1, 1, 0.5, 0])
        cosine = dataclasses.replace(wsd, schedule="cosine", final_rate_share=0.1)
        np.testing.assert_allclose([rate_at(t, cosine) for t in (550, 1000)], [0.55, 0.1])

    def test_held_out_loss_scores_each_token_once(self):
        model = small()
        results = evaluate.held_out(model, self.folder / "data", ["plain"])["plain"]
        tokens = data.TokenSet(self.folder / "data", "plain", "validation")
        self.assertEqual(results["tokens"], len(tokens.tokens))
        total, window = 0.0, model.config.context
        for index in range(len(tokens)):
            story = torch.tensor(np.concatenate(([0], tokens.story(index))).astype(np.int64))
            for start in range(0, len(story) - 1, window):
                part = story[start:start + window + 1]
                with torch.no_grad():
                    logits = model(part[None, :-1])[0]
                total += float(F.cross_entropy(logits, part[1:], reduction="sum"))
        self.assertAlmostEqual(results["loss"], total / results["tokens"], places=4)


def stop_after(run, steps):
    """train_step that asks the run to stop, as a signal does, once `steps` are done."""
    original = train.train_step

    def step(*arguments):
        result = original(*arguments)
        if run.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return result
    return step


if __name__ == "__main__":
    unittest.main()
