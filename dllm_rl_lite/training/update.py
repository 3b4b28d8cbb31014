"""One optimiser step's gradient, from rollouts and credit: view by view and micro-batch by
micro-batch.

One backward pass per view, so memory does not grow with the number of views; the normaliser is that
of the whole batch, so micro-batches change nothing. A loss of whole texts is not a sum over views:
there each text's estimate is computed first, without gradient, then the loss's slope in every
token's estimate, and each view is back-propagated with that slope. The gradient is exact, the
memory that of one view, the price one more forward pass a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators import View, estimate, stack, token_logprobs
from ..methods import Method, Numbers
from ..processes import gather, own_part
from ..sampler import Rollout


@dataclass(frozen=True)
class UpdateBatch:
    """A batch to learn from: views with the old and reference log-probabilities taken before the
    first update."""

    rollout: Rollout
    # (N,), (N, T) where credit differs by step (views then have one), or (N, L) where it does by
    # token
    advantage: Tensor
    views: list[View]
    # (N, L), one per view, or for a loss of texts a single one: the estimates summed over the
    # views.
    old: list[Tensor | None]  # None: the current policy is the old one
    ref: list[Tensor | None]  # None: no KL penalty
    normaliser: float  # what the summed loss is divided by
    forwards: int = 0  # forward passes (of one row) that it took
    fresh: bool = False  # is the policy still the old one, although `old` was scored?


def mask_seeds(inner_updates: int, published: bool, chunks: int = 2) -> list[list[int]]:
    """Which of the masks 0..mu - 1 each inner update uses, for each chunk of the rows.

    published=False: update i uses mask i, for all rows. True: as in the releases of d1 and
    DiffuCoder, whose rows come in two micro-batches (gradient accumulation 2) and whose counter,
    already incremented, counts micro-batches instead of updates: chunk c of update i uses mask (2 i
    + c + 1) mod mu. With mu = 2 each chunk then sees one mask only, with mu = 12 six of twelve.
    """
    if not published:
        return [[i] for i in range(inner_updates)]
    return [
        [(chunks * i + c + 1) % inner_updates for c in range(chunks)] for i in range(inner_updates)
    ]


def score_views(
    lm,
    reference,
    method: Method,
    numbers: Numbers,
    rollout: Rollout,
    advantage: Tensor,
    generator: torch.Generator | list[torch.Generator],
    fresh: bool = False,
    micro_batch: int = 0,
) -> UpdateBatch:
    """Draw the views of one update, and score them under the old (current) and the reference
    policy, without gradient.

    With one inner update the old policy is the current one, so its pass is saved. Without a KL
    penalty rows of zero credit cannot move the policy, so they are left out; the normaliser still
    counts them. Several generators draw the views of as many equal chunks of the rows. fresh: the
    update is the first on these rollouts. Each process draws the views of all rows, and
    keeps its share of them; the normaliser is that of the whole batch. micro_batch: rows that are
    scored at a time, 0: all.
    """
    n = len(advantage)
    generators = generator if isinstance(generator, list) else [generator]
    parts = []
    for rows, g in zip(
        torch.arange(n, device=advantage.device).tensor_split(len(generators)),
        generators,
        strict=True,
    ):
        by_step = (
            {"credit": advantage[rows]} if method.rewarded == "every step" else {}
        )  # such views choose by it
        parts.append(method.views(rollout.select(rows), g, **by_step, **numbers.views))
    views = [stack(list(same)) for same in zip(*parts, strict=True)]
    tokens = (
        float(sum(v.scored.sum() for v in views))
        if method.text_loss is None
        else float(scored_by_any(views).sum())
    )
    if tokens == 0:
        raise ValueError(
            f"{method.name}: no token of the batch is scored, so there is nothing to learn from"
        )
    normaliser = {"token_mean": tokens, "row_mean": float(n), "group_sum": n / numbers.group}[
        method.reduction
    ]
    rows = torch.arange(n, device=advantage.device)
    rows = own_part(rows if numbers.kl > 0 else rows[(advantage != 0).view(n, -1).any(1)])
    rollout, advantage, views = (
        rollout.select(rows),
        advantage[rows],
        [v.select(rows) for v in views],
    )
    temperature = numbers.temperature if method.tempered else 1.0

    entries = len(views) if method.text_loss is None else 1
    old, ref, passes = [None] * entries, [None] * entries, 0
    with torch.no_grad():
        if len(advantage) and numbers.inner_updates > 1 and method.uses_old:
            old, passes = (
                view_logprobs(lm, method, rollout, views, temperature, micro_batch),
                passes + len(views),
            )
        if len(advantage) and numbers.kl > 0:
            ref, passes = (
                view_logprobs(reference, method, rollout, views, temperature, micro_batch),
                passes + len(views),
            )
    return UpdateBatch(
        rollout, advantage, views, old, ref, normaliser, passes * len(advantage), fresh
    )


def view_logprobs(
    model, method: Method, rollout: Rollout, views: list[View], temperature: float, micro_batch: int
) -> list[Tensor]:
    """(N, L) of each view, or for a loss of texts the one estimate from all; `micro_batch` rows at
    a time, 0: all."""
    parts, n = [], len(rollout.tokens)
    for rows in torch.arange(n, device=rollout.tokens.device).split(micro_batch or n):
        part, seen = rollout.select(rows), [v.select(rows) for v in views]
        parts.append(
            [token_logprobs(model, part, v, temperature) for v in seen]
            if method.text_loss is None
            else [estimate(model, part, seen, temperature)]
        )
    return [torch.cat(same) for same in zip(*parts, strict=True)]


def scored_by_any(views: list[View]) -> Tensor:
    """(N, L) bool: the tokens that at least one view scores."""
    return torch.stack([v.scored for v in views]).any(0)


def accumulate_gradients(
    lm,
    method: Method,
    numbers: Numbers,
    scored: UpdateBatch,
    backward: Callable[[Tensor], None],
    micro_batch: int = 0,
) -> dict[str, float]:
    """Add the gradient of the method's loss to the parameters, one backward pass per view and
    micro-batch.

    Args:
        backward: called with each partial loss (`Tensor.backward`). micro_batch: rows at a time, 0:
            all. With several processes the numbers are those of all, the gradient is this process's own.
    Returns:
        loss, clip_fraction (share of the ratios that left the clip range), ratio_spread (their
        standard deviation), kl (mean k3 of the scored tokens; 0 without a penalty) and forwards
        (forward passes of one row). With guided rows also logprob_free and logprob_guided: mean
        log-probability, in nats, of the scored tokens, by kind of row.
    Raises:
        FloatingPointError: if the loss is not finite.
    """
    n = len(scored.advantage)
    pieces = token_pieces if method.text_loss is None else text_pieces
    chunks = (
        torch.arange(n, device=scored.advantage.device).split(micro_batch or max(n, 1)) if n else ()
    )
    done = gather(
        [p for rows in chunks for p in pieces(lm, method, numbers, scored, rows, backward)]
    )
    ratio = torch.cat([p.log_ratio.exp() for p in done]) if done else torch.ones(1)
    d = torch.cat([p.reference_log_ratio for p in done]) if done else torch.zeros(1)
    outside = (ratio < 1 - numbers.clip) | (ratio > 1 + numbers.clip)
    kinds = sorted({kind for p in done for kind in p.logprobs_by_row_kind})
    return {
        "loss": sum(p.loss for p in done),
        "clip_fraction": outside.float().mean().item(),
        "ratio_spread": ratio.std(unbiased=False).item(),
        "kl": (d.exp() - d - 1).mean().item() if len(d) else 0.0,
        "forwards": sum(p.forwards for p in done),
        **{
            kind: torch.cat(
                [p.logprobs_by_row_kind[kind] for p in done if kind in p.logprobs_by_row_kind]
            )
            .mean()
            .item()
            for kind in kinds
        },
    }


@dataclass(frozen=True)
class MicroBatchLog:
    """What one backward pass, or one micro-batch of texts, leaves for the log."""

    loss: float
    forwards: int
    log_ratio: Tensor  # (K,) nats
    reference_log_ratio: (
        Tensor  # (K,) nats, reference minus new of the scored tokens; empty without a penalty
    )
    logprobs_by_row_kind: dict[
        str, Tensor
    ]  # log-probabilities of the scored tokens by kind of row; empty without guided rows


def token_pieces(
    lm, method: Method, numbers: Numbers, scored: UpdateBatch, rows: Tensor, backward
) -> Iterator[MicroBatchLog]:
    """A token loss: each view has its own loss."""
    temperature = numbers.temperature if method.tempered else 1.0
    for view, old, ref in zip(scored.views, scored.old, scored.ref, strict=True):
        here = rows[view.scored[rows].any(1)]
        if not len(here):
            continue
        part = view.select(here)
        logp = token_logprobs(lm, scored.rollout.select(here), part, temperature)
        before = logp.detach() if old is None else old[here]
        base = None if ref is None else ref[here]
        credit = scored.advantage[here]
        credit = credit if part.step is None else credit.gather(1, part.step[:, None])
        losses = method.token_loss(
            logp, before, base, as_column(credit), numbers.clip, numbers.kl, **numbers.loss
        )
        loss = (losses * part.weight).sum() / scored.normaliser
        check_finite(method, loss)
        backward(loss)
        log_ratio = method.log_ratio(logp.detach(), before, part.scored)
        yield MicroBatchLog(
            loss.item(),
            len(here),
            log_ratio,
            reference_log_ratio(base, logp, part.scored),
            logprobs_by_row_kind(scored.rollout.select(here), logp.detach(), part.scored),
        )


def text_pieces(
    lm, method: Method, numbers: Numbers, scored: UpdateBatch, rows: Tensor, backward
) -> Iterator[MicroBatchLog]:
    """A loss of texts: first its slope in every token's estimate, then one backward pass per view
    with that slope."""
    views = [v.select(rows) for v in scored.views]
    rollout, tokens = scored.rollout.select(rows), scored_by_any(views)
    temperature = numbers.temperature if method.tempered else 1.0
    (old,), (ref,), forwards = scored.old, scored.ref, 0
    if old is not None and scored.fresh:
        now = old[rows]
    elif old is None and ref is None:
        now = torch.zeros(
            tokens.shape, device=tokens.device
        )  # a loss of texts depends on differences only, here zero
    else:
        with torch.no_grad():
            now = estimate(lm, rollout, views, temperature)
        forwards += len(views) * len(rows)
    before, base = now if old is None else old[rows], None if ref is None else ref[rows]
    leaf = now.clone().requires_grad_()
    credit = as_column(scored.advantage[rows])
    losses = method.text_loss(
        leaf, before, base, credit, tokens, numbers.clip, numbers.kl, **numbers.loss
    )
    loss = losses.sum() / scored.normaliser
    check_finite(method, loss)
    (slope,) = torch.autograd.grad(loss, leaf)
    for view in views:
        live = slope.any(1) & view.scored.any(
            1
        )  # the others, outside the clip range, have nothing to say
        if live.any():
            part = view.select(live)
            logp = token_logprobs(lm, rollout.select(live), part, temperature)
            partial = (slope[live] * part.weight * logp).sum()
            check_finite(method, partial)
            backward(partial)
            forwards += int(live.sum())
    yield MicroBatchLog(
        loss.item(),
        forwards,
        method.log_ratio(now, before, tokens),
        reference_log_ratio(base, now, tokens),
        logprobs_by_row_kind(rollout, now, tokens),
    )


def as_column(credit: Tensor) -> Tensor:
    """(N, 1) of one credit a text; credit by token stays (N, L)."""
    return credit[:, None] if credit.ndim == 1 else credit


def reference_log_ratio(ref: Tensor | None, logp: Tensor, scored: Tensor) -> Tensor:
    return torch.zeros(0, device=logp.device) if ref is None else (ref - logp.detach())[scored]


def logprobs_by_row_kind(rollout: Rollout, logp: Tensor, scored: Tensor) -> dict[str, Tensor]:
    if rollout.anchor is None:
        return {}
    kinds = {"logprob_free": ~rollout.guided, "logprob_guided": rollout.guided}
    return {name: logp[rows][scored[rows]] for name, rows in kinds.items() if scored[rows].any()}


def check_finite(method: Method, loss: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{method.name}: the loss is {loss.item()}")
