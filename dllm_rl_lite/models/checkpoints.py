"""Published masked diffusion checkpoints on stock Hugging Face modules: their config.json, keys,
tokenizers and token ids.

A checkpoint is recognised by the `model_type` of its config.json, translated field by field and key
by key, and its safetensors are streamed: one tensor in memory besides the model. No code of a
checkpoint is ever run.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ..names import unknown

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
PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.jinja",
    "*.model",
)  # weights, configuration, tokenizer: never *.py, *.bin
INDEX = "model.safetensors.index.json"
FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
QWEN_ONLY = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
    "rope_type": ("default", None),
    "block_size": (None,),
}  # a block size: attention is causal between blocks


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one `model_type` map to a stock module."""

    module: type  # the stock class
    config: type
    fields: dict[str, str] = field(
        default_factory=dict
    )  # stock field -> theirs; empty: their config.json is stock
    # Settings that change the computation: the values that the stock module computes; None where
    # they may be left out.
    only: dict[str, tuple] = field(default_factory=dict)
    modules: dict[str, str] = field(
        default_factory=dict
    )  # stock module -> theirs, {i} the layer; empty: the same names
    # token i is predicted from position i - 1 (a stock folder's config.json says so itself)
    shifted: bool = False
    ids: dict[str, int] = field(
        default_factory=dict
    )  # special tokens where config.json names none; empty: the tokenizer's
    tokenizer: type = AutoTokenizer


FAMILIES = {
    # LLaDA-8B-Base, -Instruct and LLaDA-1.5: OLMo's names of Llama's computation.
    "llada": Family(
        LlamaForCausalLM,
        LlamaConfig,
        dict(
            zip(
                FIELDS,
                (
                    "embedding_size",
                    "d_model",
                    "mlp_hidden_size",
                    "n_layers",
                    "n_heads",
                    "n_kv_heads",
                    "max_sequence_length",
                    "rms_norm_eps",
                    "rope_theta",
                ),
                strict=True,
            )
        ),
        {
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
        },
        {
            "model.embed_tokens": "model.transformer.wte",
            "model.norm": "model.transformer.ln_f",
            "lm_head": "model.transformer.ff_out",
        }
        | {
            f"model.layers.{{i}}.{ours}": f"model.transformer.blocks.{{i}}.{theirs}"
            for ours, theirs in (
                ("input_layernorm", "attn_norm"),
                ("post_attention_layernorm", "ff_norm"),
                ("self_attn.q_proj", "q_proj"),
                ("self_attn.k_proj", "k_proj"),
                ("self_attn.v_proj", "v_proj"),
                ("self_attn.o_proj", "attn_out"),
                ("mlp.gate_proj", "ff_proj"),
                ("mlp.up_proj", "up_proj"),
                ("mlp.down_proj", "ff_out"),
            )
        },
        ids={"mask": 126336, "eos": 126081, "pad": 126081},
        tokenizer=PreTrainedTokenizerFast,
    ),
    # Dream-7B and DiffuCoder-7B: Qwen2.5-7B (biases on q, k and v), logits one position late. Their
    # tokenizer class is remote code around Qwen2's vocabulary.
    "Dream": Family(
        Qwen2ForCausalLM,
        Qwen2Config,
        {f: f for f in FIELDS},
        QWEN_ONLY | {"tie_word_embeddings": (False,), "use_mrope": (False, None)},
        shifted=True,
        ids={"mask": 151666, "eos": 151643, "pad": 151643},
        tokenizer=Qwen2Tokenizer,
    ),
    # dllm's masked diffusion models made of autoregressive ones, trained with
    # right_shift_logits=False: not shifted.
    "a2d-qwen3": Family(
        Qwen3ForCausalLM,
        Qwen3Config,
        {f: f for f in (*FIELDS, "head_dim", "tie_word_embeddings")},
        QWEN_ONLY | {"attention_bias": (False, None)},
        ids={"mask": 151669, "eos": 151645, "pad": 151643},
        tokenizer=Qwen2Tokenizer,
    ),
    # Folders that `save_pretrained` of this package wrote.
    "llama": Family(LlamaForCausalLM, LlamaConfig),
    "qwen2": Family(Qwen2ForCausalLM, Qwen2Config, only={"use_sliding_window": (False, None)}),
    "qwen3": Family(Qwen3ForCausalLM, Qwen3Config, only={"use_sliding_window": (False, None)}),
}


