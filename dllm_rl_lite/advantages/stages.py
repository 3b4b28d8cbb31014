"""Advantages of what comes before and beside reinforcement: of given completions, of pairs, and of
the tokens on which a pair's right and wrong completions differ."""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .group import check_rewards, siblings, z_score


def ones(rewards: Tensor) -> Tensor:
    """(B, G): the same advantage for every completion, whatever its reward: fine-tuning on given
    completions."""
    check_rewards(rewards)
    return torch.ones_like(rewards)


def extremes(rewards: Tensor) -> Tensor:
    """A pair of each group: 1 for its best completion and -1 for its worst, the first of several.

    Args:
        rewards: (B, G) float32.
    Returns:
        (B, G) float32; 0 for all other completions, and for groups whose rewards are all equal.
    Source: DPO (arXiv 2305.18290), whose pairs are of human preference; here the verifier's rewards
    decide.
    """
    siblings(rewards)
    best = rewards.argmax(1, keepdim=True)
    worst = rewards.argmin(1, keepdim=True)
    pair = torch.zeros_like(rewards).scatter(1, best, 1.0).scatter(1, worst, -1.0)
    return pair * (best != worst)


def imitation_weights(
    rewards: Tensor, rollout: Rollout, beta: float = 0.5, lam: float = 0.6, eps: float = 1e-4
) -> Tensor:
    """GRAO's objective as one weight per text: exploration of the rollouts, imitation of a given
    completion y, and an alignment regulariser between them.

    With l the mean log-probability of a completion's tokens, A the z-score among all completions of
    the group and R rollouts, the objective is mean A_i l_i + beta A_y l_y + lam mean A_i (l_i -
    l_y), means over the rollouts.

    Args:
        rewards: (B, G) float32, one given completion in each group.
        rollout: of these B * G rows; says which are given.
        beta: >= 0, of the imitation.
        lam: >= 0, of the regulariser.
        eps: as in `z_score`.
    Returns:
        (B, G) float32: (1 + lam) A_i for rollouts and (R beta + lam) A_y for the given completion;
        the sum of weight times l is R times the objective.
    Source: GRAO (arXiv 2508.07750), equations 2 to 4.
    Error: the regulariser only rescales the other two terms, as the advantages of a group sum to
    zero: `tests/advantages/test_stages.py`.
    """
    if beta < 0 or lam < 0:
        raise ValueError(f"beta and lam must be at least 0, got beta {beta} and lam {lam}")
    advantage = z_score(rewards, eps)
    given = rollout.given.to(rewards.device).view(rewards.shape)
    if not (given.sum(1) == 1).all():
        raise ValueError(
            f"one text of each group must be given, got {given.sum(1).unique().tolist()}: leave "
            "given.rows at 1"
        )
    rollouts = rewards.shape[1] - 1
    imitated = (rollouts * beta + lam) * advantage
    return torch.where(given, imitated, (1 + lam) * advantage)


def critical_share(rollout: Rollout, rewards: Tensor, smooth: float) -> Tensor:
    """How much a token speaks for a right text: the softmax, over the tokens that the siblings have
    at its position, of 2 log p(token | right) - log p(token | wrong).

    Args:
        rollout: N = B G rows.
        rewards: (B, G) float32; a completion is right if it has more than its group's mean.
        smooth: > 0, added to the number of right, and of wrong, siblings that have a token.
    Returns:
        (N, L) float32 in (0, 1]; 1 where all siblings have the same token.
    """
    groups, group = rewards.shape
    tokens = rollout.tokens.view(groups, group, -1)
    right = (rewards > rewards.mean(1, keepdim=True)).to(tokens.device)
    same = tokens[:, :, None] == tokens[:, None]  # (B, G, G, L)
    of_right = (same & right[:, None, :, None]).sum(2)
    of_wrong = same.sum(2) - of_right
    odds = (of_right + smooth) ** 2 / (of_wrong + smooth)
    # Each different token counts once.
    total = (odds / same.sum(2)).sum(1, keepdim=True)
    return (odds / total).flatten(0, 1)


def critical_weights(
    advantage: Tensor, rewards: Tensor, rollout: Rollout, smooth: float = 0.5
) -> Tensor:
    """cDPO-style weights of a pair's tokens: of the right completion a token weighs s, of the wrong
    one 1 - s, with s the `critical_share` of the token.

    Args:
        advantage: (B, G), `extremes`.
        rewards: (B, G) float32.
        rollout: N = B G rows.
        smooth: > 0, as in `critical_share`.
    Returns:
        (N, L) float32; the advantage where the right completion's tokens have s = 1 and the wrong
        one's s = 0.
    Source: reconstructed after cDPO (arXiv 2411.19943), which asks two models, tuned on right and
    on wrong completions; here the siblings' own counts stand in for them. Its release also never
    sums over tokens before the sigmoid; here DPO's sum stays.
    """
    if not smooth > 0:
        raise ValueError(f"smooth must be above 0, got {smooth}")
    share = critical_share(rollout, rewards, smooth)
    credit = advantage.flatten()[:, None].to(share)
    return credit * torch.where(credit > 0, share, 1 - share)
