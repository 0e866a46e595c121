"""What keys, values and attention maps of a trained model look like, layer by layer.

    python -m models.study.analyze --data DATA --plot stories stories-qkv=RUNS/NAME/final.pt …
    python -m models.study.analyze --data DATA --plot table --table RUNS

The second takes the first seed of each variant that table.py has trained. For each checkpoint and
layer, over held-out stories read from their start:

- cosine: of K and V, the mean over positions and KV heads of the cosine between the key row and the
  value row of a head, before any rotation (1 by construction where K = V; the sharing of a QKV
  model that nobody asked for);
- cosine of the projection matrices of K and V, flattened, as the paper's slides have it, and linear
  CKA (Kornblith et al. 2019) of the centred rows: blind to rotations of a head, as cosine is not;
- effective rank of K and of V, all KV heads of a layer side by side: exp of the entropy of the
  normalised singular values of the centred rows (Roy & Vetterli 2007), at most g * h;
- effective rank of the attention maps, the same of each head's whole map, mean over heads;
- asymmetry of the maps: |S - S'| / |S + S'| (Frobenius) of each head's scores before the mask, mean
  over heads and stories: 0 for Q = K without a mask, about 1 for unrelated Q and K.

The same model before training is the control: K and V are two views of one input, so much of their
similarity needs no learning. Writes analysis/NAME.json and, by matplotlib, analysis/PLOT.svg, and
the table in RESULTS.md. Invariants: attention is computed here from the model's own projections,
and its output must be that of the model.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch

from models.study.table import configurations, written
from models.tools.pages import replace_part
from models.train.evaluate import windows
from models.train.model import Transformer, causal_mask, rotate, spread
from models.train.order import TokenSet
from models.train.state import load_checkpoint

SCORED = "tinystories_github"
TOLERANCE = 1e-3


def effective_rank(values):
    """exp of the entropy of the normalised singular values: [..., n, d] to [...]."""
    singular = torch.linalg.svdvals(values.double())
    share = singular / singular.sum(-1, keepdim=True).clamp_min(1e-30)
    return torch.exp(-(share * share.clamp_min(1e-30).log()).sum(-1))


def linear_cka(x, y):
    """Similarity of two sets of rows [n, d] and [n, e] up to rotation and scale, 0 to 1."""
    x, y = ((rows - rows.mean(0)).double() for rows in (x, y))
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def projections(attention, x, table):
    """What scores and mixing read: q, k [B, H, n, h] for the scores, and the plain k, v [B, g, n,
    h]; the values that are mixed [B, H, n, h]."""
    c = attention.config
    batch, length, _ = x.shape
    def heads(linear, count):
        return linear(x).view(batch, length, count, c.head_width).transpose(1, 2)
    k = heads(attention.k, c.kv_heads)
    v = k if attention.v is None else heads(attention.v, c.kv_heads)
    turned = rotate(k, table) if c.rope else k
    if attention.q is None:
        q = spread(turned, c.heads)
    else:
        q = heads(attention.q, c.heads)
        q = rotate(q, table) if c.rope else q
    mixed = turned if c.shared_rope == "rotate-unrotate" else v
    return q, spread(turned, c.heads), k, v, spread(mixed, c.heads)


class LayerStatistics:
    """Collects one layer's rows and maps, story by story."""

    def __init__(self, attention):
        self.attention = attention
        self.keys, self.values = [], []
        self.cosines, self.asymmetries, self.map_ranks = [], [], []

    def observe(self, x, table, expected):
        """x [1, n, d] goes into the attention of this layer, `expected` came out of it."""
        q, k, plain_k, plain_v, mixed = projections(self.attention, x, table)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        maps = (scores + causal_mask(x.shape[1], x)).softmax(-1)
        y = maps @ mixed
        if self.attention.config.shared_rope == "rotate-unrotate":
            y = rotate(y, table, inverse=True)
        y = self.attention.output(y.transpose(1, 2).flatten(2))
        distance = float((y - expected).abs().max() / expected.abs().max())
        if not distance < TOLERANCE:
            raise SystemExit(f"the analysis computes another attention than the model: {distance}")
        self.keys.append(plain_k[0].transpose(0, 1).flatten(1))
        self.values.append(plain_v[0].transpose(0, 1).flatten(1))
        self.cosines.append(torch.cosine_similarity(plain_k, plain_v, dim=-1).mean(0).mean(0))
        odd, even = scores - scores.mT, scores + scores.mT
        self.asymmetries.append(odd.norm(dim=(-2, -1)) / even.norm(dim=(-2, -1)))
        self.map_ranks.append(effective_rank(maps))

    def result(self):
        keys, values = torch.cat(self.keys), torch.cat(self.values)
        k, v = self.attention.k.weight, (self.attention.v or self.attention.k).weight
        ranks = [float(effective_rank(rows - rows.mean(0))) for rows in (keys, values)]
        return {"cosine_kv": float(torch.cat(self.cosines).mean()),
                "cosine_of_matrices": float(
                    torch.cosine_similarity(k.flatten(), v.flatten(), dim=0)),
                "cka_kv": linear_cka(keys, values),
                "effective_rank_k": ranks[0], "effective_rank_v": ranks[1],
                "widest_rank": keys.shape[1],
                "effective_rank_map": float(torch.cat(self.map_ranks).mean()),
                "asymmetry_map": float(torch.cat(self.asymmetries).mean())}


