"""LoRA adapters by peft: named targets, saved and merged; the policy with its adapters off is the
reference."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..names import lookup
from .checkpoints import original_name

ALL = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)  # never the head
# The released d1 family passes Llama's seven names to LLaDA, whose modules are called otherwise:
# peft finds four of them.
PUBLISHED = {"llada": ("q_proj", "k_proj", "v_proj", "up_proj")}
PREFIX = "base_model.model."  # of the keys in peft's files
PLAIN = {
    "use_rslora": False,
    "use_dora": False,
    "lora_bias": False,
    "bias": "none",
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layer_replication": None,
}  # what is supported


def lora_targets(lm, targets: str) -> tuple[str, ...]:
    """The modules that a choice of targets adapts.

    Args:
        targets: "all": the seven linear maps of a layer. "published": those that the released
            configurations really adapt; on LLaDA q, k, v and up_proj, on every other family the
            names are right and all seven.
    """
    return lookup("lora_targets", targets, {"all": ALL, "published": PUBLISHED.get(lm.family, ALL)})


def add_adapters(
    lm, targets: str = "all", r: int = 128, alpha: float = 64, dropout: float = 0.0, seed: int = 0
):
    """Freeze a model and put trainable LoRA adapters, float32, on the linear maps of its layers;
    nothing changes yet.

    Args:
        lm: a `MaskedDiffusionLM`, changed in place. targets: as for `lora_targets`. r: rank. alpha:
            the update is scaled by alpha / r. dropout: of the adapters' input while learning, 0..1.
            seed: of the A matrices; B starts at zero.
    Returns:
        the same lm.
    Raises:
        ValueError: for an unknown choice, bad numbers, or a model that has adapters.
    Source: r 128, alpha 64, dropout 0.05 in the releases of d1's family; r 64, alpha 64, dropout 0
    in AGRPO's.
    """
    names = list(lora_targets(lm, targets))
    if r < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"need r >= 1, alpha > 0 and 0 <= dropout < 1, got {r}, {alpha} and {dropout}"
        )
    return _inject(
        lm, LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=names), seed
    )


def _inject(lm, config: LoraConfig, seed: int):
    if adapted_layers(lm):
        raise ValueError("the model has adapters: merge_adapters(lm) before it gets others")
    lm.requires_grad_(False)
    with torch.random.fork_rng(
        devices=[]
    ):  # initialisation reads the global generator: leave it as it was
        torch.manual_seed(seed)
        inject_adapter_in_model(config, lm.backbone)
    for parameter in adapter_parameters(lm).values():
        parameter.data = (
            parameter.data.float()
        )  # an update of bfloat16 adapters would be rounded away
    lm.eval()
    return lm


def adapted_layers(lm) -> dict[str, LoraLayer]:
    """The adapted linear maps by their place in the stock module; empty without adapters."""
    return {
        name: module
        for name, module in lm.backbone.named_modules()
        if isinstance(module, LoraLayer)
    }


def adapter_parameters(lm) -> dict[str, nn.Parameter]:
    """The adapters' weights under the keys of peft's files."""
    return {
        f"{PREFIX}{place}.{kind}.weight": getattr(layer, kind)["default"].weight
        for place, layer in adapted_layers(lm).items()
        for kind in ("lora_A", "lora_B")
    }


def trainable_parameters(lm) -> list[nn.Parameter]:
    """What an optimiser may move: the adapters where there are any, everything otherwise."""
    return [p for p in lm.parameters() if p.requires_grad]


def count_parameters(lm) -> tuple[int, int]:
    """(trainable, total); weights quantised to 4 bits are counted two to a byte, as they are
    stored."""
    return sum(p.numel() for p in trainable_parameters(lm)), sum(p.numel() for p in lm.parameters())


def describe_parameters(lm) -> str:
    """One line for a person: trainable x of y."""
    some, every = count_parameters(lm)
    return f"trainable {some:,} of {every:,} parameters ({100 * some / every:.2f} %)"


@contextlib.contextmanager
def adapters_off(lm) -> Iterator[None]:
    """The base model, for a while: the same weights, its adapters passed by."""
    layers = list(adapted_layers(lm).values())
    trained = [p.requires_grad for layer in layers for p in layer.parameters()]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in zip(
            (p for layer in layers for p in layer.parameters()), trained, strict=True
        ):
            parameter.requires_grad_(
                flag
            )  # peft turns the gradient of what it switches on or off as well


class ReferencePolicy:
    """The starting model of a run that trains adapters: the policy's own weights, adapters off. It
    holds no memory."""

    def __init__(self, lm):
        self.lm = lm

    def __call__(self, ids: Tensor, attention_mask: Tensor, where: Tensor) -> Tensor:
        """Aligned logits, as `MaskedDiffusionLM.forward` gives them."""
        with adapters_off(self.lm):
            return self.lm(ids, attention_mask, where)


def reference_policy(lm):
    """The model as it is now, to be kept: by its adapters, which start at nothing, or as a frozen
    copy where it has none."""
    return ReferencePolicy(lm) if adapted_layers(lm) else copy.deepcopy(lm).requires_grad_(False)


@contextlib.contextmanager
def learning(lm, seed: int) -> Iterator[None]:
    """Training mode, for a model with dropout or gradient checkpointing, which wait for it; dropout
    draws from `seed`.

    The global generators are left as they were, so a resumed run draws the same.
    """
    if not any(
        getattr(m, "gradient_checkpointing", False) or isinstance(m, nn.Dropout) and m.p > 0
        for m in lm.modules()
    ):
        yield
        return
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        lm.train()
        try:
            yield
        finally:
            lm.eval()


def checkpoint_gradients(lm) -> None:
    """Keep only each layer's input for the backward pass, and compute the rest again: less memory,
    a forward more.

    It works in training mode (`learning`); gradients are the same.
    """
    enable = (
        getattr(lm.backbone, "activation_checkpointing_enable", None)
        or lm.backbone.gradient_checkpointing_enable
    )
    enable(
        {"use_reentrant": False}
    )  # the reentrant kind gives no gradient where the embedding is frozen


def merge_adapters(lm):
    """Add the adapters into the weights, in the weights' own precision; the model is then plain,
    and can be saved.

    Returns the same lm, trainable. Raises ValueError without adapters, for a 4-bit base, or where a
    sum is not finite.
    """
    layers = adapted_layers(lm)
    if not layers:
        raise ValueError("the model has no adapters to merge")
    if getattr(lm.backbone, "is_loaded_in_4bit", False):
        raise ValueError(
            "a 4-bit base cannot take adapters in: save them, and load them on the base without quantize"
        )
    for place, layer in layers.items():
        layer.merge(safe_merge=True)
        parent, _, leaf = place.rpartition(".")
        setattr(lm.backbone.get_submodule(parent), leaf, layer.get_base_layer())
    if hasattr(lm.backbone, "peft_config"):
        del lm.backbone.peft_config
    lm.requires_grad_(True)
    return lm


def base_fingerprint(lm) -> dict[str, str | None]:
    """What tells two bases apart: a hash of the first row of every weight, in bfloat16, whatever
    precision they are in.

    "kept" is of embedding, norms and head, "matrices" of the rest: None where that is quantised.
    """
    kept, matrices, packed = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16), False
    for name, weight in lm.backbone.named_parameters():
        if "lora_" in name:
            continue
        packed = packed or not weight.is_floating_point()
        if weight.is_floating_point():
            row = (weight[0] if weight.ndim > 1 else weight).detach().to("cpu", torch.bfloat16)
            (matrices if "_proj" in name else kept).update(
                row.contiguous().view(torch.uint8).numpy().tobytes()
            )
    return {"kept": kept.hexdigest(), "matrices": None if packed else matrices.hexdigest()}


def save_adapters(lm, folder: str | os.PathLike) -> None:
    """Write adapters in peft's layout (adapter_config.json, adapter_model.safetensors) and
    base.json, their base's identity.

    `load_lm(base, adapters=folder)` reads them back. Raises ValueError without adapters.
    """
    if not adapted_layers(lm):
        raise ValueError("the model has no adapters to save: add_adapters(lm) first")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lm.backbone.peft_config["default"].save_pretrained(folder)
    save_file(
        {k: p.detach().cpu().contiguous() for k, p in adapter_parameters(lm).items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "base.json").write_text(json.dumps(base_fingerprint(lm), indent=1) + "\n")


def load_adapters(lm, folder: str | os.PathLike):
    """Put saved adapters on a model: ours, or a released peft folder with the checkpoint's original
    module names.

    Returns the same lm. Raises ValueError for a folder that cannot be read, a kind of adapter that
    is not supported, keys or shapes that do not fit, or another base than the adapters were trained
    on (which only folders with base.json tell).
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
        base = (
            json.loads((folder / "base.json").read_text())
            if (folder / "base.json").is_file()
            else {}
        )
        r, alpha, dropout = settings["r"], settings["lora_alpha"], settings["lora_dropout"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"no adapters can be read from {folder} ({type(error).__name__}: {error})"
        ) from error
    for name, value in PLAIN.items():
        if settings.get(name, value) != value:
            raise ValueError(
                f"{folder}: {name} is {settings[name]!r}, and only plain LoRA ({value!r}) is supported"
            )
    mine = base_fingerprint(lm)
    if any(base.get(k) and mine[k] and base[k] != mine[k] for k in mine):
        raise ValueError(
            f"the adapters in {folder} were trained on another base: load the model that they started from"
        )
    _inject(
        lm,
        LoraConfig(
            r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=_places(lm, tensors, folder)
        ),
        0,
    )
    restore_adapters(lm, tensors)
    return lm


