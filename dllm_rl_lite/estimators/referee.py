"""The referee: every likelihood estimator held against the exact log-probability of the decoder
that wrote the texts.

For a text x the error of one draw of an estimator is its estimate minus log p(x), in nats. Over
rollouts and draws it has a mean (bias) and a standard deviation; the part of the latter that
remains with the text fixed is the noise of the masks.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..sampler import Rollout, Rule
from .exact import exact_elbo, exact_logprob
from .masks import ESTIMATORS
from .views import View, estimate, token_logprobs

Recipe = Callable[[Rollout, torch.Generator], list[View]]


def distinct(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Rows that differ in prompt or text: (their indices (U,), which of them each row is (N,)):
    enumerate each text once."""
    key = torch.cat([rollout.prompt, rollout.tokens], 1)
    _, inverse = key.unique(dim=0, return_inverse=True)
    first = torch.stack([(inverse == u).nonzero()[0, 0] for u in range(int(inverse.max()) + 1)])
    return first, inverse


def _row(rollout: Rollout, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt ids without padding, text, and what was given of it."""
    text = rollout.tokens[i]
    return (
        rollout.prompt[i][rollout.prompt_mask[i]],
        text,
        torch.where(rollout.sampled[i], rollout.mask_id, text),
    )


@torch.no_grad()
def truth(
    lm, rollout: Rollout, rule: Rule, block_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(log p(x), ELBO), (N,) float64 nats each: exact, for the decoder with this rule and for
    random order."""
    rows, inverse = distinct(rollout)
    found = []
    for i in rows.tolist():
        prompt, text, anchor = _row(rollout, i)
        found.append(
            (
                exact_logprob(lm, prompt, text, rule, block_length, anchor=anchor),
                exact_elbo(lm, prompt, text, block_length, anchor=anchor),
            )
        )
    logp, elbo = (torch.stack(v)[inverse] for v in zip(*found, strict=True))
    return logp, elbo


def row_by_row(recipe: Recipe, rollout: Rollout, generator: torch.Generator) -> list[View]:
    """The recipe called for each row alone, so that draws of different rows are independent."""
    n, length = rollout.tokens.shape
    rows = [recipe(rollout.select(torch.tensor([i])), generator) for i in range(n)]
    blank = View(
        torch.cat([rollout.prompt, rollout.tokens], 1),
        torch.zeros(n, length, dtype=torch.bool),
        torch.zeros(n, length),
    )
    padded = [
        [*views, *[blank.select(torch.tensor([i]))] * (max(map(len, rows)) - len(views))]
        for i, views in enumerate(rows)
    ]
    return [
        View(*(torch.cat([getattr(v, f) for v in views]) for f in ("tokens", "scored", "weight")))
        for views in zip(*padded, strict=True)
    ]


@torch.no_grad()
def errors(
    lm,
    rollout: Rollout,
    logp: Tensor,
    generator: torch.Generator,
    draws: int = 6,
    recipes: dict[str, Recipe] | None = None,
) -> Iterable[dict]:
    """Bias, spread and cost of each estimator on these rollouts, one record each.

    Args:
        logp: (N,) the truth. generator: draws the masks. draws: independent draws a text, at least
            2.
        recipes: name -> recipe; None: all of `ESTIMATORS`.
    Returns:
        estimator, forwards (views a text), bias, sd (of one draw's error over texts and draws),
        noise (its part with the text fixed), rmse, and their standard errors bias_se, sd_se, ...
        over the N texts (jackknife); nats.
    """
    if draws < 2 or len(logp) < 3:
        raise ValueError(
            f"need at least 2 draws and 3 texts for standard errors, got {draws} and {len(logp)}"
        )
    n = len(logp)
    many = rollout.select(torch.arange(n).repeat_interleave(draws))
    for name, recipe in (ESTIMATORS if recipes is None else recipes).items():
        views = row_by_row(recipe, many, generator)
        error = estimate(lm, many, views).double().sum(1).view(n, draws) - logp[:, None]
        record = {"estimator": name, "forwards": len(views)}
        left_out = [summary(torch.cat([error[:i], error[i + 1 :]])) for i in range(n)]
        for key, value in summary(error).items():
            record[key] = value
            record[f"{key}_se"] = (
                (n - 1) * statistics.pvariance([s[key] for s in left_out])
            ) ** 0.5
        yield record


def summary(error: Tensor) -> dict[str, float]:
    """bias, sd, noise and rmse of errors (texts, draws)."""
    return {
        "bias": float(error.mean()),
        "sd": float(error.std()),
        "noise": float(error.var(1).mean().sqrt()),
        "rmse": float((error**2).mean().sqrt()),
    }


def flat_gradient(lm, value: Tensor) -> Tensor:
    """(parameters,) float64: the gradient of a scalar."""
    found = torch.autograd.grad(value, list(lm.parameters()))
    return torch.cat([g.flatten() for g in found]).double()


def exact_gradient(
    lm,
    rollout: Rollout,
    credit: Tensor,
    rule: Rule,
    block_length: int | None = None,
    score_order: bool = True,
) -> Tensor:
    """(parameters,) float64: the gradient of the mean of credit (N,) times the exact log p(x);
    credit must not be all 0."""
    if not bool(credit.any()):
        raise ValueError(
            "every credit is 0, so there is no direction to measure: take other problems or "
            "more rollouts"
        )
    rows, inverse = distinct(rollout)
    weight = torch.zeros(len(rows), dtype=torch.float64).index_add(0, inverse, credit.double())
    total = 0.0
    for u, i in enumerate(rows.tolist()):
        if weight[u] != 0:
            prompt, text, anchor = _row(rollout, i)
            logp = exact_logprob(
                lm, prompt, text, rule, block_length, anchor=anchor, score_order=score_order
            )
            total = total + float(weight[u]) / len(credit) * flat_gradient(lm, logp)
    return total


def estimated_gradient(lm, rollout: Rollout, credit: Tensor, views: list[View]) -> Tensor:
    """(parameters,) float64: the gradient of the mean of credit (N,) times the estimate, one
    backward a view."""
    total = 0.0
    for view in views:
        if view.scored.any():
            value = (credit[:, None] * view.weight * token_logprobs(lm, rollout, view)).sum() / len(
                credit
            )
            total = total + flat_gradient(lm, value)
    return total


def directions(
    lm,
    rollout: Rollout,
    credit: Tensor,
    exact: Tensor,
    generator: torch.Generator,
    draws: int = 3,
    recipes: dict[str, Recipe] | None = None,
) -> Iterable[dict]:
    """Each estimator's gradient: its cosine to the exact one and ratio of norms, means over draws
    with standard errors."""
    for name, recipe in (ESTIMATORS if recipes is None else recipes).items():
        got = [
            estimated_gradient(lm, rollout, credit, row_by_row(recipe, rollout, generator))
            for _ in range(draws)
        ]
        cosine = [float(torch.nn.functional.cosine_similarity(g, exact, dim=0)) for g in got]
        norm = [float(g.norm() / exact.norm()) for g in got]
        yield {
            "estimator": name,
            "cosine": statistics.fmean(cosine),
            "cosine_se": statistics.stdev(cosine) / draws**0.5,
            "norm_ratio": statistics.fmean(norm),
            "norm_ratio_se": statistics.stdev(norm) / draws**0.5,
        }
