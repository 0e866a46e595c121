"""Stories from a checkpoint, by PyTorch: for judging a run, not for speed (no cache is kept).

    python -m models.train.generate RUNS/stories-q-mqa/last.pt --data DATA --count 10 --seed 1
"""
import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from models.train.data import END
from models.train.state import load_checkpoint


@torch.no_grad()
def generate(model, prompt, length, temperature, seed, end):
    """Token ids after `prompt` (a list of ids), until `end` or `length` tokens."""
    generator, ids = torch.Generator().manual_seed(seed), list(prompt)
    while len(ids) - len(prompt) < length:
        window = torch.tensor([ids[-model.config.context:]])
        logits = model(window)[0, -1].float()
        if temperature > 0:
            weights = (logits / temperature).softmax(-1)
            token = int(torch.multinomial(weights, 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token == end:
            break
        ids.append(token)
    return ids[len(prompt):]


def main():
    parser = argparse.ArgumentParser(description="Write stories with a checkpoint.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--weights", choices=("last", "average"), default="average")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1, help="of the first story")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(args.data / "tokenizer.json"))
    model, _ = load_checkpoint(args.checkpoint, args.weights)
    end = tokenizer.token_to_id(END)
    prompt = [end] + tokenizer.encode(args.prompt).ids
    for seed in range(args.seed, args.seed + args.count):
        ids = generate(model, prompt, args.length, args.temperature, seed, end)
        print(f"--- seed {seed}\n{args.prompt}{tokenizer.decode(ids)}\n", flush=True)


if __name__ == "__main__":
    main()
