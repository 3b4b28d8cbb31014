"""The protocol card: what has to be known to make a number again, and what two numbers must share
to be compared."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version

from ..models import fingerprint

LIBRARIES = ("dllm_rl_lite", "torch", "transformers", "peft", "math-verify")
# What may differ between two runs that are still the same experiment: where it ran, not what ran.
PLACE = ("device", "libraries", "python", "sandbox")


def problems_hash(examples) -> str:
    """Eight hex digits of the prompts and answers, in order: did two runs see the same problems?"""
    return hashlib.blake2b(
        "\0".join(f"{e.prompt}\1{e.answer}" for e in examples).encode(), digest_size=4
    ).hexdigest()


def libraries() -> dict[str, str]:
    """Versions of what computes and scores."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def protocol(lm, task, examples, split: str, seed: int, settings: dict) -> dict:
    """The card of one evaluation, as plain json. settings: whatever else decides the number
    (length, rule, ...)."""
    return {
        **task.protocol(),
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


def card(found: dict) -> str:
    """The card as aligned text, for people."""
    flat = {
        k: ", ".join(f"{a} {b}" for a, b in v.items()) if isinstance(v, dict) else v
        for k, v in found.items()
    }
    width = max(map(len, flat), default=0)
    return "\n".join(
        f"  {k.replace('_', ' '):<{width}}  {v!r}"
        if isinstance(v, str) and (not v or "\n" in v)
        else f"  {k.replace('_', ' '):<{width}}  {v}"
        for k, v in flat.items()
    )


def differences(first: dict, second: dict, ignore: tuple[str, ...] = PLACE) -> dict[str, tuple]:
    """What two cards disagree on: name -> (first, second). An empty dict means one experiment."""
    return {
        k: (first.get(k), second.get(k))
        for k in {**first, **second}
        if k not in ignore and first.get(k) != second.get(k)
    }
