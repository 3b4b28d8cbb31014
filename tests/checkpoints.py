"""Tiny random checkpoints exactly as the published ones are laid out, for the tests that load
them."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from dllm_rl_lite.models import build_tokenizer

LLADA = {
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig"},
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 4,
    "mlp_hidden_size": 48,
    "embedding_size": 104,
    "vocab_size": 104,
    "max_sequence_length": 64,
    "rms_norm_eps": 1e-5,
    "rope": True,
    "rope_theta": 5e5,
    "rope_full_precision": True,
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "alibi": False,
    "alibi_bias_max": 8.0,
    "block_group_size": 1,
    "scale_logits": False,
    "multi_query_attention": None,
    "weight_tying": False,
    "mlp_ratio": 4,
    "init_device": "meta",
    "mask_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
DREAM = {
    "model_type": "Dream",
    "architectures": ["DreamModel"],
    "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "use_mrope": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "attention_dropout": 0.0,
    "mask_token_id": 260,
    "eos_token_id": 257,
    "pad_token_id": 257,
}
QWEN3 = {
    "model_type": "a2d-qwen3",
    "architectures": ["A2DQwen3LMHeadModel"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": None,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "mask_token_id": 260,
    "eos_token_id": 258,
    "pad_token_id": 257,
}
CONFIGS = {"llada": LLADA, "Dream": DREAM, "a2d-qwen3": QWEN3}
HOSTILE = (
    "import pathlib\npathlib.Path(__file__).with_name('executed').touch()\n"
    "raise SystemExit('remote code ran')\n"
)


def random_weights(kind: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors under the family's original keys, large enough that every part of the computation
    shows in the logits."""
    c, g = CONFIGS[kind], torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.25, mean=0.0):
        return mean + scale * torch.randn(shape, generator=g)

    d, ff, v = (
        c.get(a, c.get(b))
        for a, b in (
            ("d_model", "hidden_size"),
            ("mlp_hidden_size", "intermediate_size"),
            ("embedding_size", "vocab_size"),
        )
    )
    if kind == "llada":
        weights = {
            "model.transformer.wte.weight": draw(v, d),
            "model.transformer.ff_out.weight": draw(v, d),
            "model.transformer.ln_f.weight": draw(d, mean=1.0),
        }
        shapes = {
            "attn_norm": (d,),
            "ff_norm": (d,),
            "q_proj": (d, d),
            "k_proj": (d, d),
            "v_proj": (d, d),
            "attn_out": (d, d),
            "ff_proj": (ff, d),
            "up_proj": (ff, d),
            "ff_out": (d, ff),
        }
        prefix = "model.transformer.blocks."
    else:
        size = c.get("head_dim", d // c["num_attention_heads"])
        q, kv = c["num_attention_heads"] * size, c["num_key_value_heads"] * size
        weights = {"model.embed_tokens.weight": draw(v, d), "model.norm.weight": draw(d, mean=1.0)}
        if not c["tie_word_embeddings"]:
            weights["lm_head.weight"] = draw(v, d)
        shapes = {
            "input_layernorm": (d,),
            "post_attention_layernorm": (d,),
            "self_attn.q_proj": (q, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, q),
            "mlp.gate_proj": (ff, d),
            "mlp.up_proj": (ff, d),
            "mlp.down_proj": (d, ff),
        }
        if kind == "a2d-qwen3":
            shapes |= {"self_attn.q_norm": (size,), "self_attn.k_norm": (size,)}
        prefix = "model.layers."
    for i in range(2):
        weights |= {
            f"{prefix}{i}.{n}.weight": draw(*s, mean=float("norm" in n)) for n, s in shapes.items()
        }
        if kind == "Dream":
            weights |= {
                f"{prefix}{i}.self_attn.{n}_proj.bias": draw(k)
                for n, k in (("q", q), ("k", kv), ("v", kv))
            }
    return weights


def write_weights(folder, weights: dict, shards: int = 1) -> None:
    """One model.safetensors, or several shards and their index."""
    if shards == 1:
        return save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    where = {
        k: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, k in enumerate(weights)
    }
    for name in sorted(set(where.values())):
        save_file(
            {k: w for k, w in weights.items() if where[k] == name},
            folder / name,
            metadata={"format": "pt"},
        )
    index = {
        "metadata": {"total_size": sum(w.numel() * 4 for w in weights.values())},
        "weight_map": where,
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_tokenizer(folder, kind: str) -> None:
    """LLaDA: a fast tokenizer that names no mask token. The others: Qwen2's vocabulary, Dream's
    class being remote code."""
    if kind == "llada":
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        values = json.loads(path.read_text()) | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<eos>",
        }
        del values["mask_token"]
        path.write_text(json.dumps(values))
        backend = json.loads((folder / "tokenizer.json").read_text())
        for token in backend["added_tokens"]:  # nor does it call it special
            token["special"] = token["special"] and token["content"] != "<mask>"
        (folder / "tokenizer.json").write_text(json.dumps(backend))
        return
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))} | {
        "ab": 256
    }
    special = {
        "257": "<|endoftext|>",
        "258": "<|im_end|>",
        "259": "<|im_start|>",
        "260": "<|mask|>",
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    values = {
        "tokenizer_class": "DreamTokenizer" if kind == "Dream" else "Qwen2Tokenizer",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "added_tokens_decoder": {
            i: {
                "content": t,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for i, t in special.items()
        },
        "chat_template": "{% for m in messages %}<|im_start|>{{ m['role'] }} "
        "{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}",
    }
    if kind == "Dream":
        values["auto_map"] = {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}
        for name in ("tokenization_dream.py", "modeling_dream.py"):
            (folder / name).write_text(HOSTILE)
    else:  # a file of its own, as in newer releases
        (folder / "chat_template.jinja").write_text(values.pop("chat_template"))
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def write_checkpoint(folder, kind: str, shards: int = 1, weights: dict | None = None, **changes):
    """A whole checkpoint folder; returns it and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_weights(kind) if weights is None else weights
    (folder / "config.json").write_text(json.dumps({**CONFIGS[kind], **changes}))
    write_weights(folder, weights, shards)
    write_tokenizer(folder, kind)
    return folder, weights
