"""BERT encoders of transformers (MiniLM, bge, e5) as GGUF: expected are the last hidden states."""

from types import SimpleNamespace

import torch
from transformers import BertConfig, BertModel

from models.convert.bert import gguf_name, model_keys
from tests.golden.make.golden_families import EPSILON, VOCABULARY, Family, randomise

class Hidden(torch.nn.Module):
    """The encoder as a model of rows of outputs."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.bert(input_ids=input_ids).last_hidden_state)


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
    keys = model_keys(config.to_dict(), pooling)
    return Family(description, "bert", Hidden(bert), keys, tensors)


MAKERS = {
    "bert-mean": lambda: make("BERT: mean of the rows", 1),
    "bert-cls": lambda: make("BERT: wider heads, first row, three token types", 2, hidden_size=48,
                             intermediate_size=80, num_attention_heads=3, num_hidden_layers=2,
                             type_vocab_size=3),
}
