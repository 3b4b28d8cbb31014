"""How the published masked diffusion checkpoints map to stock Hugging Face modules: their settings,
their names of the weights, their special tokens.

A checkpoint is recognised by the `model_type` of its config.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from .failures import named_failures

HUB = (
    "GSAI-ML/LLaDA-8B-Base",
    "GSAI-ML/LLaDA-8B-Instruct",
    "GSAI-ML/LLaDA-1.5",
    "Dream-org/Dream-v0-Base-7B",
    "Dream-org/Dream-v0-Instruct-7B",
    "apple/DiffuCoder-7B-Base",
    "apple/DiffuCoder-7B-Instruct",
    "apple/DiffuCoder-7B-cpGRPO",
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1",
)


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one `model_type` map to a stock module."""

    module: type  # the stock class
    config: type
    # Stock setting -> theirs. Empty: their config.json is stock.
    fields: dict[str, str] = field(default_factory=dict)
    # Settings that change the computation: the values that the stock module computes, None among
    # them if the setting may be left out.
    only: dict[str, tuple] = field(default_factory=dict)
    # Part of a stock name -> theirs, replaced one after another. Empty: the names are stock.
    names: dict[str, str] = field(default_factory=dict)
    # Is token i predicted from position i - 1? (The config.json of a stock folder says so itself.)
    shifted: bool = False
    # Special tokens that a config.json may leave out. Empty: the tokenizer knows its own.
    ids: dict[str, int] = field(default_factory=dict)
    tokenizer: type = AutoTokenizer


LLADA_FIELDS = {
    "vocab_size": "embedding_size",
    "hidden_size": "d_model",
    "intermediate_size": "mlp_hidden_size",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "max_position_embeddings": "max_sequence_length",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
}
LLADA_ONLY = {
    "block_type": ("llama",),
    "activation_type": ("silu",),
    "layer_norm_type": ("rms",),
    "rope": (True,),
    "weight_tying": (False,),
    "include_bias": (False,),
    "alibi": (False, None),
    "include_qkv_bias": (False, None),
    "rope_full_precision": (True, None),
    "attention_layer_norm": (False, None),
    "bias_for_layer_norm": (False, None),
    "input_emb_norm": (False, None),
    "layer_norm_with_affine": (True, None),
    "scale_logits": (False, None),
    "multi_query_attention": (False, None),
    "block_group_size": (1, None),
    "rope_scaling": (None,),
    "clip_qkv": (None,),
    "num_experts": (None,),
    "n_experts": (None,),
}
LLADA_NAMES = {
    "model.embed_tokens": "model.transformer.wte",
    "model.norm": "model.transformer.ln_f",
    "lm_head": "model.transformer.ff_out",
    "model.layers.": "model.transformer.blocks.",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
    "self_attn.o_proj": "attn_out",
    "self_attn.": "",  # q_proj, k_proj, v_proj
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}
QWEN_FIELDS = {name: name for name in LLADA_FIELDS}  # the names are stock, the rest is not
QWEN_ONLY = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
    "rope_type": ("default", None),
    "block_size": (None,),  # with one, attention is causal between blocks
}
FULL_ATTENTION = {"use_sliding_window": (False, None)}

FAMILIES = {
    # LLaDA-8B-Base, -Instruct and LLaDA-1.5: OLMo's names of Llama's computation.
    "llada": Family(
        LlamaForCausalLM,
        LlamaConfig,
        fields=LLADA_FIELDS,
        only=LLADA_ONLY,
        names=LLADA_NAMES,
        ids={"mask": 126336, "eos": 126081, "pad": 126081},
        tokenizer=PreTrainedTokenizerFast,
    ),
    # Dream-7B and DiffuCoder-7B: Qwen2.5-7B (biases on q, k and v), logits one position late. Their
    # tokenizer class is remote code around Qwen2's vocabulary.
    "Dream": Family(
        Qwen2ForCausalLM,
        Qwen2Config,
        fields=QWEN_FIELDS,
        only=QWEN_ONLY | {"tie_word_embeddings": (False,), "use_mrope": (False, None)},
        shifted=True,
        ids={"mask": 151666, "eos": 151643, "pad": 151643},
        tokenizer=Qwen2Tokenizer,
    ),
    # dllm's masked diffusion models made of autoregressive ones, trained with
    # right_shift_logits=False: not shifted.
    "a2d-qwen3": Family(
        Qwen3ForCausalLM,
        Qwen3Config,
        fields=QWEN_FIELDS | {"head_dim": "head_dim", "tie_word_embeddings": "tie_word_embeddings"},
        only=QWEN_ONLY | {"attention_bias": (False, None)},
        ids={"mask": 151669, "eos": 151645, "pad": 151643},
        tokenizer=Qwen2Tokenizer,
    ),
    # Folders that `save_pretrained` of this package wrote.
    "llama": Family(LlamaForCausalLM, LlamaConfig),
    "qwen2": Family(Qwen2ForCausalLM, Qwen2Config, only=FULL_ATTENTION),
    "qwen3": Family(Qwen3ForCausalLM, Qwen3Config, only=FULL_ATTENTION),
}


def original_name(kind: str, name: str) -> str:
    """What a checkpoint of this family calls a stock module or weight: "lm_head" is LLaDA's
    "model.transformer.ff_out"."""
    if kind in FAMILIES:
        for ours, theirs in FAMILIES[kind].names.items():
            name = name.replace(ours, theirs)
    return name


def stock_config(kind: str, values: dict, where: str = "config.json") -> PreTrainedConfig:
    """The stock configuration that computes what the values of a published config.json describe;
    `where` is what errors call that file.

    Raises ValueError naming a field that is missing, or whose value the stock module does not
    compute.
    """
    family = FAMILIES[kind]
    for name, allowed in family.only.items():
        if values.get(name) not in allowed:
            raise ValueError(
                f"{where}: {name} is {values.get(name)!r}, and {family.module.__name__} computes "
                f"only {allowed[0]!r}: this checkpoint is not supported"
            )
    if not family.fields:
        with named_failures(where):
            return family.config(**values)
    stock = {ours: values.get(theirs) for ours, theirs in family.fields.items()}
    stock["num_key_value_heads"] = stock["num_key_value_heads"] or stock["num_attention_heads"]
    missing = [family.fields[name] for name, value in stock.items() if value is None]
    if missing:
        raise ValueError(
            f"{where} of model_type {kind!r} lacks {missing}: this checkpoint is not supported"
        )
    theta = stock.pop("rope_theta")
    stock.setdefault("tie_word_embeddings", False)
    eos = special_id(values, family, "eos", where)
    pad = special_id(values, family, "pad", where)
    with named_failures(where):
        return family.config(
            **stock,
            hidden_act="silu",
            rope_parameters={"rope_type": "default", "rope_theta": float(theta)},
            bos_token_id=None,
            eos_token_id=eos,
            pad_token_id=pad,
            family=kind,
            shifted=family.shifted,
        )


def special_id(values: dict, family: Family, role: str, where: str = "config.json") -> int:
    """The id of "mask", "eos" or "pad": the one that config.json states, or the family's. `where`
    is what errors call that file."""
    stated = values.get(f"{role}_token_id")
    if isinstance(stated, list):
        stated = next(iter(stated), None)
    if stated is None:
        return family.ids[role]
    if not isinstance(stated, int):
        raise ValueError(f"{where}: {role}_token_id must be the number of a token, got {stated!r}")
    return stated
