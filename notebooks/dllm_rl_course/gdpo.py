"""The exercises of *GDPO*: two normalisations, the slope of the text ratio, counts without
shrinkage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dllm_rl_lite.estimators import NODES, View
from dllm_rl_lite.objectives import clipped_text_ratio, mean_log_ratio
from dllm_rl_lite.sampler import Rollout

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """40 tokens gain 0.02 nats each: (a token's ratio, text inside, text outside, fewest tokens
    with outside > 1.5)."""

    def at(i: int, value: float, tolerance: float = 5e-3) -> bool:
        return not differs(answer[i], value, tolerance)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 4,
                "give four numbers: (token, inside, outside, fewest tokens)",
            ),
            (
                lambda: at(0, 0.02) or at(1, 0.02) or at(2, 0.8),
                "those are log-ratios; a ratio is their exponential",
            ),
            (lambda: not at(0, math.exp(0.02)), "a token's ratio is exp(0.02)"),
            (
                lambda: at(1, math.exp(0.8)) and at(2, math.exp(0.02)),
                "swapped: inside divides by the 40 tokens before the exponential is taken",
            ),
            (
                lambda: at(1, math.exp(0.02 / 40)),
                "the text gained 40 times 0.02; the mean over its 40 tokens is 0.02 again",
            ),
            (lambda: not at(1, math.exp(0.02)), "inside: exp of the mean change of a token"),
            (
                lambda: at(2, math.exp(0.8) / 40),
                "the 1/m of outside multiplies the loss; the ratio that is clipped has none",
            ),
            (
                lambda: not at(2, math.exp(0.8)),
                "outside: exp of the change of the whole text, 40 times 0.02 nats",
            ),
            (
                lambda: at(3, math.log(1.5) / 0.02, 0.1),
                "a number of tokens is whole: the first m beyond that value",
            ),
            (
                lambda: at(3, 25) or at(3, 26),
                "the clip is 1.5, not exp(0.5): solve exp(0.02 m) > 1.5",
            ),
            (lambda: at(3, 20), "with 20 tokens the ratio is exp(0.4) = 1.49, still inside"),
            (lambda: not at(3, 21), "fewest tokens: the smallest m with exp(0.02 m) > 1.5"),
        ],
    )


CHANGE = torch.tensor([-9.0, -2.0, -0.3, 0.0, 0.2, 1.5, 8.0], dtype=torch.float64)
SIZES, EPSILON = (4.0, 16.0), 0.5


def _grid() -> tuple[Tensor, Tensor, Tensor]:
    """Changes, credits and sizes on both sides of every corner of the loss."""
    d, a, m = torch.meshgrid(
        CHANGE, torch.tensor([-0.7, 1.2]).double(), torch.tensor(SIZES).double(), indexing="ij"
    )
    return d.flatten(), a.flatten(), m.flatten()


def _wanted(per_token: str) -> Tensor:
    d, a, m = _grid()
    tokens = (torch.arange(int(m.max())) < m[:, None]).double()
    start = (d / m)[:, None] * tokens  # each token changed alike
    leaf = start.clone().requires_grad_()
    change = mean_log_ratio(leaf, torch.zeros_like(leaf), tokens.bool())
    loss = clipped_text_ratio(change, a[:, None], EPSILON, tokens.bool(), per_token)
    return torch.autograd.grad(loss.sum(), leaf)[0][:, 0]


def exercise_2(slope) -> None:
    """slope(change, advantage, m, clip, per_token) -> d loss / d change of each text, (N,)."""
    d, a, m = _grid()

    def run(per_token: str):
        return slope(d.clone(), a.clone(), m.clone(), EPSILON, per_token)

    outcome = (
        attempt(lambda: {p: run(p) for p in ("inside", "outside")}) if callable(slope) else None
    )

    def like(per_token: str, wanted: Tensor) -> bool:
        return not tensor_differs(outcome[per_token], wanted, 1e-9)

    def both(rule) -> bool:
        """Is it this rule of the ratio's exponent, under both normalisations?"""
        return like("inside", rule(d / m)) and like("outside", rule(d))

    def open_side(x: Tensor) -> Tensor:
        return ((x.exp() - 1) * a.sign() <= EPSILON).double()

    inside, outside = _wanted("inside"), _wanted("outside")
    judge(
        "exercise 2",
        result_of(slope, d.clone(), a.clone(), m.clone(), EPSILON, "inside"),
        [
            (lambda: not callable(slope), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome.values()), "for 'outside' it returns None"),
            (
                lambda: any(torch.as_tensor(v).shape != d.shape for v in outcome.values()),
                "return one number a text, (N,)",
            ),
            (
                lambda: like("inside", outside) and like("outside", inside),
                "inside and outside are swapped",
            ),
            (
                lambda: like("inside", -inside) and like("outside", -outside),
                "the sign: a loss is minimised, so a good text's slope is negative",
            ),
            (
                lambda: both(lambda x: -a * x.exp() / m),
                "the clip is missing: beyond it, on the wanted side, the slope is 0",
            ),
            (
                lambda: both(lambda x: -a * x.exp() / m * ((x.exp() - 1).abs() <= EPSILON)),
                "only the wanted side is flat: a good text that fell keeps its slope, so that it "
                "can be repaired",
            ),
            (
                lambda: both(lambda x: -a * x.exp() / m * (1 - open_side(x))),
                "the flat side is the other one",
            ),
            (
                lambda: both(lambda x: -a / m * open_side(x)),
                "the ratio is missing: the derivative of an exponential is the exponential",
            ),
            (
                lambda: like("inside", inside * m) and like("outside", outside),
                "inside: the derivative of exp(d / m) has a factor 1 / m",
            ),
            (
                lambda: like("inside", inside / m) and like("outside", outside),
                "inside has its 1 / m from the exponent alone; the loss is not divided by m again",
            ),
            (
                lambda: like("inside", inside) and like("outside", outside * m),
                "outside: the loss itself is divided by m",
            ),
            (
                lambda: like("inside", inside * m) and like("outside", outside * m),
                "1 / m is missing, inside and outside",
            ),
            (
                lambda: (
                    like("inside", inside) and like("outside", -a * d.exp() / m * open_side(d / m))
                ),
                "outside is clipped where exp(d), not exp(d / m), leaves the range",
            ),
            (
                lambda: like("inside", inside) and not like("outside", outside),
                "inside is right; outside: -A exp(d) / m, or 0",
            ),
            (
                lambda: not (like("inside", inside) and like("outside", outside)),
                "differentiate -min(r A, clip(r) A): -A times dr/dd where the unclipped term is "
                "the smaller, else 0",
            ),
        ],
    )


