"""Likelihood estimators as recipes for masked views: which masked copies of a finished text score its tokens?

A recipe returns `View`s; `token_logprobs` turns any view into log-probabilities. The same views serve the new, the old
and the reference policy, so the noise of the masks cancels in every ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .sampler import Rollout


@dataclass(frozen=True)
class View:
    """One masked copy of N prompts and texts, and the tokens it scores."""

    tokens: Tensor  # (N, P + L) int64: prompt and completion with masks put in
    scored: Tensor  # (N, L) bool: the completion tokens whose log-probability this view gives; all are masked in it
    weight: Tensor  # (N, L) float32: factor of each scored token in the estimate

    def select(self, rows) -> View:
        return View(self.tokens[rows], self.scored[rows], self.weight[rows])


def one_step(rollout: Rollout, generator: torch.Generator, p_mask_prompt: float = 0.15) -> list[View]:
    """diffu-GRPO's likelihood: the whole completion masked at once, one forward pass.

    Args:
        rollout: N rows; generator: draws the prompt masks, a new draw at every call.
        p_mask_prompt: chance in [0, 1] that a prompt token (template included, padding not) is masked; 0: none.
    Returns:
        one view; it scores every sampled token up to and including the first end-of-sequence token, weight 1.
    Raises:
        ValueError: if p_mask_prompt is not in [0, 1].
    Source: d1 (arXiv 2504.12216). The released code also masks padding and lets it be attended to; here it is neither.
    Error: biased for every decoder that takes more than one step (each token is scored as if it saw no other), exact
    for one that reveals all tokens in one step with p_mask_prompt = 0: `tests/test_estimators.py`.
    """
    if not 0 <= p_mask_prompt <= 1:
        raise ValueError(f"p_mask_prompt must be in [0, 1], got {p_mask_prompt}")
    noise = torch.rand(rollout.prompt.shape, generator=generator, device=generator.device).to(rollout.prompt.device)
    hidden = (noise < p_mask_prompt) & rollout.prompt_mask
    prompt = torch.where(hidden, rollout.mask_id, rollout.prompt)
    canvas = torch.full_like(rollout.tokens, rollout.mask_id)
    scored = rollout.until_eos & (rollout.unmask_step >= 0)
    return [View(torch.cat([prompt, canvas], 1), scored, scored.float())]


def last_scored_step(rollout: Rollout) -> Tensor:
    """(N,) int64: T_i, one more than the last step that revealed a token other than end-of-sequence; at least 1."""
    steps = torch.where(rollout.tokens == rollout.eos_id, -1, rollout.unmask_step)
    return steps.max(1).values.clamp(min=0) + 1


def view_of_step(rollout: Rollout, step: Tensor, weight: Tensor) -> View:
    """What each row saw at its `step` (N,), scoring the tokens it then revealed, with `weight` (N,)."""
    scored = rollout.unmask_step == step[:, None]
    tokens = torch.cat([rollout.prompt, rollout.canvas_at(step)], 1)
    return View(tokens, scored, weight[:, None] * scored)


def visited_steps(rollout: Rollout, generator: torch.Generator, k: int = 4, stratified: bool = True) -> list[View]:
    """AGRPO's likelihood: k of the denoising steps that were really taken, each scored on the canvas it was taken from.

    Step t of row i is drawn uniformly from 0..T_i - 1, where T_i ends at the last token that is not end-of-sequence.

    Args:
        rollout: N rows; generator: draws the steps; k: views, so forward passes.
        stratified: draw jointly from N * k equal slices of [0, 1) (low discrepancy) rather than independently.
    Returns:
        k views with weight T_i / k, so that their weighted sum estimates the sum over all steps, log p of the path.
    Raises:
        ValueError: if k < 1.
    Source: AGRPO (arXiv 2510.04019), uniform law; its objective averages over steps, here the sum over steps is the
    estimate and the objective divides by T_i.
    Error: unbiased for the log-probability of the visited path given its order of positions (and exact, noise-free,
    for a single row where k is a multiple of T): `tests/test_estimators.py`. The order itself is not scored.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    n, device = rollout.tokens.shape[0], rollout.tokens.device
    where = {"generator": generator, "device": generator.device}
    u = torch.rand(n * k, **where)
    if stratified:
        u = (torch.randperm(n * k, **where) + u) / (n * k)
    last = last_scored_step(rollout)
    steps = (u.to(device).view(n, k) * last[:, None]).long().minimum(last[:, None] - 1)  # (N, k)
    return [view_of_step(rollout, steps[:, i], last / k) for i in range(k)]


def all_steps(rollout: Rollout) -> list[View]:
    """Every step up to T_i: the exact log-probability of the path given its order, in max(T_i) forward passes."""
    last = last_scored_step(rollout)
    return [view_of_step(rollout, torch.full_like(last, t), (t < last).float()) for t in range(int(last.max()))]


def token_logprobs(lm, rollout: Rollout, view: View, temperature: float = 1.0, chunk: int = 4096) -> Tensor:
    """Log-probability of each scored token under a view: (N, L) float32 nats, zero where not scored; differentiable.

    Hidden states are gathered before the head; log-softmax runs over `chunk` tokens at a time, in float32. Logits are
    divided by `temperature` (1: the model's own law). Raises ValueError where a scored token is not masked in the view.
    """
    n, length = rollout.tokens.shape
    if bool((view.scored & (view.tokens[:, -length:] != rollout.mask_id)).any()):
        raise ValueError("a view may only score tokens that it masks: the model would see the answer")
    seen = torch.cat([rollout.prompt_mask, torch.ones_like(view.scored)], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), view.scored], 1)
    logits = lm(view.tokens, seen, where)  # (K, V) float32
    target = rollout.tokens[view.scored]
    parts = [(x / temperature).log_softmax(-1).gather(-1, t[:, None])[:, 0]
             for x, t in zip(logits.split(chunk), target.split(chunk), strict=True)]
    values = torch.cat(parts) if parts else logits.new_zeros(0)
    return torch.zeros(n, length, device=values.device).masked_scatter(view.scored, values)


def reweighted(views: list[View], factor: Tensor) -> list[View]:
    """The views with each row's weights multiplied by factor (N,)."""
    return [replace(v, weight=v.weight * factor[:, None]) for v in views]
