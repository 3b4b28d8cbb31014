"""The protocol card: what has to be known to make a number again, and what two numbers must share
to be compared."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version

from ..models import MaskedDiffusionLM, fingerprint
from ..sampler import Decoding
from ..tasks import Example, Task

LIBRARIES = ("dllm_rl_lite", "torch", "transformers", "peft", "math-verify")
# What may differ between two runs that are still the same experiment: where it ran, not what ran.
PLACE = ("device", "libraries", "python", "sandbox")


def problems_hash(examples: list[Example]) -> str:
    """Eight hex digits of the prompts and answers, in order: did two runs see the same problems?"""
    text = "\0".join(f"{example.prompt}\1{example.answer}" for example in examples)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def libraries() -> dict[str, str]:
    """Versions of what computes and scores."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def make_card(
    lm: MaskedDiffusionLM,
    task: Task,
    examples: list[Example],
    split: str,
    seed: int,
    settings: dict,
) -> dict:
    """The card of one evaluation, as plain json. settings: whatever else decides the number
    (length, rule, ...)."""
    return {
        **task.card_entry(),
        "split": split,
        "problems": len(examples),
        "problem_seed": seed,
        "problems_hash": problems_hash(examples),
        "model": getattr(lm, "name", "unnamed"),
        "weights": fingerprint(lm),
        "dtype": str(next(lm.parameters()).dtype).removeprefix("torch."),
        **settings,
        "device": str(lm.device),
        "python": platform.python_version(),
        "libraries": libraries(),
    }


def card_settings(decoding: Decoding, samples: int, batch: int, checkpoint_rule: str) -> dict:
    """How texts were written, for the card. What the first cards did not have is only named if it
    is used, so that they can still be compared with new ones."""
    settings = {
        "rule": repr(decoding.rule),
        "length": decoding.length,
        "block_length": decoding.block_length or None,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "eos": decoding.eos,
        "samples": samples,
    }
    for field in fields(decoding):
        value = getattr(decoding, field.name)
        if field.name not in settings and value != field.default:
            settings[field.name] = value
    settings["batch"] = batch if decoding.random else "any"
    settings["checkpoint_rule"] = checkpoint_rule or "not stated"
    return settings


def format_card(card: dict) -> str:
    """The card as aligned, human-readable text."""
    width = max(map(len, card), default=0)
    lines = []
    for name, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        if isinstance(value, str) and (not value or "\n" in value):
            value = repr(value)  # or nothing would be seen, or the table would break
        lines.append(f"  {name.replace('_', ' '):<{width}}  {value}")
    return "\n".join(lines)


def differences(first: dict, second: dict, ignore: tuple[str, ...] = PLACE) -> dict[str, tuple]:
    """What two cards disagree on: name -> (first, second). An empty dict means one experiment."""
    names = [name for name in {**first, **second} if name not in ignore]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}