@torch.no_grad()
def analyse(model, token_set, stories, length):
    """Per layer, over the first `length` tokens of the first stories that have as many."""
    layers = [LayerStatistics(block.attention) for block in model.blocks]
    hooks = []
    for layer in layers:
        def hook(_, inputs, output, layer=layer):
            layer.observe(inputs[0], inputs[1], output)
        hooks.append(layer.attention.register_forward_hook(hook))
    chosen = [number for number in range(len(token_set))
              if len(token_set.story(number)) >= length][:stories]
    for number in chosen:
        inputs, _ = next(windows(token_set.story(number), length))
        model(torch.from_numpy(inputs)[None])
    for hook in hooks:
        hook.remove()
    return len(chosen), [layer.result() for layer in layers]


def mean_of(layers):
    return {key: float(np.mean([row[key] for row in layers])) for key in layers[0]}


PLOTS = (("cosine_kv", "cosine of K and V rows"), ("cka_kv", "linear CKA of K and V"),
         ("effective_rank_k", "effective rank of K / width"),
         ("effective_rank_v", "effective rank of V / width"),
         ("effective_rank_map", "effective rank of the maps"),
         ("asymmetry_map", "asymmetry of the scores"))


def plot(results, path):
    """One panel a measure: layers across, a line a model, dotted its mean before training."""
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "onekv"       # the same file for the same figures
    from matplotlib import pyplot
    figure, panels = pyplot.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for (key, title), panel in zip(PLOTS, panels.flat):
        for name, result in results.items():
            rows = result["layers"]
            heights = [row[key] / (row["widest_rank"] if "width" in title else 1) for row in rows]
            line, = panel.plot(range(len(rows)), heights, marker="o", markersize=3, label=name)
            before = result["untrained"][key] / (
                result["untrained"]["widest_rank"] if "width" in title else 1)
            panel.axhline(before, color=line.get_color(), linewidth=0.8, linestyle=":")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("layer", fontsize=8)
        panel.set_xticks(range(max(len(result["layers"]) for result in results.values())))
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
    panels.flat[0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def markdown(results):
    """Lines of a table: means over layers, in brackets those before training."""
    heads = ("cosine K, V", "CKA K, V", "effective rank K", "V", "of at most", "maps", "asymmetry")
    keys = ("cosine_kv", "cka_kv", "effective_rank_k", "effective_rank_v", "widest_rank",
            "effective_rank_map", "asymmetry_map")
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, result in results.items():
        mean, before = result["mean"], result["untrained"]
        cells = [f"{mean[key]:.0f}" if key == "widest_rank" else
                 f"{mean[key]:.1f} ({before[key]:.1f})" if "rank" in key else
                 f"{mean[key]:.2f} ({before[key]:.2f})" for key in keys]
        lines.append(f"| {written(name)} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description="Keys, values and attention maps by layer.")
    parser.add_argument("checkpoints", nargs="*", metavar="NAME=FILE")
    parser.add_argument("--table", type=Path, metavar="RUNS", help="folder of table.py's runs")
    parser.add_argument("--plot", required=True, choices=("stories", "table"),
                        help="name of the plot, and part of RESULTS.md")
    parser.add_argument("--data", type=Path, required=True, help="folder written by data.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "analysis")
    parser.add_argument("--weights", choices=("last", "average"), default="last")
    parser.add_argument("--stories", type=int, default=16)
    parser.add_argument("--length", type=int, default=256, help="tokens of each story")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    results, chosen = {}, dict(item.split("=", 1) for item in args.checkpoints)
    if args.table:
        runs = ((table, label, args.table / settings["name"] / "final.pt")
                for table, label, seed, settings in configurations() if seed == 1)
        chosen |= {f"{table} {label}": path for table, label, path in runs if path.exists()}
    if not chosen:
        raise SystemExit("no checkpoint to look at")
    for name, path in chosen.items():
        model, state = load_checkpoint(path, args.weights)
        length = min(args.length, model.config.context)
        token_set = TokenSet(args.data, SCORED, "validation")
        stories, layers = analyse(model, token_set, args.stories, length)
        torch.manual_seed(0)
        _, control = analyse(Transformer(model.config).eval(), token_set, args.stories, length)
        results[name] = {
            "projection": model.config.projection, "kv_heads": model.config.kv_heads,
            "heads": model.config.heads, "positions": model.config.positions,
            "tokens_read": state["tokens"], "stories": stories, "length": length,
            "mean": mean_of(layers), "untrained": mean_of(control), "layers": layers}
        path = args.out / f"{name.replace(' ', '-')}.json"
        path.write_text(json.dumps(results[name], indent=1) + "\n")
        for kind in ("mean", "untrained"):
            line = (f"{key} {value:.3f}" for key, value in results[name][kind].items())
            print(f"{name}, {kind}: {', '.join(line)}", flush=True)
    plot(results, args.out / f"{args.plot}.svg")
    replace_part(Path(__file__).with_name("RESULTS.md"), f"analysis of {args.plot}",
                 markdown(results))


if __name__ == "__main__":
    main()
