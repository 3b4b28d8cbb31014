"""Views of the states that a rollout really visited: denoising steps as actions (AGRPO, MDPO).

Step t of a text saw the canvas before its forward pass t, and wrote some tokens on it. Scored
there, a token's probability is that of the action that was really taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .views import View, masked_prompt, view_of_step


def last_scored_step(rollout: Rollout) -> Tensor:
    """(N,) int64: T_i, one more than the last step that revealed a token other than
    end-of-sequence; at least 1."""
    steps = torch.where(rollout.tokens == rollout.eos_id, -1, rollout.unmask_step)
    return steps.max(1).values.clamp(min=0) + 1


STEP_DISTRIBUTIONS = ("uniform", "entropy")


def visited_steps(
    rollout: Rollout,
    generator: torch.Generator,
    k: int = 4,
    stratified: bool = True,
    law: str = "uniform",
) -> list[View]:
    """AGRPO's likelihood: k of the denoising steps that were really taken, each scored on the
    canvas it was taken from.

    Step t of row i is drawn from 0..T_i - 1, where T_i ends at the last token that is not
    end-of-sequence.

    Args:
        rollout: N rows.
        generator: draws the steps.
        k: >= 1, views, so forward passes.
        stratified: draw jointly from N * k equal slices of [0, 1) (low discrepancy) rather than
            independently.
        law: the distribution of a step, named so in published settings files: "uniform", or
            "entropy", in proportion to the entropy of the tokens revealed at t, plus 1e-8.
    Returns:
        k views with weight 1 / (k p_i(t)), p_i the distribution, so that their weighted sum
        estimates the sum over all steps.
    Raises:
        ValueError: if k < 1 or the law is unknown.
    Source: AGRPO (arXiv 2510.04019); its objective averages over steps, here the sum over steps is
    the estimate and the objective divides by T_i. Entropies are the rollout's: of the plain
    distribution, or of the sampled one, as in the release, if its `Decoding.confidence` says so.
    Error: unbiased for the log-probability of the visited path given its order under both
    distributions (and noise-free under the uniform one for a single row if k is a multiple of T).
    The path's log-probability given its order exceeds log p(text) on average; its gradient, if the
    order is random, is on average that of log p(text): `tests/estimators/test_exact.py`.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if law not in STEP_DISTRIBUTIONS:
        raise ValueError(f"unknown law {law!r}: one of {STEP_DISTRIBUTIONS}")
    n = len(rollout.tokens)
    u = torch.rand(n * k, generator=generator, device=generator.device)
    if stratified:  # one u in each of n k slices, dealt out at random
        slices = torch.randperm(n * k, generator=generator, device=generator.device)
        u = (slices + u) / (n * k)
    u = u.to(rollout.tokens.device).view(n, k)
    last = last_scored_step(rollout)
    p = _step_distribution(rollout, last, law)  # (N, T)
    steps = torch.searchsorted(p.cumsum(1), u.double(), right=True)
    steps = steps.minimum(last[:, None] - 1)  # round-off may pass the end
    weight = 1 / (k * p.gather(1, steps))
    return [view_of_step(rollout, steps[:, i], weight[:, i].float()) for i in range(k)]


def _step_distribution(rollout: Rollout, last: Tensor, law: str) -> Tensor:
    """(N, T) float64: the chance of each step, zero from T_i on."""
    counted = torch.arange(int(last.max()), device=last.device) < last[:, None]
    if law == "uniform":
        return counted / last[:, None].double()
    value = torch.zeros(counted.shape, dtype=torch.float64, device=last.device)
    step = rollout.unmask_step.clamp(0, counted.shape[1] - 1)
    value.scatter_add_(1, step, rollout.entropy.double() * (rollout.unmask_step == step))
    value = (value + 1e-8) * counted
    return value / value.sum(1, keepdim=True)


def all_steps(rollout: Rollout) -> list[View]:
    """Every step up to T_i: the exact log-probability of the path given its order, in max(T_i)
    forward passes."""
    last = last_scored_step(rollout)
    return [
        view_of_step(rollout, torch.full_like(last, t), (t < last).float())
        for t in range(int(last.max()))
    ]


