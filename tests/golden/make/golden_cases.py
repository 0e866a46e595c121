"""Which tiny models tests/golden holds: one Case each, named family-projection-heads[-option].

The projections are spelt qkv, keqv (Q-K=V), qeqk (Q=K-V) and qeqkeqv (Q=K=V), the head sharing
mha (4 KV heads), gqa (2) and mqa (1); there are always 4 query heads.
"""

from dataclasses import dataclass, field, replace

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

# Families that differ from another by one step only are smaller: their files would otherwise be
# half of the folder. The head width of 4 is also the narrowest that RoPE can be tried with.
SMALL = dict(width=16, head_width=4, rotated=4, mlp=24, layers=1)

PROJECTIONS = {"qkv": "QKV", "keqv": "Q-K=V", "qeqk": "Q=K-V", "qeqkeqv": "Q=K=V"}
KV_HEADS = {"mha": 4, "gqa": 2, "mqa": 1}


@dataclass
class Case:
    """A model; `rope` and `onekv` are keys of the file, without `{arch}.rope.` and `onekv.`."""

    description: str
    arch: str
    projection: str = "QKV"
    heads: int = 4
    kv_heads: int = 4
    head_width: int = 8
    width: int = 32
    mlp: int = 16
    layers: int = 2
    vocabulary: int = 37  # odd on purpose: not a multiple of a vector or a block
    positions: int = 48
    rows: int = 40  # crosses pages of 16 positions, ends inside one
    norm: str = "rms"
    position: str = "rope"
    mlp_kind: str = "swiglu"
    biases: str = "none"  # none, qkv or all
    tied: bool = False
    outputs: int = 37
    fused: bool = False
    rotated: int = 8
    rope_freqs: bool = False
    plus: bool = False  # (X)+
    features: int = 0
    type: str = "F32"
    rope: dict = field(default_factory=dict)
    onekv: dict = field(default_factory=dict)
    seed: str = ""


GPT2 = Case(
    "GPT-2: LayerNorm, learned positions, GELU tanh, biases, tied head",
    "gpt2", norm="layer", position="learned", mlp_kind="gelu_tanh", biases="all", tied=True,
)
GPT2_ERF = replace(
    GPT2, description="the paper's GPT: gpt2 with the exact GELU", mlp_kind="gelu_erf",
    onekv={"mlp.activation": "gelu_erf"}, **SMALL,
)
LLAMA = Case("Llama: RMSNorm, RoPE on adjacent pairs, SwiGLU, separate head", "llama")
LLAMA_LEARNED = replace(
    LLAMA, description="llama with learned positions", position="learned",
    onekv={"position.encoding": "learned"}, **SMALL,
)
LLAMA_NONE = replace(
    LLAMA, description="llama without positions", position="none",
    onekv={"position.encoding": "none"}, **SMALL,
)
QWEN2 = replace(
    LLAMA, description="Qwen2: RoPE on half-split pairs, biases on q, k, v, tied head",
    arch="qwen2", biases="qkv", tied=True, layers=1,
)
QWEN3 = replace(
    LLAMA, description="Qwen3: RoPE on half-split pairs, RMSNorm on each q and k head, tied head",
    arch="qwen3", tied=True,
)
ENCODER = Case(
    "the paper's encoder: no mask, learned positions, 11 classes per position",
    "onekv-encoder", norm="layer", position="learned", mlp_kind="gelu_erf", biases="all",
    outputs=11, layers=1,
)
ENCODER_NONE = replace(
    ENCODER, description="the encoder without positions",
    position="none", onekv={"position.encoding": "none"}, **SMALL,
)
SETS = replace(
    ENCODER_NONE, description="the encoder on a set of feature rows, without positions",
    features=13, outputs=3, onekv={"position.encoding": "none", "input.kind": "features"},
)
VIT = replace(
    ENCODER, description="ViT: 49 patches and a class row, logits of position 0 only",
    arch="onekv-vit", features=12, positions=50, rows=49, outputs=10, layers=2,
    onekv={
        "input.kind": "features", "output.pooling": "first",
        "image.size": 14, "image.patch": 2, "image.channels": 3,
    },
)


def share(case, projection, heads):
    """The case with one projection and head sharing."""
    keys = {} if projection == "qkv" else {"attention.projection": PROJECTIONS[projection]}
    return replace(
        case, projection=PROJECTIONS[projection], kv_heads=KV_HEADS[heads],
        onekv=case.onekv | keys,
        description=f"{case.description}; {PROJECTIONS[projection]}, {heads.upper()}",
    )


def with_unrotate(name, case):
    """Under RoPE a K=V file has a second form; the first is the default and names itself only
    in llama files, so that both ways to say it are read."""
    if case.position != "rope" or "=V" not in case.projection:
        return {name: case}
    at_read = {"attention.shared_rope": "rotate-at-read"} if case.arch == "llama" else {}
    unrotate = {"attention.shared_rope": "rotate-unrotate"}
    return {
        name: replace(case, onekv=case.onekv | at_read),
        f"{name}-unrotate": replace(
            case, onekv=case.onekv | unrotate,
            description=f"{case.description}, rotated cache and output rotated back",
        ),
    }


def grid(family, base, projections=PROJECTIONS, heads=KV_HEADS):
    """Every projection x head sharing of one family."""
    cases = {}
    for projection in projections:
        for sharing in heads:
            case = share(base, projection, sharing)
            if case.arch == "gpt2" and projection == "qkv":
                case = replace(case, fused=True)
            cases |= with_unrotate(f"{family}-{projection}-{sharing}", case)
    return cases


