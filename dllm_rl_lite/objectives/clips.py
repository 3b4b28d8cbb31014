"""Surrogates that bound the ratio of a token in another way than PPO's clip.

Each has PPO's slope, minus the advantage, where the new policy is the old one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .surrogates import clipped_ratio


def clip_higher(log_ratio: Tensor, advantage: Tensor, clip: float, high: float = 0.28) -> Tensor:
    """DAPO's surrogate: `clipped_ratio` with an upper bound of its own.

    Args:
        log_ratio: (N, L) of tokens or (N, 1) of texts, new minus old log-probability in nats.
        advantage: (N, L) or (N, 1).
        clip: epsilon >= 0 of the lower bound, 1 - clip.
        high: epsilon >= 0 of the upper bound, 1 + high.
    Returns:
        the shape of `log_ratio`.
    Source: DAPO (arXiv 2503.14476), 0.2 and 0.28. With high = clip it is `clipped_ratio`.
    """
    if high < 0:
        raise ValueError(f"high must be at least 0, got {high}")
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + high) * advantage)


def capped_weight(
    log_ratio: Tensor, logp: Tensor, advantage: Tensor, cap: float = 5.0, floor: float = 0.0
) -> Tensor:
    """CISPO's surrogate: the log-probability, weighted by the advantage and the bounded ratio as a
    constant, so that no token loses its gradient.

    Args:
        log_ratio: (N, L) of tokens, new minus old log-probability in nats.
        logp: (N, L) log-probabilities under the new policy, in nats.
        advantage: (N, L) or (N, 1).
        cap: the largest weight, an absolute one as in TRL; verl counts it from 1, so its 0.2 is 1.2
            here.
        floor: the smallest weight, 0..1; MiniMax-M1 has none.
    Returns:
        (N, L).
    Source: CISPO (arXiv 2506.13585); TRL's implementation.
    Error: without a cap the gradient is that of importance weighting, exact at any distance from
    the old policy; the cap biases it towards the old policy.
    """
    if not 0 <= floor <= 1 <= cap:
        raise ValueError(f"need 0 <= floor <= 1 <= cap, got floor {floor} and cap {cap}")
    weight = log_ratio.detach().exp().clamp(floor, cap)
    return -weight * advantage * logp


def soft_gate(
    log_ratio: Tensor, advantage: Tensor, tau: float = 1.0, tau_negative: float = 1.05
) -> Tensor:
    """SAPO's surrogate: a sigmoid of the ratio in place of a clip, -(4 / tau) sigmoid(tau (ratio -
    1)) A.

    Args:
        log_ratio: (N, L) of tokens or (N, 1) of texts, in nats; clamped to [-20, 20].
        advantage: (N, L) or (N, 1).
        tau: > 0, how fast the gradient fades with distance from the old policy, where A > 0.
        tau_negative: > 0, the same where A <= 0.
    Returns:
        the shape of `log_ratio`.
    Source: SAPO (arXiv 2511.20347); verl's implementation.
    Error: the slope is ratio * A * 4 s (1 - s), s the sigmoid: that of importance weighting at
    ratio 1 for every tau, less on either side, never zero. As tau goes to 0 it is importance
    weighting everywhere.
    """
    if not (tau > 0 and tau_negative > 0):
        raise ValueError(
            f"tau and tau_negative must be above 0, got tau {tau} and tau_negative {tau_negative}"
        )
    ratio = log_ratio.clamp(-20, 20).exp()
    speed = torch.full_like(advantage, tau_negative).masked_fill(advantage > 0, tau)
    return -4 / speed * (speed * (ratio - 1)).sigmoid() * advantage


def probability_bounds(
    old: Tensor, low: float = 0.16, high: float = 0.20, most: float = 10.0
) -> tuple[Tensor, Tensor]:
    """DCPO's bounds of the ratio: the rarer a token was, the wider.

    They are the ratios r with |r - 1| r q = epsilon, q the old probability, so a bound on how far
    the probability itself moves.

    Args:
        old: (N, L) log-probabilities under the old policy, in nats.
        low: epsilon >= 0 of the lower bound.
        high: epsilon >= 0 of the upper bound.
        most: >= 1, the largest upper bound.
    Returns:
        (N, L) lower bounds in [0.5, 1], reached at 0.5 where q < 4 low; and (N, L) upper bounds.
    """
    if low < 0 or high < 0 or most < 1:
        raise ValueError(f"need low >= 0, high >= 0, most >= 1, got {low}, {high}, {most}")
    q = old.exp()
    least = 0.5 + 0.5 * (1 - 4 * low / q).clamp(min=0).sqrt()
    largest = 0.5 + 0.5 * (1 + 4 * high / q).sqrt()
    return least, largest.clamp(max=most)


def probability_clip(
    log_ratio: Tensor,
    old: Tensor,
    advantage: Tensor,
    low: float = 0.16,
    high: float = 0.20,
    most: float = 10.0,
) -> Tensor:
    """DCPO's surrogate: the clipped ratio with bounds that depend on the old probability.

    Args:
        log_ratio: (N, L) of tokens, new minus old log-probability in nats.
        old, low, high: as in `probability_bounds`; of the visited step, or q is too small and the
            bounds too wide.
        advantage: (N, L) or (N, 1).
        most: the largest upper bound; also the ratio from which on a token with A < 0 has no
            gradient (dual clip).
    Returns:
        (N, L).
    Source: DCPO (arXiv 2509.02333) and its release.
    """
    least, largest = probability_bounds(old, low, high, most)
    ratio = log_ratio.exp()
    losses = -torch.minimum(ratio * advantage, ratio.clamp(least, largest) * advantage)
    return torch.where(advantage < 0, torch.minimum(losses, -most * advantage), losses)


def shaped_where_given(
    log_ratio: Tensor,
    logp: Tensor,
    advantage: Tensor,
    clip: float,
    rollout: Rollout,
    gamma: float = 0.1,
) -> Tensor:
    """RGR-GRPO's surrogate: `clipped_ratio`, but in a text that was finished from given tokens
    minus the advantage times p / (p + gamma).

    Args:
        log_ratio: (N, L) of tokens, new minus old log-probability in nats.
        logp: (N, L) log-probabilities under the new policy, in nats: p = exp(logp).
        advantage: (N, L) or (N, 1).
        clip: epsilon >= 0 of the ratio.
        rollout: of these rows; it knows which tokens were given.
        gamma: > 0, the probability at which the slope in logp is largest: a quarter of the
            advantage. A token that is nearly certain has hardly any.
    Returns:
        (N, L).
    Source: reconstructed after RGR-GRPO (arXiv 2511.12344), whose shaping was not found; this one
    is LUFFY's (arXiv 2504.14945).
    Error: biased in texts that have given tokens; with none it is `clipped_ratio`.
    """
    if not gamma > 0:
        raise ValueError(f"loss.gamma must be above 0, got {gamma}")
    p = logp.exp()
    shaped = -advantage * p / (p + gamma)
    has_given = ~rollout.sampled.all(1, keepdim=True)
    return torch.where(has_given, shaped, clipped_ratio(log_ratio, advantage, clip))
