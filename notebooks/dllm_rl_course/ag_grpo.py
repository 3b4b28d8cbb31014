"""The exercises of *AG-GRPO*: credit of a mixed group, the cut between the stages, a verifier that
reads the working."""

from __future__ import annotations

import re

import torch

from dllm_rl_lite.rewards import extract_answer
from dllm_rl_lite.tasks.tiny.chain import parse, work

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """Free rewards 0, 0, 1, 0, guided 1, 1, 1, 1: shared credit of right and wrong free rows, their
    mean, guided apart."""

    def at(i: int, *values: float) -> bool:
        return any(not differs(answer[i], v, 6e-3) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 4,
                "give four numbers: (right free row, wrong free row, mean of the free rows, "
                "guided row with 'guided apart')",
            ),
            (
                lambda: at(0, 0.75) or at(1, -0.25),
                "that is against the mean of the free rows alone, 1/4; the shared mean counts all "
                "eight",
            ),
            (
                lambda: at(0, 0.0) or at(1, -1.0),
                "that is against the guided rows' mean; the shared mean counts all eight",
            ),
            (lambda: at(0, -0.625) and at(1, 0.375), "the first two are swapped"),
            (lambda: not at(0, 0.375), "the right free row: 1 minus the mean of all eight rewards"),
            (lambda: not at(1, -0.625), "a wrong free row: 0 minus the mean of all eight rewards"),
            (
                lambda: at(2, 0.0),
                "credit sums to zero over all eight rows, not over the four free ones",
            ),
            (
                lambda: at(2, 0.375),
                "the sign: free rows are worse than the group, so their mean credit is negative",
            ),
            (lambda: at(2, -1.5), "that is the sum over the four free rows; asked is the mean"),
            (
                lambda: at(2, -0.75),
                "half of that: (their mean - the guided mean) times the guided share of the group",
            ),
            (lambda: not at(2, -0.375), "the mean of 0.375 once and -0.625 three times"),
            (
                lambda: at(3, 0.375),
                "'guided apart' measures guided rows against their own mean, which is 1",
            ),
            (lambda: not at(3, 0.0), "all four guided rewards are 1, and so is their own mean"),
        ],
    )


def exercise_2(cut) -> None:
    """cut(tokens, anchor, mask_id): the canvas that stage 2 starts from, for free and guided
    rows."""
    mask, end = 1, 2
    tokens = torch.tensor(
        [
            [5, 6, 7, 8, 9, end, end, end],
            [5, 5, end, 8, 9, 3, end, end],
            [4, 6, 7, 6, 5, 9, 3, end],
            [4, 6, 7, 6, 9, 9, 4, 3],
        ]
    )
    anchor = torch.full_like(tokens, mask)
    anchor[1, 4:], anchor[2, 5:] = tokens[1, 4:], tokens[2, 5:]
    anchor[3, 6:] = tokens[3, 6:]
    told, rows = anchor != mask, (anchor != mask).any(1)[:, None]
    outcome = (
        attempt(lambda: torch.as_tensor(cut(tokens.clone(), anchor.clone(), mask)))
        if callable(cut)
        else None
    )

    def gives(wanted: torch.Tensor) -> bool:
        return outcome.shape == wanted.shape and bool((outcome == wanted).all())

    right = tokens.masked_fill(told, mask)
    judge(
        "exercise 2",
        result_of(cut, tokens.clone(), anchor.clone(), mask),
        [
            (lambda: not callable(cut), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: outcome.shape != tokens.shape,
                "keep the shape (N, L): the place of the anchor is masked, not removed, and "
                "answer-free rows stay",
            ),
            (
                lambda: gives(anchor),
                "that is the anchor alone, what stage 1 started from; stage 2 keeps the reasoning "
                "instead",
            ),
            (
                lambda: gives(tokens.masked_fill(rows & ~told, mask)),
                "the other way round: keep the reasoning, mask the anchor",
            ),
            (
                lambda: gives(tokens.masked_fill(told & (tokens != end), mask)),
                "the end tokens of the margin are part of the anchor: left in place they say "
                "where the answer must stop",
            ),
            (
                lambda: gives(tokens.masked_fill(told | (tokens == end), mask)),
                "an end token that the model wrote itself is reasoning: mask where the anchor "
                "was, nothing else",
            ),
            (
                lambda: gives(tokens.masked_fill(told.any(0), mask)),
                "each row has an anchor of its own length: use the row's own mask, not one for "
                "the batch",
            ),
            (
                lambda: gives(tokens.masked_fill(rows, mask)),
                "the reasoning is gone too: there is nothing to predict from",
            ),
            (
                lambda: gives(torch.where(told, tokens, right.roll(1, 1))) or gives(tokens),
                "the anchor is still there",
            ),
            (
                lambda: not gives(right),
                "every position that the anchor gave must be masked, every other one as it was",
            ),
        ],
    )


