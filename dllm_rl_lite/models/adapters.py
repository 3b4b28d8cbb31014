"""LoRA adapters by peft: named targets, saved and merged; the policy with its adapters off is the
reference."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..files import read_object
from ..names import lookup
from .failures import named_failures
from .families import original_name
from .lm import MaskedDiffusionLM

# The seven linear maps of a layer, never the head.
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The released d1 family passes Llama's seven names to LLaDA, whose modules are called otherwise:
# peft finds four of them.
PUBLISHED = {"llada": ("q_proj", "k_proj", "v_proj", "up_proj")}
PREFIX = "base_model.model."  # of the keys in peft's files
# Settings of peft's files that a plain adapter may have: its numbers, where it stands (its tensors
# tell that too), notes, and numbers of variants that are off.
FREE_LORA = (
    "r lora_alpha lora_dropout target_modules exclude_modules layers_to_transform layers_pattern "
    "auto_mapping base_model_name_or_path inference_mode megatron_core peft_version "
    "qalora_group_size revision task_type"
).split()
# Other starts (PiSSA, OLoRA, LoftQ, CorDA, ...) take out of the base what the adapter starts with.
PLAIN_STARTS = (True, "gaussian", "eva", "orthogonal")


def lora_targets(lm: MaskedDiffusionLM, targets: str) -> tuple[str, ...]:
    """The modules that a choice of targets adapts in a model, or in anything that has its `family`.

    "all": the seven linear maps of a layer. "published": those that the released configurations
    really adapt; on LLaDA q, k, v and up_proj, on every other family the names are right and all
    seven.
    """
    return lookup("lora_targets", targets, {"all": ALL, "published": PUBLISHED.get(lm.family, ALL)})


def add_adapters(
    lm: MaskedDiffusionLM,
    targets: str = "all",
    r: int = 128,
    alpha: float = 64,
    dropout: float = 0.0,
    seed: int = 0,
) -> MaskedDiffusionLM:
    """Freeze a model and put trainable LoRA adapters, float32, on the linear maps of its layers;
    nothing changes yet.

    Args:
        lm: changed in place, and returned.
        targets: as for `lora_targets`.
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: of the adapters' input in training mode, 0..1.
        seed: of the A matrices; B starts at zero.
    Raises:
        ValueError: for an unknown choice, bad numbers, or a model that has adapters.
    Source: r 128, alpha 64, dropout 0.05 in the releases of d1's family; r 64, alpha 64, dropout 0
    in AGRPO's.
    """
    config = _plain_lora(r, alpha, dropout)
    config.target_modules = set(lora_targets(lm, targets))
    _inject(lm, config, seed)
    return lm


def _plain_lora(r: int, alpha: float, dropout: float) -> LoraConfig:
    if not isinstance(r, int) or r < 1:
        raise ValueError(f"r must be a whole number of at least 1, got {r!r}")
    if not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a finite number above 0, got {alpha!r}")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a number from 0 to below 1, got {dropout!r}")
    return LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout)


def _inject(lm: MaskedDiffusionLM, config: LoraConfig, seed: int) -> None:
    if lm.has_adapters:
        raise ValueError("the model has adapters: merge_adapters(lm) before it gets others")
    lm.requires_grad_(False)
    # Initialisation reads the global generator: leave it as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, lm.backbone)
    # An update of bfloat16 adapters would be rounded away.
    for parameter in trainable_parameters(lm):
        parameter.data = parameter.data.float()
    lm.eval()


def adapted_layers(lm: MaskedDiffusionLM) -> dict[str, LoraLayer]:
    """The adapted linear maps by their place in the stock module; empty without adapters."""
    return {
        name: module
        for name, module in lm.backbone.named_modules()
        if isinstance(module, LoraLayer)
    }


def adapter_parameters(lm: MaskedDiffusionLM) -> dict[str, nn.Parameter]:
    """The adapters' weights under the keys of peft's files."""
    # get_peft_model_state_dict would ask for the state of the whole model, which splits gathered
    # weights again.
    return {
        PREFIX + name.replace(".default.", "."): parameter
        for name, parameter in lm.backbone.named_parameters()
        if ".lora_" in name
    }


def trainable_parameters(lm: MaskedDiffusionLM) -> list[nn.Parameter]:
    """What an optimiser may move: the adapters if there are any, everything otherwise."""
    return [p for p in lm.parameters() if p.requires_grad]


def count_parameters(lm: MaskedDiffusionLM) -> tuple[int, int]:
    """(trainable, total); of weights in 4 bits those that are packed are counted, two to a byte."""
    total = 0
    for p in lm.parameters():
        packed = getattr(p, "quant_state", None)
        total += p.numel() if packed is None else packed.shape.numel()
    return sum(p.numel() for p in trainable_parameters(lm)), total


def describe_parameters(lm: MaskedDiffusionLM) -> str:
    """One human-readable line: trainable x of y."""
    some, every = count_parameters(lm)
    return f"trainable {some:,} of {every:,} parameters ({100 * some / every:.2f} %)"


@contextlib.contextmanager
def adapters_off(lm: MaskedDiffusionLM) -> Iterator[None]:
    """The base model, for a while: the same weights, its adapters passed by."""
    layers = adapted_layers(lm).values()
    # peft turns the gradient of what it switches on or off as well.
    trained = {parameter: parameter.requires_grad for parameter in lm.parameters()}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in trained.items():
            parameter.requires_grad_(flag)


class ReferencePolicy:
    """The starting model of a run that trains adapters: the policy's own weights, adapters off. It
    holds no memory."""

    def __init__(self, lm: MaskedDiffusionLM):
        self.lm = lm

    def __call__(self, ids: Tensor, attention_mask: Tensor, where: Tensor) -> Tensor:
        """Aligned logits, as `MaskedDiffusionLM.forward` gives them."""
        with adapters_off(self.lm):
            return self.lm(ids, attention_mask, where)


def reference_policy(lm: MaskedDiffusionLM) -> ReferencePolicy | MaskedDiffusionLM:
    """The model as it is now, to be kept: with its adapters off, which start at nothing, or as a
    frozen copy if it has none."""
    return ReferencePolicy(lm) if lm.has_adapters else copy.deepcopy(lm).requires_grad_(False)


@contextlib.contextmanager
def training_mode(lm: MaskedDiffusionLM, seed: int) -> Iterator[None]:
    """What a gradient pass runs in: dropout and gradient checkpointing are on, and dropout draws
    from `seed`.

    The global generators are left as they were, so a resumed run draws the same.
    """
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        lm.train()
        try:
            yield
        finally:
            lm.eval()


def checkpoint_gradients(lm: MaskedDiffusionLM) -> None:
    """Keep only each layer's input for the backward pass in `training_mode`, and compute the rest
    again: less memory, one forward pass more, the same gradients."""
    enable = getattr(  # transformers 5.17 has only the other name
        lm.backbone, "activation_checkpointing_enable", lm.backbone.gradient_checkpointing_enable
    )
    # The reentrant kind gives no gradient if the embedding is frozen.
    enable({"use_reentrant": False})


def merge_adapters(lm: MaskedDiffusionLM) -> MaskedDiffusionLM:
    """Add the adapters into the weights, in the weights' own precision; the model is then plain,
    and can be saved.

    Returns the same lm, trainable. Raises ValueError without adapters, for a 4-bit base, or if a
    sum is not finite.
    """
    if not lm.has_adapters:
        raise ValueError("the model has no adapters to merge")
    if lm.is_quantized:
        raise ValueError(
            "a 4-bit base cannot take adapters in: save them, and load them on the base without "
            "quantize"
        )
    for name, layer in adapted_layers(lm).items():
        layer.merge(safe_merge=True)
        lm.backbone.set_submodule(name, layer.get_base_layer())
    del lm.backbone.peft_config
    lm.requires_grad_(True)
    return lm


def base_fingerprint(lm: MaskedDiffusionLM) -> dict[str, str | None]:
    """What tells two bases apart, whatever precision they are in: a hash of the first row of every
    weight, in bfloat16. (`fingerprint` tells states of one model apart, and sees its precision.)

    "kept" is of embedding, norms and head, "matrices" of the rest: None if that is quantised.
    """
    kept = hashlib.blake2b(digest_size=16)
    matrices = hashlib.blake2b(digest_size=16)
    for name, weight in lm.backbone.named_parameters():
        if "lora_" in name or not weight.is_floating_point():
            continue
        row = weight if weight.ndim == 1 else weight[0]
        # A copy, because numpy pins the memory that it is given.
        row = row.detach().to("cpu", torch.bfloat16, copy=True).contiguous()
        digest = matrices if "_proj" in name else kept
        digest.update(row.view(torch.uint8).numpy().tobytes())
    return {
        "kept": kept.hexdigest(),
        "matrices": None if lm.is_quantized else matrices.hexdigest(),
    }


def save_adapters(lm: MaskedDiffusionLM, folder: str | os.PathLike) -> None:
    """Write adapters in peft's layout (adapter_config.json, adapter_model.safetensors) and
    base.json, their base's identity.

    `load_lm(base, adapters=folder)` reads them back. Raises ValueError without adapters.
    """
    if not lm.has_adapters:
        raise ValueError("the model has no adapters to save: add_adapters(lm) first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.copy(lm.backbone.peft_config["default"])
    config.target_modules = sorted(config.target_modules)  # a set has another order in each process
    config.save_pretrained(folder)
    tensors = {key: p.detach().cpu().contiguous() for key, p in adapter_parameters(lm).items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "base.json").write_text(json.dumps(base_fingerprint(lm), indent=1) + "\n")


def load_adapters(lm: MaskedDiffusionLM, folder: str | os.PathLike) -> MaskedDiffusionLM:
    """Put saved adapters on a model: ours, or a released peft folder with the checkpoint's original
    module names.

    Returns the same lm. Raises ValueError for a folder that cannot be read, a kind of adapter that
    is not supported, keys or shapes that do not fit, or another base than the adapters were trained
    on (which only folders with base.json tell).
    """
    folder = Path(folder)
    settings = read_object(folder / "adapter_config.json")
    _refuse_variants(settings, folder)
    numbers = [settings.get(name) for name in ("r", "lora_alpha", "lora_dropout")]
    with named_failures(f"the adapter in {folder}"):
        config = _plain_lora(*numbers)
        tensors = load_file(folder / "adapter_model.safetensors")
    base = {}
    if (folder / "base.json").is_file():
        base = read_object(folder / "base.json")
    for part, digest in base_fingerprint(lm).items():
        saved = base.get(part)
        if digest and saved and saved != digest:
            raise ValueError(
                f"the adapters in {folder} were trained on another base: load the model that they "
                "started from"
            )
    tensors = _with_stock_names(lm, tensors)
    config.target_modules = {_module_of(key) for key in tensors}
    strange = sorted(config.target_modules - dict(lm.backbone.named_modules()).keys())
    if strange or not tensors:
        raise ValueError(
            f"the adapters in {folder} do not fit this model: it has no linear layer {strange[:4]}"
        )
    _inject(lm, config, seed=0)
    restore_adapters(lm, tensors)
    return lm


def _refuse_variants(settings: dict, folder: Path) -> None:
    """Raise ValueError for an adapter that computes anything but base + alpha / r * B A on the base
    as it was published."""
    plain = LoraConfig().to_dict()
    for name, value in settings.items():
        # What is off changes nothing, whichever version of peft knows the name.
        if name in FREE_LORA or not value or value == plain.get(name):
            continue
        if name == "init_lora_weights" and value in PLAIN_STARTS:
            continue
        raise ValueError(f"{folder}: {name} is {value!r}, and only plain LoRA is supported")


def _module_of(key: str) -> str:
    """The module that a key of peft's files belongs to."""
    return key.removeprefix(PREFIX).split(".lora_")[0]


def _with_stock_names(lm: MaskedDiffusionLM, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A folder's tensors under stock names, whether it has these or the checkpoint's own."""
    stock = {original_name(lm.family, name): name for name, _ in lm.backbone.named_modules()}
    renamed = {}
    for key, tensor in tensors.items():
        module = _module_of(key)
        renamed[key.replace(module, stock.get(module, module))] = tensor
    return renamed


def restore_adapters(lm: MaskedDiffusionLM, tensors: dict[str, Tensor]) -> None:
    """Copy saved adapter weights into the model's adapters, in place. Raises ValueError if keys or
    shapes differ."""
    adapters = adapter_parameters(lm)
    wanted = {(key, parameter.shape) for key, parameter in adapters.items()}
    found = {(key, tensor.shape) for key, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted({key for key, _ in wanted ^ found})
        raise ValueError(f"the saved adapters do not fit these: keys or shapes differ {wrong[:4]}")
    with torch.no_grad():
        for key, parameter in adapters.items():
            parameter.copy_(tensors[key])
