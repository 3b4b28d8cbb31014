"""HumanEval, MBPP and KodCode: programs from a description, run against the data set's tests in the
sandbox.

Prompts as in TA-GRPO-d's evaluation and, for KodCode, as in the training data of AG-GRPO and
TA-GRPO-d. What the releases send as a system message opens the user message here. A problem is
solved where all of its tests pass.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Callable
from functools import cache

from ... import rewards
from ...names import unknown
from ...sandbox import Limits, Outcome, Program, best_level, run_programs
from ..benchmark import Benchmark, held_back
from ..task import SPLITS, Example
from .rows import Row, column, read_rows

# Texts of KimGyunYeop/TA-GRPO-d_re_implementation (eval/humaneval.py, eval/mbpp.py) and, for
# KodCode's system message and question, of Code-R1, whose data AG-GRPO and TA-GRPO-d train on.
SYSTEM = (
    "You are a helpful programming assistant. The user will ask you a question and you as the assistant solve it. "
    "The assistant first thinks how to solve the task through reasoning and then provides the user with the final "
    "answer. The reasoning process and answer are enclosed within <think>...</think> and <answer>...</answer> tags, "
    "respectively.\n\n"
)
FORMAT = "\nRespond in the following format:\n<think>\n...\n</think>\n<answer>\n...\n</answer>\n"
HUMANEVAL = (
    SYSTEM
    + FORMAT
    + (
        "\nImplement the function exactly as declared—following the docstring's specification and "
        "examples—and return the result, ensuring it passes both the shown examples and hidden tests."
        "\n\n\n{question}\n\nYour code should be wrapped in a markdown code block."
    )
)
DECLARED = "\n\nNote that the function declaration is {declaration}. Your code should be wrapped in a markdown code block."
MBPP = (
    SYSTEM
    + FORMAT
    + "\nPlease solve the programming task below in Python. \n\n\n{question}"
    + DECLARED
)
KODCODE = SYSTEM + FORMAT + "\n\nPlease solve the programming task below in Python. \n\n{question}"
PREFILL = "<think>"
LIMITS = Limits(seconds=10, wall=30.0)  # the slowest reference, MBPP 123, takes 3 s of a processor


# ---------------------------------------------------------------- from a completion to a program


def extract_code(completion: str) -> str:
    """The program in a completion: the last fenced block of the last <answer>, else that answer,
    else the same of the text.

    The fence names Python or nothing. A last block that is never closed counts, for a canvas may be
    too short for it.
    """
    answer = rewards.extract_answer(completion)
    text = completion if answer is None else answer
    blocks = re.findall(r"```(?:python3?|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.S | re.I)
    return (blocks[-1] if blocks else text).strip("\n")


def published_code(completion: str) -> str:
    """The same as AG-GRPO's and TA-GRPO-d's releases find it: a closed fenced block of any
    language, or nothing."""
    answers = re.findall(r"<answer>(.*?)</answer>", completion, re.S)
    blocks = re.findall(
        r"```(?:\w+)?\n(.*?)\n```", answers[-1].strip() if answers else completion, re.S
    )
    return blocks[-1].strip() if blocks else ""


def program(code: str, columns: dict) -> Program:
    """A program with a problem's tests: `columns` are those of an Example here.

    Where the problem is a function to be completed, code may be all of it or its body alone.
    """
    stub = columns["stub"]
    if stub and re.search(rf"^(?:async\s+)?def\s+{re.escape(columns['names'][0])}\b", code, re.M):
        code = (
            columns["before"] + "\n" + code
        )  # imports and helpers that stand above the function in the problem
    elif stub:
        code = stub + indented(code)
    return Program(
        code, tuple(columns["tests"]), tuple(columns["names"]), columns["setup"], columns["before"]
    )


def indented(body: str) -> str:
    """A function's body, moved right where the model, or the stripping of its text, left out the
    indentation."""
    lines = [line.expandtabs(4) for line in body.splitlines() if line.strip()]
    depths = [len(line) - len(line.lstrip()) for line in lines]
    if not lines or depths[0] > 0:
        return body
    if (
        len(lines) > 1 and min(depths[1:]) > 0
    ):  # only the first line was stripped, unless it opens a block of the next depth
        opens = lines[0].split("#")[0].rstrip().endswith((":", "(", "[", "{"))
        if not opens or depths[1] > min(depths[1:]) or depths[1] >= 8:
            return "    " + body
    return textwrap.indent(body, "    ")


def run_code(
    completions: list[str], columns: dict[str, list], extract: Callable[[str], str]
) -> list[Outcome | None]:
    """What came of each completion's program; None where there is none."""
    codes = [extract(completion) for completion in completions]
    names = ("stub", "before", "setup", "names", "tests")
    programs = {
        i: program(code, {name: columns[name][i] for name in names})
        for i, code in enumerate(codes)
        if code.strip()
    }
    outcomes = dict(
        zip(programs, run_programs(list(programs.values()), limits=LIMITS), strict=True)
    )
    return [outcomes.get(i) for i in range(len(codes))]


