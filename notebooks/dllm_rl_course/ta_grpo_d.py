"""The exercises of *TA-GRPO-d*: a lone failure's credit, passes of a gate, speed among equals."""

from __future__ import annotations

from math import comb

import torch

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Lone failure of 4, 2 of 16 tokens in its first pass: (its z, their credit at delta 1, largest
    safe delta of 8)."""
    z, m, a = -1.5, 14 / 16, -0.75
    right = (z, a * (1 + z * m), 8**0.5 / 7)

    def is_at(i: int, value: float) -> bool:
        return not differs(answer[i], value, 6e-3)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (z of the wrong one, credit of its first tokens, largest "
                "delta of a group of eight)",
            ),
            (lambda: is_at(0, 1.5), "z: its area is the smallest, so z is negative"),
            (
                lambda: is_at(0, -(3**0.5)),
                "z: the standard deviation has G - 1 = 3 below the line, not G",
            ),
            (
                lambda: is_at(0, -0.75),
                "that is A; z also divides by the standard deviation of the areas",
            ),
            (
                lambda: differs(answer[0], right[0], 6e-3),
                "z: take areas 1, 1, 1, 0: mean 3/4, standard deviation 1/2",
            ),
            (
                lambda: is_at(1, 1 + z * m),
                "that is the factor; the credit is A times it, with A = 0 - 3/4",
            ),
            (
                lambda: is_at(1, a * (1 + z)),
                "m is what is left *after* the pass: 14 of 16, not all",
            ),
            (
                lambda: is_at(1, a * (1 + z * 2 / 16)),
                "m is the share still masked, 14/16, not the share written",
            ),
            (
                lambda: is_at(1, -right[1]),
                "A is negative and the factor is negative too: what is the sign of the product?",
            ),
            (
                lambda: is_at(1, -1 * (1 + z * m)),
                "A is the reward minus the mean of all four: 0 - 3/4",
            ),
            (
                lambda: differs(answer[1], right[1], 6e-3),
                "the credit is A (1 + z m) with A = -3/4, m = 14/16",
            ),
            (
                lambda: is_at(2, 2 / 3),
                "that is 1 / 1.5, for a group of four; asked is a group of eight",
            ),
            (
                lambda: is_at(2, 7 / 8**0.5),
                "that is the largest |z|; delta must not exceed its inverse",
            ),
            (lambda: is_at(2, 1 / 7), "the bound is (G - 1) / sqrt(G), not G - 1"),
            (
                lambda: differs(answer[2], right[2], 6e-3),
                "delta |z| m <= 1 with m below 1 and |z| up to 7 / sqrt(8)",
            ),
        ],
    )


def _passes(
    n: int,
    c: float,
    tau: float = 0.7,
    kappa: float = 0.5,
    top_up: bool = True,
    kappa_used: bool = True,
) -> float:
    """Expected passes of the gate on n equally sure blanks, or with a likely mistake."""
    p = (max(c - tau, 0.0) / (1 - tau)) ** (kappa if kappa_used else 1.0)
    expected = [0.0]
    for left in range(1, n + 1):
        chance = [comb(left, k) * p**k * (1 - p) ** (left - k) for k in range(left + 1)]
        if top_up:
            chance[1], chance[0] = chance[1] + chance[0], 0.0
        later = sum(chance[k] * expected[left - k] for k in range(1, left + 1))
        expected.append((1 + later) / (1 - chance[0]) if chance[0] < 1 else float("inf"))
    return expected[n]


def exercise_2(expected_passes) -> None:
    """expected_passes(n, c, tau, kappa): mean passes of the gate on n blanks that are all equally
    sure at every pass."""
    cases = [(1, 0.9), (2, 0.9), (16, 0.8), (16, 0.999999), (8, 0.75), (0, 0.9)]
    outcome, low, other = (
        attempt(f) if callable(expected_passes) else None
        for f in (
            lambda: [expected_passes(n, c) for n, c in cases],
            lambda: expected_passes(4, 0.6),
            lambda: expected_passes(6, 0.8, 0.5, 1.0),
        )
    )

    def follows(**mistake) -> bool:
        return all(
            not differs(o, _passes(n, c, **mistake), 1e-5)
            for o, (n, c) in zip(outcome, cases, strict=True)
        )

    judge(
        "exercise 2",
        result_of(expected_passes, 4, 0.9),
        [
            (
                lambda: not callable(expected_passes),
                "pass the function itself, not what it returns",
            ),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some n and c it returns None"),
            (lambda: differs(outcome[5], 0.0), "no blanks need no pass: E(0) = 0"),
            (
                lambda: follows(top_up=False),
                "that waits until somebody passes: where none does, the surest is written, so k = "
                "0 counts as k = 1",
            ),
            (
                lambda: differs(outcome[0], 1.0),
                "one blank takes one pass, however unsure: nobody else is surer",
            ),
            (lambda: raised(low), ""),
            (
                lambda: differs(low, 4.0),
                "below tau nobody passes, so one is written a pass: 4 blanks at c = 0.6 take 4 "
                "passes",
            ),
            (
                lambda: follows(kappa_used=False),
                "the chance is ((c - tau) / (1 - tau)) ** kappa, with kappa = 0.5",
            ),
            (
                lambda: not differs(outcome[1], 1 + (1 - (0.2 / 0.3) ** 0.5), 1e-6),
                "two blanks are done in one pass only if *both* pass: chance p squared",
            ),
            (
                lambda: not follows(),
                "2 blanks at c = 0.9 must take 1.333 passes: 1, plus 1 unless both pass (2/3)",
            ),
            (lambda: raised(other), ""),
            (
                lambda: differs(other, _passes(6, 0.8, 0.5, 1.0), 1e-6),
                "tau and kappa are not used as they are passed",
            ),
        ],
    )


def _among(
    area: torch.Tensor,
    final: torch.Tensor,
    unbiased: bool = True,
    divide: bool = True,
    split: bool = True,
) -> torch.Tensor:
    """z of the area among siblings of the same final reward, or a likely mistake."""
    out = torch.zeros_like(area)
    for b in range(area.shape[0]):
        for value in final[b].unique() if split else (None,):
            who = final[b] == value if split else torch.ones_like(final[b]).bool()
            x = area[b, who]
            if len(x) > 1 and bool((x != x[0]).any()):
                out[b, who] = (x - x.mean()) / (x.std(unbiased=unbiased) if divide else 1.0)
    return out


def exercise_3(speed_among_equals) -> None:
    """speed_among_equals(area, final), (B, G) each -> (B, G): a z-score among siblings with the
    same final reward."""
    area = torch.tensor(
        [
            [4, 2, 1, 0, 0, 3],
            [3, 3, 3, 3, 3, 0],
            [1, 2, 3, 4, 5, 6],
            [0, 0, 0, 0, 0, 0],
            [2, 5, 2, 0, 1, 0],
        ],
        dtype=torch.float64,
    )
    final = torch.tensor(
        [
            [1, 1, 1, 0, 0, 1],
            [1, 1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
        ],
        dtype=torch.float64,
    )
    outcome = (
        attempt(lambda: speed_among_equals(area.clone(), final.clone()))
        if callable(speed_among_equals)
        else None
    )

    def follows(wanted: torch.Tensor, rows=slice(None)) -> bool:
        return not tensor_differs(torch.as_tensor(outcome)[rows], wanted[rows], 1e-5)

    judge(
        "exercise 3",
        result_of(speed_among_equals, area.clone(), final.clone()),
        [
            (
                lambda: not callable(speed_among_equals),
                "pass the function itself, not what it returns",
            ),
            (lambda: raised(outcome), ""),
            (
                lambda: torch.as_tensor(outcome).shape != area.shape,
                "return one score a sibling: the shape of area, (B, G)",
            ),
            (
                lambda: bool(torch.as_tensor(outcome).isnan().any()),
                "some scores are not numbers: where areas are equal, or one is alone, 0 / 0 must "
                "become 0",
            ),
            (
                lambda: bool(torch.as_tensor(outcome).isinf().any()),
                "some scores are infinite: divide only where areas differ",
            ),
            (
                lambda: follows(_among(area, final, split=False)),
                "that is z among all siblings: compare only those with the same final reward",
            ),
            (
                lambda: follows(_among(area, final, divide=False)),
                "divide by the standard deviation of the same siblings",
            ),
            (
                lambda: follows(_among(area, final, unbiased=False)),
                "the standard deviation has count - 1 below the line",
            ),
            (
                lambda: follows(_among(area, final) * (final > 0)),
                "the wrong ones may be compared among themselves as well",
            ),
            (lambda: follows(-_among(area, final)), "the sign is wrong: a larger area is better"),
            (
                lambda: not follows(_among(area, final)),
                "areas 4, 2, 1, 3 of the right ones and 0, 0 of the wrong ones must give 1.16, "
                "-0.39, -1.16, 0.39 and 0, 0",
            ),
        ],
    )
