"""BERT encoders of transformers (MiniLM, bge, e5) as GGUF: expected are the last hidden states."""

from types import SimpleNamespace

import torch
from transformers import BertConfig, BertModel

from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class Hidden(torch.nn.Module):
    """The encoder as a model of rows of outputs."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.bert(input_ids=input_ids).last_hidden_state)


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def make(description, pooling, **changes):
    settings = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=128, type_vocab_size=2,
        layer_norm_eps=EPSILON, attn_implementation="eager",
    ) | changes
    config = BertConfig(**settings)
    bert = randomise(BertModel(config, add_pooling_layer=False), len(description))
    tensors = {gguf_name(name): values.detach().numpy()
               for name, values in bert.named_parameters()}
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_epsilon": config.layer_norm_eps,
        "attention.causal": False,
        "pooling_type": pooling,
    }
    return Family(description, "bert", Hidden(bert), keys, tensors)


MAKERS = {
    "bert-mean": lambda: make("BERT: mean of the rows", 1),
    "bert-cls": lambda: make("BERT: wider heads, first row, three token types", 2, hidden_size=48,
                             intermediate_size=80, num_attention_heads=3, num_hidden_layers=2,
                             type_vocab_size=3),
}