# ---------------------------------------------------------------- rewards


def code_correct(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """1.0 where all tests pass, else 0.0."""
    return [
        float(o is not None and o.correct) for o in run_code(completions, columns, extract_code)
    ]


def published_correct(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """The same of the program that the releases find: no fence, no program."""
    return [
        float(o is not None and o.correct) for o in run_code(completions, columns, published_code)
    ]


def ag_grpo_code_reward(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """AG-GRPO's on KodCode: 1 passed, 0 failed, -1 without code in think/answer format; up to 1
    more for the format.

    Half a point for a text of nothing but <think>...</think> and <answer>...</answer>, half for one
    that begins with them.
    """
    found = []
    for text, outcome in zip(
        completions, run_code(completions, columns, published_code), strict=True
    ):
        strict, soft = _formats(text)
        passed = -1.0 if outcome is None or not soft else float(outcome.correct)
        found.append(passed + 0.5 * strict + 0.5 * soft)
    return found


def published_ag_grpo_code_reward(
    prompts: list[str], completions: list[str], **columns
) -> list[float]:
    """The same as the released code gives it: a program is looked for in any text, and its absence
    is only a failure."""
    passed = published_correct(prompts, completions, **columns)
    return [
        p + 0.5 * sum(_formats(text, strip=False))
        for p, text in zip(passed, completions, strict=True)
    ]


def ta_grpo_code_reward(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """TA-GRPO-d's on code: the share of tests passed, 0.5 for a ```python block in the answer, up
    to 0.5 for the tags."""
    found = []
    for text, outcome in zip(
        completions, run_code(completions, columns, extract_code), strict=True
    ):
        fenced = re.search(r"```python\n.*?```", rewards.extract_answer(text) or "", re.S)
        tags = rewards.tag_count(
            text.replace("<think>", "<reasoning>").replace("</think>", "</reasoning>")
        )
        found.append(_share(outcome) + 0.5 * bool(fenced) + tags)
    return found


def coupled_code_reward(prompts: list[str], completions: list[str], **columns) -> list[float]:
    """DiffuCoder's: 0.5 of format (1 for a ```python block that compiles, 0.5 for one that does
    not), and where that is 1 twice the share of tests passed. Unlike the release, text after the
    block is allowed and a timeout scores 0."""
    blocks = [re.findall(r"```python\n(.*?)```", text, re.S) for text in completions]
    codes = [found[-1] if found else "" for found in blocks]
    outcomes = run_code(codes, columns, lambda code: code)
    found = []
    for code, outcome in zip(codes, outcomes, strict=True):
        form = 0.0 if outcome is None else 0.5 if not _compiles(code) else 1.0
        found.append(0.5 * form + 2.0 * _share(outcome) * (form == 1.0))
    return found


def _formats(text: str, strip: bool = True) -> tuple[bool, bool]:
    """(strict, soft): think and answer and nothing else; think and answer at the beginning."""
    text = text.strip() if strip else text
    form = r"<think>.*?</think>\s*<answer>.*?</answer>"
    return bool(re.match(form + "$", text, re.S)), bool(re.match(form, text, re.S))


def _share(outcome: Outcome | None) -> float:
    return sum(outcome.passed) / len(outcome.passed) if outcome else 0.0


def _compiles(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------- data sets


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
    Raises ValueError on reading, for a row that is no such problem, naming its place, and for a
    split that is not there.
    """

    def parse(row: Row) -> Example:
        stub, solution, name = (
            column(row, c, str) for c in ("prompt", "canonical_solution", "entry_point")
        )
        if name not in _defined(stub + solution, row):
            raise ValueError(f"{row.where}: the solution does not define the entry point {name!r}")
        return Example(
            HUMANEVAL.format(question=stub),
            stub + solution,
            {
                "tests": [f"check({name})"],
                "names": [name],
                "setup": column(row, "test", str),
                "stub": stub,
                "before": stub + "    pass\n",
            },
        )

    splits = {"test": ("test", None)}
    return _benchmark(
        "humaneval", source or "openai/openai_humaneval", parse, splits, shots, published_quirks
    )


def mbpp_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Basic Python problems (Austin et al., 2021): task_id 11 to 510 test, 511 to 600 validation,
    601 to 974 train.

    Args:
        source: file, folder or hub id with the columns task_id, text (or prompt), code and
            test_list, and perhaps test_setup_code, test_imports; default
            google-research-datasets/mbpp. The release of TA-GRPO-d tests on its sanitized half:
            "google-research-datasets/mbpp:sanitized".
        shots: 0, as in the papers.
        published_quirks: only what the releases' pattern finds is run (`published_code`).
    Raises ValueError on reading, for a row that is no such problem, naming its place.
    """

    def parse(row: Row) -> Example:
        code = column(row, "code", str).replace("\r", "")
        tests = column(row, "test_list", list)
        if not tests or not all(isinstance(test, str) for test in tests):
            raise ValueError(
                f"{row.where}: test_list should hold assert statements, found {tests!r}"
            )
        setup = [column(row, "test_setup_code", str)] if "test_setup_code" in row.values else []
        setup += column(row, "test_imports", list) if "test_imports" in row.values else []
        declaration = next((line for line in code.splitlines() if line.startswith("def ")), "")
        text = column(row, "text" if "text" in row.values else "prompt", str)
        return Example(
            MBPP.format(question=text, declaration=declaration),
            code,
            {
                "tests": tests,
                "names": _defined(code, row),
                "setup": "\n".join(setup),
                "stub": "",
                "before": _imported(code, row),
            },
        )

    splits = {
        "test": ("test", range(11, 511)),
        "validation": ("validation", range(511, 601)),
        "train": ("train", range(601, 975)),
    }
    return _benchmark(
        "mbpp", source or "google-research-datasets/mbpp", parse, splits, shots, published_quirks
    )


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
    Raises ValueError on reading, for a row that is no such problem, naming its place, and for the
    split "test".
    """

    def parse(row: Row) -> Example:
        solution, test = column(row, "solution", str), column(row, "test", str)
        info = column(row, "test_info", list) if "test_info" in row.values else []
        declaration = (
            str(info[0].get("function_declaration") or "").strip()
            if info and isinstance(info[0], dict)
            else ""
        )
        prompt = KODCODE.format(question=column(row, "question", str).strip())
        return Example(
            prompt + (DECLARED.format(declaration=declaration) if declaration else ""),
            solution,
            {
                "tests": _test_calls(test, row),
                "names": _defined(solution, row),
                "setup": test,
                "stub": "",
                "before": _imported(solution, row),
            },
        )

    splits = {"train": ("train", None), "validation": ("train", None)}
    return _benchmark(
        "kodcode", source or "KodCode/KodCode-Light-RL-10K", parse, splits, shots, published_quirks
    )


def _benchmark(
    name: str,
    source: str,
    parse: Callable[[Row], Example],
    splits: dict[str, tuple[str, range | None]],
    shots: int,
    published_quirks: bool,
) -> Benchmark:
    """`splits`: of each split, what the source calls it, and the task_ids that belong to it (None:
    all)."""
    if shots:
        raise ValueError(
            f"shots must be 0 for {name}, got {shots}: the papers' prompts have no worked examples"
        )

    @cache
    def read(split: str) -> list[Example]:
        if split not in splits:
            raise ValueError(
                unknown("split", split, SPLITS)
                if split not in SPLITS
                else f"{name} has no {split} split: use {' or '.join(splits)}"
            )
        stored, ids = splits[split]
        rows = read_rows(source, stored)
        rows = rows if ids is None else [row for row in rows if column(row, "task_id", int) in ids]
        examples = [parse(row) for row in rows]
        return held_back(examples, split) if name == "kodcode" else examples

    reward = published_ag_grpo_code_reward if published_quirks else ag_grpo_code_reward
    correct = published_correct if published_quirks else code_correct
    in_words = (
        "TA-GRPO-d's, zero-shot, with the release's system message at the head of the user message"
    )
    return Benchmark(
        name,
        256,
        source,
        read,
        reward,
        correct,
        in_words,
        PREFILL,
        shots,
        published_quirks,
        place=lambda: {"sandbox": best_level()},
    )


def _parsed(code: str, row: Row) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # references have escapes such as "\\w" in plain strings
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
    nodes = [
        node for node in _parsed(code, row).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return "\n".join(map(ast.unparse, nodes))


def _test_calls(test: str, row: Row) -> list[str]:
    """One call for each test function of a pytest file, and for each test method of a class."""
    calls = []
    for node in _parsed(test, row).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            calls.append(f"{node.name}()")
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            calls += [
                f"{node.name}().{item.name}()"
                for item in node.body
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test")
            ]
    if not calls:
        raise ValueError(f"{row.where}: the test file has no test function")
    return calls
