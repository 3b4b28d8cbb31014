"""The exercises of *Which problem next?*: how many groups are drawn for one that is kept, the rows
of the widest spread, a baseline from the past; and the picture of where the passes went."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from .verdict import attempt, differs, judge, raised, result_of

KINDS = {
    "learnt from": "#0072B2",
    "all right": "#E69F00",
    "all wrong": "#999999",
    "not chosen": "#A6CEE3",
}


def draw_passes(panels: Mapping[str, tuple[Sequence[float], Sequence[str]]]) -> plt.Figure:
    """Bars of the canvases computed for each problem, coloured by what became of its group.

    Args:
        panels: title -> (canvases of each problem in the order of their draw, its kind, a key of
            `KINDS`).
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    """
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(9.4, 1.7 * len(panels) + 0.6), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for ax, (title, (spent, kinds)) in zip(axes[:, 0], panels.items(), strict=True):
        ax.bar(range(len(spent)), spent, color=[KINDS[kind] for kind in kinds])
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_ylabel("canvases")
    axes[-1, 0].set_xlabel("problems in the order in which they were drawn")
    bars = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in KINDS.values()]
    fig.legend(bars, list(KINDS), ncols=len(KINDS), loc="outside upper right", fontsize=9)
    plt.close(fig)
    return fig


def exercise_1(answer) -> None:
    """Groups drawn for one that is kept: (G = 8 and p = 0.1, G = 8 and p = 0.01, G = 2 and p =
    0.5)."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (G 8 and p 0.1, G 8 and p 0.01, G 2 and p 0.5)",
            ),
            (
                lambda: not differs(answer[0], 0.57, 0.01),
                "that is the chance to be kept: how many are drawn for one kept is its inverse",
            ),
            (
                lambda: differs(answer[0], 1.756, 0.05),
                "at p = 0.1 a group is all wrong with chance 0.9^8 = 0.43",
            ),
            (
                lambda: differs(answer[1], 12.94, 0.15),
                "at p = 0.01 a group is all wrong with chance 0.99^8",
            ),
            (
                lambda: not differs(answer[2], 4 / 3, 0.01),
                "groups that are all right are left out too",
            ),
            (lambda: differs(answer[2], 2, 0.01), "two siblings differ with chance 2 p (1 - p)"),
        ],
    )


def _sets() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    # In the first the rows far from the mean are not the widest, in the second not half and half.
    low_ones = torch.tensor([0.0, 0.05, 0.1, 0.9, 0.93, 0.95, 0.97, 0.99, 1.0])
    high_ones = torch.tensor([0.0, 0.5, 0.9, 1.0])
    found = [(low_ones.double(), 4), (high_ones.double(), 3)]
    for size, n in ((5, 2), (6, 3), (7, 4), (8, 3), (8, 8)):
        rewards = torch.rand(size, generator=generator, dtype=torch.float64) ** 2
        found.append((rewards, n))
    return found


def _variance(rewards: Tensor, chosen: Tensor) -> float:
    return float(rewards[chosen].var(unbiased=False))


def _furthest(rewards: Tensor, n: int) -> Tensor:
    return _mask(rewards, (rewards - rewards.mean()).abs().topk(n).indices)


def _highest(rewards: Tensor, n: int) -> Tensor:
    return _mask(rewards, rewards.topk(n).indices)


def _half_and_half(rewards: Tensor, n: int) -> Tensor:
    order = rewards.argsort()
    high = n // 2
    return _mask(rewards, torch.cat([order[: n - high], order[len(order) - high :]]))


def _mask(rewards: Tensor, indices: Tensor) -> Tensor:
    chosen = torch.zeros(len(rewards), dtype=torch.bool)
    chosen[indices] = True
    return chosen


