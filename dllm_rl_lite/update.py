"""One optimiser step's gradient, from rollouts and credit: view by view and micro-batch by micro-batch.

One backward pass per view, so memory does not grow with the number of views; the normaliser is that of the whole
batch, so micro-batches change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .estimators import View, token_logprobs
from .methods import Method, Numbers
from .sampler import Rollout


@dataclass(frozen=True)
class Scored:
    """A batch to learn from: views with the old and reference log-probabilities taken before the first update."""

    rollout: Rollout
    advantage: Tensor  # (N,)
    views: list[View]
    old: list[Tensor | None]  # (N, L) per view; None: the current policy is the old one
    ref: list[Tensor | None]  # (N, L) per view; None: no KL penalty
    normaliser: float  # what the summed loss is divided by


def score_views(lm, reference, method: Method, numbers: Numbers, rollout: Rollout, advantage: Tensor,
                generator: torch.Generator) -> Scored:
    """Draw the views of one update, and score them under the old (current) and the reference policy, without gradient.

    With one inner update the old policy is the current one, so its pass is saved. Without a KL penalty rows of zero
    credit cannot move the policy, so they are left out; the normaliser still counts them.
    """
    views = method.views(rollout, generator, **numbers.views)
    tokens = float(sum(v.scored.sum() for v in views))
    if tokens == 0:
        raise ValueError(f"{method.name}: no token of the batch is scored, so there is nothing to learn from")
    normaliser = tokens if method.reduction == "token_mean" else float(len(advantage))
    if numbers.kl == 0:
        rows = advantage != 0
        rollout, advantage, views = rollout.select(rows), advantage[rows], [v.select(rows) for v in views]
    temperature = numbers.temperature if method.tempered else 1.0
    old = ref = [None] * len(views)
    with torch.no_grad():
        if len(advantage) and numbers.inner_updates > 1:
            old = [token_logprobs(lm, rollout, v, temperature) for v in views]
        if len(advantage) and numbers.kl > 0:
            ref = [token_logprobs(reference, rollout, v, temperature) for v in views]
    return Scored(rollout, advantage, views, old, ref, normaliser)


def accumulate_gradients(lm, method: Method, numbers: Numbers, scored: Scored, backward: Callable[[Tensor], None],
                         micro_batch: int = 0) -> dict[str, float]:
    """Add the gradient of the method's loss to the parameters, one backward pass per view and micro-batch.

    Args:
        backward: called with each partial loss (`accelerator.backward`). micro_batch: rows at a time, 0: all.
    Returns:
        loss, clip_fraction (share of scored tokens whose ratio left the clip range), ratio_spread (standard deviation
        of the ratio) and kl (mean k3 of the scored tokens; 0 without a penalty).
    Raises:
        FloatingPointError: if the loss is not finite.
    """
    n = len(scored.advantage)
    temperature = numbers.temperature if method.tempered else 1.0
    loss_sum, ratios, penalties = 0.0, [], []
    for view, old, ref in zip(scored.views, scored.old, scored.ref, strict=True):
        for rows in torch.arange(n).split(micro_batch or max(n, 1)):
            part = view.select(rows)
            if not part.scored.any():
                continue
            logp = token_logprobs(lm, scored.rollout.select(rows), part, temperature)
            before = logp.detach() if old is None else old[rows]
            base = None if ref is None else ref[rows]
            losses = method.token_loss(logp, before, base, scored.advantage[rows, None], numbers.clip, numbers.kl)
            loss = (losses * part.weight).sum() / scored.normaliser
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{method.name}: the loss is {loss.item()}")
            backward(loss)
            loss_sum += loss.item()
            ratios.append((logp.detach() - before)[part.scored].exp())
            if base is not None:
                penalties.append((base - logp.detach())[part.scored])
    ratio = torch.cat(ratios) if ratios else torch.ones(1)
    d = torch.cat(penalties) if penalties else torch.zeros(1)
    outside = (ratio < 1 - numbers.clip) | (ratio > 1 + numbers.clip)
    return {"loss": loss_sum, "clip_fraction": outside.float().mean().item(),
            "ratio_spread": ratio.std(unbiased=False).item(), "kl": (d.exp() - d - 1).mean().item()}
