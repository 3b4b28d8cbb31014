"""One optimiser step's gradient, from scored views and credit: view by view and micro-batch by
micro-batch.

One backward pass per view, so memory does not grow with the number of views. A loss of estimates,
which are sums over the views, is not a sum over views: there each estimate is computed first,
without gradient, then the loss's slope in every token's estimate, and each view is back-propagated
with that slope. The gradient is exact, the memory that of one view, the price one more forward pass
per view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..estimators import estimate, token_logprobs
from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, add_passes, count_passes
from ..processes import gather
from .config import check_whole_groups
from .scoring import UpdateBatch, scored_by_any, scoring_temperature
from .update_log import MicroBatchLog, log_numbers, micro_batch_log


def accumulate_gradients(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    batch: UpdateBatch,
    backward: Callable[[Tensor], None],
    micro_batch: int = 0,
) -> dict[str, float]:
    """Add the gradient of the method's loss to the parameters, one backward pass per view and
    micro-batch.

    Args:
        lm: the policy that learns.
        method: the objective.
        batch: what `score_views` made.
        backward: called with each partial loss (`Tensor.backward`).
        micro_batch: rows at a time, 0: all.
    Returns:
        loss, clip_fraction (share of the ratios that left the clip range), ratio_spread (their
        standard deviation), kl (mean k3 of the scored tokens; 0 where the loss does not look at the
        reference), and forwards and computed (forward passes of one row, asked for and computed).
        With guided or given rows also logprob_free, logprob_guided and logprob_given: mean
        log-probability, in nats, of the scored tokens, by kind of row. With several processes the
        numbers are those of all of them; the gradient is this process's own.
    Raises:
        FloatingPointError: if the loss is not finite. ValueError: if micro-batches would cut
            groups whose siblings the loss compares.
    """
    together = method.objective.rows_together(numbers.group)
    check_whole_groups("micro_batch", micro_batch, together)
    n = len(batch.advantage)
    pieces = token_pieces if method.objective.level == "view" else text_pieces
    done = []
    with count_passes(lm) as passes:
        if n:
            for rows in torch.arange(n, device=batch.advantage.device).split(micro_batch or n):
                done.extend(pieces(lm, method, numbers, batch, rows, backward))
    spent = add_passes(gather([passes]))
    columns = {"forwards": spent.asked, "computed": spent.computed}
    return log_numbers(gather(done), numbers.clip) | columns


def token_pieces(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    batch: UpdateBatch,
    rows: Tensor,
    backward: Callable[[Tensor], None],
) -> Iterator[MicroBatchLog]:
    """Each view has its own loss: one backward pass per view."""
    temperature = scoring_temperature(method, numbers)
    for view, old, ref in zip(batch.views, batch.old, batch.ref, strict=True):
        here = rows[view.scored[rows].any(1)]
        if not len(here):
            continue
        part = view.select(here)
        rollout = batch.rollout.select(here)
        logp = token_logprobs(lm, rollout, part, temperature)
        old_logp = logp.detach() if old is None else old[here]
        ref_logp = None if ref is None else ref[here]
        advantage = batch.advantage[here]
        if part.step is not None:
            advantage = advantage.gather(1, part.step[:, None])
        if part.emphasis is not None:
            advantage = advantage * part.emphasis
        losses = method.objective.losses(
            logp,
            old_logp,
            ref_logp,
            advantage.view(len(here), -1),
            part.scored,
            clip=numbers.clip,
            kl=numbers.kl,
            rollout=rollout,
            view=part,
            **numbers.loss,
        )
        loss = (losses * part.weight / batch.row_sizes[here]).sum() / batch.normaliser
        check_finite(method, loss)
        backward(loss)
        yield micro_batch_log(method, loss, rollout, logp.detach(), old_logp, ref_logp, part.scored)


def text_pieces(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    batch: UpdateBatch,
    rows: Tensor,
    backward: Callable[[Tensor], None],
) -> Iterator[MicroBatchLog]:
    """One loss of the estimates: first its slope in every token's estimate, then one backward pass
    per view with that slope."""
    temperature = scoring_temperature(method, numbers)
    views = [v.select(rows) for v in batch.views]
    rollout = batch.rollout.select(rows)
    scored = scored_by_any(views)
    if numbers.counted == "text":
        scored = rollout.sampled & rollout.until_eos
    (old,) = batch.old
    (ref,) = batch.ref
    if old is not None and batch.fresh:
        logp = old[rows]
    elif old is None and ref is None:
        # The loss depends on differences only, and they are zero.
        logp = torch.zeros(scored.shape, device=scored.device)
    else:
        with torch.no_grad():
            logp = estimate(lm, rollout, views, temperature)
    old_logp = logp if old is None else old[rows]
    ref_logp = None if ref is None else ref[rows]

    leaf = logp.clone().requires_grad_()
    losses = method.objective.losses(
        leaf,
        old_logp,
        ref_logp,
        batch.advantage[rows].view(len(rows), -1),
        scored,
        clip=numbers.clip,
        kl=numbers.kl,
        rollout=rollout,
        group=method.objective.rows_together(numbers.group),
        **numbers.loss,
    )
    loss = (losses / batch.row_sizes[rows]).sum() / batch.normaliser
    check_finite(method, loss)
    (slope,) = torch.autograd.grad(loss, leaf)
    for view in views:
        live = slope.any(1) & view.scored.any(1)  # the others have no gradient: they are clipped
        if live.any():
            part = view.select(live)
            now = token_logprobs(lm, rollout.select(live), part, temperature)
            partial = (slope[live] * part.weight * now).sum()
            check_finite(method, partial)
            backward(partial)
    yield micro_batch_log(method, loss, rollout, logp, old_logp, ref_logp, scored)


def check_finite(method: Method, loss: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{method.name}: the loss is {loss.item()}")
