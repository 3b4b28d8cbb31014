"""HumanEval, MBPP and KodCode: programs from a description, run against the data set's tests in the
sandbox.

Prompts as in TA-GRPO-d's evaluation and, for KodCode, as in the training data of AG-GRPO and
TA-GRPO-d. What the releases send as a system message opens the user message here. A problem is
solved if all of its tests pass.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable

from ...sandbox import best_level
from ..benchmark import Benchmark
from ..task import Example
from .code_rewards import (
    ag_grpo_code_reward,
    code_correct,
    published_ag_grpo_code_reward,
    published_correct,
)
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


def humaneval_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """164 functions to complete from signature and docstring (Chen et al., 2021); a test split
    only.

    Args:
        source: file, folder or hub id with the columns prompt, canonical_solution, test and
            entry_point; default openai/openai_humaneval.
        shots: 0, as in the papers.
        published_quirks: only what the releases' pattern finds is run (`published_code`).
    Raises:
        ValueError: on reading, for a row that is no such problem, naming its place, and for a split
            that is not there.
    """
    source = source or "openai/openai_humaneval"
    read = split_reader("humaneval", {"test": (source, "test")}, _humaneval_example)
    return _benchmark("humaneval", source, read, shots, published_quirks)


def mbpp_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Basic Python problems (Austin et al., 2021), split by task_id: 11 to 510 test, 511 to 600
    validation, 601 to 974 train.

    Args:
        source: file, folder or hub id with the columns task_id, text (or prompt), code and
            test_list, and perhaps test_setup_code, test_imports; default
            google-research-datasets/mbpp. The release of TA-GRPO-d tests on its sanitized half:
            "google-research-datasets/mbpp:sanitized".
        shots: 0, as in the papers.
        published_quirks: only what the releases' pattern finds is run (`published_code`).
    Raises:
        ValueError: on reading, for a row that is no such problem, naming its place.
    """
    source = source or "google-research-datasets/mbpp"
    read = split_reader("mbpp", {split: (source, split) for split in MBPP_IDS}, _mbpp_example)
    return _benchmark("mbpp", source, read, shots, published_quirks)


def kodcode_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Synthetic problems with pytest files (Xu et al., 2025), to train on; validation is held back
    from train.

    Test files may use pytest's raises, approx and parametrize; those that need fixtures or other
    packages pass nothing.

    Args:
        source: file, folder or hub id with the columns question, solution, test and perhaps
            test_info; default KodCode/KodCode-Light-RL-10K.
        shots: 0, as in the papers.
        published_quirks: the reward as AG-GRPO's release gives it
            (`published_ag_grpo_code_reward`).
    Raises:
        ValueError: on reading, for a row that is no such problem, naming its place, and for the
            split "test".
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
) -> Benchmark:
    if shots:
        raise ValueError(
            f"shots must be 0 for {name}, got {shots}: the papers' prompts have no worked examples"
        )
    return Benchmark(
        name=name,
        source=source,
        read=read,
        reward=published_ag_grpo_code_reward if published_quirks else ag_grpo_code_reward,
        correct=published_correct if published_quirks else code_correct,
        prompt=IN_WORDS,
        prefill=PREFILL,
        published_quirks=published_quirks,
        place=lambda: {"sandbox": best_level()},
    )


# ---------------------------------------------------------------- rows


def _humaneval_example(row: Row, split: str) -> Example:
    stub = column(row, "prompt", str)
    solution = column(row, "canonical_solution", str)
    name = column(row, "entry_point", str)
    if name not in _defined(stub + solution, row):
        raise ValueError(f"{row.where}: the solution does not define the entry point {name!r}")
    columns = {
        "tests": [f"check({name})"],
        "names": [name],
        "setup": column(row, "test", str),
        "stub": stub,
        "before": stub + "    pass\n",
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
    columns = {
        "tests": tests,
        "names": _defined(code, row),
        "setup": "\n".join([setup, *imports]),
        "stub": "",
        "before": _imported(code, row),
    }
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
    columns = {
        "tests": _test_calls(test, row),
        "names": _defined(solution, row),
        "setup": test,
        "stub": "",
        "before": _imported(solution, row),
    }
    return Example(prompt, solution, columns)


def _parsed(code: str, row: Row) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # references have escapes such as "\\w" in plain strings
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{row.where}: the reference code or its tests are no Python: {error}"
        ) from error


def _defined(code: str, row: Row) -> list[str]:
    """Names that a program defines at its top level, in order: those under which tests may use
    it."""
    names = []
    for node in _parsed(code, row).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return list(dict.fromkeys(names))


def _imported(code: str, row: Row) -> str:
    """The import statements at the top level of a reference: its tests may use the modules, and
    import them anew, for what a generated program calls `math` may be anything."""
    lines = []
    for node in _parsed(code, row).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines.append(ast.unparse(node))
    return "\n".join(lines)


def _test_calls(test: str, row: Row) -> list[str]:
    """One call for each test function of a pytest file, and for each test method of a class."""
    calls = []
    for node in _parsed(test, row).body:
        if _is_test(node):
            calls.append(f"{node.name}()")
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            calls += [f"{node.name}().{item.name}()" for item in node.body if _is_test(item)]
    if not calls:
        raise ValueError(f"{row.where}: the test file has no test function")
    return calls


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")
