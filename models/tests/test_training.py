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
from models.study import story_figures
from models.train import data
from models.train import evaluate
from models.train import grow
from models.train import train
from models.train.batches import documents_batch, packed_batch
from models.train.export import write_gguf
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

    def test_punctuation_that_was_decoded_twice_is_mended(self):
        for good in ("\u201cIt\u2019s\u201d", "\u2018a\u2026\u2019 \u2013 b\u2014"):
            twice = good.encode().decode("cp1252", "replace").replace("\ufffd", "\u009d")
            self.assertNotEqual(twice, good)
            self.assertEqual(data.clean(twice), data.clean(good))
            self.assertEqual(data.clean(twice.replace("\u009d", "")), data.clean(good))
        self.assertEqual(data.clean("\u00e2ge, 3 \u20ac"), "\u00e2ge, 3 \u20ac")

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

    def test_nothing_is_trained_on_that_begins_as_a_story_of_a_held_out_file(self):
        folder = self.folder / "held"
        folder.mkdir()
        text = (self.folder / "plain.txt").read_text()
        first = text.split("\n<|end|>\n")[:20]
        (folder / "plain.txt").write_text(text)
        (folder / "x_valid_20.txt").write_text("".join(f"{s} The end.\n<|end|>\n" for s in first))
        files = data.prepare(folder, self.folder / "out3", 300)["files"]
        self.assertEqual(files["x_valid_20"]["validation"]["stories"], 20)
        self.assertEqual(files["x_valid_20"]["train"]["stories"], 0)
        self.assertEqual(sum(files["plain"][part]["stories"] for part in files["plain"]
                             if part != "weight"), 40)

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


class TokenizerTest(unittest.TestCase):
    def test_a_shipped_file_gives_back_its_tokenizer(self):
        folder = Path(train.__file__).parents[1]
        tokenizer = data.read_tokenizer(folder / "stories-q-mqa.q8_0.gguf")
        text = (folder / "validation.txt").read_text()
        stories = text.split("\n<|end|>\n")[:-1]
        items = tokenizer.encode_batch(stories)
        # As many as the results of the shipped pair were computed over.
        self.assertEqual(sum(len(item.ids) + 1 for item in items), 76_209)
        self.assertEqual([tokenizer.decode(item.ids) for item in items], stories)


class GrowTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_a_grown_model_computes_what_its_source_computes(self):
        tokens = torch.arange(3, 31)[None]
        for changes in ({}, {"projection": "Q-K=V", "kv_heads": 1}):
            source = small(**changes)
            write_gguf(source, self.folder / "a.gguf")
            config = Config(**(SMALL | changes | {"layers": 5, "mlp_width": 160, "context": 64}))
            grown = grow.grow(grow.read_gguf(self.folder / "a.gguf"), config).eval()
            with self.subTest(**changes), torch.no_grad():
                self.assertGreater(grown.parameter_count(), source.parameter_count())
                torch.testing.assert_close(grown(tokens), source(tokens), rtol=0, atol=2e-5)
            loss = grown(tokens[:, :-1], tokens[:, 1:])
            loss.backward()         # what is silent can learn to speak
            for name, parameter in grown.named_parameters():
                if name.endswith(grow.SILENT):
                    self.assertGreater(float(parameter.grad.abs().max()), 0, name)

    def test_another_width_is_refused(self):
        write_gguf(small(), self.folder / "a.gguf")
        with self.assertRaisesRegex(SystemExit, "in the configuration"):
            grow.grow(grow.read_gguf(self.folder / "a.gguf"), Config(**(SMALL | {"width": 128})))

    def test_pairs_have_equal_parameters(self):
        for name in ("stories-6m", "stories-33m"):
            path = Path(train.__file__).parent / "configs" / f"{name}.json"
            counts = []
            for variant in ("Q-MQA", "QKV"):
                settings = train.read_settings(argparse.Namespace(config=path, variant=variant))
                train.Training(**settings["training"])
                with torch.device("meta"):
                    counts.append(Transformer(Config(**settings["model"])).parameter_count())
            self.assertLess(abs(counts[0] / counts[1] - 1), 0.02, name)


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

    def test_first_weights_have_a_seed_of_their_own(self):
        stages = [{"sequence": 16, "batch": 8}]
        runs = [train.Run(Config(**SMALL), train.Training(seed=5, weights_seed=n, stages=stages),
                          self.folder / "data", torch.device("cpu")) for n in (0, 5, 6)]
        weights = [run.model.embedding.weight for run in runs]
        self.assertTrue(torch.equal(weights[0], weights[1]))
        self.assertFalse(torch.equal(weights[0], weights[2]))
        stories = [list(run.order.story(0)) for run in runs]
        self.assertEqual(stories[0], stories[2])

    def test_weights_alone_are_a_start(self):
        torch.manual_seed(3)
        model = Transformer(Config(**(SMALL | {"dropout": 0.1})))
        torch.save({"config": dataclasses.asdict(model.config), "model": model.state_dict(),
                    "average": None, "optimizers": None, "step": 0, "tokens": 0, "seconds": 0.0},
                   self.folder / "start.pt")
        self.run_for(1, "started", resume=self.folder / "start.pt")
        state = torch.load(self.folder / "started" / "last.pt", weights_only=True)
        self.assertEqual(state["step"], 1)
        moved = (state["model"]["embedding.weight"] - model.embedding.weight.detach()).abs().max()
        self.assertTrue(0 < float(moved) < 0.01, moved)

    def test_what_has_no_weights_may_change_with_a_start(self):
        self.run_for(2, "a")
        self.run_for(3, "b", {"rope_base": 40000.0, "dropout": 0.0}, self.folder / "a" / "last.pt")
        state = torch.load(self.folder / "b" / "last.pt", weights_only=True)
        self.assertEqual((state["step"], state["config"]["rope_base"]), (3, 40000.0))

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


class FiguresTest(unittest.TestCase):
    def test_a_gap_is_that_of_all_tokens_and_lies_in_its_interval(self):
        lengths = np.arange(10, 110)
        second = lengths * 1.7
        first = second + lengths * np.linspace(0.05, 0.15, 100)
        found = story_figures.gap(first, second, lengths)
        expected = 100 * np.expm1((first - second).sum() / lengths.sum())
        self.assertAlmostEqual(found["percent"], expected)
        low, high = found["interval"]
        self.assertTrue(low < expected < high < low + 2, found)

    def test_long_rows_score_each_position_once(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(folder)
        data.prepare(folder, folder / "data", 300)
        tokens, model = TokenSet(folder / "data", "plain", "train"), small()
        pieces = story_figures.long_rows(tokens, 32, 3)
        self.assertEqual([len(piece) for piece in pieces], [33, 33, 33])
        self.assertEqual(pieces[0][-1], pieces[1][0])
        spans = story_figures.loss_by_position(model, pieces, 8)
        whole = torch.from_numpy(np.stack(pieces))
        with torch.no_grad():
            loss = float(model(whole[:, :-1], whole[:, 1:]))
        self.assertAlmostEqual(np.mean([span["loss"] for span in spans]), loss, places=4)
        self.assertEqual([span["to"] for span in spans], [8, 16, 24, 32])
        with unittest.mock.patch.object(story_figures, "LAST", 8):
            found = story_figures.loss_by_context(model, pieces)
        self.assertEqual([entry["context"] for entry in found], [16, 32])
        self.assertAlmostEqual(found[1]["loss"], spans[3]["loss"], places=5)
        self.assertNotAlmostEqual(found[0]["loss"], found[1]["loss"], places=5)


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
                arguments = argparse.Namespace(config=path, variant=variant)
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
