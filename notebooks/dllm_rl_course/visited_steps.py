"""The exercises of *Visited steps*: weights of sampled steps, a distribution without a tail, equal
actions merged."""

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
                "those are the probabilities p; a step that is drawn rarely must count for more, "
                "not for less",
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


def exercise_2(defended) -> None:
    """defended(p, last, share), (N, T), (N,), number -> (N, T): the distribution mixed with a share
    of the uniform one."""
    generator = torch.Generator().manual_seed(12)
    last = torch.tensor([4, 6, 1, 5, 6])
    counted = torch.arange(6) < last[:, None]
    p = torch.rand(5, 6, generator=generator, dtype=torch.float64) ** 6 * counted
    p = p / p.sum(1, keepdim=True)
    uniform = counted / last[:, None].double()
    shares = (0.0, 0.1, 0.5, 1.0)
    outcome = (
        attempt(lambda: [defended(p.clone(), last.clone(), s) for s in shares])
        if callable(defended)
        else None
    )

    def follows(rule) -> bool:
        return all(
            not tensor_differs(o, rule(s), 1e-6) for o, s in zip(outcome, shares, strict=True)
        )

    def raised_floor(s: float, again: bool) -> torch.Tensor:
        value = torch.maximum(p, s * uniform)
        return value / value.sum(1, keepdim=True) if again else value

    judge(
        "exercise 2",
        result_of(defended, p.clone(), last.clone(), 0.1),
        [
            (lambda: not callable(defended), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some shares it returns None"),
            (
                lambda: any(torch.as_tensor(o).shape != p.shape for o in outcome),
                "return a distribution of the same shape, (N, T)",
            ),
            (
                lambda: any(bool(torch.as_tensor(o).isnan().any()) for o in outcome),
                "some of its probabilities are not numbers",
            ),
            (
                lambda: follows(lambda s: s * p + (1 - s) * uniform),
                "share belongs to the uniform distribution; you have it the other way",
            ),
            (
                lambda: (
                    follows(lambda s: (1 - s) * p + s / 6)
                    or any(bool((torch.as_tensor(o)[~counted] != 0).any()) for o in outcome)
                ),
                "steps from T_i on are never scored and must keep probability 0: spread the share "
                "over the T_i steps of each completion",
            ),
            (
                lambda: follows(lambda s: p + s * uniform),
                "the probabilities sum to 1 + share: take (1 - share) of p first",
            ),
            (
                lambda: follows(lambda s: raised_floor(s, False)),
                "lifting small probabilities leaves a sum above 1: mix instead",
            ),
            (
                lambda: follows(lambda s: raised_floor(s, True)),
                "after dividing by the sum again a probability can be below share / T_i: mix "
                "instead of lifting",
            ),
            (lambda: follows(lambda s: p), "the share is not used: small probabilities stay small"),
            (
                lambda: not follows(lambda s: (1 - s) * p + s * uniform),
                "with share s every counted step must have probability (1 - s) p + s / T_i",
            ),
        ],
    )


def _summed(
    paths: list,
    advantages: list[float],
    keep: float = 1e-9,
    mean: bool = False,
    part: int | None = None,
) -> dict:
    """The sum of the advantages of each (canvas, action), or a likely mistake."""
    found = {}
    for path, advantage in zip(paths, advantages, strict=True):
        for pair in path:
            key = pair if part is None else pair[part]
            found.setdefault(key, []).append(advantage)
    sums = {key: sum(taken) / (len(taken) if mean else 1) for key, taken in found.items()}
    return {key: value for key, value in sums.items() if abs(value) >= keep}


def _same(one, other: dict) -> bool:
    return set(one) == set(other) and all(not differs(one[k], other[k], 1e-12) for k in other)


def exercise_3(summed_advantages) -> None:
    """summed_advantages(paths, advantages): a list of (canvas, action) for each completion, and its
    advantage -> {(canvas, action): sum}, without the sums that are zero."""
    both = [("..", "a"), ("a.", "b")]
    cases = [
        ([both, both, [("..", "a"), ("a.", "c")], [("..", "d")]], [0.5, -0.5, 0.75, -0.75]),
        ([both, both, both], [0.1, 0.2, -0.3]),
        ([[("..", "a")], [("b.", "a")], [("..", "a")]], [0.5, -0.25, 0.5]),
        ([[], both], [-1.0, 1.0]),
    ]
    outcome = (
        attempt(lambda: [summed_advantages([list(p) for p in c], list(a)) for c, a in cases])
        if callable(summed_advantages)
        else None
    )

    def follows(**mistake) -> bool:
        wanted = [_summed(paths, advantages, **mistake) for paths, advantages in cases]
        return all(_same(o, w) for o, w in zip(outcome, wanted, strict=True))

    judge(
        "exercise 3",
        result_of(summed_advantages, *cases[0]),
        [
            (lambda: not callable(summed_advantages), "pass the function, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some groups it returns None"),
            (
                lambda: any(not isinstance(v, dict) for v in outcome),
                "return a dictionary: (canvas, action) -> sum of advantages",
            ),
            (
                lambda: follows(part=1) or follows(part=0),
                "the key is the pair: an action on another canvas has another gradient, and so "
                "has another action on this canvas",
            ),
            (
                lambda: follows(mean=True),
                "that is the mean over the completions that took it: equal gradients add up",
            ),
            (
                lambda: follows(keep=0.0),
                "pairs whose sum is zero have no gradient: leave them out, they cost a pass",
            ),
            (
                lambda: follows(keep=1e-300),
                "0.1 + 0.2 - 0.3 is not exactly 0 in floating point: leave out sums below 1e-9",
            ),
            (
                lambda: not follows(),
                "two completions that took a on .. with advantages 0.5 and -0.25 give "
                "{('..', 'a'): 0.25}",
            ),
        ],
    )
