"""Advantages that compare a completion with earlier completions of its problem, and what is
remembered of them.

A memory is plain json, one entry per prompt. `examples` has one entry per row; rewards are 0 to 1
where chances of success are remembered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..tasks import Example, chance_remembered, task_shares
from .group import check_rewards, z_score


def track(
    memory: dict,
    examples: Sequence[Example],
    rewards: Tensor,
    decay: float = 0.9,
    mass: float = 8.0,
) -> dict:
    """SPO's memory: for each prompt how often it was solved and not, older completions counting
    less.

    right <- decay right + r, wrong <- decay wrong + 1 - r, r the mean reward of the group.

    Args:
        memory: before.
        examples: B * G, group by group.
        rewards: (B, G) in 0..1.
        decay: 0..1, of what is older by one visit; 1: all visits count the same. Their number then
            counts at most 1 / (1 - decay).
        mass: > 0, visits that an unknown prompt is taken to have had, half of them solved.
    Returns:
        the new memory: prompt -> {"right", "wrong"}.
    Source: SPO (arXiv 2509.13232) and its release, which starts from 8 rollouts of each prompt and
    lets the decay depend on how far the policy has moved.
    """
    group = check_chances(rewards)
    if not 0 <= decay <= 1 or not mass > 0:
        raise ValueError(f"need decay in 0..1 and mass > 0, got {decay} and {mass}")
    memory = dict(memory)
    for example, mean in zip(examples[::group], rewards.double().mean(1).tolist(), strict=True):
        known = memory.get(example.prompt, {"right": mass / 2, "wrong": mass / 2})
        memory[example.prompt] = {
            "right": decay * known["right"] + mean,
            "wrong": decay * known["wrong"] + 1 - mean,
        }
    return memory


def above_the_past(
    rewards: Tensor, examples: Sequence[Example], memory: dict, whiten: bool = True
) -> Tensor:
    """SPO's advantages: reward minus the chance of success that is remembered of the prompt.

    Args:
        rewards: (B, G) in 0..1; a group may be a single completion.
        examples: B * G, group by group.
        memory: of `track`, before these rewards; an unknown prompt has the chance 1/2.
        whiten: then also minus the batch's mean, divided by its standard deviation plus 1e-4.
    Returns:
        (B, G) float32.
    Source: SPO (arXiv 2509.13232) and its release.
    Error: none without `whiten`: the baseline does not depend on the rewards that it is subtracted
    from, `tests/advantages/test_history.py`. With it the scale and the mean depend on them.
    """
    check_chances(rewards)
    past = [chance_remembered(memory, example) for example in examples]
    # In float64, so that equal advantages have exactly no distance from their mean.
    advantage = rewards.double() - torch.tensor(past, dtype=torch.float64).view_as(rewards)
    if whiten:
        centred = advantage - advantage.mean()
        advantage = centred / (centred.std(unbiased=False) + 1e-4)
    return advantage.to(rewards.dtype)


def check_chances(rewards: Tensor) -> int:
    """G of (B, G) rewards; ValueError unless they are in 0..1."""
    check_rewards(rewards)
    if rewards.min() < 0 or rewards.max() > 1:
        raise ValueError(
            f"a chance of success needs rewards in 0..1, got {rewards.min():g} to {rewards.max():g}"
        )
    return rewards.shape[1]


def weigh_tasks(
    memory: dict,
    examples: Sequence[Example],
    rewards: Tensor,
    rate: float = 0.025,
    level: float = 0.2,
) -> dict:
    """MT-GRPO's memory: for each task of a mixture a logit of its share of the problems.

    With z the shares, J a task's mean reward and I its change since the step before, the signal is
    s = I + level J, and a logit falls by rate z (s - sum z s): tasks of low reward that do not
    improve get more problems.

    Args:
        memory: before.
        examples: B * G of a mixture, group by group.
        rewards: (B, G).
        rate: >= 0, of the step.
        level: >= 0, weight of the reward beside its change.
    Returns:
        the new memory: task -> {"logit", "reward"}; a task without a group keeps its reward.
    Source: MT-GRPO (arXiv 2602.05547), whose I is the change of the objective, and whose step is
    AdamW's.
    """
    if rate < 0 or level < 0:
        raise ValueError(f"need remember.rate and level of at least 0, got {rate} and {level}")
    group = rewards.shape[1]
    rows = {name: [] for name in examples[0].columns["mixture"].split("+")}
    for example, mean in zip(examples[::group], rewards.double().mean(1).tolist(), strict=True):
        rows[example.columns["task"]].append(mean)
    shares = task_shares(memory, rows)
    now = {}
    signal = {}
    for name, means in rows.items():
        before = memory.get(name, {"reward": None})["reward"]
        now[name] = sum(means) / len(means) if means else before
        change = 0.0 if before is None or not means else now[name] - before
        signal[name] = change + level * (now[name] or 0.0)
    mean = sum(shares[name] * signal[name] for name in rows)
    after = {}
    for name in rows:
        logit = memory.get(name, {"logit": 0.0})["logit"]
        step = rate * shares[name] * (signal[name] - mean)
        after[name] = {"logit": logit - step, "reward": now[name]}
    return after


def pool_statistics(memory: dict, examples: Sequence[Example], rewards: Tensor) -> dict:
    """DCPO's memory: for each prompt its visits, and the number, mean and squared deviations of all
    rewards so far.

    Args:
        memory: before.
        examples: B * G, group by group.
        rewards: (B, G).
    Returns:
        the new memory: prompt -> {"visits", "n", "mean", "squares"}.
    """
    check_rewards(rewards)
    memory = dict(memory)
    for example, row in zip(examples[:: rewards.shape[1]], rewards.tolist(), strict=True):
        memory[example.prompt] = with_rewards(memory.get(example.prompt, UNSEEN), row)
    return memory


UNSEEN = {"visits": 0, "n": 0, "mean": 0.0, "squares": 0.0}


def with_rewards(known: dict, rewards: list[float]) -> dict:
    """The statistics of a prompt after one more group (Chan's rule for two sets of numbers)."""
    here = sum(rewards) / len(rewards)
    squares = sum((reward - here) ** 2 for reward in rewards)
    n = known["n"] + len(rewards)
    gap = here - known["mean"]
    return {
        "visits": known["visits"] + 1,
        "n": n,
        "mean": known["mean"] + gap * len(rewards) / n,
        "squares": known["squares"] + squares + gap**2 * known["n"] * len(rewards) / n,
    }


def smooth_score(
    rewards: Tensor, examples: Sequence[Example], memory: dict, eps: float = 1e-4
) -> Tensor:
    """DCPO's smooth standardisation: a z-score among the siblings mixed with one among all
    completions of the prompt so far.

    At visit i, with N the z-score of the group and T that of the reward among all rewards of the
    prompt, this group included, it is the smaller in size of (i - 1)/i N + T/i and N/i + (i - 1)/i
    T.

    Args:
        rewards: (B, G) float32.
        examples: B * G, group by group.
        memory: of `pool_statistics`, before these rewards.
        eps: > 0, in units of reward, beside the standard deviations (ddof=1).
    Returns:
        (B, G) float32: `z_score` at the first visit; 0 where all rewards so far are equal. A group
        whose rewards are equal has a gradient if earlier ones had another mean.
    Source: DCPO (arXiv 2509.02333) and its release.
    Here the pool is exact; the release merges the variances of visits instead.
    Error: biased, as every z-score; and the pooled mean and deviation depend on older policies.
    """
    now = z_score(rewards, eps)
    advantage = torch.empty_like(now)
    group = rewards.shape[1]
    for b, row in enumerate(rewards):
        known = memory.get(examples[b * group].prompt, UNSEEN)
        pool = with_rewards(known, row.tolist())
        deviation = math.sqrt(pool["squares"] / (pool["n"] - 1))
        total = (row - pool["mean"]) / (deviation + eps)
        older = (pool["visits"] - 1) / pool["visits"]
        first = older * now[b] + (1 - older) * total
        second = (1 - older) * now[b] + older * total
        advantage[b] = torch.where(first.abs() < second.abs(), first, second)
    return advantage
