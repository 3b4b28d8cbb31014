"""Groups with answer-guided rows, as one batch of training has them, and what kind of working
their completions show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from dllm_rl_lite.evaluation import wilson
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import MaskedDiffusionLM, decode
from dllm_rl_lite.rewards import extract_answer
from dllm_rl_lite.sampler import Rollout
from dllm_rl_lite.tasks import Example, load_task
from dllm_rl_lite.training import collect

KINDS = ("right", "habit", "bent", "miscopied", "broken")  # of a chain's working


@dataclass(frozen=True)
class Groups:
    """B groups of G rows, the guided rows last.

    Args:
        examples: of each row.
        rollout: of all rows.
        texts: of each row.
        rewards: (B, G), as the task gives them.
        right: (B, G) bool, the answer is right.
        honest: (B, G) bool, the working is right too; of chains.
    """

    examples: list[Example]
    rollout: Rollout
    texts: list[str]
    rewards: Tensor
    right: Tensor
    honest: Tensor


def roll_groups(
    lm: MaskedDiffusionLM,
    task_name: str,
    problems: list[Example],
    generator: Generator,
    *,
    group: int = 8,
    rows: int = 4,
    **guide,
) -> Groups:
    """One batch of `ag-grpo`, before any update.

    Args:
        lm: the policy.
        task_name: whose reward is given.
        problems: one for each group.
        generator: of the rollouts.
        group: rows of a group.
        rows: of them guided.
        guide: other numbers of `guide`.
    """
    task = load_task(task_name)
    method = METHODS["ag-grpo"]
    numbers = method.numbers(
        "tiny", prompts=len(problems), group=group, guide={"rows": rows, **guide}
    )
    rollout = collect(lm, task, task.reward, method, numbers, problems, generator).rollout
    examples = [example for example in problems for _ in range(group)]
    texts = decode(lm.tokenizer, rollout.tokens)
    pairs = list(zip(examples, texts, strict=True))
    right = [extract_answer(text) == example.answer for example, text in pairs]
    honest = [working(example.prompt, text) == "right" for example, text in pairs]
    return Groups(
        examples=examples,
        rollout=rollout,
        texts=texts,
        rewards=torch.tensor(task.rewards_of(examples, texts)).view(-1, group),
        right=torch.tensor(right).view(-1, group),
        honest=torch.tensor(honest).view(-1, group),
    )


def stage_one(rollout: Rollout, row: int, mask_id: int) -> Rollout:
    """A guided row as its first stage saw it: the anchor is given."""
    one = rollout.select(torch.tensor([row]))
    told = one.anchor != mask_id
    steps = torch.where(told, -1, one.unmask_step)
    tokens = torch.where(told, one.anchor, one.tokens)
    return replace(one, tokens=tokens, unmask_step=steps, n_forwards=steps.amax(1) + 1)


def working(prompt: str, text: str) -> str:
    """What the lines of a chain are.

    Returns:
        "right"; "habit" (a minus worked as a plus); "bent" (a line that is neither, as it must be
        to end in another answer); "miscopied" (the answer is not the last result); "broken" (not
        the chain's own lines).
    """
    terms = re.findall(r"([+-])(\d)", prompt)
    lines = re.findall(r"(\d)([+-])(\d)=(\d)", text)
    if len(lines) != len(terms):
        return "broken"
    value = prompt[0]
    slips = set()
    for (a, sign, b, result), term in zip(lines, terms, strict=True):
        if a != value or (sign, b) != term:
            return "broken"
        plus = (int(a) + int(b)) % 10
        minus = (int(a) - int(b)) % 10
        if int(result) != (plus if sign == "+" else minus):
            slips.add("habit" if int(result) == plus else "bent")
        value = result
    if extract_answer(text) != value:
        return "miscopied"
    if "bent" in slips:
        return "bent"
    return "habit" if slips else "right"


def minus_lines(prompt: str, text: str) -> Iterator[tuple[int, bool]]:
    """(line, worked right?) of each minus in a text that has all of its lines."""
    lines = re.findall(r"(\d)([+-])(\d)=(\d)", text)
    if len(lines) == len(re.findall(r"[+-]", prompt)):
        for j, (a, sign, b, result) in enumerate(lines):
            if sign == "-":
                yield j, (int(a) - int(b)) % 10 == int(result)


def percent(found: Tensor) -> str:
    """The share of True in % with its 95 % interval: "38 [35, 42]"."""
    if not len(found):
        return "–"
    share = 100 * found.float().mean()
    low, high = wilson(int(found.sum()), len(found))
    return f"{share:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
