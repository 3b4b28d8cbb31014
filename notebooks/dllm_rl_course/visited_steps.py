"""The exercises of *Visited steps*: weights of sampled steps, what a prediction gained, a law
without a tail."""

from __future__ import annotations

import torch

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Entropies 0.6, 0.3, 0.1, 0 over four steps, k = 2: weights (any step under uniform, steps 0
    and 2 under entropy)."""
    right = (2.0, 1 / 1.2, 5.0)
    chance = (0.25, 0.6, 0.1)

    def all_are(*values: float) -> bool:
        return all(not differs(a, v, 6e-3) for a, v in zip(answer, values, strict=True))

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (weight under uniform, of step 0 under entropy, of step 2 "
                "under entropy)",
            ),
            (
                lambda: all_are(*chance),
                "those are the chances p; a step that is drawn rarely must count for more, not "
                "for less",
            ),
            (
                lambda: all_are(*(1 / p for p in chance)),
                "that is 1 / p, right for one draw; with k = 2 draws each counts half of it",
            ),
            (
                lambda: all_are(*(1 / (4 * p) for p in chance)),
                "that is (1 / T) / p, the weight of the release: it means over steps, and divides "
                "by k later",
            ),
            (
                lambda: all_are(*(1 / (8 * p) for p in chance)),
                "divided by T = 4 as well: that estimates the mean over steps, asked is the sum",
            ),
            (
                lambda: all_are(*(2 / p for p in chance)),
                "k belongs below the line: k draws must not count k times",
            ),
            (
                lambda: all_are(right[0], right[2], right[1]),
                "the last two are swapped: which step is drawn more often?",
            ),
            (
                lambda: differs(answer[0], right[0], 6e-3),
                "uniform: each of 4 steps has p = 1/4, and the weight is 1 / (k p)",
            ),
            (
                lambda: differs(answer[1], right[1], 6e-3),
                "step 0: its share of the entropy is 0.6, and the weight is 1 / (k p)",
            ),
            (
                lambda: differs(answer[2], right[2], 6e-3),
                "step 2: its share of the entropy is 0.1, and the weight is 1 / (k p)",
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
    """step_gain(rewards) of one text, (T,) -> (T,): MDPO's a_t, before siblings are compared."""
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
                "return one number a step: the shape of rewards, also for a text of one step",
            ),
            (
                lambda: not follows() and follows(shift=1.0, skip=1),
                "the release adds 1 as well, but it is the same for all siblings and their mean "
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


def exercise_3(defended) -> None:
    """defended(law, last, share), (N, T), (N,), number -> (N, T): the law mixed with a share of the
    uniform one."""
    generator = torch.Generator().manual_seed(12)
    last = torch.tensor([4, 6, 1, 5, 6])
    counted = torch.arange(6) < last[:, None]
    law = torch.rand(5, 6, generator=generator, dtype=torch.float64) ** 6 * counted
    law = law / law.sum(1, keepdim=True)
    uniform = counted / last[:, None].double()
    shares = (0.0, 0.1, 0.5, 1.0)
    outcome = (
        attempt(lambda: [defended(law.clone(), last.clone(), s) for s in shares])
        if callable(defended)
        else None
    )

    def follows(rule) -> bool:
        return all(
            not tensor_differs(o, rule(s), 1e-6) for o, s in zip(outcome, shares, strict=True)
        )

    def raised_floor(s: float, again: bool) -> torch.Tensor:
        value = torch.maximum(law, s * uniform)
        return value / value.sum(1, keepdim=True) if again else value

    judge(
        "exercise 3",
        result_of(defended, law.clone(), last.clone(), 0.1),
        [
            (lambda: not callable(defended), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some shares it returns None"),
            (
                lambda: any(torch.as_tensor(o).shape != law.shape for o in outcome),
                "return a law of the same shape, (N, T)",
            ),
            (
                lambda: any(bool(torch.as_tensor(o).isnan().any()) for o in outcome),
                "some of its chances are not numbers",
            ),
            (
                lambda: follows(lambda s: s * law + (1 - s) * uniform),
                "share is the uniform law's; you have it the other way",
            ),
            (
                lambda: (
                    follows(lambda s: (1 - s) * law + s / 6)
                    or any(bool((torch.as_tensor(o)[~counted] != 0).any()) for o in outcome)
                ),
                "steps from T_i on are never scored and must keep chance 0: spread the share over "
                "each text's own T_i steps",
            ),
            (
                lambda: follows(lambda s: law + s * uniform),
                "the chances sum to 1 + share: take (1 - share) of the law first",
            ),
            (
                lambda: follows(lambda s: raised_floor(s, False)),
                "lifting small chances leaves a sum above 1: mix instead",
            ),
            (
                lambda: follows(lambda s: raised_floor(s, True)),
                "after dividing by the sum again a chance can be below share / T_i: mix instead "
                "of lifting",
            ),
            (lambda: follows(lambda s: law), "the share is not used: small chances stay small"),
            (
                lambda: not follows(lambda s: (1 - s) * law + s * uniform),
                "with share s every counted step must have chance (1 - s) p + s / T_i",
            ),
        ],
    )
