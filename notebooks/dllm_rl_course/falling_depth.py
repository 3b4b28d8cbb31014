"""SkipDecode on a diffusion model: later passes compute fewer layers.

All rows of a pass have the same depth, so nothing is ragged. A pass of few layers is a habit that
the model has to learn: `random_depth` trains it with a new depth at every step.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM, ShallowLM, load_lm

from .three_chains import teach


def depths(steps: int, layers: int, least: int) -> list[int]:
    """The depth of each pass: it falls in a straight line from all layers to `least`."""
    if not 1 <= least <= layers:
        raise ValueError(f"least must be in 1..{layers}, got {least}")
    last = max(1, steps - 1)
    return [layers - round((layers - least) * step / last) for step in range(steps)]


def kept(depth: int, layers: int, warm: int = 1) -> list[int]:
    """The numbers of the layers that are computed: the first `warm` of them and the last ones, so
    that the lower-middle ones are skipped. A smaller depth keeps a part of what a larger one
    keeps."""
    if not warm <= depth <= layers:
        raise ValueError(f"depth must be in {warm}..{layers}, got {depth}")
    return [*range(warm), *range(layers - depth + warm, layers)]


class SkippingLM:
    """A model whose passes take their depths from a plan, one after the other; in everything else
    the model itself.

    Args:
        lm: the model.
        plan: the depth of each pass; `layer_passes` counts the layers of all rows so far.
    Source: SkipDecode (arXiv 2307.02628). There the depth falls with the position, because a causal
        model writes one position per pass; a diffusion model computes all positions in every pass,
        so here it falls with the pass.
    """

    def __init__(self, lm: MaskedDiffusionLM, plan: Iterable[int]):
        self.lm = lm
        self.plan = iter(plan)
        self.layer_passes = 0

    def __getattr__(self, name: str):
        return getattr(self.lm, name)

    def __call__(self, ids: Tensor, attention_mask: Tensor, where: Tensor) -> Tensor:
        depth = next(self.plan)
        self.layer_passes += depth * len(ids)
        layers = len(self.lm.backbone.model.layers)
        return ShallowLM(self.lm, kept(depth, layers))(ids, attention_mask, where)


def random_depth(
    task: str, steps: int, least: int, seed: int = 0, rows: int = 32
) -> MaskedDiffusionLM:
    """The shipped model after some steps on demonstrations of a task, half of them with the habit,
    each step at a depth drawn from `least` to all layers.

    Args:
        task: chain arithmetic, such as "chain2".
        steps: optimiser steps, two or more.
        least: the smallest depth; with all layers this is a plain fine-tune.
        seed: of the demonstrations, their masks and the depths.
        rows: demonstrations per step.
    """
    lm = load_lm("tiny")
    layers = len(lm.backbone.model.layers)
    rng = random.Random(seed)
    plan = [rng.randint(least, layers) for _ in range(steps)]
    teach(SkippingLM(lm, plan), task, steps, seed, rows)
    return lm.eval()
