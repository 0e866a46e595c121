"""Self-checks of what table.py and evaluate.py make of losses, on figures made by hand."""
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np

from models.study import table
from models.tools import pages
from models.train import evaluate
from models.train.model import Config, Transformer


def entry(loss, cache=256, speed=100.0):
    """A run of 100 positions whose loss falls from loss + 1 to loss in the second half."""
    sums = np.full(128, float(loss))
    sums[:64] += 1
    counts = np.ones(128, np.int64)
    return evaluate.summary(sums, counts, 256) | {
        "by_position": evaluate.by_position(sums, counts), "parameters": 1000,
        "cache_bytes_per_token_f16": cache, "training_tokens_per_second": speed}


class EvaluateTest(unittest.TestCase):
    def test_positions_are_all_tokens_once(self):
        generator = np.random.default_rng(1)
        counts = np.sort(generator.integers(0, 9, 300))[::-1]
        sums = generator.random(300) * counts
        rows = evaluate.by_position(sums, counts)
        self.assertEqual(sum(row["tokens"] for row in rows), counts.sum())
        self.assertAlmostEqual(sum(row["loss"] * row["tokens"] for row in rows), sums.sum())
        self.assertEqual([row["from"] for row in rows][1:], [row["to"] for row in rows][:-1])
        self.assertEqual((rows[0]["from"], rows[-1]["to"]), (0, 300))

    def test_per_byte_and_per_token(self):
        result = evaluate.summary(np.array([1.0, 2.0]), np.array([1, 1]), 6)
        self.assertAlmostEqual(result["perplexity"], math.exp(1.5))
        self.assertAlmostEqual(result["perplexity_per_byte"], math.exp(0.5))
        self.assertAlmostEqual(2 ** result["bits_per_byte"], result["perplexity_per_byte"])


class TableTest(unittest.TestCase):
    def test_every_run_has_a_folder_of_its_own(self):
        runs = list(table.configurations())
        self.assertEqual(len({settings["name"] for *_, settings in runs}), len(runs))

    def test_equal_parameters(self):
        runs = {label: settings for name, label, seed, settings in table.configurations()
                if name == "equal" and seed == 3}
        self.assertEqual(len(runs), 6)
        counts = {label: Transformer(Config(**settings["model"])).parameter_count()
                  for label, settings in runs.items()}
        for label, count in counts.items():
            self.assertLess(abs(count / counts["QKV"] - 1), 1e-3, label)

    def setUp(self):
        self.base = {1: 2.5, 2: 2.6}
        self.rows = [
            table.summarise("QKV", [(1, entry(2)), (2, entry(2.1))], self.base),
            table.summarise("Q-MQA", [(1, entry(2.05, 8)), (2, entry(2.25, 8, 300))], self.base)]

    def test_changes_are_against_the_same_seed(self):
        changes = self.rows[1]["change_percent_by_seed"]
        np.testing.assert_allclose(changes, [100 * math.expm1(0.05), 100 * math.expm1(0.15)])
        self.assertAlmostEqual(self.rows[1]["change_percent"], np.mean(changes))
        self.assertAlmostEqual(self.rows[0]["change_percent"], 0)
        self.assertAlmostEqual(self.rows[1]["perplexity_spread"], math.exp(2.75) - math.exp(2.55))
        self.assertEqual(self.rows[1]["training_tokens_per_second"], 200)

    def test_the_page_has_every_figure(self):
        lines = table.markdown({"rows": self.rows}, table.PAPER_CHANGE)
        self.assertIn("| QKV | 12.82 ± 0.64 | 3.5798 | – | – | 1,000 | 256 | 0.0 % | 100 | 2 |",
                      lines)
        self.assertTrue(lines[3].startswith("| Q-K=V MQA | "), lines[3])
        self.assertEqual([table.written(label) for label in ("Q-K=V", "MQA", "rope Q-MQA learned")],
                         ["Q-K=V", "QKV MQA", "rope Q-K=V MQA learned"])
        self.assertIn("| +10.7 % (+5.1 to +16.2) | +4.8 % |", lines[3])
        self.assertIn("| 8 | 96.9 % | 200 | 2 |", lines[3])
        self.assertEqual(lines[-1].count("+10.5 %"), 5)     # by the mean loss, at every position
        self.assertEqual(lines[-4].count("|"), lines[-1].count("|"))

    def test_a_part_of_a_page_is_replaced_and_nothing_else(self):
        page = Path(self.enterContext(tempfile.TemporaryDirectory())) / "page.md"
        page.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
        for lines in (["one", "two"], ["three"]):
            pages.replace_part(page, "x", lines)
            self.assertEqual(page.read_text(), "\n".join(
                ["a", "<!-- x -->", *lines, "<!-- /x -->", "b", ""]))
        with self.assertRaises(SystemExit):
            pages.replace_part(page, "y", [])


if __name__ == "__main__":
    unittest.main()
