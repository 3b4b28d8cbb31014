"""Rewards of programs: the code in a completion, run against its problem's tests in the sandbox."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

from ... import rewards
from ...sandbox import Limits, Outcome, Program, run_programs
from .references import defined_names, parse

LIMITS = Limits(seconds=10, wall=30.0)  # the slowest reference, MBPP 123, takes 3 s of a processor
COLUMNS = ("tests", "names", "setup", "stub", "before", "members")  # of an Example of programs.py

# ---------------------------------------------------------------- from a completion to a program

# A fenced block: its indentation, the fence, what the fence names, the text. One that is never
# closed counts, for a canvas may be too short for it.
FENCE = re.compile(r"(?:^([ \t]*))?(```+|~~~+)([^\n`]*)\n(.*?)(?:\2|\Z)", re.S | re.M)
PYTHON = re.compile(r"\W*(?:(?:python|py)3?\b.*)?$", re.I)


def extract_code(completion: str, names: Sequence[str] = ()) -> str:
    """The program in a completion: the last fenced block of the last <answer>, else that answer,
    else the same of the text.

    The fence names Python or nothing. Of several blocks it is the last that defines one of `names`:
    a usage example or the expected output may follow the solution.
    """
    answer = rewards.extract_answer(completion)
    text = completion if answer is None else answer
    text = text.replace("\r\n", "\n")
    blocks = []
    for margin, _, language, block in FENCE.findall(text):
        if PYTHON.match(language):
            blocks.append(re.sub(f"^{margin}", "", block, flags=re.M))
    if blocks:
        text = blocks[-1]
        for block in blocks:
            if defines(block, names):
                text = block
    return text.strip("\n")


def defines(code: str, names: Sequence[str]) -> bool:
    """True if a program gives one of the names a value at its top level."""
    tree = parse(code)
    return tree is not None and not set(names).isdisjoint(defined_names(tree))


def published_code(completion: str, names: Sequence[str] = ()) -> str:
    """The same as AG-GRPO's and TA-GRPO-d's releases find it: a closed fenced block of any
    language, or nothing."""
    text = completion
    answers = re.findall(r"<answer>(.*?)</answer>", completion, re.S)
    if answers:
        text = answers[-1].strip()
    blocks = re.findall(r"```(?:\w+)?\n(.*?)\n```", text, re.S)
    return blocks[-1].strip() if blocks else ""


def program(code: str, columns: dict) -> Program:
    """A program with the tests of a problem, whose COLUMNS are given; of a function that is to be
    completed the code is all of it or its body alone."""
    stub = columns["stub"]
    prelude = ""
    if stub and defines(code, columns["names"]):
        # imports and helpers that stand above the function in the problem
        prelude = columns["before"]
    elif stub:
        code = stub + indented(code)
    return Program(
        code=code,
        tests=tuple(columns["tests"]),
        names=tuple(columns["names"]),
        setup=columns["setup"],
        before=columns["before"],
        prelude=prelude,
        members=tuple(columns["members"]),
    )


def indented(body: str) -> str:
    """A function's body at a depth of four, also if the model, or the stripping of its text, left
    out the indentation."""
    lines = [re.sub(r"^\s+", lambda m: m[0].expandtabs(4), line) for line in body.splitlines()]
    depths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    later = depths[1:]
    if depths and depths[0] == 0 and later and min(later) > 0:
        # Only the first line was stripped, unless it opens a block of the next depth.
        first = next(line for line in lines if line.strip())
        opens = first.split("#")[0].rstrip().endswith((":", "(", "[", "{"))
        if not opens or later[0] > min(later) or later[0] >= 8:
            lines[lines.index(first)] = " " * min(later) + first
    return textwrap.indent(textwrap.dedent("\n".join(lines)), "    ")


def run_code(
    completions: list[str], columns: dict[str, list], extract: Callable[..., str]
) -> list[Outcome | None]:
    """What came of each completion's program; None if there is none."""
    programs = {}
    for i, completion in enumerate(completions):
        code = extract(completion, columns["names"][i])
        if code.strip():
            programs[i] = program(code, {name: columns[name][i] for name in COLUMNS})
    outcomes: list[Outcome | None] = [None] * len(completions)
    finished = run_programs(list(programs.values()), limits=LIMITS)
    for i, outcome in zip(programs, finished, strict=True):
        outcomes[i] = outcome
    return outcomes


# ---------------------------------------------------------------- rewards


def code_correct(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """1.0 if all tests pass, else 0.0."""
    outcomes = run_code(completions, columns, extract_code)
    return [float(outcome is not None and outcome.correct) for outcome in outcomes]


def published_correct(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """The same of the program that the releases find: no fence, no program."""
    outcomes = run_code(completions, columns, published_code)
    return [float(outcome is not None and outcome.correct) for outcome in outcomes]


def ag_grpo_code_reward(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """AG-GRPO's on KodCode: 1 passed, 0 failed, -1 without code in think/answer format; up to 1
    more for the format.

    Half a point for a text of nothing but <think>...</think> and <answer>...</answer>, half for one
    that begins with them.
    """
    outcomes = run_code(completions, columns, published_code)
    found = []
    for completion, outcome in zip(completions, outcomes, strict=True):
        strict, soft = _formats(completion.strip())
        passed = -1.0
        if outcome is not None and soft:
            passed = float(outcome.correct)
        found.append(passed + 0.5 * strict + 0.5 * soft)
    return found


def published_ag_grpo_code_reward(
    prompts: list[str], completions: list[str], **columns
) -> list[float]:
    """The same as the released code gives it: a program is looked for in any text, and its absence
    is only a failure."""
    passed = published_correct(prompts, completions, **columns)
    return [p + 0.5 * sum(_formats(text)) for p, text in zip(passed, completions, strict=True)]


def _formats(text: str) -> tuple[bool, bool]:
    """(strict, soft): think and answer and nothing else; think and answer at the beginning."""
    form = r"<think>.*?</think>\s*<answer>.*?</answer>"
    strict = re.match(form + "$", text, re.S)
    soft = re.match(form, text, re.S)
    return bool(strict), bool(soft)