def exercise_2(widest) -> None:
    """widest(rewards, n), (G,) float64 -> (G,) bool: the n rows of the largest variance."""
    sets = _sets()
    outcome = None
    if callable(widest):
        outcome = attempt(lambda: [widest(r.clone(), n) for r, n in sets])

    def follows(rule: Callable[[Tensor, int], Tensor]) -> bool:
        return all(
            torch.equal(found, rule(r, n)) for found, (r, n) in zip(outcome, sets, strict=True)
        )

    def is_widest(found: Tensor, rewards: Tensor, n: int) -> bool:
        subsets = [torch.tensor(s) for s in itertools.combinations(range(len(rewards)), n)]
        best = max(_variance(rewards, subset) for subset in subsets)
        return _variance(rewards, found) >= best - 1e-9

    judge(
        "exercise 2",
        result_of(widest, sets[0][0].clone(), sets[0][1]),
        [
            (lambda: not callable(widest), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: any(
                    not isinstance(found, Tensor)
                    or found.shape != r.shape
                    or found.dtype != torch.bool
                    for found, (r, _) in zip(outcome, sets, strict=True)
                ),
                "return one True or False a row: (G,) bool",
            ),
            (
                lambda: any(
                    int(found.sum()) != n for found, (_, n) in zip(outcome, sets, strict=True)
                ),
                "exactly n rows are kept",
            ),
            (lambda: follows(_highest), "the highest alone have little spread"),
            (
                lambda: follows(_furthest),
                "far from the mean of all rows is not far from the mean of those that are kept",
            ),
            (
                lambda: follows(_half_and_half),
                "some lowest and some highest is right; how many of each has to be tried",
            ),
            (
                lambda: (
                    not all(
                        is_widest(found, r, n) for found, (r, n) in zip(outcome, sets, strict=True)
                    )
                ),
                "wanted: for each k, the n - k lowest and the k highest; then the largest variance",
            ),
        ],
    )


STREAM = [("a", 1.0), ("b", 0.0), ("a", 1.0), ("a", 0.0), ("b", 0.0), ("c", 1.0), ("a", 1.0)]


def past_credit(
    stream: Sequence[tuple[str, float]],
    decay: float,
    mass: float,
    *,
    looks_after: bool = False,
    one_memory: bool = False,
    forgets: bool = True,
    start: float = 0.5,
) -> list[float]:
    """Each reward minus the chance remembered of its problem; or a likely mistake."""
    memory = {}
    found = []
    for prompt, reward in stream:
        key = "" if one_memory else prompt
        right, wrong = memory.get(key, (mass * start, mass * (1 - start)))
        before = right / (right + wrong)
        keep = decay if forgets else 1.0
        right = keep * right + reward
        wrong = keep * wrong + 1 - reward
        memory[key] = (right, wrong)
        after = right / (right + wrong)
        found.append(reward - (after if looks_after else before))
    return found


def exercise_3(credit) -> None:
    """credit(stream, decay, mass): (prompt, reward) pairs in order -> one number each, the reward
    minus the chance of success that is remembered of the prompt."""
    outcome = None
    numbers = (0.8, 4.0)
    if callable(credit):
        outcome = attempt(lambda: [float(x) for x in credit(list(STREAM), *numbers)])

    def follows(**mistake) -> bool:
        wanted = past_credit(STREAM, *numbers, **mistake)
        return all(not differs(a, b) for a, b in zip(outcome, wanted, strict=True))

    judge(
        "exercise 3",
        result_of(credit, list(STREAM), *numbers),
        [
            (lambda: not callable(credit), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: len(outcome) != len(STREAM), "return one number for each text of the stream"),
            (
                lambda: follows(looks_after=True),
                "look first and remember afterwards: your baseline holds the very reward that it "
                "is subtracted from",
            ),
            (lambda: follows(one_memory=True), "each problem has a memory of its own"),
            (lambda: follows(forgets=False), "what is older counts less: multiply both by decay"),
            (
                lambda: follows(start=0.0),
                "an unknown problem is taken to have had `mass` visits, half of them right",
            ),
            (
                lambda: not follows(),
                "wanted: reward - right / (right + wrong); then right <- decay right + reward and "
                "wrong <- decay wrong + 1 - reward",
            ),
        ],
    )
