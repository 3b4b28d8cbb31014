"""HumanEval, MBPP and KodCode: programs from a description, run against the data set's tests in the
sandbox.

Prompts as in TA-GRPO-d's evaluation and, for KodCode, as in the training data of AG-GRPO and
TA-GRPO-d. What the releases send as a system message opens the user message here. A problem is
solved if all of its tests pass.

Each benchmark is read from a file, a folder or a hub id with the columns that it names; a row that
is no such problem is an error that says where it stands. With `published_quirks` only what the
releases' pattern finds is run (`published_code`), and the reward is that of AG-GRPO's release
(`published_ag_grpo_code_reward`).
"""

from __future__ import annotations

import ast
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from ...sandbox import best_level, run_programs
from ..benchmark import Benchmark
from ..task import Example
from .code_rewards import (
    LIMITS,
    ag_grpo_code_reward,
    code_correct,
    program,
    published_ag_grpo_code_reward,
    published_correct,
)
from .references import class_members, defined_names, import_lines, list_tests, parsed
from .rows import Row, column, optional_column
from .splits import held_back, split_reader

# Texts of KimGyunYeop/TA-GRPO-d_re_implementation (eval/humaneval.py, eval/mbpp.py) and, for
# KodCode's system message and question, of Code-R1, whose data AG-GRPO and TA-GRPO-d train on.
SYSTEM = (
    "You are a helpful programming assistant. The user will ask you a question and you as the "
    "assistant solve it. The assistant first thinks how to solve the task through reasoning and "
    "then provides the user with the final answer. The reasoning process and answer are enclosed "
    "within <think>...</think> and <answer>...</answer> tags, respectively.\n\n"
)
FORMAT = "\nRespond in the following format:\n<think>\n...\n</think>\n<answer>\n...\n</answer>\n"
TASK = "Please solve the programming task below in Python. \n\n"
WRAPPED = "Your code should be wrapped in a markdown code block."
DECLARED = "\n\nNote that the function declaration is {declaration}. " + WRAPPED
HUMANEVAL = (
    SYSTEM
    + FORMAT
    + "\nImplement the function exactly as declared—following the docstring's specification and "
    "examples—and return the result, ensuring it passes both the shown examples and hidden tests."
    "\n\n\n{question}\n\n" + WRAPPED
)
MBPP = SYSTEM + FORMAT + "\n" + TASK + "\n{question}" + DECLARED
KODCODE = SYSTEM + FORMAT + "\n\n" + TASK + "{question}"
PREFILL = "<think>"
IN_WORDS = (
    "TA-GRPO-d's, zero-shot, with the release's system message at the head of the user message"
)
# The task_ids of MBPP's splits (Austin et al., 2021).
MBPP_IDS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark(Benchmark):
    """A benchmark of programs. To train on, a problem is drawn only if its own reference passes its
    tests here: no completion could earn anything from another."""

    checked: dict[tuple[str, str], str] = field(default_factory=dict)  # "" or the error, by problem

    def sample(self, n: int = 0, split: str = "test", seed: int = 0) -> list[Example]:
        """`Benchmark.sample`; in the split "train" others take the place of problems whose
        references fail, and a warning says how many failed.

        A reference is run when its problem is first drawn, once. What it takes is a program more
        per problem; the draw is the same wherever the same references pass.
        """
        drawn = super().sample(n, split, seed)
        if split != "train":
            return drawn
        found = self._passing(drawn)
        taken = {id(example) for example in drawn}
        others = [example for example in self.read(split) if id(example) not in taken]
        random.Random(f"{self.name}/{split}/{seed}/others").shuffle(others)
        while len(found) < n and others:
            wanted = n - len(found)
            found += self._passing(others[:wanted])
            others = others[wanted:]
        if len(found) < n:
            raise ValueError(
                f"the {split} split of {self.name!r} ({self.source}) holds {len(found)} problems "
                f"whose references pass, not {n}: ask for fewer"
            )
        return found

    def card_entry(self) -> dict:
        return super().card_entry() | {"sandbox": best_level()}

    def _passing(self, examples: list[Example]) -> list[Example]:
        """Those whose references pass; the first error is told with the count of all so far."""
        new = [e for e in examples if (e.prompt, e.answer) not in self.checked]
        programs = [program(e.answer, e.columns) for e in new]
        for example, outcome in zip(new, run_programs(programs, limits=LIMITS), strict=True):
            self.checked[example.prompt, example.answer] = outcome.error
        errors = [self.checked[e.prompt, e.answer] for e in new]
        if any(errors):
            failed = sum(error != "" for error in self.checked.values())
            warnings.warn(
                f"{self.name}: {failed} of {len(self.checked)} references run so far do not pass "
                f"their tests here ({next(filter(None, errors))}); those problems are left out",
                stacklevel=3,
            )
        return [e for e in examples if not self.checked[e.prompt, e.answer]]


