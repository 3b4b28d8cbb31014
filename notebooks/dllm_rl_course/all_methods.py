"""The exercises of *All methods, same budget*: an interval over seeds, accuracy at an equal budget,
the price of a step."""

from __future__ import annotations

import itertools

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """Half width of the 95 % interval of the mean of three accuracies 40, 50, 60, in points (t with
    2 degrees: 4.303)."""
    s, root = 10.0, 3**0.5
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not differs(answer, 1.96 * s / root, 0.2),
                "with three seeds the normal 1.96 is far too small: take t = 4.303",
            ),
            (
                lambda: not differs(answer, 4.303 * s, 0.2),
                "that is the spread of one run; the mean of three is divided by sqrt(3)",
            ),
            (
                lambda: not differs(answer, 4.303 * (200 / 3) ** 0.5 / root, 0.2),
                "the standard deviation needs n - 1 = 2 below the line, not 3",
            ),
            (
                lambda: not differs(answer, 4.303 * s / 3, 0.2),
                "divide by the square root of the number of seeds, not by the number",
            ),
            (
                lambda: not differs(answer, 2 * 4.303 * s / root, 0.3),
                "that is the whole interval: give half of it",
            ),
            (
                lambda: differs(answer, 4.303 * s / root, 0.2),
                "t times the standard deviation (10), divided by sqrt(3)",
            ),
        ],
    )


def exercise_2(at_budget) -> None:
    """at_budget(rows, budget): accuracy of a log at a budget of forward passes, linear between
    evaluations."""

    def log(*points):
        return [{"forwards": float(f), "eval_accuracy": a} for f, a in points]

    rows = log((0, 0.2), (10, None), (20, 0.4), (30, ""), (40, 0.3))
    cases = [(0, 0.2), (5, 0.25), (10, 0.3), (20, 0.4), (30, 0.35), (40, 0.3)]
    outcome = (
        attempt(lambda: [at_budget([dict(r) for r in rows], b) for b, _ in cases])
        if callable(at_budget)
        else None
    )
    beyond = attempt(at_budget, [dict(r) for r in rows], 41) if callable(at_budget) else None

    def gives(*values) -> bool:
        return all(not differs(got, v, 1e-9) for got, v in zip(outcome, values, strict=True))

    judge(
        "exercise 2",
        outcome[0] if isinstance(outcome, list) else at_budget if outcome is None else outcome,
        [
            (lambda: not callable(at_budget), "pass the function itself, not what it returns"),
            (
                lambda: isinstance(outcome, TypeError),
                "rows without an evaluation hold None or an empty text: leave them out",
            ),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some budgets it returns None"),
            (
                lambda: gives(0.2, 0.2, 0.2, 0.4, 0.4, 0.3),
                "that is the last evaluation before: go along the line to the next",
            ),
            (
                lambda: gives(0.2, 0.4, 0.4, 0.4, 0.3, 0.3),
                "that is the next evaluation: the run had not got there yet",
            ),
            (
                lambda: gives(0.3, 0.3, 0.3, 0.3, 0.3, 0.3),
                "that is the end of the run, whatever the budget",
            ),
            (
                lambda: gives(0.2, 0.25, 0.3, 0.4, 0.4, 0.4),
                "that is the best so far: choosing the best evaluation is choosing on the answer",
            ),
            (
                lambda: not gives(*(w for _, w in cases)),
                "between two evaluations go along the straight line from one to the other",
            ),
            (
                lambda: (
                    not isinstance(beyond, Exception) and beyond is not None and beyond == beyond
                ),
                "beyond the last evaluation nothing is known: return None or raise, do not guess",
            ),
        ],
    )


def _price(steps: int, views: int, mu: int, kl: bool, texts: bool) -> int:
    return steps + mu * views * (1 + (mu > 1) + kl) + (texts * views * (mu - 1 + (kl and mu == 1)))


def exercise_3(price) -> None:
    """price(steps, views, mu, kl, texts): forward passes of one row in one batch, no row left
    out."""
    cases = list(itertools.product((8, 12), (1, 3), (1, 2, 4), (False, True), (False, True)))
    outcome = attempt(lambda: [price(*c) for c in cases]) if callable(price) else None

    def follows(rule) -> bool:
        return all(not differs(got, rule(*c)) for got, c in zip(outcome, cases, strict=True))

    judge(
        "exercise 3",
        result_of(price, 8, 3, 2, True, True),
        [
            (lambda: not callable(price), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some settings it returns None"),
            (
                lambda: follows(lambda s, v, m, k, x: _price(s, v, m, k, x) - s),
                "the rollout's own steps are missing",
            ),
            (
                lambda: follows(lambda s, v, m, k, x: s + m * v),
                "old and reference scores, and the first phase of a loss of completions, cost too",
            ),
            (
                lambda: follows(
                    lambda s, v, m, k, x: s + m * v * (2 + k) + x * v * (m - 1 + (k and m == 1))
                ),
                "with mu = 1 the old policy is the current one: no pass for it",
            ),
            (
                lambda: follows(
                    lambda s, v, m, k, x: (
                        s + m * v * (1 + (m > 1)) + x * v * (m - 1 + (k and m == 1))
                    )
                ),
                "the penalty needs the reference's score of every view",
            ),
            (
                lambda: follows(lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k)),
                "a loss of completions computes each estimate once more, without gradient, before "
                "it can back-propagate",
            ),
            (
                lambda: follows(lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k) + x * v * m),
                "the first update has its estimates already where mu > 1, and needs none where mu "
                "= 1 and there is no penalty",
            ),
            (
                lambda: follows(
                    lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k) + x * v * (m - 1)
                ),
                "a single update with a penalty has no stored estimates: one more pass a view",
            ),
            (
                lambda: not follows(_price),
                "price(8, 1, 2, True, False) is 8 + 2 * (1 + 1 + 1) = 14; price(8, 3, 2, False, "
                "True) is 8 + 12 + 3 = 23",
            ),
        ],
    )
