"""Advantages by denoising step."""

from __future__ import annotations

import torch
from torch import Tensor

from .group import siblings, z_score


def step_credit(rewards: Tensor, outlook: bool = True, eps: float = 1e-4) -> Tensor:
    """MDPO's advantage of each denoising step: what the prediction gained, plus how well it goes
    on, z-scored over siblings.

    a_t = r_t - r_{t-1} + mean of r_{t'} over t' > t, with r_{-1} = 0 and the last step's outlook
    its own reward; then minus the mean and divided by the standard deviation (with ddof=1) plus
    eps, over the siblings at step t.

    Args:
        rewards: (B, G, T) float32, of the complete prediction at every step.
        outlook: False drops the mean of the later rewards.
        eps: > 0, in units of reward.
    Returns:
        (B, G, T) float32; exactly zero where all siblings have the same a_t.
    Source: MDPO's released trainer, which adds 1 to a_t; the mean over siblings takes it out again.
    Error: a step is praised for rewards that its own siblings earn later, whichever of its tokens
    survive: it is not an unbiased advantage for r_T.
    """
    if rewards.ndim != 3 or 0 in rewards.shape:
        raise ValueError(
            "rewards must be (groups, siblings, steps) and not empty, "
            f"got shape {tuple(rewards.shape)}"
        )
    b, g, t = rewards.shape
    siblings(rewards.permute(0, 2, 1).reshape(b * t, g))
    r = rewards.double()
    credit = torch.cat([r[..., :1], r.diff(dim=-1)], -1)
    if outlook:
        later = r.flip(-1).cumsum(-1).flip(-1) - r  # sum of the later rewards
        left = torch.arange(t - 1, -1, -1, device=r.device)
        credit = credit + torch.where(left > 0, later / left.clamp(min=1), r)
    by_step = credit.permute(0, 2, 1).reshape(b * t, g).to(rewards.dtype)
    return z_score(by_step, eps).view(b, t, g).permute(0, 2, 1).contiguous()