def locate(name: str, revision: str | None = None) -> Path:
    """The folder of a model: a local one as it stands, or a hub id's files, downloaded once into
    the Hugging Face cache.

    Args:
        revision: a branch, tag or commit of a hub id.
    Raises:
        ValueError: where `name` is neither, or the hub cannot give it; the message names both
            readings and the nearest known model.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        if revision is not None:
            raise ValueError(
                f"revision {revision!r} is for a hub id, and {name!r} is a folder: leave one out"
            )
        return folder
    said = f"{name!r} exists but has no config.json" if folder.exists() else ""
    if not said and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            said = (
                f"the hub said: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
            )
    near = difflib.get_close_matches(name, ["tiny", *HUB], 1, 0.5)
    raise ValueError(
        f"no model {name!r}: neither 'tiny' nor a folder with config.json, nor a hub id that could be loaded"
        + (f" ({said})" if said else "")
        + (f"; did you mean {near[0]!r}?" if near and near[0] != name else "")
    )


def read_config(folder: Path) -> tuple[str, dict]:
    """(model_type, values) of a folder's config.json, rope settings flattened. Raises ValueError
    where it is not known."""
    try:
        values = json.loads((folder / "config.json").read_text())
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the model in {folder} cannot be read (config.json: {type(error).__name__} {error})"
        ) from error
    kind = "Dream" if kind == "dream" else kind  # the hub has both spellings
    if kind not in FAMILIES:
        raise ValueError(f"{folder}/config.json: {unknown('model_type', kind, FAMILIES)}")
    return kind, (
        values | (values.get("rope_parameters") or {}) if FAMILIES[kind].fields else values
    )


def translate(kind: str, values: dict, where: str = "config.json"):
    """The stock configuration that computes what a published config.json describes.

    Args:
        kind: a key of FAMILIES. values: of config.json. where: what errors call it.
    Raises:
        ValueError: naming a field that is missing, or whose value the stock module does not
            compute.
    """
    family = FAMILIES[kind]
    for name, allowed in family.only.items():
        if values.get(name) not in allowed:
            raise ValueError(
                f"{where}: {name} is {values.get(name)!r}, and {family.module.__name__} computes only "
                f"{allowed[0]!r}: this checkpoint is not supported"
            )
    if not family.fields:
        return family.config(**values)
    stock = {ours: values.get(theirs) for ours, theirs in family.fields.items()}
    if stock["num_key_value_heads"] is None:
        stock["num_key_value_heads"] = stock["num_attention_heads"]
    missing = [family.fields[name] for name, value in stock.items() if value is None]
    if missing:
        raise ValueError(
            f"{where} of model_type {kind!r} lacks {missing}: this checkpoint is not supported"
        )
    theta, ids = stock.pop("rope_theta"), {r: special_id(values, family, r) for r in ("eos", "pad")}
    stock = {"tie_word_embeddings": False, "hidden_act": "silu", **stock}
    return family.config(
        **stock,
        rope_parameters={"rope_type": "default", "rope_theta": float(theta)},
        bos_token_id=None,
        eos_token_id=ids["eos"],
        pad_token_id=ids["pad"],
        family=kind,
        shifted=family.shifted,
    )


def special_id(values: dict, family: Family, role: str) -> int:
    """The id of "mask", "eos" or "pad": config.json's where it states one, the family's
    otherwise."""
    stated = values.get(f"{role}_token_id")
    stated = stated[0] if isinstance(stated, list) and stated else stated
    return family.ids[role] if stated is None else stated


def original_name(kind: str, module: str) -> str:
    """What a checkpoint of this family calls a stock module: "lm_head" is LLaDA's
    "model.transformer.ff_out"."""
    names = FAMILIES[kind].modules if kind in FAMILIES else {}
    layer = re.match(r"model\.layers\.(\d+)\.", module)
    if not names or not layer:
        return names.get(module, module)
    general = module.replace(layer[0], "model.layers.{i}.", 1)
    return names[general].format(i=layer[1]) if general in names else module


def load_backbone(
    folder: Path, device: torch.device | str, dtype: torch.dtype, quantize: str | None = None
) -> tuple[nn.Module, object, bool]:
    """The stock module of a checkpoint with its weights, its tokenizer, and whether its logits are
    shifted.

    Args:
        device, dtype: of the weights; rotary frequencies stay float32. quantize: None, or "4bit":
            nf4 with double quantisation, every linear layer but the head (needs bitsandbytes).
    Raises:
        ValueError: for an unsupported configuration, and for weights that are truncated, missing or
            unexpected.
    """
    kind, values = read_config(folder)
    if kind == "a2d-qwen3" and "bd3lm" in folder.name.lower():
        raise ValueError(
            f"{folder.name} is block-causal (bd3lm), and this package's attention sees everything: use an mdlm"
        )
    config = translate(kind, values, f"{folder}/config.json")
    config.dtype = dtype
    with init_empty_weights(
        include_buffers=False
    ):  # parameters without memory; the rotary buffers are real
        backbone = FAMILIES[kind].module(config)
    if quantize:
        use_4bit_layers(backbone, dtype)
    try:
        stream_weights(backbone, folder, kind, device, dtype)
        tokenizer = load_tokenizer(folder, kind, values)
    except (SafetensorError, OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the model in {folder} cannot be read ({error}); restore the folder or delete it"
        ) from error
    return backbone.to(device), tokenizer, bool(getattr(config, "shifted", False))


def load_tokenizer(folder: Path, kind: str, values: dict):
    """A checkpoint's tokenizer and chat template, its mask, end and padding tokens named and
    dropped when decoding."""
    family = FAMILIES[kind]
    if not family.ids:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer = family.tokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.init_kwargs.pop(
        "auto_map", None
    )  # the way to the checkpoint's own code: not to be written out again
    for role in family.ids:
        number = special_id(values, family, role)
        token = tokenizer.convert_ids_to_tokens(number)
        if token is None:
            raise ValueError(
                f"{folder}: the tokenizer has no token {number}, which should be its {role} token"
            )
        tokenizer.add_special_tokens({f"{role}_token": token})
    return tokenizer


def read_headers(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """{key: (file, shape)} of a folder's safetensors, without their contents. Raises ValueError
    where files are missing."""
    index = folder / INDEX
    listed = (
        json.loads(index.read_text())["weight_map"]
        if index.is_file()
        else {"": "model.safetensors"}
    )
    files = sorted({Path(name).name for name in listed.values()})
    absent = [name for name in files if not (folder / name).is_file()]
    if absent and index.is_file():
        raise ValueError(
            f"{folder} lacks {absent}, which {INDEX} lists: download the checkpoint again"
        )
    if absent:
        pickled = sorted(p.name for p in folder.glob("*.bin"))
        hint = f", only {pickled[:2]}: safetensors only, for pickled weights can run code; convert them first"
        raise ValueError(f"{folder} holds no model.safetensors{hint if pickled else ''}")
    found = {}
    for name in files:
        with safe_open(folder / name, "pt") as file:
            found |= {key: (name, file.get_slice(key).get_shape()) for key in file.keys()}
    return found


def stream_weights(
    backbone: nn.Module, folder: Path, kind: str, device, dtype: torch.dtype
) -> None:
    """Put a folder's tensors into a module that has none yet, one at a time, after every key and
    shape has been checked.

    Raises ValueError with the keys (and files) that are missing, unexpected or of another shape.
    """
    found, tied = read_headers(folder), bool(backbone.config.tie_word_embeddings)
    wanted = {}
    for name, tensor in backbone.state_dict().items():
        module, _, leaf = name.rpartition(".")
        wanted[f"{original_name(kind, module)}.{leaf}"] = (name, list(tensor.shape))
    head = f"{original_name(kind, 'lm_head')}.weight"
    wrong = {
        "missing_keys": sorted(wanted.keys() - found.keys() - ({head} if tied else set())),
        "unexpected_keys": sorted(f"{k} in {found[k][0]}" for k in found.keys() - wanted.keys()),
        "mismatched_keys": sorted(
            f"{k} in {found[k][0]}: {found[k][1]}, not {wanted[k][1]}"
            for k in found.keys() & wanted.keys()
            if found[k][1] != wanted[k][1]
        ),
    }
    for problem, keys in wrong.items():
        if keys:
            raise ValueError(
                f"the weights in {folder} do not fit their config.json: {len(keys)} {problem} {keys[:4]}"
            )
    for name in sorted({file for file, _ in found.values()}):
        with safe_open(folder / name, "pt") as file:
            for key in file.keys():
                place(backbone, wanted[key][0], file.get_tensor(key), device, dtype)
    if tied:
        embedding = backbone.model.embed_tokens.weight
        if head in found and not torch.equal(backbone.lm_head.weight, embedding):
            raise ValueError(
                f"{folder}: config.json ties {head} to the embedding, and the two differ: set "
                "tie_word_embeddings to false"
            )
        backbone.lm_head.weight = embedding


def place(backbone: nn.Module, name: str, tensor: torch.Tensor, device, dtype: torch.dtype) -> None:
    """Make a tensor one parameter of the module: cast, on the device, in memory of its own (not of
    the file's)."""
    module, _, leaf = name.rpartition(".")
    owner, value = backbone.get_submodule(module), tensor.to(device, dtype, copy=True)
    if leaf == "weight" and type(owner).__name__ == "Linear4bit":
        kind = type(owner.weight)  # Params4bit quantises when it is moved
        setattr(
            owner,
            leaf,
            kind(value, requires_grad=False, quant_type="nf4", compress_statistics=True).to(device),
        )
    else:
        setattr(owner, leaf, nn.Parameter(value))


def use_4bit_layers(backbone: nn.Module, dtype: torch.dtype) -> None:
    """Replace every linear layer but the head by bitsandbytes' 4-bit one, still without weights."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("quantize='4bit' needs bitsandbytes: pip install -e .[quantized]")
    import bitsandbytes

    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            new = bitsandbytes.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                layer.bias is not None,
                dtype,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            setattr(backbone.get_submodule(parent), leaf, new)
    backbone.is_loaded_in_4bit = True  # how peft tells
