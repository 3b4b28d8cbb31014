"""Load a model: the shipped one, a folder, or a published checkpoint of the hub, on stock modules.

Its config.json is translated, and every key and shape of its safetensors is checked before a weight
is read (`families.py` has the names). No code of a checkpoint is ever run.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..files import read_object
from ..names import lookup, unknown
from .adapters import load_adapters
from .failures import named_failures
from .families import FAMILIES, HUB, original_name, special_id, stock_config
from .lm import MaskedDiffusionLM, no_progress_bars

# The models in the package: the base model of the course, and one that learnt chains from three
# writers, for the chapter on AG-GRPO (float16; benchmarks/worlds.py makes it).
SHIPPED = {
    "tiny": Path(__file__).parent / "tiny",
    "tiny-writers": Path(__file__).parent / "tiny_writers",
}
# Weights, configuration and tokenizer: never *.py, *.bin.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
INDEX = "model.safetensors.index.json"
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def load_lm(
    name: str | os.PathLike = "tiny",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    adapters: str | os.PathLike | None = None,
    quantize: str | None = None,
    revision: str | None = None,
) -> MaskedDiffusionLM:
    """Load a masked diffusion LM, ours or a published checkpoint, in evaluation mode (no dropout).

    Weights are streamed: the host holds a few tensors besides the model (and none of it, if
    `device` is a GPU).

    Args:
        name: "tiny" or "tiny-writers" (shipped in the package), a folder, or a hub id such as
            "GSAI-ML/LLaDA-8B-Instruct" (`models.families.HUB` lists those that are known):
            LLaDA-8B, Dream-7B, DiffuCoder-7B, dllm's Qwen3-0.6B mdlm, or what `save_pretrained`
            wrote. The tokenizer and its chat template come from the same folder; a base model
            without a template gets prompts as they stand.
        device: where the weights go.
        dtype: of the weights, or its name ("bfloat16"); logits are float32 whatever it is, and so
            are rotary frequencies.
        adapters: a folder of LoRA adapters to put on (`adapters.load_adapters`).
        quantize: "4bit": nf4 with double quantisation, the head left as it is (needs the
            `quantized` extra).
        revision: a branch, tag or commit of a hub id.
    Raises:
        ValueError: for an unknown name (with the nearest match), a checkpoint that the stock
            modules do not compute, weights that are truncated, missing, unexpected or of another
            shape, or a device that is not here.
        RuntimeError: if memory runs out.
    """
    if quantize not in (None, "4bit"):
        raise ValueError(f"quantize must be None or '4bit', got {quantize!r}")
    dtype = lookup("dtype", str(dtype).removeprefix("torch."), DTYPES)
    device = usable_device(device)
    folder = resolve_model(str(name), revision)
    kind, values = read_config(folder)
    if kind == "a2d-qwen3" and "bd3lm" in folder.name.lower():
        raise ValueError(
            f"{folder.name} is block-causal (bd3lm), and this package's attention sees everything: "
            "use an mdlm"
        )
    expected = empty_backbone(folder, kind, values)
    tokenizer = load_tokenizer(folder, kind, values)
    backbone = load_weights(folder, kind, expected, device, dtype, quantize)
    label = [str(name), revision, quantize]
    if adapters is not None:
        label.append(f"with adapters {adapters}")
    lm = MaskedDiffusionLM(
        backbone,
        tokenizer,
        shifted=bool(getattr(expected.config, "shifted", False)),
        name=" ".join(part for part in label if part),
    ).eval()
    if adapters is not None:
        load_adapters(lm, adapters)
    return lm


def usable_device(device: str | torch.device) -> torch.device:
    """The device, which exists. Raises ValueError if this machine has none such."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # which one depends on the build
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({reason}): set 'cpu', or an accelerator "
            "of this machine such as 'cuda'"
        ) from error


