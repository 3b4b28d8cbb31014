"""A run of LLaDA-8B as its config.json alone describes it: for tests that need the sizes and not
the weights."""

import json

from checkpoints import CONFIGS

from dllm_rl_lite.training import TrainConfig

# What decides its shape in GSAI-ML/LLaDA-8B-Instruct's config.json.
LLADA_8B = {
    **CONFIGS["llada"],
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "max_sequence_length": 4096,
    "mask_token_id": 126336,
    "eos_token_id": 126081,
    "pad_token_id": 126081,
}


def run_8b(folder, **changes) -> TrainConfig:
    """diffu-GRPO with LoRA on it, the config.json in `folder`."""
    (folder / "config.json").write_text(json.dumps(LLADA_8B))
    base = {
        "model": str(folder),
        "method": "diffu-grpo",
        "task": "gsm8k",
        "dtype": "bfloat16",
        "lora_targets": "published",
        "numbers": {"prompts": 16},
    }
    return TrainConfig(**{**base, **changes})
