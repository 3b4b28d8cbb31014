"""Views: masked copies of finished completions, and the log-probabilities they give.

A likelihood estimator (`masks.py`, `steps.py`) is a recipe that returns views; `token_logprobs`
scores any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..models import MaskedDiffusionLM
from ..sampler import Rollout


@dataclass(frozen=True)
class View:
    """One masked copy of N prompts and completions, and the tokens it scores."""

    tokens: Tensor  # (N, P + L) int64: prompt and completion with masks put in
    # (N, L) bool: the completion tokens whose log-probability this view gives; all are masked in it
    scored: Tensor
    weight: Tensor  # (N, L) float32: factor of each scored token in the estimate
    # (N, L) int64: the tokens to score; None: those of the finished completion
    target: Tensor | None = None
    # (N,) int64: the denoising step that each row shows, if credit differs by step
    step: Tensor | None = None
    # (N, 1) float32: factor of the credit in this view, which leaves the penalty as it is; None: 1
    emphasis: Tensor | None = None

    def select(self, rows: Tensor) -> View:
        """The view of some rows: `rows` is bool (N,) or int64 indices."""
        picked = {name: value[rows] for name, value in vars(self).items() if value is not None}
        return View(**picked)


def stack(views: list[View]) -> View:
    """One view of all the rows of several, in order."""
    stacked = {}
    for name, value in vars(views[0]).items():
        if value is not None:
            stacked[name] = torch.cat([getattr(view, name) for view in views])
    return View(**stacked)


def masked_view(rollout: Rollout, hidden: Tensor, scored: Tensor, weight: Tensor | float) -> View:
    """The prompt whole, and the completion with some tokens masked.

    Args:
        rollout: N rows of L tokens.
        hidden: (N, L) bool, the tokens to mask.
        scored: (N, L) bool, the tokens to score.
        weight: of the scored tokens, broadcasts to (N, L).
    """
    canvas = torch.where(hidden, rollout.mask_id, rollout.tokens)
    tokens = torch.cat([rollout.prompt, canvas], 1)
    return View(tokens, scored, torch.where(scored, weight, 0.0).float())


def view_of_step(rollout: Rollout, step: Tensor, weight: Tensor) -> View:
    """What each row saw at its `step` (N,), scoring the tokens it then drew and revealed, with
    `weight` (N,)."""
    scored = (rollout.unmask_step == step[:, None]) & rollout.rolled
    tokens = torch.cat([rollout.prompt, rollout.canvas_at(step)], 1)
    return View(tokens, scored, weight[:, None] * scored)


def masked_prompt(rollout: Rollout, generator: torch.Generator, p_mask_prompt: float) -> Tensor:
    """The prompts (N, P) with some tokens masked, as in `one_step`, which chapters show whole.

    Args:
        rollout: N rows.
        generator: draws the masks.
        p_mask_prompt: chance in [0, 1] that a prompt token (template included, padding not) is
            masked; 0: none.
    Raises:
        ValueError: if p_mask_prompt is not in [0, 1].
    """
    if not 0 <= p_mask_prompt <= 1:
        raise ValueError(f"p_mask_prompt must be in [0, 1], got {p_mask_prompt}")
    noise = torch.rand(rollout.prompt.shape, generator=generator, device=generator.device)
    hidden = (noise.to(rollout.prompt.device) < p_mask_prompt) & rollout.prompt_mask
    return torch.where(hidden, rollout.mask_id, rollout.prompt)


def estimate(
    lm: MaskedDiffusionLM, rollout: Rollout, views: list[View], temperature: float = 1.0
) -> Tensor:
    """Each token's sum over views of weight times log-probability, one forward pass per view.

    For a gradient of many views, back-propagate view by view instead: memory then stays flat.

    Args:
        rollout, temperature: as in `token_logprobs`.
        views: of these rows.
    Returns:
        (N, L) float32 nats, differentiable; `sum(1)` is the completion's estimate.
    """
    total = torch.zeros(rollout.tokens.shape, device=rollout.tokens.device)
    for view in views:
        total = total + view.weight * token_logprobs(lm, rollout, view, temperature)
    return total


def token_logprobs(
    lm: MaskedDiffusionLM,
    rollout: Rollout,
    view: View,
    temperature: float = 1.0,
    head_chunk: int = 0,
) -> Tensor:
    """Log-probability of each scored token under a view.

    Hidden states are gathered before the head; log-softmax runs in float32.

    Args:
        rollout: N rows of L tokens.
        view: of these rows.
        temperature: > 0, divides the logits; 1: the model's own distribution.
        head_chunk: tokens whose logits exist at a time, forward and backward, where the head is
            computed twice for it; 0: all. After StreamBP (arXiv 2506.03077), of which this is the
            part that does not need a causal model.
    Returns:
        (N, L) float32 nats, zero where not scored; differentiable.
    Raises:
        ValueError: if a scored token is not masked in the view.
    """
    n, length = rollout.tokens.shape
    if bool((view.scored & (view.tokens[:, -length:] != rollout.mask_id)).any()):
        raise ValueError(
            "a view may only score tokens that it masks: the model would see the answer"
        )
    if not view.scored.any():  # such as a step without dice: no pass is needed
        return torch.zeros(n, length, device=rollout.tokens.device)
    attention_mask = torch.cat([rollout.prompt_mask, torch.ones_like(view.scored)], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), view.scored], 1)
    target = rollout.tokens if view.target is None else view.target
    target = target[view.scored]
    if head_chunk:
        states = lm(view.tokens, attention_mask, where, states=True)
        values = _chunked_head(lm, states, target, temperature, head_chunk)
    else:
        logits = lm(view.tokens, attention_mask, where)  # (K, V) float32
        values = _target_logprob(logits, target, temperature)
    return torch.zeros(n, length, device=values.device).masked_scatter(view.scored, values)


def _target_logprob(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """(K,) log-probabilities of the targets (K,) under logits (K, V), 16 MiB of them at a time."""
    if temperature != 1:
        logits = logits / temperature
    return _TargetLogprob.apply(logits, target, max(1, 2**22 // logits.shape[-1]))


def _chunked_head(
    lm: MaskedDiffusionLM, states: Tensor, target: Tensor, temperature: float, chunk: int
) -> Tensor:
    """(K,) log-probabilities of the targets (K,) from states (K, H), the logits of `chunk` tokens
    at a time; the backward pass computes them again."""

    def score(some: Tensor, aim: Tensor) -> Tensor:
        return _target_logprob(lm.head(some), aim, temperature)

    parts = []
    for some, aim in zip(states.split(chunk), target.split(chunk), strict=True):
        parts.append(checkpoint(score, some, aim, use_reentrant=False))
    return torch.cat(parts)


class _TargetLogprob(torch.autograd.Function):
    """`logits.log_softmax(-1)` at each row's target, `chunk` rows at a time: (K, V), (K,) -> (K,).

    Nothing of size (K, V) is kept or made but the logits and their gradient; autograd has two more.
    With 126 464 tokens in the vocabulary such tensors are most of what the end of an update needs.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(logits, target)
        ctx.chunk = chunk
        parts = []
        for x, t in zip(logits.split(chunk), target.split(chunk), strict=True):
            parts.append(x.log_softmax(-1).gather(-1, t[:, None])[:, 0])
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None, None]:
        logits, target = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        # -p for every token, and 1 more for the target
        for start in range(0, len(logits), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            torch.softmax(logits[part], -1, out=gradient[part]).mul_(-slope[part, None])
        return gradient.scatter_add_(-1, target[:, None], slope[:, None]), None, None


def reweighted(views: list[View], factor: Tensor) -> list[View]:
    """The views with each row's weights multiplied by factor (N,)."""
    return [replace(v, weight=v.weight * factor[:, None]) for v in views]
