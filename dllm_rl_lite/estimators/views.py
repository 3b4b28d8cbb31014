"""Views: masked copies of finished texts, and the log-probabilities they give.

A likelihood estimator (`masks.py`, `steps.py`) is a recipe that returns views; `token_logprobs`
scores any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..sampler import Rollout


@dataclass(frozen=True)
class View:
    """One masked copy of N prompts and texts, and the tokens it scores."""

    tokens: Tensor  # (N, P + L) int64: prompt and completion with masks put in
    # (N, L) bool: the completion tokens whose log-probability this view gives; all are masked in it
    scored: Tensor
    weight: Tensor  # (N, L) float32: factor of each scored token in the estimate
    target: Tensor | None = (
        None  # (N, L) int64: the tokens to score; None: those of the finished text
    )
    step: Tensor | None = (
        None  # (N,) int64: the denoising step each row shows, where credit differs by step
    )

    def select(self, rows) -> View:
        """The view of some rows: `rows` is bool (N,) or int64 indices."""
        return View(*(None if value is None else value[rows] for value in vars(self).values()))


def stack(views: list[View]) -> View:
    """One view of all the rows of several, in order."""
    columns = zip(*(vars(v).values() for v in views), strict=True)
    return View(*(None if c[0] is None else torch.cat(c) for c in columns))


def masked_view(rollout: Rollout, hidden: Tensor, scored: Tensor, weight: Tensor | float) -> View:
    """The prompt whole and the completion with the `hidden` (N, L) tokens masked; weight broadcasts
    to (N, L)."""
    canvas = torch.where(hidden, rollout.mask_id, rollout.tokens)
    return View(
        torch.cat([rollout.prompt, canvas], 1), scored, torch.where(scored, weight, 0.0).float()
    )


def view_of_step(rollout: Rollout, step: Tensor, weight: Tensor) -> View:
    """What each row saw at its `step` (N,), scoring the tokens it then revealed, with `weight`
    (N,)."""
    scored = rollout.unmask_step == step[:, None]
    tokens = torch.cat([rollout.prompt, rollout.canvas_at(step)], 1)
    return View(tokens, scored, weight[:, None] * scored)


def estimate(lm, rollout: Rollout, views: list[View], temperature: float = 1.0) -> Tensor:
    """(N, L) float32 nats: each token's sum over views of weight times log-probability; `sum(1)` is
    the text's estimate.

    One forward pass a view. For a gradient of many views, back-propagate view by view instead:
    memory then stays flat.
    """
    start = torch.zeros(rollout.tokens.shape, device=rollout.tokens.device)
    return sum(
        (view.weight * token_logprobs(lm, rollout, view, temperature) for view in views),
        start=start,
    )


def token_logprobs(
    lm, rollout: Rollout, view: View, temperature: float = 1.0, chunk: int = 0
) -> Tensor:
    """Log-probability of each scored token under a view: (N, L) float32 nats, zero where not
    scored; differentiable.

    Hidden states are gathered before the head; log-softmax runs over `chunk` tokens at a time (0:
    as many as have 16 MiB of logits), in float32. Logits are divided by `temperature` (1: the
    model's own law). Raises ValueError where a scored token is not masked in the view.
    """
    n, length = rollout.tokens.shape
    if bool((view.scored & (view.tokens[:, -length:] != rollout.mask_id)).any()):
        raise ValueError(
            "a view may only score tokens that it masks: the model would see the answer"
        )
    seen = torch.cat([rollout.prompt_mask, torch.ones_like(view.scored)], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), view.scored], 1)
    logits = lm(view.tokens, seen, where)  # (K, V) float32
    target = (rollout.tokens if view.target is None else view.target)[view.scored]
    if temperature != 1:
        logits = logits / temperature
    values = _TargetLogprob.apply(logits, target, chunk or max(1, 2**22 // logits.shape[-1]))
    return torch.zeros(n, length, device=values.device).masked_scatter(view.scored, values)


class _TargetLogprob(torch.autograd.Function):
    """`logits.log_softmax(-1)` at each row's target, `chunk` rows at a time: (K, V), (K,) -> (K,).

    Nothing of size (K, V) is kept or made but the logits and their gradient, where autograd has two
    more. With 126 464 tokens in the vocabulary such tensors are most of what the end of an update
    needs.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(logits, target)
        ctx.chunk = chunk
        return torch.cat(
            [
                x.log_softmax(-1).gather(-1, t[:, None])[:, 0]
                for x, t in zip(logits.split(chunk), target.split(chunk), strict=True)
            ]
        )

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None, None]:
        logits, target = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for x, g, s in zip(*(t.split(ctx.chunk) for t in (logits, gradient, slope)), strict=True):
            torch.softmax(x, -1, out=g).mul_(
                -s[:, None]
            )  # -p for every token, and 1 more for the target
        return gradient.scatter_add_(-1, target[:, None], slope[:, None]), None, None


def reweighted(views: list[View], factor: Tensor) -> list[View]:
    """The views with each row's weights multiplied by factor (N,)."""
    return [replace(v, weight=v.weight * factor[:, None]) for v in views]
