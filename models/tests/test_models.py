"""Self-checks of the trainer's parts on tiny models: python -m unittest discover -s models.

The exported files are read by reference.py, which shares no code with model.py.
"""
import itertools
import json
import tempfile
import unittest
from pathlib import Path

import torch
import torch.nn.functional as F
from gguf import GGUFReader

from models.format import expand
from models.format import reference
from models.train import export
from models.train import fast_attention
from models.train.model import IGNORED, PROJECTIONS, Config, Transformer

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


if __name__ == "__main__":
    unittest.main()
