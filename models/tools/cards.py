"""Model cards, in the form of the Hugging Face hub, of the models that ship.

    python -m models.tools.cards [--check]

writes cards/NAME.md for every model file in models/; --check writes nothing and fails
where a card is not what would be written. Invariants: every figure comes from the model file (its
keys, tensors and bytes; of the cache what `onekv inspect` says, so `npm run build` first) or from
study/results/losses.json, none is typed here; the same files give the same cards.
"""
import argparse
import hashlib
import json
import math
import textwrap
from collections import Counter
from pathlib import Path

from gguf import GGUFReader

from models.tools.onekv_cli import onekv

FOLDER = Path(__file__).resolve().parents[1]
TWINS = {"stories-q-mqa": "stories-qkv", "digits-keqv": "digits-qkv",
         "table-q-kv": "table-qk-v"}
PAPER = """    @inproceedings{kayyam2026projections,
      title = {Do Transformers Need Three Projections?},
      author = {Kayyam, Ali and Madan Gopal, Anusha and Lewis, M Anthony},
      booktitle = {ICML}, year = {2026}, note = {arXiv:2606.04032}}"""
STORY_DATA = {
    "tinystories_github": "excerpts of TinyStories (Eldan & Li, arXiv 2305.07759; "
                          "CDLA-Sharing-1.0)",
    "tinystories_more": "more excerpts of TinyStories, none of which begins as one above "
                        "(CDLA-Sharing-1.0)",
    "picture_books_cc_by": "picture books of Pratham Books' StoryWeaver and of Book Dash (CC BY; "
                           "authors in picture-books.tsv)",
    "african_storybook_en": "African Storybook (CC BY, africanstorybook.org)",
    "fairytaleqa_pd": "old tales of FairytaleQA (public domain; data set Apache-2.0)",
    "pd_children_books": "children's books in the public domain"}


class ModelFile:
    """What a GGUF file says about itself."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.path = path
        self.keys = {name: field.contents() for name, field in reader.fields.items()
                     if not name.startswith("tokenizer.")}
        self.name = self.keys["general.name"]
        self.parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        self.training = json.loads(self.keys["onekv.training"])
        matrices = Counter()
        for tensor in reader.tensors:
            if len(tensor.shape) > 1:
                matrices[tensor.tensor_type.name.lower()] += int(tensor.n_elements)
        self.type = " and ".join(name for name, _ in matrices.most_common())

    def shape(self, key):
        return self.keys[f"{self.keys['general.architecture']}.{key}"]

    @property
    def projection(self):
        return self.keys.get("onekv.attention.projection", "QKV")

    @property
    def cache_bytes(self):
        """Of a token in f16, as core says."""
        return json.loads(onekv("inspect", self.path, "--json"))["cache"][0]["bytesPerToken"]["f16"]


def paragraph(text):
    return textwrap.fill(" ".join(text.split()), 100, break_long_words=False,
                         break_on_hyphens=False)


def front_matter(model, pipeline, tags, language, dataset, metric, value):
    lines = ["---", f"license: {model.keys['general.license']}"]
    lines += [f"language: {language}"] if language else []
    lines += ["library_name: onekv", f"pipeline_tag: {pipeline}", "tags:"]
    lines += [f"- {tag}" for tag in ("gguf", *tags)]
    lines += ["model-index:", f"- name: {model.name}", "  results:",
              "  - task:", f"      type: {pipeline}", "    dataset:",
              f"      name: {dataset}", f"      type: {dataset}", "    metrics:",
              f"    - type: {metric}", f"      value: {value}", "---", ""]
    return lines


def file_table(model):
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    return ["## File", "", "| file | bytes | weights | sha256 |", "|---|---|---|---|",
            f"| {model.path.name} | {model.path.stat().st_size:,} | {model.type} | `{digest}` |",
            ""]


def shape_table(model, twin):
    """Rows of both models: what the pair differs in is what it is about."""
    def row(label, value):
        return f"| {label} | {value(model)} | {value(twin)} |"
    return ["", f"| | {model.name} | {twin.name} |", "|---|---|---|",
            row("projections", lambda m: m.projection),
            row("query heads, KV heads, width of a head", lambda m: ", ".join(
                str(m.shape(f"attention.{key}"))
                for key in ("head_count", "head_count_kv", "key_length"))),
            row("layers, width, MLP", lambda m: ", ".join(str(m.shape(key)) for key in (
                "block_count", "embedding_length", "feed_forward_length"))),
            row("parameters", lambda m: f"{m.parameters:,}")]


def description(model):
    """The file's own, with the page that the comparison of variants has moved to."""
    return model.keys["general.description"].replace("models/README.md", "models/study/RESULTS.md")


def settings_list(settings):
    """The training settings that say most, as one line."""
    kept = ("optimizer", "rate", "schedule", "warmup_tokens", "decay_tokens", "epochs", "batch",
            "stages", "weight_decay", "clip", "smoothing", "seed")
    return ", ".join(f"{key.replace('_', ' ')} {json.dumps(settings[key])}" for key in kept
                     if key in settings).replace('"', "")


def taught(settings):
    """Who else than the text it learnt from."""
    if not settings.get("teachers"):
        return ""
    return (f"{settings['teacher_share']:.0%} of its loss is against what "
            f"{len(settings['teachers'])} models trained before, the pair that shipped, expect at "
            "each token. ")


