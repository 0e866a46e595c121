"""Self-checks of data preparation and training: python -m unittest discover -s models."""
import argparse
import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.tests.test_models import SMALL, small
from models.train import data
from models.train import evaluate
from models.train import train
from models.train.batches import documents_batch, packed_batch
from models.train.model import IGNORED, Config, Transformer
from models.train.optimizer import rate_at
from models.train.order import TokenSet, TrainingOrder


def write_corpus(folder):
    words = [a + b for a in ("sun", "moon", "star", "rain") for b in ("light", "fall", "ly", "en")]
    for number, name in enumerate(("plain", "old")):
        generator = np.random.default_rng(number)
        stories = (" ".join(generator.choice(words, generator.integers(30, 70))) for _ in range(60))
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
        path = self.folder / "x.txt"
        self.assertEqual(list(data.read_stories(path, False)), ['"Hi\'s" - a b\nc', "next"])
        self.assertEqual(list(data.read_stories(path, True))[1], "next")

    def test_lines_of_json_are_texts_too(self):
        folder = self.folder / "jsonl"
        folder.mkdir()
        texts = (self.folder / "plain.txt").read_text().split("\n<|end|>\n")[:-1]
        (folder / "plain.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts))
        stats = data.prepare(folder, self.folder / "out2",
                             tokenizer_path=self.out / "tokenizer.json")
        self.assertEqual(stats["files"]["plain"], self.stats["files"]["plain"])
        for name in ("plain.train.bin", "plain.train.npy", "plain.validation.txt"):
            self.assertEqual((self.out / name).read_bytes(),
                             (self.folder / "out2" / name).read_bytes())

    def test_the_split_does_not_depend_on_other_files(self):
        alone = [part for part, _ in data.split_stories(self.folder / "old.txt", set())]
        for part in ("train", "validation"):
            self.assertEqual(alone.count(part), self.stats["files"]["old"][part]["stories"])

    def test_order_is_a_function_of_the_position(self):
        order = TrainingOrder(self.out, {"old": 0.25}, 1)
        whole = order.read(0, 20000)
        again = TrainingOrder(self.out, {"old": 0.25}, 1)
        np.testing.assert_array_equal(again.read(13000, 500), whole[13000:13500])
        other = TrainingOrder(self.out, {"old": 0.25}, 2)
        self.assertTrue((other.read(0, 500) != whole[:500]).any())

    def test_weights_are_shares_of_the_stories(self):
        order = TrainingOrder(self.out, {"old": 0.25}, 1)
        counts = [self.stats["files"][name]["train"]["stories"] for name in ("plain", "old")]
        epoch = order._epoch(0)
        self.assertEqual(len(epoch), counts[0] + counts[1] // 4)
        self.assertEqual(sum(tokens == 0 for tokens in order.read(0, epoch.n_tokens)), len(epoch))

    def test_stories_of_the_order_are_its_tokens(self):
        order = TrainingOrder(self.out, {"old": 0.25}, 1)
        count = 2 * len(order._epoch(0)) + 5        # into the third epoch
        stories = [order.story(number) for number in range(count)]
        text = np.concatenate(stories)
        np.testing.assert_array_equal(order.read(0, len(text)), text)
        np.testing.assert_array_equal(order.lengths(0, count), [len(story) for story in stories])
        np.testing.assert_array_equal(order.lengths(count - 9, 9), [len(s) for s in stories[-9:]])


class BatchTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(self.folder)
        data.prepare(self.folder, self.folder / "data", 300)
        self.order = TrainingOrder(self.folder / "data", {}, 1)

    def test_packed_rows_run_on(self):
        x, y, scored = packed_batch(self.order, 1000, 6, 16, range(1, 6, 2))
        text = self.order.read(1000, 6 * 16 + 1).astype(np.int64)
        for place, row in enumerate((1, 3, 5)):
            np.testing.assert_array_equal(x[place], text[16 * row:16 * row + 16])
            np.testing.assert_array_equal(y[place], text[16 * row + 1:16 * row + 17])
        self.assertEqual(scored, 96)

    def test_documents_are_cut_and_their_padding_is_not_scored(self):
        lengths = self.order.lengths(8, 8)
        sequence = int(np.median(lengths))      # some are cut, some are padded
        x, y, scored = documents_batch(self.order, 8 * sequence, 8, sequence, range(8))
        self.assertEqual(scored, int((y != IGNORED).sum()))
        self.assertTrue(0 < (lengths > sequence).sum() < 8)
        for row in range(8):
            story = self.order.story(8 + row)
            inputs, targets = next(evaluate.windows(story, sequence))
            self.assertEqual(int((y[row] != IGNORED).sum()), len(targets))
            np.testing.assert_array_equal(x[row, :len(inputs)], inputs)
            np.testing.assert_array_equal(y[row, :len(targets)], targets)


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

    def test_settings_that_cannot_be_trained_are_refused(self):
        for changes in ({"stages": [{"sequence": 33, "batch": 8}]}, {"micro_batch": 3},
                        {"rows": "stories"}):
            with self.subTest(**changes), self.assertRaises(SystemExit):
                train.Run(Config(**SMALL), train.Training(**changes), self.folder / "data",
                          torch.device("cpu"))

    def test_schedule(self):
        wsd = train.Training(tokens=1000, warmup_tokens=100, decay_tokens=200, rate=1.0)
        rates = [rate_at(tokens, wsd) for tokens in (49, 500, 800, 900, 1000)]
        np.testing.assert_allclose(rates, [0.5, 1, 1, 0.5, 0])
        cosine = dataclasses.replace(wsd, schedule="cosine", final_rate_share=0.1)
        np.testing.assert_allclose([rate_at(t, cosine) for t in (550, 1000)], [0.55, 0.1])

    def test_held_out_loss_scores_each_token_once(self):
        model = small()
        results = evaluate.held_out(model, self.folder / "data", ["plain"])["plain"]
        tokens = TokenSet(self.folder / "data", "plain", "validation")
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


class ProcessesTest(unittest.TestCase):
    """train.py as it is called, alone and by torchrun."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(self.folder)
        data.prepare(self.folder, self.folder / "data", 300)

    def losses(self, name, processes, **training):
        settings = {"name": name, "model": SMALL, "training": {
            "tokens": 4096, "warmup_tokens": 512, "decay_tokens": 512, "evaluate_every": 1 << 30,
            "bf16": False, "stages": [{"sequence": 32, "batch": 8}]} | training}
        (self.folder / f"{name}.json").write_text(json.dumps(settings))
        launcher = ["-m", "torch.distributed.run", "--standalone",
                    f"--nproc-per-node={processes}"] if processes > 1 else []
        subprocess.run(
            [sys.executable, *launcher, "-m", "models.train.train",
             str(self.folder / f"{name}.json"), "--data", str(self.folder / "data"),
             "--out", str(self.folder), "--threads", "1", "--no-compile", "--log-every", "1"],
            check=True, capture_output=True)
        lines = (self.folder / name / "log.jsonl").read_text().splitlines()
        results = json.loads((self.folder / name / "results.json").read_text())
        return [json.loads(line)["loss"] for line in lines], results["last"]["plain"]["loss"]

    def test_two_processes_give_the_loss_curve_of_one(self):
        for rows in ("packed", "documents"):
            one, end = self.losses(f"{rows}-1", 1, rows=rows)
            two, same = self.losses(f"{rows}-2", 2, rows=rows, micro_batch=2)
            self.assertEqual(len(one), 16)
            self.assertLess(one[-1], one[0] - 0.5)
            np.testing.assert_allclose(two, one, rtol=0, atol=2e-3)
            self.assertAlmostEqual(same, end, delta=2e-3)


class PaperTest(unittest.TestCase):
    # Of the published code (counted there with the same vocabulary of 50,304 rows).
    PARAMETERS = {
        "paper-300m": {
            "QKV": 305_534_976, "Q-K=V": 284_542_976, "Q=K-V": 284_542_976, "Q=K=V": 263_550_976,
            "GQA-4": 274_046_976, "MQA": 266_174_976, "Q-GQA-4": 268_798_976,
            "Q-MQA": 264_862_976},
        "paper-1.2b": {
            "QKV": 1_215_102_976, "Q-K=V": 1_122_783_232, "GQA-8": 1_076_623_360,
            "MQA": 1_036_233_472, "Q-GQA-8": 1_053_543_424, "Q-MQA": 1_033_348_480}}

    def test_every_variant_has_the_papers_parameters(self):
        for name, counts in self.PARAMETERS.items():
            path = Path(train.__file__).parent / "configs" / f"{name}.json"
            variants, names = json.loads(path.read_text())["variants"], set()
            for variant in variants:
                arguments = argparse.Namespace(config=path, variant=variant, set=[], name=None)
                settings = train.read_settings(arguments)
                train.Training(**settings["training"])
                names.add(settings["name"])
                with torch.device("meta"):
                    model = Transformer(Config(**settings["model"]))
                if variant in counts:
                    self.assertEqual(model.parameter_count(), counts[variant], (name, variant))
            self.assertLessEqual(counts.keys(), variants.keys())
            self.assertEqual((len(variants), len(names)), (8, 8))


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