def plus_grid(family, base, heads=KV_HEADS):
    """(X)+ for the projections that share Q and K."""
    plus = replace(base, plus=True, description=f"{base.description}, (X)+")
    return grid(f"{family}-plus", plus, ("qeqk", "qeqkeqv"), heads)


def options():
    """One file for each thing that is apart from projection and head sharing."""
    yarn = {
        "scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 12,
    }
    llama, qwen2 = share(LLAMA, "qkv", "gqa"), share(QWEN2, "qkv", "gqa")
    shared = share(LLAMA, "keqv", "mqa")
    unrotate = with_unrotate("", shared)["-unrotate"]
    wide = dict(width=24, head_width=8, rotated=8)
    cases = {
        "llama-tied": (llama, "tied head", dict(tied=True)),
        "gpt2-head": (share(GPT2, "qkv", "mha"), "separate head", dict(tied=False)),
        "gpt2-separate": (share(GPT2, "qkv", "mha"), "q, k, v apart", {}),
        "llama-fused": (llama, "attn_qkv", dict(fused=True)),
        "llama-biases": (llama, "a bias beside each matrix", dict(biases="all")),
        "llama-keqv-biases": (shared, "a bias beside each matrix", dict(biases="all")),
        "llama-key-length": (llama, "key_length apart from d/H", wide),
        "llama-keqv-key-length": (shared, "key_length apart from d/H", wide),
        "llama-partial": (llama, "half of each head rotated", dict(rotated=4)),
        "llama-keqv-partial": (shared, "half of each head rotated", dict(rotated=4)),
        "llama-keqv-partial-unrotate": (unrotate, "half of each head rotated", dict(rotated=4)),
        "qwen2-partial": (qwen2, "half of each head rotated", dict(rotated=4)),
        "llama-base": (llama, "freq_base 500", dict(rope={"freq_base": 500.0})),
        "llama-linear": (
            llama, "linear scaling by 4",
            dict(rope={"scaling.type": "linear", "scaling.factor": 4.0}),
        ),
        "llama-llama3": (llama, "Llama-3 scaling by rope_freqs.weight", dict(rope_freqs=True)),
        "llama-keqv-llama3": (
            shared, "Llama-3 scaling by rope_freqs.weight", dict(rope_freqs=True)
        ),
        "llama-yarn": (llama, "YaRN by 4", dict(rope=yarn)),
        "llama-yarn-factors": (
            llama, "YaRN by 4 with attn_factor and betas of its own",
            dict(rope=yarn | {
                "scaling.attn_factor": 0.8, "scaling.yarn_beta_fast": 4.0,
                "scaling.yarn_beta_slow": 0.25,
            }),
        ),
        "qwen2-yarn": (qwen2, "YaRN by 4", dict(rope=yarn)),
        "llama-keqv-yarn": (shared, "YaRN by 4", dict(rope=yarn)),
        "llama-keqv-yarn-unrotate": (unrotate, "YaRN by 4", dict(rope=yarn)),
        "llama-gelu": (
            llama, "GELU erf instead of SwiGLU",
            dict(mlp_kind="gelu_erf", onekv={"mlp.activation": "gelu_erf"}),
        ),
        "encoder-sets-scalar": (share(SETS, "qkv", "mha"), "one output", dict(outputs=1)),
        "llama-long": (
            shared, "150 positions: many pages", dict(positions=160, rows=150, layers=1)
        ),
    }
    return {
        name: replace(case, description=f"{case.description}; {text}", **changes)
        for name, (case, text, changes) in cases.items()
    }


def quantised():
    """Each element type once; k-quants need rows of 256, and only the MLP and q, k, v have them."""
    small = replace(share(LLAMA, "qkv", "gqa"), width=64, head_width=16, rotated=16, mlp=64)
    rows256 = replace(
        small, width=256, mlp=256, mlp_kind="gelu_erf", onekv={"mlp.activation": "gelu_erf"}
    )
    types = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
             "MXFP4", "TQ1_0")

    def has_long_blocks(name):
        return GGML_QUANT_SIZES[GGMLQuantizationType[name]][0] == 256

    return {
        f"type-{name.lower()}": replace(
            rows256 if has_long_blocks(name) else small, type=name, layers=1,
            description=f"llama with {name} matrices",
        )
        for name in types
    }


def all_cases():
    cases = grid("gpt2", GPT2) | grid("gpt2-erf", GPT2_ERF)
    cases |= grid("llama", LLAMA) | grid("llama-learned", LLAMA_LEARNED)
    cases |= grid("llama-none", LLAMA_NONE) | grid("qwen2", QWEN2) | grid("qwen3", QWEN3)
    cases |= grid("encoder", ENCODER) | plus_grid("encoder", ENCODER)
    cases |= grid("encoder-none", ENCODER_NONE) | plus_grid("encoder-none", ENCODER_NONE)
    cases |= grid("encoder-sets", SETS, heads=("gqa",))
    cases |= plus_grid("encoder-sets", SETS, heads=("gqa",))
    cases |= grid("vit", VIT) | plus_grid("vit", VIT)
    cases |= options() | quantised()
    # A pair of files that hold the same weights differently draws from one seed.
    same = {"gpt2-separate": "gpt2-qkv-mha", "llama-fused": "llama-qkv-gqa"}
    return {name: replace(case, seed=same.get(name, name)) for name, case in cases.items()}


CASES = all_cases()