def resolve_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model: the shipped one, a local one as it stands, or a hub id's files,
    downloaded once into the Hugging Face cache.

    Raises ValueError if `name` is neither, or the hub cannot give it; the message names both
    readings and the nearest known model.
    """
    folder = Path(name)
    if name in SHIPPED:
        folder = SHIPPED[name]
    if (folder / "config.json").is_file():
        if revision is not None:
            raise ValueError(
                f"revision {revision!r} is for a hub id, and {name!r} is a folder: leave one out"
            )
        return folder
    message = (
        f"no model {name!r}: neither {' nor '.join(map(repr, SHIPPED))} nor a folder with "
        "config.json, nor a hub id that could be loaded"
    )
    if folder.exists():
        message += f" ({name!r} exists but has no config.json)"
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            answer = str(error).strip().splitlines()[0][:200]
            message += f" (the hub said: {type(error).__name__}: {answer})"
    near = difflib.get_close_matches(name, [*SHIPPED, *HUB], 1, 0.5)
    if near and near[0] != name:
        message += f"; did you mean {near[0]!r}?"
    raise ValueError(message)


def read_config(folder: Path) -> tuple[str, dict]:
    """(model_type, values) of a folder's config.json, rope settings flattened. Raises ValueError
    if it is not known."""
    values = read_object(folder / "config.json")
    kind = str(values.get("model_type"))
    if kind == "dream":  # the hub has both spellings
        kind = "Dream"
    if kind not in FAMILIES:
        raise ValueError(f"{folder}/config.json: {unknown('model_type', kind, FAMILIES)}")
    if FAMILIES[kind].fields:
        values |= values.get("rope_parameters") or {}
    return kind, values


def empty_backbone(folder: Path, kind: str, values: dict) -> PreTrainedModel:
    """The stock module of a checkpoint, its names and shapes without memory. Raises ValueError for
    a config.json that is not supported."""
    where = f"{folder}/config.json"
    config = stock_config(kind, values, where)
    with named_failures(where), torch.device("meta"):
        return FAMILIES[kind].module(config)


def load_tokenizer(folder: Path, kind: str, values: dict) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer and chat template, its mask, end and padding tokens named and
    dropped when decoding."""
    family = FAMILIES[kind]
    with named_failures(f"the tokenizer in {folder}"):
        tokenizer = family.tokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # The way to the checkpoint's own code: not to be written out again.
    tokenizer.init_kwargs.pop("auto_map", None)
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    for role in family.ids:
        number = special_id(values, family, role, f"{folder}/config.json")
        token = tokens.get(number)
        if token is None:
            raise ValueError(
                f"{folder}: the tokenizer has no token {number}, which should be its {role} token"
            )
        tokenizer.add_special_tokens({f"{role}_token": token})
    return tokenizer


def load_weights(
    folder: Path,
    kind: str,
    expected: PreTrainedModel,
    device: torch.device,
    dtype: torch.dtype,
    quantize: str | None = None,
) -> PreTrainedModel:
    """The stock module of a checkpoint with its weights, which transformers casts, places, ties and
    quantises.

    Raises ValueError if they are not exactly those of `expected`, the empty one.
    """
    config = expected.config
    weights = map_weights(folder, kind, expected)
    with named_failures(f"the model in {folder}"), no_progress_bars():
        backbone = type(expected).from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            device_map=device,
            quantization_config=four_bits(dtype) if quantize else None,
        )
    tied = backbone.lm_head.weight is backbone.model.embed_tokens.weight
    if config.tie_word_embeddings and not tied:
        raise ValueError(
            f"{folder}: config.json ties {original_name(kind, 'lm_head.weight')} to the embedding, "
            "and the two differ: set tie_word_embeddings to false"
        )
    if backbone.device.type == "cpu":
        # A tensor that needed no cast still lies in its file, and would change with it.
        for parameter in backbone.parameters():
            parameter.data = parameter.data.clone()
    return backbone


def map_weights(folder: Path, kind: str, expected: nn.Module) -> dict[str, Tensor]:
    """A folder's tensors by their stock names, mapped into memory: each is read when it is used.

    `from_pretrained(folder, key_mapping=...)` could open the files too. But it takes stock names
    beside the checkpoint's own, puts on adapters that lie in the folder, and says what is missing
    only after all is read.

    Raises ValueError with the keys (and files) that are missing, unexpected or of another shape
    than those of `expected`, the stock module with or without memory.
    """
    wanted = expected.state_dict()
    stock_names = {original_name(kind, name): name for name in wanted}
    found = {}
    problems = {"unexpected_keys": [], "mismatched_keys": [], "missing_keys": []}
    for file in weight_files(folder):
        with named_failures(str(file)):
            tensors = load_file(file)
        for key, tensor in tensors.items():
            name = stock_names.get(key)
            if name is None:
                problems["unexpected_keys"].append(f"{key} in {file.name}")
            elif tensor.shape != wanted[name].shape:
                problems["mismatched_keys"].append(
                    f"{key} in {file.name}: {list(tensor.shape)}, not {list(wanted[name].shape)}"
                )
            else:
                found[name] = tensor
    # Parameters name a tied head once, as the embedding: a file may leave it out.
    for name, _ in expected.named_parameters():
        if name not in found:
            problems["missing_keys"].append(original_name(kind, name))
    for problem, keys in problems.items():
        if keys:
            raise ValueError(
                f"the weights in {folder} do not fit their config.json: "
                f"{len(keys)} {problem} {sorted(keys)[:4]}"
            )
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises ValueError if some are missing."""
    names = ["model.safetensors"]
    if (folder / INDEX).is_file():
        places = read_object(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
            raise ValueError(f"{folder / INDEX}: weight_map should name the file of each tensor")
        names = places.values()
    files = sorted({folder / Path(name).name for name in names})
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ValueError(
            f"{folder} lacks {absent}: download the checkpoint again, or convert it: safetensors "
            "only, for pickled weights (*.bin) can run code"
        )
    return files


def four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """4-bit weights for every linear layer but the head, which compute in `dtype`."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("quantize='4bit' needs bitsandbytes: pip install -e .[quantized]")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head"],
    )