def _made_up(rows: int) -> Rollout:
    """Rows of ten tokens: the second was given, the eighth ends the text, so seven count."""
    tokens = torch.tensor([10, 11, 12, 13, 14, 15, 16, 1, 17, 18]).expand(rows, -1)
    steps = torch.tensor([0, -1, 1, 2, 3, 4, 5, 6, 7, 8]).expand(rows, -1)
    return Rollout(
        torch.full((rows, 2), 50),
        torch.ones(rows, 2, dtype=torch.bool),
        tokens,
        steps,
        torch.zeros(rows, 10),
        torch.zeros(rows, 10),
        torch.full((rows,), 9),
        2,
        1,
    )


def exercise_3(full_weight) -> None:
    """full_weight(rollout, generator) -> three views: counts t m on average, weights w / t, so that
    they sum to m."""
    rollout, m = _made_up(4000), 7
    views = (
        attempt(lambda: full_weight(rollout, torch.Generator().manual_seed(9)))
        if callable(full_weight)
        else full_weight
    )

    def masked(view: View) -> Tensor:
        return view.tokens[:, -10:] == rollout.mask_id

    def counts() -> list[Tensor]:
        return [masked(v).sum(1) for v in views]

    def mean_off() -> bool:
        return any(
            abs(float(c.float().mean()) - t * m) > 0.04
            for (t, _), c in zip(NODES[3], counts(), strict=True)
        )

    def weights_off(per: list[Tensor]) -> bool:
        return any(
            tensor_differs(v.weight, torch.where(v.scored, w, 0.0), 1e-4)
            for v, w in zip(views, per, strict=True)
        )

    published = [torch.full((4000, 1), w / t) for t, w in NODES[3]]
    judge(
        "exercise 3",
        views,
        [
            (lambda: not callable(full_weight), "pass the function itself, not what it returns"),
            (lambda: raised(views), ""),
            (
                lambda: not isinstance(views, list) or not all(isinstance(v, View) for v in views),
                "return a list of views; masked_view makes one",
            ),
            (lambda: len(views) != 3, "return three views, one for each node of NODES[3]"),
            (
                lambda: any(bool(masked(v)[:, 1].any()) for v in views),
                "a given token is masked: use rollout.sampled",
            ),
            (
                lambda: any(bool(masked(v)[:, 8:].any()) for v in views),
                "tokens after the end are masked: use rollout.until_eos",
            ),
            (
                lambda: any(bool((v.scored != masked(v)).any()) for v in views),
                "score exactly the tokens that are masked",
            ),
            (
                lambda: all(len(set(c.tolist())) == 1 for c in counts()),
                "each count is the same in every row: round up at random, with the chance of the "
                "fraction that floor drops",
            ),
            (
                lambda: int(counts()[0].min()) > 0,
                "at t m = 0.79 the first view must sometimes mask nothing: 'at least 1' makes "
                "that node too heavy",
            ),
            (
                lambda: any(
                    abs(float(c.float().mean()) - (t * m)) > 0.25
                    for (t, _), c in zip(NODES[3], counts(), strict=True)
                ),
                "the mean count is not t m: round up with the chance of the fraction of t m",
            ),
            (
                lambda: any(len(set(c.tolist())) > 2 for c in counts()),
                "a count is t m rounded down or up, nothing else",
            ),
            (
                mean_off,
                "the mean count is not quite t m: is the chance of rounding up the fraction of t "
                "m?",
            ),
            (
                lambda: (
                    not weights_off(
                        [
                            w * m / c.clamp(min=1)[:, None]
                            for (_, w), c in zip(NODES[3], counts(), strict=True)
                        ]
                    )
                ),
                "those weights use the real shares; with counts right on average keep the nominal "
                "w / t",
            ),
            (lambda: weights_off(published), "each scored token weighs w / t of its node"),
        ],
    )
