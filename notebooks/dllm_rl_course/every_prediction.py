"""The exercises of *Every prediction rewarded*: the sign of a step's credit, what a prediction
gained, a constant credit under confident weights."""

from __future__ import annotations

import torch

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Rewards 1, 1, 1 and 0, 0, 1: the signs of the second completion's credit at the three
    steps."""

    def is_one_of(*wanted: tuple[int, int, int]) -> bool:
        return any(
            all(not differs(a, w) for a, w in zip(answer, signs, strict=True)) for signs in wanted
        )

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers, each -1, 0 or 1: (step 0, step 1, step 2)",
            ),
            (
                lambda: any(all(differs(a, sign) for sign in (-1, 0, 1)) for a in answer),
                "give the signs alone: each is -1, 0 or 1",
            ),
            (lambda: is_one_of((1, 0, -1)), "that is the first completion's: turn the signs round"),
            (
                lambda: is_one_of((-1, -1, 0)),
                "that compares the rewards; the credit compares what a prediction gained and how "
                "it goes on",
            ),
            (
                lambda: differs(answer[0], -1),
                "step 0: the first completion has 1 + 1, the second 0 + 1/2",
            ),
            (
                lambda: differs(answer[1], 0),
                "step 1: neither gains anything, and both have the same last step ahead",
            ),
            (
                lambda: differs(answer[2], 1),
                "step 2: both are right, but only the second completion gained that here",
            ),
        ],
    )


def _gain(
    r: torch.Tensor,
    own: bool = False,
    total: bool = False,
    over_all: bool = False,
    outlook: bool = True,
    first: bool = True,
    last: bool = True,
    gain: bool = True,
    sign: float = 1.0,
) -> torch.Tensor:
    """What a prediction gained plus its outlook, or a likely mistake."""
    t = len(r)
    out = torch.zeros(t, dtype=torch.float64)
    for i in range(t):
        if gain:
            out[i] = sign * (r[i] - (r[i - 1] if i else (0.0 if first else r[0])))
        later = r[i if own else i + 1 :]
        if outlook and len(later):
            out[i] += later.sum() / (1 if total else t if over_all else len(later))
        elif outlook and last:
            out[i] += r[i]
    return out


def exercise_2(step_gain) -> None:
    """step_gain(rewards) of one completion, (T,) -> (T,): MDPO's a_s, before it is compared with
    the group."""
    generator = torch.Generator().manual_seed(11)
    cases = [
        torch.tensor(x, dtype=torch.float64)
        for x in ([0, 1, 1], [1, 0, 0], [0, 1, 0, 1, 1], [1], [0.5, 0.25])
    ]
    cases.append(torch.rand(7, generator=generator, dtype=torch.float64))
    outcome = (
        attempt(lambda: [step_gain(c.clone()) for c in cases]) if callable(step_gain) else None
    )

    def follows(shift: float = 0.0, skip: int = 0, **mistake) -> bool:
        return all(
            not tensor_differs(torch.as_tensor(o)[skip:], _gain(c, **mistake)[skip:] + shift, 1e-5)
            for o, c in zip(outcome, cases, strict=True)
            if len(c) > skip
        )

    judge(
        "exercise 2",
        result_of(step_gain, cases[2].clone()),
        [
            (lambda: not callable(step_gain), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some rewards it returns None"),
            (
                lambda: any(
                    torch.as_tensor(o).shape != c.shape for o, c in zip(outcome, cases, strict=True)
                ),
                "return one number a step: the shape of rewards, also for one step",
            ),
            (
                lambda: not follows() and follows(shift=1.0, skip=1),
                "the release adds 1 as well, but it is the same for the whole group, and its mean "
                "takes it out: leave it away",
            ),
            (
                lambda: follows(own=True),
                "the outlook looks at later steps only: the reward of the step itself is in it",
            ),
            (
                lambda: follows(total=True),
                "the outlook is a mean over the later steps, not their sum",
            ),
            (lambda: follows(over_all=True), "divide by the number of later steps, not by T"),
            (
                lambda: follows(outlook=False),
                "the gain alone: add the outlook, the mean of the later rewards",
            ),
            (lambda: follows(gain=False), "the outlook alone: add the gain r_t - r_(t-1)"),
            (
                lambda: follows(first=False),
                "before the first step there is no prediction: r_(-1) = 0, so its gain is r_0",
            ),
            (
                lambda: follows(last=False),
                "the last step has no later one: its outlook is its own reward",
            ),
            (
                lambda: follows(sign=-1.0),
                "the gain has the wrong sign: r_t minus the reward before it",
            ),
            (
                lambda: not follows(),
                "rewards 0, 1, 1 must give 1, 2, 1: work the three steps by hand",
            ),
        ],
    )


def exercise_3(constant_credit) -> None:
    """constant_credit(p), (V,) -> (V,): the mean of p_v times the gradient of log p_v on the
    logits."""
    generator = torch.Generator().manual_seed(13)
    cases = [torch.tensor(x, dtype=torch.float64) for x in ([0.6, 0.3, 0.1], [0.5, 0.5], [1.0])]
    cases.append(torch.randn(7, generator=generator, dtype=torch.float64).softmax(0))
    outcome = (
        attempt(lambda: [constant_credit(c.clone()) for c in cases])
        if callable(constant_credit)
        else None
    )

    def follows(rule) -> bool:
        return all(
            not tensor_differs(o, rule(c), 1e-6) for o, c in zip(outcome, cases, strict=True)
        )

    def mean_gradient(p: torch.Tensor) -> torch.Tensor:
        return p * (p - p.square().sum())

    judge(
        "exercise 3",
        result_of(constant_credit, cases[0].clone()),
        [
            (lambda: not callable(constant_credit), "pass the function itself, not its result"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some p it returns None"),
            (
                lambda: any(
                    torch.as_tensor(o).shape != c.shape for o, c in zip(outcome, cases, strict=True)
                ),
                "return one number a logit: the shape of p",
            ),
            (
                lambda: follows(torch.zeros_like),
                "that is the mean without the confidence: there a constant credit cancels; weight "
                "each token's gradient by its p_v",
            ),
            (
                lambda: follows(lambda p: p),
                "that is the gradient of sum p^2 / 2 with respect to p; asked is the one with "
                "respect to the logits",
            ),
            (
                lambda: follows(lambda p: p * (1 - p)),
                "raising a logit lowers the other probabilities: the terms with u != v are missing",
            ),
            (
                lambda: follows(lambda p: p.square()),
                "the part - p_u of the softmax's gradient is missing: subtract p_u times sum p_v^2",
            ),
            (
                lambda: follows(lambda p: p.square() * (1 - p)),
                "the terms with u != v are missing: drawing v lowers every other logit u",
            ),
            (
                lambda: follows(lambda p: 2 * mean_gradient(p)),
                "that is the gradient of sum p^2; the mean is half of it",
            ),
            (lambda: follows(lambda p: -mean_gradient(p)), "the sign is the wrong way round"),
            (
                lambda: not follows(mean_gradient),
                "p = (0.6, 0.3, 0.1) must give (0.084, -0.048, -0.036)",
            ),
        ],
    )
