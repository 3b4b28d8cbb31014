"""The exercises of *Fewer passes, the same distribution*: which drafts stay, and how often."""

from __future__ import annotations

import torch

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """(probability that draft B stays, that any draft stays, that A follows a rejection)."""

    def is_(place: int, *values: float) -> bool:
        return any(not differs(answer[place], value, 2e-3) for value in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (draft B stays, a draft stays, A after a rejection)",
            ),
            (
                lambda: any(not 0 <= float(value) <= 1 for value in answer),
                "probabilities lie between 0 and 1: write 0.25, not 25",
            ),
            (
                lambda: is_(0, 1),
                "the drafter writes B more often than the model does, so B cannot always stay",
            ),
            (lambda: is_(0, 0.3), "0.3 is B's share of kept drafts; given that the draft is B?"),
            (lambda: not is_(0, 0.5), "a draft B stays with min(1, p(B) / p~(B))"),
            (
                lambda: is_(1, 0.5),
                "that is for a draft B; drafts A and C come too, and they always stay",
            ),
            (lambda: is_(1, 5 / 6), "the drafts are not equally likely: B comes with 0.6"),
            (lambda: is_(1, 0.3), "that is the probability of a rejection"),
            (
                lambda: not is_(1, 0.7),
                "sum over letters: the smaller of its two probabilities",
            ),
            (
                lambda: is_(2, 0.5, 0.3),
                "not the model's p(A), nor p(A) - p~(A): what the model has more of is normalised",
            ),
            (
                lambda: not is_(2, 1),
                "which letters does the model like more than the drafter does?",
            ),
        ],
    )


def exercise_2(tokens_per_call) -> None:
    """tokens_per_call(a, k) -> the mean number of tokens that a call of k canvases writes."""
    cases = [(a, k) for a in (0.0, 0.3, 0.8, 1.0) for k in (1, 2, 5)]
    outcomes = [attempt(tokens_per_call, a, k) for a, k in cases]

    def is_(value) -> bool:
        wanted = [value(a, k) for a, k in cases]
        return not any(
            raised(got) or differs(got, want) for got, want in zip(outcomes, wanted, strict=True)
        )

    judge(
        "exercise 2",
        result_of(tokens_per_call, 0.8, 5),
        [
            (
                lambda: not callable(tokens_per_call),
                "pass the function itself, not what it returns",
            ),
            (
                lambda: isinstance(outcomes[-1], ZeroDivisionError),
                "it divides by zero where every draft stays (a = 1)",
            ),
            (
                lambda: is_(lambda a, k: _at_least_one(a, k) - 1),
                "the model's own token counts as well: a call writes at least one",
            ),
            (
                lambda: is_(lambda a, k: 1 + (k - 1) * a),
                "a draft counts only if all drafts before it have stayed",
            ),
            (
                lambda: is_(lambda a, k: _at_least_one(a, k + 1)),
                "k canvases have k - 1 drafts: the last canvas writes the model's own token",
            ),
            (
                lambda: not is_(_at_least_one),
                "sum over i from 0 to k - 1 the probability that the first i drafts stay",
            ),
        ],
    )


def exercise_3(agreement) -> None:
    """agreement(wanted (V,), drafted (V,)) -> P(draft = final token) if both are drawn with the
    same exponential noise."""
    g = torch.Generator().manual_seed(3)
    pairs = [torch.rand(2, n, generator=g, dtype=torch.float64) + 0.05 for n in (2, 3, 6)]
    pairs = [pair / pair.sum(1, keepdim=True) for pair in pairs]
    outcomes = [attempt(agreement, pair[0].clone(), pair[1].clone()) for pair in pairs]

    def is_(value) -> bool:
        wanted = [float(value(pair[0], pair[1])) for pair in pairs]
        return not any(
            raised(got) or differs(got, want, 1e-6)
            for got, want in zip(outcomes, wanted, strict=True)
        )

    judge(
        "exercise 3",
        result_of(agreement, pairs[0][0].clone(), pairs[0][1].clone()),
        [
            (lambda: not callable(agreement), "pass the function itself, not what it returns"),
            (
                lambda: is_(lambda p, q: torch.minimum(p, q).sum()),
                "that is accept/reject, the best that any coupling can do; shared noise does less",
            ),
            (
                lambda: is_(lambda p, q: (p * q).sum()),
                "that is for noise of their own: here both use the same numbers",
            ),
            (
                lambda: is_(lambda p, q: _race(p, q, 0.0)),
                "the letter v is in the race too: its own term is 1",
            ),
            (
                lambda: not is_(lambda p, q: _race(p, q, 1.0)),
                "for each v: 1 / (sum over all u of the larger of p(u)/p(v) and p~(u)/p~(v)); "
                "then the sum over v",
            ),
        ],
    )


def _at_least_one(a: float, k: int) -> float:
    return sum(a**i for i in range(k))


def _race(p: torch.Tensor, q: torch.Tensor, own: float) -> torch.Tensor:
    """Sum over v of 1 / (own + the sum over the other u of the larger ratio)."""
    ratio = torch.maximum(p[:, None] / p, q[:, None] / q)  # (u, v)
    return (1 / (ratio.sum(0) - 1 + own)).sum()
