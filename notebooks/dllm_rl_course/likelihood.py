"""The exercises of *How likely is an answer?*: likelihood estimators."""

from __future__ import annotations

import torch

from dllm_rl_lite.estimators import View
from dllm_rl_lite.sampler import Rollout

from .verdict import differs, judge, result_of


def exercise_1(answer) -> None:
    """Average weight of a token: (coupled, three-node quadrature of nine tokens, complement pairs
    "half")."""

    def at(i: int, value: float) -> bool:
        return not differs(answer[i], value, 6e-3)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (coupled, quadrature, pairs)",
            ),
            (
                lambda: at(0, 2.0),
                "coupled: the pair alone gives 1/t * t + 1/(1-t) * (1-t) = 2; add the full mask, "
                "and halve",
            ),
            (
                lambda: at(0, 1.0),
                "coupled: given t, a token has weight 1/t with chance t and 1/(1-t) with chance "
                "1-t: that is 2, not 1",
            ),
            (
                lambda: not at(0, 1.5),
                "coupled: half of (1 from the full mask + the mean of the pair's weight)",
            ),
            (
                lambda: at(1, 1.0),
                "quadrature: with floor(9 t) = 1, 4 and 7 masked tokens the shares are below t",
            ),
            (
                lambda: at(1, 8.2117),
                "quadrature: that is the sum over the nine tokens; give one token's",
            ),
            (lambda: not at(1, 0.9124), "quadrature: sum over nodes of w / t times floor(9 t) / 9"),
            (lambda: at(2, 1.0), "pairs: each token is scored once, with weight 1/2"),
            (lambda: not at(2, 0.5), "pairs: how often is a token scored, and with what weight?"),
        ],
    )


def _chances(m: int, n: int) -> list[float]:
    found = [0.0] * m
    for k in range(1, m + 1):
        for j in range(n):
            found[(round(k + j * m / n) - 1) % m] += 1 / (m * n)
    return found


def exercise_2(count_chances) -> None:
    """count_chances(m, n) -> [P(x = 1), ..., P(x = m)] of one of n counts spread with LLaDA's
    rounding."""
    cases = [(9, 2), (9, 3), (5, 4), (6, 4)]

    def off(wanted) -> bool:
        return any(
            differs(a, b, 1e-9)
            for case, w in zip(cases, wanted, strict=True)
            for a, b in zip(count_chances(*case), w, strict=True)
        )

    judge(
        "exercise 2",
        result_of(count_chances, *cases[0]),
        [
            (lambda: not callable(count_chances), "pass the function itself, not what it returns"),
            (
                lambda: any(len(count_chances(m, n)) != m for m, n in cases),
                "return m numbers, one for each count 1 ... m",
            ),
            (
                lambda: any(differs(sum(count_chances(m, n)), 1.0, 1e-9) for m, n in cases),
                "the chances must sum to 1",
            ),
            (
                lambda: not off([[1 / m] * m for m, _ in cases]),
                "equal chances: so it would be if halves were rounded up; Python's round, and the "
                "release, take them to the even",
            ),
            (
                lambda: off([_chances(m, n) for m, n in cases]),
                "count over all k = 1 ... m and j = 0 ... n - 1, equally likely",
            ),
        ],
    )


def _made_up(rows: int) -> Rollout:
    """Rows of seven tokens, of which the second was given."""
    tokens, steps = (
        torch.arange(10, 17).expand(rows, -1),
        torch.tensor([0, -1, 1, 2, 3, 4, 5]).expand(rows, -1),
    )
    blank = torch.zeros(rows, 7)
    return Rollout(
        torch.full((rows, 2), 50),
        torch.ones(rows, 2, dtype=torch.bool),
        tokens,
        steps,
        blank,
        blank,
        torch.full((rows,), 6),
        2,
        1,
    )


def exercise_3(antithetic) -> None:
    """antithetic(rollout, generator) -> two views with c and m + 1 - c masks, unbiased for the
    ELBO."""
    rollout, m = _made_up(4000), 6
    value = -torch.tensor(
        [1.0, 0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    )  # log p of token i with c masked: value[i] * c
    elbo = float(value.sum()) * (m + 1) / 2

    def views() -> list[View]:
        return antithetic(rollout, torch.Generator().manual_seed(4))

    def masked(view: View) -> torch.Tensor:
        return view.tokens[:, -7:] == rollout.mask_id

    def off(factor: float) -> bool:
        estimate = sum(
            (v.weight * v.scored * value * masked(v).sum(1, keepdim=True)).sum(1) for v in views()
        )
        return abs(float(estimate.mean()) - factor * elbo) > 5 * float(estimate.std()) / 4000**0.5

    judge(
        "exercise 3",
        result_of(antithetic, rollout, torch.Generator().manual_seed(4)),
        [
            (lambda: not callable(antithetic), "pass the function itself, not what it returns"),
            (
                lambda: (
                    not isinstance(views(), list) or not all(isinstance(v, View) for v in views())
                ),
                "return a list of views; masked_view makes one",
            ),
            (lambda: len(views()) != 2, "return two views"),
            (
                lambda: any(bool(masked(v)[:, 1].any()) for v in views()),
                "a given token is masked: use rollout.sampled",
            ),
            (
                lambda: any(bool((v.scored != masked(v)).any()) for v in views()),
                "score exactly the tokens that are masked",
            ),
            (
                lambda: bool(
                    (masked(views()[0]).sum(1) + masked(views()[1]).sum(1) != m + 1).any()
                ),
                "the two counts of a row must sum to m + 1",
            ),
            (
                lambda: len(set(masked(views()[0]).sum(1).tolist())) < m,
                "draw the count anew for each row, from 1 to m",
            ),
            (lambda: not off(2.0), "the mean is twice the ELBO: two views, so each counts half"),
            (
                lambda: off(1.0),
                "the mean of the estimate is not the ELBO: each view weighs its tokens by m / (2 "
                "* its count)",
            ),
        ],
    )
