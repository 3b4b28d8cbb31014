"""The referee: every likelihood estimator held against the exact log-probability of the decoder
that wrote the texts.

For a text x the error of one draw of an estimator is its estimate minus log p(x), in nats. Over
rollouts and draws it has a mean (bias) and a standard deviation; the part of the latter that
remains with the text fixed is the noise of the masks.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from ..sampler import Rollout, Rule
from .exact import exact_elbo, exact_logprob
from .masks import ESTIMATORS
from .views import View, estimate, masked_view, stack, token_logprobs

Recipe = Callable[[Rollout, torch.Generator], list[View]]


def distinct(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Rows that differ in prompt or text, so that each text is enumerated once.

    Returns:
        their indices (U,), and which of them each row is (N,), int64.
    """
    key = torch.cat([rollout.prompt, rollout.tokens], 1)
    unique, inverse = key.unique(dim=0, return_inverse=True)
    which = inverse.tolist()
    return torch.tensor([which.index(u) for u in range(len(unique))]), inverse


def _row(rollout: Rollout, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt ids without padding, text, and what was given of it."""
    prompt = rollout.prompt[i][rollout.prompt_mask[i]]
    text = rollout.tokens[i]
    return prompt, text, torch.where(rollout.sampled[i], rollout.mask_id, text)


@torch.no_grad()
def truth(lm: MaskedDiffusionLM, rollout: Rollout, rule: Rule) -> tuple[Tensor, Tensor]:
    """The exact log p(x) of the decoder with this rule, one that `exact_logprob` takes, and the
    exact ELBO: (N,) float64 nats each."""
    rows, inverse = distinct(rollout)
    logp = []
    elbo = []
    for i in rows.tolist():
        prompt, text, anchor = _row(rollout, i)
        logp.append(exact_logprob(lm, prompt, text, rule, anchor=anchor))
        elbo.append(exact_elbo(lm, prompt, text, anchor=anchor))
    return torch.stack(logp)[inverse], torch.stack(elbo)[inverse]


def row_by_row(recipe: Recipe, rollout: Rollout, generator: torch.Generator) -> list[View]:
    """The recipe called for each row alone, so that draws of different rows are independent.

    Rows with fewer views than others are filled up with views that score nothing.
    """
    rows = [torch.tensor([i]) for i in range(len(rollout.tokens))]
    views_of_row = [recipe(rollout.select(row), generator) for row in rows]
    nothing = torch.zeros_like(rollout.sampled)
    blank = masked_view(rollout, hidden=nothing, scored=nothing, weight=0.0)
    views = []
    for v in range(max(len(own) for own in views_of_row)):
        parts = []
        for row, own in zip(rows, views_of_row, strict=True):
            parts.append(own[v] if v < len(own) else blank.select(row))
        views.append(stack(parts))
    return views


@torch.no_grad()
def errors(
    lm: MaskedDiffusionLM,
    rollout: Rollout,
    logp: Tensor,
    generator: torch.Generator,
    draws: int = 6,
    recipes: Mapping[str, Recipe] = ESTIMATORS,
) -> Iterator[dict]:
    """Bias, spread and cost of each estimator on these rollouts, one record each.

    Args:
        rollout: N >= 3 rows.
        logp: (N,) nats, the truth.
        generator: draws the masks.
        draws: >= 2, independent draws per text.
        recipes: name -> recipe.
    Returns:
        estimator, forwards (views per text), bias, sd (of one draw's error over texts and draws),
        noise (its part with the text fixed), rmse, and their standard errors bias_se, sd_se, ...
        over the N texts (jackknife); nats.
    Raises:
        ValueError: if there are too few draws or texts for standard errors.
    """
    if draws < 2 or len(logp) < 3:
        raise ValueError(
            f"need at least 2 draws and 3 texts for standard errors, got {draws} and {len(logp)}"
        )
    n = len(logp)
    many = rollout.select(torch.arange(n).repeat_interleave(draws))
    for name, recipe in recipes.items():
        views = row_by_row(recipe, many, generator)
        error = estimate(lm, many, views).double().sum(1).view(n, draws) - logp[:, None]
        record = {"estimator": name, "forwards": len(views)}
        left_out = [summary(torch.cat([error[:i], error[i + 1 :]])) for i in range(n)]
        for key, value in summary(error).items():
            variance = (n - 1) * statistics.pvariance([part[key] for part in left_out])
            record[key] = value
            record[f"{key}_se"] = variance**0.5
        yield record


def summary(error: Tensor) -> dict[str, float]:
    """bias, sd, noise and rmse of errors (texts, draws)."""
    return {
        "bias": float(error.mean()),
        "sd": float(error.std()),
        "noise": float(error.var(1).mean().sqrt()),
        "rmse": float((error**2).mean().sqrt()),
    }


def flat_gradient(lm: MaskedDiffusionLM, value: Tensor) -> Tensor:
    """(parameters,) float64: the gradient of a scalar."""
    gradients = torch.autograd.grad(value, list(lm.parameters()))
    return torch.cat([g.flatten() for g in gradients]).double()


def exact_gradient(lm: MaskedDiffusionLM, rollout: Rollout, credit: Tensor, rule: Rule) -> Tensor:
    """(parameters,) float64: the gradient of the mean of credit (N,), not all 0, times the exact
    log p(x) under a rule that `exact_logprob` takes."""
    if not bool(credit.any()):
        raise ValueError(
            "every credit is 0, so there is no direction to measure: "
            "take other problems or more rollouts"
        )
    rows, inverse = distinct(rollout)
    weight = torch.zeros(len(rows), dtype=torch.float64).index_add(0, inverse, credit.double())
    total = 0.0
    for row, w in zip(rows.tolist(), weight.tolist(), strict=True):
        if w != 0:
            prompt, text, anchor = _row(rollout, row)
            logp = exact_logprob(lm, prompt, text, rule, anchor=anchor)
            total = total + w / len(credit) * flat_gradient(lm, logp)
    return total


def estimated_gradient(
    lm: MaskedDiffusionLM, rollout: Rollout, credit: Tensor, views: list[View]
) -> Tensor:
    """(parameters,) float64: the gradient of the mean of credit (N,) times the estimate, one
    backward pass per view."""
    total = 0.0
    for view in views:
        if view.scored.any():
            value = credit[:, None] * view.weight * token_logprobs(lm, rollout, view)
            total = total + flat_gradient(lm, value.sum() / len(credit))
    return total


def directions(
    lm: MaskedDiffusionLM,
    rollout: Rollout,
    credit: Tensor,
    exact: Tensor,
    generator: torch.Generator,
    draws: int = 3,
    recipes: Mapping[str, Recipe] = ESTIMATORS,
) -> Iterator[dict]:
    """Does each estimator's gradient point along the exact one? One record each.

    Args:
        rollout: N rows.
        credit: (N,).
        exact: (parameters,), as `exact_gradient` returns it.
        generator: draws the masks.
        draws: >= 2, gradients per estimator.
        recipes: name -> recipe.
    Returns:
        estimator, cosine to the exact gradient and norm_ratio (its norm over that of the exact
        one), means over draws, with standard errors cosine_se and norm_ratio_se.
    """
    for name, recipe in recipes.items():
        cosine = []
        norm = []
        for _ in range(draws):
            views = row_by_row(recipe, rollout, generator)
            found = estimated_gradient(lm, rollout, credit, views)
            cosine.append(float(torch.nn.functional.cosine_similarity(found, exact, dim=0)))
            norm.append(float(found.norm() / exact.norm()))
        yield {
            "estimator": name,
            "cosine": statistics.fmean(cosine),
            "cosine_se": statistics.stdev(cosine) / draws**0.5,
            "norm_ratio": statistics.fmean(norm),
            "norm_ratio_se": statistics.stdev(norm) / draws**0.5,
        }
