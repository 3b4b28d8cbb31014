"""Random seeds: every generator of a run is derived from (seed, step, purpose), so a resumed run
draws the same."""

from __future__ import annotations

import hashlib
import random

import torch


def derived_seed(seed: int, step: int, purpose: str) -> int:
    """A 63-bit seed that is the same on every machine and differs by seed, step and purpose."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(
    seed: int, step: int, purpose: str, device: str | torch.device = "cpu"
) -> torch.Generator:
    """A fresh generator for one use in one step."""
    return torch.Generator(device).manual_seed(derived_seed(seed, step, purpose))


def python_random(generator: torch.Generator) -> random.Random:
    """Python's own chance, seeded by the generator."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return random.Random(int(seed))
