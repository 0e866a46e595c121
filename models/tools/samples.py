"""Writes models/samples.md: unpicked stories of the shipped models, told by this runtime.

    npm run build && python -m models.tools.samples
    python -m models.tools.samples --openings FILE --out PAGE.md

The opening that most stories have with seeds 1 to 10, two others with seeds 1 to 3; temperature
0.5, at most 200 tokens, else the runtime's own settings. Nothing is left out and nothing is tried
twice: the same files give the same page. With --openings, a list of texts in YAML as the public
evaluation prompts of TinyStories are, one story with each of the first ten, seed 1, to PAGE.md.
"""
import argparse
import subprocess
import textwrap
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
COMMAND = ["node", str(FOLDER.parent / "dist" / "cli" / "onekv.js"), "generate"]
MODELS = ("stories-q-mqa", "stories-qkv")
STORIES = tuple(("Once upon a time", seed) for seed in range(1, 11))
OTHERS = tuple((prompt, seed) for prompt in ("One day, a little girl named Lily", "Tom and his dog")
               for seed in range(1, 4))
OPTIONS = ["--temperature", "0.5", "--max-tokens", "200", "--threads", "1"]

HEADING = """# Samples

Unpicked stories of each shipped model: ten with the opening that most of their stories have, seeds
1 to 10, and three with each of two others, seeds 1 to 3. Temperature 0.5, the runtime's own top-p
of 0.95, at most 200 tokens (a story that ends in mid-sentence was cut there). The prompt is in
bold. Written by `python -m models.tools.samples`, which runs

    npx onekv generate MODEL -p PROMPT --seed N \\
        {options}
"""


def story(model, prompt, seed):
    command = [*COMMAND, str(FOLDER / f"{model}.q8_0.gguf"), "-q", "-p", prompt,
               "--seed", str(seed), *OPTIONS]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text.removeprefix(prompt).strip("\n")


def item(number, prompt, told):
    """One entry of the list, wrapped; a backslash keeps the story's own line break."""
    paragraphs = f"{number}. **{prompt}**{told}".split("\n")
    wrapped = [textwrap.fill(paragraph, 96, break_long_words=False) for paragraph in paragraphs]
    return "\\\n".join(wrapped).replace("\n", "\n   ") + "\n"


def page(openings):
    """Stories of each model with openings of one's own."""
    parts = ["# Samples\n"]
    for model in MODELS:
        parts.append(f"## {model}\n")
        for number, prompt in enumerate(openings, 1):
            parts.append(item(number, prompt, story(model, prompt, 1)))
    return "\n".join(parts)


def read_openings(path):
    """The first ten openings of a YAML file; a prompt ends where its words do."""
    import yaml
    return [text.rstrip() for text in yaml.safe_load(path.read_text(encoding="utf-8"))][:10]


def main():
    parser = argparse.ArgumentParser(description="Unpicked stories of the shipped models.")
    parser.add_argument("--openings", type=Path, help="YAML; default: those of samples.md")
    parser.add_argument("--out", type=Path, default=FOLDER / "samples.md")
    args = parser.parse_args()
    if args.openings:
        args.out.write_text(page(read_openings(args.openings)), encoding="utf-8")
        return
    parts = [HEADING.format(options=" ".join(OPTIONS))]
    for model in MODELS:
        for heading, openings in ((model, STORIES), (f"{model}, other openings", OTHERS)):
            parts.append(f"## {heading}\n")
            for number, (prompt, seed) in enumerate(openings, 1):
                parts.append(item(number, prompt, story(model, prompt, seed)))
    args.out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