def path_segments(
    rollout: Rollout, generator: torch.Generator, n: int = 4, p_mask_prompt: float = 0.15
) -> list[View]:
    """d2-StepMerge's likelihood: the steps of each text cut into n segments, the tokens of a
    segment all scored on the canvas at its beginning.

    Segment i of a text of T steps begins with step floor(i T / n). TraceRL's shrinkage parameter s
    is the same cut, s steps to a segment.

    Args:
        rollout: N rows.
        generator: draws the prompt masks, one draw for all segments.
        n: >= 1, segments, so views; with more than T some are empty.
        p_mask_prompt: chance in [0, 1] that a prompt token (template included, padding not) is
            masked; 0: none.
    Returns:
        n views with weight 1; every sampled token up to and including the first end-of-sequence
        token is scored once.
    Raises:
        ValueError: if n < 1, or p_mask_prompt is not in [0, 1].
    Source: d2 (arXiv 2509.21474) and its release; TraceRL (arXiv 2509.06949).
    Error: with n = T and no prompt masks exact for the path given its order, with n = 1
    `one_step`. Between them a token does not see those that its segment wrote before it; for
    tokens that were drawn at temperature 1 in random order the estimate is too low on average. More
    segments need not be nearer: of a decoder that decides in its last steps, only n = T is
    (`tests/estimators/test_segments_and_bounds.py`, notebook on visited steps).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    prompt = masked_prompt(rollout, generator, p_mask_prompt)
    text = rollout.until_eos & rollout.sampled & rollout.rolled
    steps = rollout.unmask_step.max(1).values + 1
    views = []
    for i in range(n):
        start = i * steps // n
        end = (i + 1) * steps // n
        inside = (rollout.unmask_step >= start[:, None]) & (rollout.unmask_step < end[:, None])
        scored = text & inside
        # Only a rule that re-masks can have written there before.
        canvas = torch.where(scored, rollout.mask_id, rollout.canvas_at(start))
        views.append(View(torch.cat([prompt, canvas], 1), scored, scored.float()))
    return views


def chosen_steps(
    rollout: Rollout, generator: torch.Generator, credit: Tensor, k: int = 8, confident: bool = True
) -> list[View]:
    """MDPO's views: the k steps of each text with the largest absolute credit, all their
    predictions scored.

    Args:
        rollout: N rows, denoised with `record=True`.
        generator: not used.
        credit: (N, T) float32, one per step; it picks the steps (ties: the earlier), and is later
            read at the step that each view shows.
        k: >= 1, steps per text, so views; at most T are used.
        confident: weigh a token by the probability that it was predicted with, as the release does
            (of the distribution that the rollout's `Decoding.confidence` names).
    Returns:
        k views, to be summed; each scores the predictions for *all* m positions masked at its step,
        not only those that the rule kept. Weight: 1 / m, a mean over them, times the confidence.
        The credit alone is multiplied by L / m (`emphasis`), not the penalty, as in the release.
    Raises:
        ValueError: if k < 1 or the rollout has no predictions.
    Source: MDPO (arXiv 2508.13148) and its release.
    Error: not an estimate of log p(text): most scored tokens were predicted and then thrown away.
    With confident=False it is a policy gradient of the complete prediction, if credit is that
    prediction's. The confidence as a weight adds a term of its own: even constant credit then
    sharpens or flattens the distribution, by half the slope of the sum of p^2 (notebook on
    visited steps).
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if rollout.predicted is None:
        raise ValueError(
            "chosen_steps needs the predictions of every step: denoise with record=True"
        )
    rows = torch.arange(len(credit), device=credit.device)
    taken = torch.arange(credit.shape[1], device=credit.device) < rollout.n_forwards[:, None]
    order = credit.abs().masked_fill(~taken, -1).argsort(dim=1, descending=True, stable=True)
    k = min(k, credit.shape[1])
    views = []
    for step in order[:, :k].T:
        canvas = rollout.canvas_at(step)
        target = rollout.predicted[step, rows]
        scored = (canvas == rollout.mask_id) & (target != rollout.mask_id)
        scored &= taken.gather(1, step[:, None])
        m = scored.sum(1, keepdim=True).clamp(min=1)
        weight = scored / m
        if confident:
            weight = weight * rollout.predicted_logprob[step, rows].exp()
        tokens = torch.cat([rollout.prompt, canvas], 1)
        views.append(
            View(tokens, scored, weight.float(), target, step, emphasis=scored.shape[1] / m)
        )
    return views
