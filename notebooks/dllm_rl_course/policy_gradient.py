"""The exercises of *Policy gradient from nothing*: slopes by hand, the leave-one-out loss, and
what tokens alone leave out."""

from __future__ import annotations

import torch

from .verdict import differs, judge, result_of


def exercise_1(answer) -> None:
    """Slopes of the expected reward by the logits of three letters: p = (0.6, 0.3, 0.1), rewards
    (1, 0, 2)."""
    p, r = (0.6, 0.3, 0.1), (1.0, 0.0, 2.0)
    mean = sum(x * y for x, y in zip(p, r, strict=True))

    def is_like(*values: float) -> bool:
        return not any(differs(a, v, 2e-3) for a, v in zip(answer, values, strict=True))

    wanted = [x * (y - mean) for x, y in zip(p, r, strict=True)]
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: the slopes of A, B, C",
            ),
            (
                lambda: is_like(*[-w for w in wanted]),
                "all signs are flipped: a letter with more reward than J goes up",
            ),
            (
                lambda: is_like(*[y - mean for y in r]),
                "these are the advantages r - J; each also counts with its probability",
            ),
            (
                lambda: is_like(*[x * y for x, y in zip(p, r, strict=True)]),
                "the baseline is missing: logits compete, so what counts is reward minus J",
            ),
            (
                lambda: is_like(*[x * (y - 1) for x, y in zip(p, r, strict=True)]),
                "1 is the plain mean of the rewards; J weighs them by p",
            ),
            (
                lambda: is_like(*[x * (1 - x) * y for x, y in zip(p, r, strict=True)]),
                "a letter's reward also moves the other logits: its score has three entries",
            ),
            (
                lambda: not is_like(*wanted) and differs(sum(float(a) for a in answer), 0, 2e-3),
                "the three slopes must sum to zero: adding a constant to all logits changes "
                "nothing",
            ),
            (lambda: not is_like(*wanted), "the slope of a letter is p (r - J); what is J?"),
        ],
    )


def exercise_2(leave_one_out_loss) -> None:
    """leave_one_out_loss(logp (B, G), rewards (B, G)) -> a scalar; minimising it is REINFORCE with
    that baseline."""
    generator = torch.Generator().manual_seed(5)
    r = torch.rand(3, 4, generator=generator).double()
    start = -5 * torch.rand(3, 4, generator=generator).double()
    others = (r.sum(1, keepdim=True) - r) / 3
    wanted = r - others

    def loss():
        logp = start.clone().requires_grad_()
        return leave_one_out_loss(logp, r.clone()), logp

    def slope() -> torch.Tensor:
        value, logp = loss()
        return torch.autograd.grad(value, logp, allow_unused=True)[0]

    def same(credit: torch.Tensor, scale: float = 1 / 12) -> bool:
        return bool((slope() + scale * credit).abs().max() < 1e-7)

    def equal(a: torch.Tensor) -> torch.Tensor:
        return a.expand_as(r)

    judge(
        "exercise 2",
        result_of(lambda: loss()[0]) if callable(leave_one_out_loss) else leave_one_out_loss,
        [
            (
                lambda: not callable(leave_one_out_loss),
                "pass the function itself, not what it returns",
            ),
            (
                lambda: not isinstance(loss()[0], torch.Tensor),
                "return a tensor: autograd must be able to go through it",
            ),
            (lambda: loss()[0].ndim != 0, "return one number: the mean over all rollouts"),
            (
                lambda: not loss()[0].requires_grad or slope() is None,
                "no gradient reaches logp: is it detached, or left out?",
            ),
            (lambda: same(-wanted), "the sign: a loss is minimised, and reward should go up"),
            (
                lambda: same(r - equal(r.mean(1, keepdim=True))),
                "the mean includes the rollout itself, which shrinks the gradient by (G - 1) / G: "
                "leave it out",
            ),
            (lambda: same(r), "there is no baseline: subtract the mean of the siblings' rewards"),
            (lambda: same(wanted, 1.0), "this is the sum over rollouts; take the mean"),
            (
                lambda: same(wanted, 1 / 3) or same(wanted, 1 / 4),
                "divide by all B * G rollouts, not by B or G alone",
            ),
            (
                lambda: (
                    same(r - equal(r.mean(0, keepdim=True)))
                    or same(r - (r.sum(0, keepdim=True) - r) / 2)
                ),
                "the siblings are the G rollouts of one row: average over dimension 1",
            ),
            (
                lambda: same(r - r.mean()) or same(r - (r.sum() - r) / 11),
                "the baseline is taken over the whole batch; siblings answer the same prompt: one "
                "row",
            ),
            (
                lambda: (
                    same(wanted / r.std(1, keepdim=True))
                    or same((r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True))
                ),
                "no division by the spread here: it changes the gradient's length from group to "
                "group",
            ),
            (lambda: same(equal(others)), "this is the baseline alone: reward minus it"),
            (
                lambda: not same(wanted),
                "its gradient is not the mean of (r - mean of the siblings) times grad logp",
            ),
            (
                lambda: _through_rewards(leave_one_out_loss, start, r),
                "it changes the rewards that it was given",
            ),
        ],
    )


