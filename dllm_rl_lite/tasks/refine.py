"""Refinement: what of the best sibling fails the task's rubric is masked, to be denoised again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models import decode
from ..sampler import Rollout
from .task import Example, Task


def refine_best(
    task: Task, tokenizer, examples: Sequence[Example], rollout: Rollout, rewards: Tensor
) -> tuple[Tensor, Tensor]:
    """Which rows give their place to a refinement of their best sibling, and what it starts from.

    Args:
        task: with a rubric.
        tokenizer: the model's.
        examples: one per row.
        rollout: N = B G rows.
        rewards: (B, G) float32.
    Returns:
        (R,) int64, the worst row of each group whose best one fails an item (of equal ones the
        first is the best, and the last the worst); (R, L) int64, the best row's tokens, those of
        failed items masked.
    Raises:
        ValueError: for a task without a rubric.
    Source: reconstructed after RGR-GRPO (arXiv 2511.12344), where the model writes the refinement
    from the question, the completion and the failed items; a canvas can be masked where it fails.
    Error: biased; a refined row is drawn under tokens that its loss takes as given.
    """
    if task.rubric is None:
        raise ValueError(
            f"{task.name} has no rubric to refine by: choose a task that has one, such as sudoku4"
        )
    group = rewards.shape[1]
    places = []
    canvases = []
    for i, earned in enumerate(rewards):
        best = i * group + int(earned.argmax())
        worst = i * group + group - 1 - int(earned.flip(0).argmin())
        tokens = rollout.tokens[best]
        (completion,) = decode(tokenizer, tokens[None])
        failed = set()
        for item in task.rubric(examples[best], completion):
            if not item.is_met:
                failed.update(item.characters)
        if failed:
            again = tokens_of(tokenizer, tokens, failed)
            places.append(worst)
            canvases.append(torch.where(again, rollout.mask_id, tokens))
    if not places:
        return torch.zeros(0, dtype=torch.long), rollout.tokens[:0]
    return torch.tensor(places), torch.stack(canvases)


def tokens_of(tokenizer, tokens: Tensor, characters: set[int]) -> Tensor:
    """(L,) bool: which of the tokens (L,) write one of these characters of their completion."""
    ids = tokens.tolist()
    beginnings = [ids[: i + 1] for i in range(len(ids))]
    writes = []
    start = 0
    for text in tokenizer.batch_decode(beginnings, skip_special_tokens=True):
        end = len(text)
        writes.append(not characters.isdisjoint(range(start, end)))
        start = end
    return torch.tensor(writes, device=tokens.device)
