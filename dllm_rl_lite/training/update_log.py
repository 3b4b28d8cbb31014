"""What an update leaves for the log."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..methods import Method
from ..sampler import KINDS, Rollout


@dataclass(frozen=True)
class MicroBatchLog:
    """What one backward pass, or one micro-batch of estimates, leaves for the log."""

    loss: float
    log_ratio: Tensor  # (K,) nats
    # (K,) nats, reference minus new of the scored tokens; empty without a penalty
    reference_log_ratio: Tensor
    # log-probabilities of the scored tokens by kind of row; empty where all rows are free
    logprobs_by_row_kind: dict[str, Tensor]


def micro_batch_log(
    method: Method,
    loss: Tensor,
    rollout: Rollout,
    logp: Tensor,
    old: Tensor,
    ref: Tensor | None,
    scored: Tensor,
) -> MicroBatchLog:
    """What the log keeps of (N, L) log-probabilities."""
    reference_log_ratio = logp.new_zeros(0)
    if ref is not None:
        reference_log_ratio = (ref - logp)[scored]
    if method.objective.to_reference:
        old = ref
    by_kind = {}
    if rollout.kind is not None:
        for number, name in enumerate(KINDS):
            rows = rollout.of_kind(number)
            if scored[rows].any():
                by_kind[name] = logp[rows][scored[rows]]
    return MicroBatchLog(
        loss=loss.item(),
        log_ratio=method.objective.log_ratios(logp, old, scored, rollout),
        reference_log_ratio=reference_log_ratio,
        logprobs_by_row_kind=by_kind,
    )


def log_numbers(done: list[MicroBatchLog], clip: float) -> dict[str, float]:
    """One row of the log from all its parts, as `update.accumulate_gradients` returns it."""
    if not done:  # no row has any credit
        return {"loss": 0.0, "clip_fraction": 0.0, "ratio_spread": 0.0, "kl": 0.0}
    ratio = torch.cat([p.log_ratio.exp() for p in done])
    outside = (ratio < 1 - clip) | (ratio > 1 + clip)
    d = torch.cat([p.reference_log_ratio for p in done])
    numbers = {
        "loss": sum(p.loss for p in done),
        "clip_fraction": outside.float().mean().item(),
        "ratio_spread": ratio.std(unbiased=False).item(),
        "kl": 0.0,
    }
    if len(d):
        numbers["kl"] = (d.exp() - d - 1).mean().item()
    for kind in KINDS:
        found = [p.logprobs_by_row_kind[kind] for p in done if kind in p.logprobs_by_row_kind]
        if found:
            numbers[f"logprob_{kind}"] = torch.cat(found).mean().item()
    return numbers
