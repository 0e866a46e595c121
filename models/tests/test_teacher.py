"""Self-checks of teachers: the loss they give, their files, and runs that read them."""
import contextlib
import io
import json
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.tests.test_training import write_corpus
from models.train import data
from models.train import teach
from models.train import train
from models.train.model import taught_loss
from models.train.order import TrainingOrder
from models.train.state import load_checkpoint
from models.train.teacher import RECORD, TOP, Teachers
from models.train.train import Training

ROWS = [{"until": 256, "sequence": 16, "batch": 4}, {"sequence": 32, "batch": 2}]


class LossTest(unittest.TestCase):
    def test_of_all_tokens_it_is_the_cross_entropy_with_the_mean_distribution(self):
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn(7, 11, generator=generator)
        targets = torch.randint(11, (7,), generator=generator)
        expected = torch.randn(7, 3, 11, generator=generator).softmax(-1)
        tokens = torch.stack([torch.randperm(11, generator=generator) for _ in range(21)])
        tokens = tokens.view(7, 3, 11)
        loss = taught_loss(logits, targets, tokens, expected.gather(-1, tokens), 0.3)
        both = 0.7 * F.cross_entropy(logits, targets) + 0.3 * F.cross_entropy(
            logits, expected.mean(1))
        # The rest, which is nothing, is held at 1e-6.
        self.assertAlmostEqual(float(loss), float(both), places=4)

    def test_the_rest_counts_as_one_token(self):
        logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
        q = logits.softmax(-1)[0]
        loss = taught_loss(logits, torch.tensor([0]), torch.tensor([[[2, 1]]]),
                           torch.tensor([[[0.5, 0.3]]]), 1.0)
        rest = -0.2 * (q[0] + q[3]).log()
        self.assertAlmostEqual(
            float(loss), float(-0.5 * q[2].log() - 0.3 * q[1].log() + rest), places=5)


class RunTest(unittest.TestCase):
    """train.py and teach.py by their command lines, on one thread and not compiled."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(self.folder)
        data.prepare(self.folder, self.folder / "data", 300)
        training = {"tokens": 512, "warmup_tokens": 64, "decay_tokens": 128, "bf16": False,
                    "evaluate_every": 100_000, "stages": ROWS, "evaluate_stories": 2}
        config = {"name": "small", "training": training, "model": {
            "width": 32, "layers": 1, "heads": 2, "head_width": 16, "kv_heads": 1,
            "mlp_width": 32, "context": 64, "vocabulary": 300}}
        (self.folder / "small.json").write_text(json.dumps(config))
        self.training = Training(**training)

    def run_program(self, program, *args):
        command = [program.__name__, self.folder / "small.json", *args, "--data",
                   self.folder / "data", "--no-compile", "--threads", "1"]
        with unittest.mock.patch.object(sys, "argv", list(map(str, command))), \
                contextlib.redirect_stdout(io.StringIO()):
            program.main()

    def train(self, name, *args):
        self.run_program(train, "--name", name, "--out", self.folder / "runs",
                         "--log-every", "1", *args)

    def losses(self, name):
        lines = (self.folder / "runs" / name / "log.jsonl").read_text().splitlines()
        return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]

    def test_a_run_reads_what_its_teacher_wrote(self):
        self.train("alone")
        teacher = self.folder / "runs" / "alone" / "final.pt"
        top = self.folder / "alone.top"
        self.run_program(teach, top, "--teacher", teacher)
        whole = top.read_bytes()
        self.assertEqual(len(whole), 512 * RECORD.itemsize)

        # Record 300 is of the second stage: row 0 of 2 rows of 32 at 256, its target 44 - 32 of
        # row 1. A row is read alone there and here.
        model, _ = load_checkpoint(teacher, "last")
        order = TrainingOrder(self.folder / "data", {}, self.training.seed)
        x = torch.from_numpy(order.read(288, 13).astype(np.int64))[None]
        best = model(x)[0, -1].softmax(-1).topk(TOP)
        record = np.frombuffer(whole, RECORD)[300]
        self.assertEqual(record["tokens"].tolist(), best.indices.tolist())
        np.testing.assert_allclose(record["probabilities"], best.values.detach(), rtol=2e-3)

        top.write_bytes(whole[:301 * RECORD.itemsize + 5])      # it goes on where it was stopped
        self.run_program(teach, top, "--teacher", teacher)
        self.assertEqual(top.read_bytes(), whole)

        # No weight on the teacher is no teacher; all weight on it is another loss.
        self.train("none", "--teacher", top, "--set", "teacher_share=0")
        np.testing.assert_allclose(self.losses("none"), self.losses("alone"), atol=2e-4)
        self.train("parts", "--teacher", top, "--set", "micro_batch=1")
        self.train("taught", "--teacher", top)
        np.testing.assert_allclose(self.losses("parts"), self.losses("taught"), atol=2e-4)
        self.assertGreater(abs(self.losses("taught")[-1] - self.losses("alone")[-1]), 1e-3)

        # The plan begins anew with the weights of a run that is over.
        self.train("again", "--start", teacher, "--weights-only")
        self.assertEqual(len(self.losses("again")), len(self.losses("alone")))
        self.assertLess(self.losses("again")[0], self.losses("alone")[0])

        with self.assertRaisesRegex(SystemExit, "this run is"):
            self.train("other", "--teacher", top, "--set", "seed=2")
        with self.assertRaisesRegex(SystemExit, "512 records for a run of 4,096 tokens"):
            self.train("longer", "--teacher", top, "--set", "tokens=4096")

    def test_padded_rows_have_no_teacher(self):
        training = Training(rows="documents", stages=[{"sequence": 16, "batch": 2}])
        with self.assertRaisesRegex(SystemExit, "packed rows"):
            Teachers([self.folder / "x.top"], training)


if __name__ == "__main__":
    unittest.main()
