"""Advantages and rewards that look at more than a sibling's distance from the group's mean: what
could have been earned, how sure the answers are, how rare a text is, and whom it beats."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from ..rewards import extract_answer
from ..sampler import Rollout
from .group import check_rewards, group_mean, siblings, z_score

FADES = ("exponential", "linear")


def virtual_best(rewards: Tensor, best: float = 1.0, eps: float = 1e-6) -> Tensor:
    """NGRPO's advantages: the z-score among the siblings and one virtual text that earned the best
    reward, so that a group that is all wrong has a gradient.

    Args:
        rewards: (B, G) float32, at most `best`.
        best: the largest reward that a text can earn.
        eps: > 0, in units of reward, beside the standard deviation (of G + 1 rewards, ddof=1).
    Returns:
        (B, G) float32. All at 0 and best = 1: -1 / sqrt(G + 1) each; all at the best: exactly 0, so
        the release, which drops such groups, learns nothing else.
    Source: NGRPO (arXiv 2509.18851) and its release.
    Error: biased. Of 0/1 rewards, prompts that are hardly ever solved weigh less than under
    `z_score`, those that nearly always are weigh more: `tests/advantages/test_shaping.py`.
    """
    check_rewards(rewards)
    largest = rewards.max().item()
    if largest > best:
        raise ValueError(
            f"reward {largest:g} is above credit.best {best:g}: set best to the largest reward "
            "that a text can earn"
        )
    virtual = rewards.new_full((len(rewards), 1), best)
    return z_score(torch.cat([rewards, virtual], 1), eps)[:, :-1]


def answer_entropy(completions: list[str], group: int) -> Tensor:
    """(B,) float64: the entropy, in nats, of the distinct answers of each group.

    Two texts agree if the same stands in their last answer tags; those without any agree too.
    """
    entropies = []
    for start in range(0, len(completions), group):
        answers = [extract_answer(text) for text in completions[start : start + group]]
        shares = [count / group for count in Counter(answers).values()]
        entropies.append(-sum(share * math.log(share) for share in shares))
    return torch.tensor(entropies, dtype=torch.float64)


def entropy_scaled(
    rewards: Tensor, completions: list[str], alpha: float = 1.0, fade: str = "exponential"
) -> Tensor:
    """SEED-GRPO's advantages: `group_mean`, less of it the more the siblings' answers differ.

    Args:
        rewards: (B, G) float32.
        completions: the B * G texts, group by group.
        alpha: >= 0, strength.
        fade: with x the entropy of the answers over its largest value ln G, "exponential": the
            factor exp(-alpha x), or "linear": 1 - alpha x, at least 0.
    Returns:
        (B, G) float32; `group_mean` where all answers agree, and everywhere with alpha 0.
    Source: SEED-GRPO (arXiv 2505.12346), from summaries: which factor and alpha the authors ran was
    not found.
    Error: biased; the factor depends on the siblings' own texts.
    """
    group = siblings(rewards, len(completions))
    if alpha < 0 or fade not in FADES:
        raise ValueError(f"need alpha >= 0 and fade one of {FADES}, got {alpha} and {fade!r}")
    uncertain = answer_entropy(completions, group) / math.log(group)
    if fade == "linear":
        factor = (1 - alpha * uncertain).clamp(min=0)
    else:
        factor = (-alpha * uncertain).exp()
    return group_mean(rewards) * factor[:, None].to(rewards)


def sharpened(rewards: Tensor, rollout: Rollout, lam: float = 2.5, kappa: float = 0.5) -> Tensor:
    """XRPO's advantages: the z-score, and more for a good text that the policy thought unlikely.

    With s a text's mean log-probability per token, when it was written, and eta = exp(s - the
    group's mean of s), a positive A gains min(max(lam (1 - eta), 0), kappa A).

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows; its `logprob` up to the end of the text is used.
        lam: >= 0, strength.
        kappa: >= 0, the largest gain, as a share of A.
    Returns:
        (B, G) float32; negative advantages are those of `z_score`.
    Source: XRPO (arXiv 2510.06672), formula and numbers from reviews that quote it.
    Error: biased on top of the z-score; a group's advantages no longer sum to zero.
    """
    if lam < 0 or kappa < 0:
        raise ValueError(f"lam and kappa must be at least 0, got lam {lam} and kappa {kappa}")
    advantage = z_score(rewards)
    written = rollout.sampled & rollout.until_eos
    total = (rollout.logprob * written).sum(1)
    likely = (total / written.sum(1).clamp(min=1)).to(rewards).view(rewards.shape)
    eta = (likely - likely.mean(1, keepdim=True)).exp()
    gain = (lam * (1 - eta)).clamp(min=0)
    return advantage + torch.minimum(gain, kappa * advantage.clamp(min=0))


def win_rate(rewards: Tensor) -> Tensor:
    """Pref-GRPO's rewards: the share of the siblings that a text beats, a tie counting half.

    Args:
        rewards: (B, G) float32.
    Returns:
        (B, G) float32 in [0, 1], to be turned into advantages; their mean is 1/2 in every group.
    Source: Pref-GRPO (arXiv 2508.20751), which lets a preference model compare; here the verifier's
    rewards do.
    Error: only the order of the siblings counts. Of 0/1 rewards it is an affine map in each group,
    so their z-score stays what it was, up to eps.
    """
    group = siblings(rewards)
    ahead = (rewards[:, :, None] - rewards[:, None, :]).sign()  # 1 ahead, 0 tied, -1 behind
    wins = (ahead.sum(2) + group - 1) / 2
    return wins / (group - 1)
