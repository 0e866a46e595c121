"""The engine's held-out loss against PyTorch's, on small random models; needs `npm run build`."""
import tempfile
import unittest
from pathlib import Path

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


if __name__ == "__main__":
    unittest.main()
