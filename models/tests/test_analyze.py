"""Self-checks of analyze.py on what can be said by hand."""
import unittest

import torch

from models.study import analyze
from models.tests.test_models import GPT, small


class Stories:
    """A token set of random stories of 40 tokens that end with token 0."""

    def __init__(self, count):
        generator = torch.Generator().manual_seed(5)
        self.rows = torch.randint(1, 300, (count, 40), generator=generator)
        self.rows[:, -1] = 0

    def __len__(self):
        return len(self.rows)

    def story(self, number):
        return self.rows[number].numpy()


class AnalyzeTest(unittest.TestCase):
    def layers(self, **changes):
        stories, layers = analyze.analyse(small(**changes), Stories(6), 4, 32)
        self.assertEqual((stories, len(layers)), (4, 2))
        return layers

    def test_effective_rank_counts_equal_directions(self):
        for rank in (1, 3, 8):
            values = torch.zeros(20, 8)
            values[:rank, :rank] = 7 * torch.eye(rank)
            self.assertAlmostEqual(float(analyze.effective_rank(values)), rank, places=4)

    def test_cka_is_blind_to_rotation_and_scale_only(self):
        torch.manual_seed(2)
        x, noise = torch.randn(2000, 8), torch.randn(2000, 8)
        turn = torch.linalg.qr(torch.randn(8, 8)).Q
        self.assertAlmostEqual(analyze.linear_cka(x, 3 * x @ turn + 5), 1, places=4)
        self.assertLess(analyze.linear_cka(x, noise), 0.05)

    def test_shared_projections(self):
        for changes in ({}, {"kv_heads": 1}, GPT):
            with self.subTest(**changes):
                for row in self.layers(projection="Q-K=V", **changes):
                    self.assertAlmostEqual(row["cosine_kv"], 1, places=5)
                    self.assertAlmostEqual(row["cka_kv"], 1, places=5)
                    self.assertEqual(row["effective_rank_k"], row["effective_rank_v"])
                for row in self.layers(projection="QKV", **changes):
                    self.assertLess(abs(row["cosine_kv"]), 0.5)
                    self.assertLessEqual(row["effective_rank_k"], row["widest_rank"])

    def test_the_scores_of_a_shared_query_and_key_are_symmetric(self):
        for row in self.layers(projection="Q=K-V", **GPT):
            self.assertLess(row["asymmetry_map"], 1e-5)
        for row in self.layers(projection="QKV", **GPT):
            self.assertGreater(row["asymmetry_map"], 0.1)

    def test_every_layout_is_the_attention_of_the_model(self):
        # observe() ends the program where its attention is not the model's.
        self.layers(projection="Q-K=V", kv_heads=2, shared_rope="rotate-unrotate")
        self.layers(projection="Q=K=V", kv_heads=2)


if __name__ == "__main__":
    unittest.main()