def _lines(text: str) -> list[tuple[str, ...]]:
    return re.findall(r"(\d)([+-])(\d)=(\d)", text)


def _sound(text: str, modulo: bool = True) -> bool:
    """Is every line of the working right arithmetic (on a ten-hour clock)?"""

    def value(a, s, b):
        exact = int(a) + (int(b) if s == "+" else -int(b))
        return exact % 10 if modulo else exact

    return all(value(a, s, b) == int(r) for a, s, b, r in _lines(text))


def _worked(prompt: str, text: str) -> bool:
    start, terms = parse(prompt)
    own = [tuple(map(str, line)) for line in work(start, terms, [True] * len(terms))]
    return _lines(text) == own and extract_answer(text) == own[-1][3]


CASES = [  # prompt, right answer, completion
    ("9-1-2", "6", "9-1=8,8-2=6<answer>6</answer>"),
    ("9-1-2", "6", "9-1=0,0-2=6<answer>6</answer>"),
    ("9-1-2", "6", "9-1=0,0+2=2<answer>6</answer>"),
    ("9-1-2", "6", "9-1=8,8-2=6<answer>2</answer>"),
    ("9-1-2", "6", "9-1=8<answer>6</answer>"),
    ("9-1-2", "6", "<answer>6</answer>"),
    ("9-1-2", "6", "9-1=8,8-2=6"),
    ("9-1-2", "6", "9-1=8,7-1=6<answer>6</answer>"),
    ("9-1-2", "6", "8-1=7,7-1=6<answer>6</answer>"),
    ("9-1-2", "6", "9-1=8,8-2=6,6+0=6<answer>6</answer>"),
    ("9-1-2", "6", "9-1=8,4+2=6<answer>6</answer>"),
    ("7+8-6", "9", "7+8=5,5-6=9<answer>9</answer>"),
    ("7+8-6", "9", "7+8=5,5-6=1<answer>1</answer>"),
    ("2-7+8-1", "2", "2-7=5,5+8=3,3-1=2<answer>2</answer>"),
    ("2-7+8-1", "2", "2-7=9,9+8=3,3-1=2<answer>2</answer>"),
    ("9-1-2", "6", "8-2=6,6+0=6<answer>6</answer>"),
]


def exercise_3(honest) -> None:
    """honest(prompts, completions, answer, **columns): 1.0 where the chain's own lines and the
    answer are right."""
    prompts, answers, texts = (list(x) for x in zip(*CASES, strict=True))
    outcome = attempt(lambda: list(honest(prompts, texts, answers))) if callable(honest) else None

    def gives(rule) -> bool:
        return [float(x) for x in outcome] == [float(rule(p, a, t)) for p, a, t in CASES]

    def final(a: str, t: str) -> bool:
        return extract_answer(t) == a

    def signs(t: str) -> list:
        return [(s, b) for _, s, b, _ in _lines(t)]

    judge(
        "exercise 3",
        result_of(honest, prompts, texts, answers),
        [
            (lambda: not callable(honest), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: len(outcome) != len(CASES), "return one number a completion"),
            (lambda: any(v is None for v in outcome), "for some completions it returns None"),
            (
                lambda: not all(float(v) in (0.0, 1.0) for v in outcome),
                "each reward must be 0 or 1",
            ),
            (
                lambda: gives(lambda p, a, t: final(a, t)),
                "that reads the answer only: a bent line still earns 1",
            ),
            (
                lambda: (
                    gives(lambda p, a, t: bool(_lines(t)) and _sound(t))
                    or gives(lambda p, a, t: _sound(t))
                ),
                "lines that are right arithmetic are not enough: the answer must be right too, "
                "and the lines the chain's own",
            ),
            (
                lambda: gives(lambda p, a, t: _worked(p, t) and _sound(t, modulo=False)),
                "all results keep their last digit only: 5-6=9 is right here (take the value "
                "modulo 10)",
            ),
            (
                lambda: float(outcome[5]) == 1,
                "no working at all still earns 1: count the lines, or ask for the chain's own",
            ),
            (
                lambda: float(outcome[9]) == 1,
                "a line too many still earns 1: the lines must be the chain's own",
            ),
            (
                lambda: float(outcome[8]) == 1 or float(outcome[15]) == 1,
                "right lines of another chain still earn 1: compare their numbers with the "
                "prompt's",
            ),
            (
                lambda: float(outcome[7]) == 1 or float(outcome[10]) == 1,
                "a line may not start from another number than the line before ended with",
            ),
            (
                lambda: float(outcome[3]) == 1 or float(outcome[6]) == 1,
                "the text between the answer tags must be right too",
            ),
            (
                lambda: not gives(lambda p, a, t: _worked(p, t)),
                "9-1=8,8-2=6<answer>6</answer> must earn 1, 9-1=0,0-2=6... 0",
            ),
        ],
    )