def _places(lm, tensors: dict[str, Tensor], folder: Path) -> list[str]:
    """The stock modules that a folder's keys name, in the stock or the checkpoint's own
    spelling."""
    linear = [
        name for name, module in lm.backbone.named_modules() if hasattr(module, "in_features")
    ]
    theirs = {original_name(lm.family, name): name for name in linear}
    found = {key.removeprefix(PREFIX).split(".lora_")[0] for key in tensors}
    known = theirs | {name: name for name in linear}
    strange = sorted(found - known.keys())
    if strange or not found:
        raise ValueError(
            f"the adapters in {folder} do not fit this model: it has no linear layer {strange[:4]}"
        )
    return sorted(known[name] for name in found)


def restore_adapters(lm, tensors: dict[str, Tensor]) -> None:
    """Copy saved adapter weights into the model's adapters, in place. Raises ValueError where keys
    or shapes differ."""
    renamed = {}
    for key, parameter in adapter_parameters(lm).items():
        place, _, rest = key.removeprefix(PREFIX).partition(".lora_")
        theirs = f"{PREFIX}{original_name(lm.family, place)}.lora_{rest}"
        renamed[key if key in tensors else theirs] = parameter
    wrong = sorted(
        k
        for k in renamed.keys() | tensors.keys()
        if k not in renamed or k not in tensors or renamed[k].shape != tensors[k].shape
    )
    if wrong:
        raise ValueError(f"the saved adapters do not fit these: keys or shapes differ {wrong[:4]}")
    with torch.no_grad():
        for key, parameter in renamed.items():
            parameter.copy_(tensors[key])
