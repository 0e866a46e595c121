"""Writes tests/golden/smollm2-greedy.json: what a real community model says, in exact arithmetic.

Prompts of at least 64 tokens, each with its greedy continuation of 64 tokens and the ten largest
logits that follow it. transformers drafts the continuation quickly (it has a cache);
reference.py then reads the whole text once and must choose every token of it.

    python -m tests.golden.make.golden_smollm2 SmolLM2-135M-Instruct.Q4_1.gguf
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
import transformers

from models.format import reference
from tests.golden.make.golden import FOLDER
from tests.golden.make.golden_tokenizers import pipeline, read_keys

LENGTH = 64
STORY = (
    "Once upon a time, in a small village at the edge of a great forest, there lived an old "
    "clockmaker named Tobias. Every morning he opened the blue shutters of his shop, wound all "
    "the clocks on the wall and listened to them tick. One cold winter day a girl came in with a "
    "broken watch in her hands. "
)
CODE = (
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n    a, b = 0, 1\n"
    "    for _ in range(n):\n        a, b = b, a + b\n    return a\n\n\n"
    "def factorial(n):\n    \"\"\"Return the factorial of n.\"\"\"\n    result = 1\n"
)
COUNT = "Days and numbers: " + ", ".join(f"day {i} is number {i}" for i in range(1, 13)) + ","
WEEK = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, "
PAIRS = "".join(f'    {{"id": {i}, "name": "item {i}", "next": {i + 1}}},\n' for i in range(1, 6))
CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
WATER = CHAT.format(
    "Explain to a child of eight years, in simple words and with an example from the kitchen, why "
    "water turns into steam when it gets hot and why steam turns back into water when it gets cold."
)
# Counting and weekdays leave the model in little doubt, so that rounded arithmetic must find the
# same text; the others have near ties, which the margins show. Two repeat a text, so that the
# keys that matter lie far back.
PROMPTS = {
    "count": COUNT,
    "week": WEEK * 5,
    "items": f"items = [\n{PAIRS}",
    "story": STORY * 2 + STORY[:20],
    "code": CODE * 2 + CODE[:30],
    "water": WATER,
}
NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "token_embd": "model.embed_tokens", "output_norm": "model.norm",
}


def half_split(weight, heads):
    """Rows of each head from adjacent pairs to the half-split order of transformers."""
    rows = weight.reshape(heads, -1, 2, weight.shape[1])
    return rows.transpose(1, 2).reshape(weight.shape)


def drafter(model):
    """The same weights as a transformers model in float32."""
    config = transformers.LlamaConfig(
        vocab_size=len(model.tensors["token_embd.weight"]), hidden_size=model.width,
        intermediate_size=model.key("feed_forward_length"), num_hidden_layers=model.layers,
        num_attention_heads=model.heads, num_key_value_heads=model.kv_heads,
        max_position_embeddings=model.key("context_length"), rms_norm_eps=model.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": model.key("rope.freq_base")},
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=None,
    )
    state = {}
    for name, values in model.tensors.items():
        *block, role, kind = name.split(".")
        if role in ("attn_q", "attn_k"):
            values = half_split(values, model.heads if role == "attn_q" else model.kv_heads)
        prefix = f"model.layers.{block[1]}." if block else ""
        state[f"{prefix}{NAMES[role]}.{kind}"] = values.float()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    draft = transformers.LlamaForCausalLM(config)
    draft.load_state_dict(state)
    return draft.eval()


def continue_prompt(model, draft, tokenizer, text):
    prompt = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(prompt) >= 64, len(prompt)
    ids = draft.generate(
        torch.tensor([prompt]), max_new_tokens=LENGTH, min_new_tokens=LENGTH, do_sample=False
    )[0].tolist()
    logits = reference.logits(model, ids)
    steps = logits[len(prompt) - 1 : -1]
    assert steps.argmax(-1).tolist() == ids[len(prompt) :], "the reference chooses otherwise"
    two = steps.topk(2).values
    last = logits[-1].topk(10)
    return {
        "prompt": text,
        "prompt_ids": prompt,
        "ids": ids[len(prompt) :],
        "text": tokenizer.decode(ids[len(prompt) :], skip_special_tokens=False),
        # How far the second token stood behind at each step: a small one may fall otherwise
        # where arithmetic is rounded.
        "margins": [round(x, 3) for x in (two[:, 0] - two[:, 1]).tolist()],
        "top10": [[i, round(x, 4)] for i, x in zip(last.indices.tolist(), last.values.tolist())],
    }


def main():
    path = Path(sys.argv[1])
    model, tokenizer = reference.Model(path), pipeline(read_keys(path))
    draft = drafter(model)
    with torch.no_grad():
        prompts = {
            name: continue_prompt(model, draft, tokenizer, text) for name, text in PROMPTS.items()
        }
    golden = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_with": "models/format/reference.py, float64",
        "prompts": prompts,
    }
    (FOLDER / "smollm2-greedy.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