def _through_rewards(function, start: torch.Tensor, r: torch.Tensor) -> bool:
    given = r.clone()
    function(start.clone().requires_grad_(), given)
    return not torch.equal(given, r)


CASES = [
    (0.6, 0.8, 1.0, 0.1),
    (0.8, 0.6, 0.9, 0.3),
    (0.45, 0.4, 0.7, 0.9),
    (0.3, 0.4, 1.0, 0.8),
    (0.7, 0.9, 0.5, 0.9),
]


def toy_slopes(alpha: float, beta: float, rho: float, sigma: float) -> tuple[float, float]:
    """(dJ/dbeta, the slope through tokens alone) of the two-blank toy of exercise 05.3; no ties."""
    b_loses = (beta if beta < alpha else 0) + (
        1 - beta if 1 - beta < alpha else 0
    )  # to a right candidate of a
    a_loses = (alpha if alpha < beta else 0) + (
        1 - alpha if 1 - alpha < beta else 0
    )  # to a right candidate of b
    by_position = alpha * rho * ((beta < alpha) - (1 - beta < alpha)) if 0 < b_loses < 1 else 0.0
    return a_loses * sigma + by_position, a_loses * sigma


def exercise_3(slopes_of_b) -> None:
    """slopes_of_b(alpha, beta, rho, sigma) -> (exact dJ/dbeta, what the tokens alone give), in the
    two-blank toy."""

    def got() -> list[tuple[float, float]]:
        return [tuple(float(v) for v in slopes_of_b(*case)) for case in CASES]

    def same(candidate) -> bool:
        return not any(
            differs(g, w, 1e-5)
            for a, case in zip(got(), CASES, strict=True)
            for g, w in zip(a, candidate(*case), strict=True)
        )

    def half_right(i: int) -> bool:
        return not any(
            differs(a[i], toy_slopes(*case)[i], 1e-5) for a, case in zip(got(), CASES, strict=True)
        )

    def swapped(*case):
        return toy_slopes(*case)[::-1]

    judge(
        "exercise 3",
        result_of(slopes_of_b, *CASES[0]),
        [
            (lambda: not callable(slopes_of_b), "pass the function itself, not what it returns"),
            (lambda: any(len(a) != 2 for a in got()), "return two numbers: (exact, tokens alone)"),
            (lambda: same(swapped), "the two numbers are swapped"),
            (
                lambda: same(lambda *c: (toy_slopes(*c)[0],) * 2),
                "both are the exact slope: for the second, hold fixed which blank is revealed",
            ),
            (
                lambda: same(lambda *c: (toy_slopes(*c)[1],) * 2),
                "both come from tokens alone: beta also decides how often b's candidate loses to "
                "a's",
            ),
            (
                lambda: same(lambda *c: (c[3] / 2, c[3] / 2)),
                "that is random order; here the surer candidate is revealed",
            ),
            (
                lambda: same(lambda *c: tuple(-v for v in toy_slopes(*c))),
                "the sign: J is to be climbed",
            ),
            (
                lambda: (
                    same(lambda *c: tuple(v * c[1] for v in toy_slopes(*c)))
                    or same(lambda *c: (toy_slopes(*c)[0], toy_slopes(*c)[1] * c[1]))
                ),
                "the slope of beta times something is that something: do not multiply by beta "
                "again",
            ),
            (
                lambda: same(lambda *c: (toy_slopes(*c)[0], 0.0)),
                "tokens alone is not zero: when b is revealed first, its token is scored",
            ),
            (
                lambda: half_right(0) and not half_right(1),
                "the exact slope is right; the other one leaves out how often b's candidate loses "
                "to a's, and nothing else",
            ),
            (
                lambda: half_right(1) and not half_right(0),
                "the slope of tokens alone is right; to the exact one, add what beta does to the "
                "chance that a comes first",
            ),
            (
                lambda: not same(toy_slopes),
                "list the four pairs of candidates: who is revealed, and is the text then right?",
            ),
        ],
    )
