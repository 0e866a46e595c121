"""The engine against PyTorch on small random models: held-out loss, and converted checkpoints.

Needs `npm run build`.
"""
import tempfile
import unittest
from pathlib import Path

from models.convert import trial
from models.tests.test_models import GPT, small
from models.tests.test_training import write_corpus
from models.tools import onekv_cli as engine
from models.train import data
from models.train import evaluate
from models.train import export


@unittest.skipUnless(engine.is_built(), "dist is not there: npm run build")
class EngineTest(unittest.TestCase):
    def test_held_out_loss(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_corpus(folder)
        size = data.prepare(folder, folder / "data", 300)["vocabulary"]
        text = folder / "data" / "plain.validation.txt"
        for changes in ({"projection": "Q-K=V", "kv_heads": 1}, {"projection": "QKV"} | GPT):
            # A context of 32: every story is read in two windows or more.
            model = small(vocabulary=size, **changes)
            expected = evaluate.held_out(model, folder / "data", ["plain"])["plain"]
            for kind, cache, tolerance in (("f32", "f32", 1e-4), ("f16", "f16", 5e-3)):
                with self.subTest(**changes, kind=kind):
                    path = folder / f"model.{kind}.gguf"
                    export.write_gguf(model, path, kind,
                                      tokenizer=folder / "data" / "tokenizer.json")
                    found = engine.evaluate_documents(path, text, cache)
                    self.assertEqual(found["tokens"], expected["tokens"])
                    self.assertEqual(found["context"], 32)
                    self.assertAlmostEqual(found["lossPerToken"] / expected["loss"], 1,
                                           delta=tolerance)
                    self.assertAlmostEqual(found["bitsPerByte"] / expected["bits_per_byte"], 1,
                                           delta=tolerance)

    def test_converted_checkpoint(self):
        shape = trial.SHAPE | {"layers": 2, "d": 64, "heads": 4, "inner": 128, "n_positions": 32}
        for kind in ("KV", "QMQA"):
            with self.subTest(kind=kind):
                folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
                found = trial.try_shape(kind, shape, folder)
                self.assertEqual(found["f32"]["same"], trial.STEPS)
                self.assertLess(found["q8_0"]["bytes"], 0.3 * found["f32"]["bytes"])


if __name__ == "__main__":
    unittest.main()