def evaluation(model):
    """Loss of PyTorch and of the engine (losses.py) with each type of weights and cache."""
    measured = json.loads((FOLDER / "study" / "results" / "losses.json").read_text())
    found = measured["models"].get(model.name)
    if not found:
        return []
    result = found["pytorch"]
    return [
        "## Evaluation", "",
        paragraph(f"Held-out stories ({measured['scored']}, {result['tokens']:,} tokens, each "
                  f"story alone, all tokens scored), PyTorch in f32: loss {result['loss']:.4f}, "
                  f"perplexity {result['perplexity']:.3f} per token and "
                  f"{2 ** result['bits_per_byte']:.4f} per byte. In the onekv engine:"),
        "", "| weights | activations | cache | perplexity | against f32 |", "|---|---|---|---|---|",
        *(f"| {row['weights']} | {row['arithmetic']} | {row['cache']} | {row['perplexity']:.3f} | "
          f"{round(row['change_percent'], 2) + 0.0:+.2f} % |" for row in found["rows"]), ""]


def story_card(model, twin):
    record, result = model.training, next(iter(model.training["held_out"].values()))
    matching = record["tokens"] == twin.training["tokens"]
    data = [f"| {STORY_DATA[file]} | {entry['tokens']:,} | {entry['weight']} |"
            for file, entry in record["data"].items()]
    return [
        *front_matter(model, "text-generation", ("causal-lm", "kv-cache"), "en",
                      "TinyStories (held-out excerpts)", "perplexity",
                      f"{result['perplexity']:.3f}"),
        f"# {model.name}", "",
        paragraph(description(model) + f" Context: {model.shape('context_length'):,} tokens. Its "
                  f"twin is {twin.name}" + (", trained on the same tokens in the same order."
                  if matching else ".")),
        *shape_table(model, twin),
        f"| cache per token, f16 | {model.cache_bytes:,} bytes | {twin.cache_bytes:,} bytes |",
        "", "## Use", "", f"    npx onekv generate {model.name} -p \"Once upon a time\"", "",
        paragraph("The file is in GGUF format. " + (
            f"Its layers have one matrix for two projections ({model.projection}), as its key "
            "`onekv.attention.projection` says; other runtimes need the standard copy that "
            "`python -m models.format.expand` writes."
            if model.projection != "QKV" else "Any runtime that runs llama models can run it.")),
        "", "## Limits", "",
        paragraph("It tells short English stories for children and does nothing else: it answers "
                  "no questions and knows no facts. Stories drift, repeat and contradict "
                  "themselves. Some of its training texts are over a hundred years old; nothing "
                  "was done to remove what they may say about people." +
                  (" Unpicked samples are in `models/samples.md`."
                   if model.name.startswith("stories-") else "")),
        "", "## Training", "", "| text | tokens | share read per epoch |", "|---|---|---|", *data,
        "", paragraph(f"{record['tokens']:,} tokens in {record['steps']:,} steps and "
                      f"{record['seconds']:,} seconds on a CPU, PyTorch {record['torch']}. " +
                      ("It went on from weights that were trained before: "
                       "`models/train/TRAINING.md` says how. "
                       if model.name.startswith("stories-") else "") +
                      taught(record["settings"]) +
                      f"Settings: {settings_list(record['settings'])}."),
        "", *evaluation(model)]


def digit_card(model, twin):
    record = model.training
    right = record["test_accuracy"]
    error = math.sqrt(right * (1 - right) / record["test_examples"])
    return [
        *front_matter(model, "image-classification", ("vit", "mnist"), None, "MNIST digits",
                      "accuracy", record["test_accuracy"]),
        f"# {model.name}", "", paragraph(model.keys["general.description"]),
        *shape_table(model, twin),
        f"| accuracy on {record['test_examples']:,} test digits | {record['test_accuracy']:.1%} | "
        f"{twin.training['test_accuracy']:.1%} |",
        "", paragraph(f"One seed each; on {record['test_examples']:,} digits the accuracy has a "
                      f"standard error of {error:.1%}. `models/study/TASKS.md` compares the "
                      "variants with several seeds."),
        "", "## Use", "",
        paragraph(f"{model.keys['onekv.image.size']} × {model.keys['onekv.image.size']} grey "
                  f"pixels divided by 255, white on black, in patches of "
                  f"{model.keys['onekv.image.patch']} in row order; `Model.encode` gives the "
                  "logits of the ten classes. Digits that are not centred and upright as in MNIST "
                  "are recognised less well, and any other picture is taken for a digit too."),
        "", "## Training", "",
        paragraph(f"Data: {record['data']}; {record['examples']:,} examples, augmented by "
                  f"{record['augment'].replace('-', ' and ')}. {record['seconds']:.0f} seconds "
                  f"on a CPU, PyTorch {record['torch']}. Settings: "
                  f"{settings_list(record['settings'])}."), ""]


def card(model, twin):
    make = story_card if "held_out" in model.training else digit_card
    lines = make(model, twin) + file_table(model) + [
        "## Citation", "", PAPER, "",
        "Written by `python -m models.tools.cards` from the model file and `models/study/results`."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Model cards of the models that ship.")
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    models = {model.name: model for model in map(ModelFile, sorted(FOLDER.glob("*.gguf")))}
    twins = TWINS | {b: a for a, b in TWINS.items()}
    stale = []
    for name, model in models.items():
        path, text = FOLDER / "cards" / f"{name}.md", card(model, models[twins[name]])
        if args.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    if stale:
        raise SystemExit(f"not what models/tools/cards.py writes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