def humaneval_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """164 functions to complete from signature and docstring (Chen et al., 2021); a test split
    only.

    Columns: prompt, canonical_solution, test and entry_point.
    """
    source = source or "openai/openai_humaneval"
    read = split_reader("humaneval", {"test": (source, "test")}, _humaneval_example)
    return _benchmark("humaneval", source, read, shots, published_quirks)


def mbpp_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Basic Python problems (Austin et al., 2021), split by task_id: 11 to 510 test, 511 to 600
    validation, 601 to 974 train.

    Columns: task_id, text (or prompt), code and test_list, and perhaps test_setup_code,
    test_imports. The release of TA-GRPO-d tests on its sanitized half:
    "google-research-datasets/mbpp:sanitized".
    """
    source = source or "google-research-datasets/mbpp"
    read = split_reader("mbpp", {split: (source, split) for split in MBPP_IDS}, _mbpp_example)
    return _benchmark("mbpp", source, read, shots, published_quirks)


def kodcode_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Synthetic problems with pytest files (Xu et al., 2025), to train on; validation is held back
    from train.

    Test files may use pytest's raises, approx, param and parametrize, and unittest. Problems whose
    tests need more (fixtures, other packages, files, coroutines, arithmetic of a class with plain
    numbers) are left out of training, for their references fail. There is no split "test".

    Columns: question, solution, test and perhaps test_info.
    """
    source = source or "KodCode/KodCode-Light-RL-10K"
    places = {"train": (source, "train"), "validation": (source, "train")}
    read = split_reader("kodcode", places, _kodcode_example, held_back)
    return _benchmark("kodcode", source, read, shots, published_quirks)


def _benchmark(
    name: str,
    source: str,
    read: Callable[[str], list[Example]],
    shots: int,
    published_quirks: bool,
) -> CodeBenchmark:
    if shots:
        raise ValueError(
            f"shots must be 0 for {name}, got {shots}: the papers' prompts have no worked examples"
        )
    return CodeBenchmark(
        name=name,
        source=source,
        read=read,
        reward=published_ag_grpo_code_reward if published_quirks else ag_grpo_code_reward,
        correct=published_correct if published_quirks else code_correct,
        prompt=IN_WORDS,
        prefill=PREFILL,
        published_quirks=published_quirks,
    )


# ---------------------------------------------------------------- rows


def _humaneval_example(row: Row, split: str) -> Example:
    stub = column(row, "prompt", str)
    solution = column(row, "canonical_solution", str)
    name = column(row, "entry_point", str)
    if name not in defined_names(parsed(stub + solution, row)):
        raise ValueError(f"{row.where}: the solution does not define the entry point {name!r}")
    columns = {
        "tests": [f"check({name})"],
        "names": [name],
        "setup": column(row, "test", str),
        "stub": stub,
        "before": stub + "    pass\n",
        "members": [],
    }
    return Example(HUMANEVAL.format(question=stub), stub + solution, columns)


def _mbpp_example(row: Row, split: str) -> Example | None:
    if column(row, "task_id", int) not in MBPP_IDS[split]:
        return None
    code = column(row, "code", str).replace("\r", "")
    tests = column(row, "test_list", list)
    if not tests or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"{row.where}: test_list should hold assert statements, found {tests!r}")
    setup = optional_column(row, "test_setup_code", str)
    imports = optional_column(row, "test_imports", list)
    text = column(row, "text" if "text" in row.values else "prompt", str)
    declaration = next((line for line in code.splitlines() if line.startswith("def ")), "")
    columns = _columns(parsed(code, row), tests, setup="\n".join([setup, *imports]))
    return Example(MBPP.format(question=text, declaration=declaration), code, columns)


def _kodcode_example(row: Row, split: str) -> Example:
    solution = column(row, "solution", str)
    test = column(row, "test", str)
    prompt = KODCODE.format(question=column(row, "question", str).strip())
    info = optional_column(row, "test_info", list)
    if info and isinstance(info[0], dict):
        declaration = str(info[0].get("function_declaration") or "").strip()
        if declaration:
            prompt += DECLARED.format(declaration=declaration)
    columns = _columns(parsed(solution, row), list_tests(test, row), setup=test)
    return Example(prompt, solution, columns)


def _columns(reference: ast.Module, tests: list[str], setup: str) -> dict:
    """The COLUMNS of a problem that asks for a whole program."""
    return {
        "tests": tests,
        "names": defined_names(reference),
        "setup": setup,
        "stub": "",
        "before": import_lines(reference),
        "members": class_members(reference),
    }
