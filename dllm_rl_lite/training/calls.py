"""What rollout calls start from, what they give, and what several give together, with prompts,
steps and rewards of different lengths in one rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, Passes, add_passes
from ..sampler import Decoding, Rollout, join_rollouts
from ..tasks import Example, Task


@dataclass(frozen=True)
class Source:
    """What a run's rollouts come from, whatever the problems are."""

    lm: MaskedDiffusionLM
    task: Task
    reward: Callable[..., list[float]]
    method: Method
    numbers: Numbers
    cache: str = ""

    @property
    def decoding(self) -> Decoding:
        """How its rollouts are written."""
        return self.numbers.decoding(self.task.length, self.cache)


@dataclass(frozen=True)
class RolloutCall:
    """What one rollout call gave, or several together."""

    examples: list[Example]  # one per row
    rollout: Rollout
    rewards: Tensor  # (n,) or (n, T)
    weight: Tensor  # (n,) importance weights; ones if off
    passes: Passes  # weights included
    seconds_rollout: float  # weights included
    seconds_reward: float

    def by_group(self, group: int) -> Tensor:
        """(B, G) or (B, G, T) rewards of groups of `group` rows."""
        return self.rewards.view(-1, group, *self.rewards.shape[1:])

    def select(self, rows: Tensor) -> RolloutCall:
        """The call of some rows, given by their indices."""
        return replace(
            self,
            examples=[self.examples[row] for row in rows.tolist()],
            rollout=self.rollout.select(rows),
            rewards=self.rewards[rows],
            weight=self.weight[rows],
        )


def rows_of(groups: Tensor, group: int) -> Tensor:
    """The indices of all rows of some groups, given by their indices."""
    return (groups[:, None] * group + torch.arange(group)).flatten()


def join_calls(calls: list[RolloutCall]) -> RolloutCall:
    """Several calls as one, of all their rows."""
    return RolloutCall(
        examples=[example for call in calls for example in call.examples],
        rollout=join_rollouts([call.rollout for call in calls]),
        rewards=join_rewards([call.rewards for call in calls]),
        weight=torch.cat([call.weight for call in calls]),
        passes=add_passes([call.passes for call in calls]),
        seconds_rollout=sum(call.seconds_rollout for call in calls),
        seconds_reward=sum(call.seconds_reward for call in calls),
    )


def join_rewards(parts: list[Tensor]) -> Tensor:
    """(N,) rewards of finished completions, or (N, T) by step, T the longest: a finished completion
    keeps its last reward."""
    if parts[0].ndim == 2:
        steps = max(part.shape[1] for part in parts)
        for i, part in enumerate(parts):
            last = part[:, -1:].expand(-1, steps - part.shape[1])
            parts[i] = torch.cat([part, last], 1)
    return torch.cat(parts).cpu()


def final_rewards(rewards: Tensor) -> Tensor:
    """(B, G) rewards of the finished completions, from (B, G) or (B, G, T)."""
    return rewards[..., -1] if rewards.ndim == 3 else rewards
