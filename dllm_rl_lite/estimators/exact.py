"""The truth by enumeration: the exact distribution of what a decoder writes, on canvases small
enough to count every path.

A canvas is known by the positions that are written and the tokens on them, so probability can be
carried forward from the empty canvas to the finished texts (dynamic programming over subsets of
positions), each canvas forwarded once. The network runs in its own precision; everything after its
logits is float64 and differentiable. If candidates are ranked, the distribution jumps as two
confidences cross: a gradient is the slope between jumps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from ..sampler import Rule, Schedule
from .canvases import CanvasSet, Enumeration

LIMIT = 2**16  # canvases: several minutes of the tiny model on two cores; 2^12 take six seconds
ANNOUNCE_ABOVE = 5000  # canvases from which on the cost is said before it is paid


@dataclass(frozen=True)
class TextDistribution:
    """Texts and their exact probabilities, which sum to 1 if every text that can be written is
    listed."""

    texts: Tensor  # (M, L) int64
    prob: Tensor  # (M,) float64, differentiable


def exact_logprob(
    lm: MaskedDiffusionLM,
    prompt: str | Tensor,
    tokens: Tensor,
    rule: Rule,
    block_length: int | None = None,
    temperature: float = 1.0,
    anchor: Tensor | None = None,
    score_order: bool = True,
    limit: int = LIMIT,
    verbose: bool | None = None,
) -> Tensor:
    """Log-probability that `denoise` writes exactly this canvas: the sum over every path that leads
    to it.

    Args:
        prompt: a user message, or its token ids (P,) int64.
        tokens: (L,) int64, the whole canvas, tokens after the end of the text included.
        rule: as `denoise` takes it, but one with a closed form: `Schedule`, `Threshold` or `Gate`.
        block_length: as `denoise` takes it.
        temperature: as `denoise` takes it; there are no filters, and eos is "free".
        anchor: (L,) int64, the mask token at the free positions.
        score_order: False detaches the probability of which positions are revealed, so that the
            gradient goes through the tokens alone.
        limit: the most canvases to forward.
        verbose: print the cost before starting; None: if it is above 5000 canvases.
    Returns:
        float64 scalar, nats, differentiable; -inf for a text that cannot be written.
    Raises:
        ValueError: if the rule has no closed form here (`Factor`, `RunningConfidence`), the cost is
            above the limit, or the tokens do not fit.
    """
    if tokens.ndim != 1 or tokens.dtype != torch.long or bool((tokens == lm.mask_id).any()):
        raise ValueError(
            "tokens must be one finished text, (L,) int64 without masks, "
            f"got {tokens.dtype} {tokens.tolist()}"
        )
    if anchor is not None and anchor.shape == tokens.shape:
        given = anchor != lm.mask_id
        if bool((given & (anchor != tokens)).any()):
            return torch.tensor(float("-inf"), dtype=torch.float64, device=tokens.device)
    distribution = text_distribution(
        lm,
        prompt,
        list(tokens[:, None]),
        rule=rule,
        block_length=block_length,
        temperature=temperature,
        anchor=anchor,
        score_order=score_order,
        limit=limit,
        verbose=verbose,
    )
    return distribution.prob[0].log()


def text_distribution(
    lm: MaskedDiffusionLM,
    prompt: str | Tensor,
    choices: list[Tensor],
    rule: Rule,
    block_length: int | None = None,
    temperature: float = 1.0,
    anchor: Tensor | None = None,
    score_order: bool = True,
    limit: int = LIMIT,
    verbose: bool | None = None,
) -> TextDistribution:
    """The exact probability of every text spelled by `choices` under the real decoder.

    Other tokens take part in the decoding (they compete for the highest confidence), but the texts
    with them are not followed. `canvases.py` says how it is counted.

    Args:
        choices: L int64 tensors (K_i,), the tokens to follow at each position; a position that the
            anchor gives has its token.
        lm, prompt, rule, block_length, temperature, anchor, score_order, limit, verbose: as
            `exact_logprob` takes them. The cost is at most prod(K_i + 1) canvases.
    Returns:
        prod(K_i) texts, the last position running fastest.
    """
    world = Enumeration(
        lm,
        prompt,
        choices,
        rule=rule,
        block_length=block_length,
        temperature=temperature,
        anchor=anchor,
    )
    _check_cost(world, limit, verbose)
    one = torch.ones([1] * world.length, dtype=torch.float64, device=lm.device)
    mass = {world.given: one}  # probability of the canvases with these positions written
    for canvases in world.forward(mass):
        before = mass.pop(canvases.written)
        for revealed, tokens, chance in canvases.outcomes():
            if not score_order:
                chance = chance.detach()
            arriving = before * tokens * chance
            after = canvases.written | set(revealed)
            if after in mass:
                arriving = mass[after] + arriving
            mass[after] = arriving
    (prob,) = mass.values()
    texts = torch.cartesian_prod(*world.choices).view(-1, world.length)
    return TextDistribution(texts, prob.reshape(-1))


def exact_elbo(
    lm: MaskedDiffusionLM,
    prompt: str | Tensor,
    tokens: Tensor,
    block_length: int | None = None,
    anchor: Tensor | None = None,
    limit: int = LIMIT,
) -> Tensor:
    """The evidence lower bound of one text: the mean, over all orders, of the path's
    log-probability given its order.

    It equals the integral over t of 1/t times the expected masked cross-entropy, what masked
    diffusion models are trained on, and never exceeds the log-probability of the random-order
    decoder (Jensen).

    Args:
        lm, prompt, tokens, anchor, limit: as `exact_logprob` takes them.
        block_length: tokens of a block; orders write one block after the other. None: one block.
    Returns:
        float64 scalar, nats, differentiable.
    """
    elbo = torch.zeros((), dtype=torch.float64, device=lm.device)
    for canvases, share in _all_orders(lm, prompt, tokens, block_length, anchor, limit):
        for column, position in enumerate(canvases.blank):
            elbo = elbo + share * canvases.logq[0, column, tokens[position]]
    return elbo


def exact_eubo(
    lm: MaskedDiffusionLM,
    prompt: str | Tensor,
    tokens: Tensor,
    beta: float,
    block_length: int | None = None,
    anchor: Tensor | None = None,
    limit: int = LIMIT,
) -> Tensor:
    """SPG's evidence upper bound of one text, without its constant: the sum over tokens of
    1 / beta log of the mean of p^beta, over all orders, p the token's probability when it is
    written.

    It equals the sum of 1 / beta log E[p^beta / t] over masks at a uniform rate t that hide the
    token. It grows with beta, from the ELBO at beta = 0.

    Args:
        beta: > 0, the power.
        lm, prompt, tokens, block_length, anchor, limit: as `exact_elbo` takes them.
    Returns:
        float64 scalar, nats, differentiable.
    Raises:
        ValueError: as `exact_logprob`, or unless beta > 0.
    Source: SPG (arXiv 2510.09541), which adds a constant for beta >= 1 that does not depend on the
        network.
    Error: with beta >= the number of tokens m at least the log-probability of the random-order
        decoder (Hoelder's inequality). With a smaller beta it can lie below, for the constant is
        left out: `tests/estimators/test_segments_and_bounds.py`.
    """
    if beta <= 0:
        raise ValueError(f"beta must be above 0, got {beta}: at 0 the bound is `exact_elbo`")
    terms: dict[int, list[Tensor]] = {}  # position -> log of share times p^beta of each canvas
    for canvases, share in _all_orders(lm, prompt, tokens, block_length, anchor, limit):
        for column, position in enumerate(canvases.blank):
            power = beta * canvases.logq[0, column, tokens[position]]
            terms.setdefault(position, []).append(power + math.log(share))
    return sum(torch.stack(found).logsumexp(0) for found in terms.values()) / beta


def _all_orders(
    lm: MaskedDiffusionLM,
    prompt: str | Tensor,
    tokens: Tensor,
    block_length: int | None,
    anchor: Tensor | None,
    limit: int,
) -> Iterator[tuple[CanvasSet, float]]:
    """The canvases on the way to one text, and the share of all orders that write a given one of
    the blanks there next."""
    world = Enumeration(
        lm,
        prompt,
        list(tokens[:, None]),
        rule=Schedule(len(tokens), "random"),
        block_length=block_length,
        temperature=1.0,
        anchor=anchor,
    )
    _check_cost(world, limit)
    visits = {world.given: 1.0}  # share of the orders that pass through these written positions
    for canvases in world.forward(visits):
        share = visits.pop(canvases.written) / len(canvases.blank)
        for position in canvases.blank:
            after = canvases.written | {position}
            visits[after] = visits.get(after, 0.0) + share
        yield canvases, share


def _check_cost(world: Enumeration, limit: int, verbose: bool | None = None) -> None:
    """Refuse what costs more than the limit; say the cost of the rest on request, and if it is
    large."""
    cost = world.cost()
    if cost > limit:
        raise ValueError(
            f"enumeration needs up to {cost:,} canvases, the limit is {limit:,}: "
            "anchor more positions, follow fewer tokens, or raise limit="
        )
    if verbose or (verbose is None and cost > ANNOUNCE_ABOVE):
        tokens = len(world.prompt) + world.length
        print(f"exact: at most {cost:,} canvases of {tokens} tokens, each forwarded once")


def expected_reward(distribution: TextDistribution, rewards: Tensor) -> Tensor:
    """Sum of probability times reward; its gradient by autograd is the exact policy gradient.

    Args:
        distribution: M texts.
        rewards: (M,), one per text.
    Returns:
        float64 scalar, exact if every text with a reward other than 0 is in the distribution.
    """
    if rewards.shape != distribution.prob.shape:
        raise ValueError(
            f"need one reward a text, {tuple(distribution.prob.shape)}, got {tuple(rewards.shape)}"
        )
    return (distribution.prob * rewards.double()).sum()


def optimal_policy(
    distribution: TextDistribution, rewards: Tensor, beta: float
) -> TextDistribution:
    """The distribution that maximises expected reward minus beta KL(policy || distribution): it is
    proportional to prob * exp(reward / beta).

    The highest value is beta * log sum(prob * exp(reward / beta)).

    Args:
        distribution: M texts.
        rewards: (M,), one per text.
        beta: > 0, the weight of the penalty.
    Returns:
        the same texts with other probabilities.
    """
    if beta <= 0:
        raise ValueError(
            f"beta must be above 0, got {beta}: without a penalty all mass goes to the best texts"
        )
    best = (distribution.prob.log() + rewards.double() / beta).softmax(0)
    return TextDistribution(distribution.texts, best)
