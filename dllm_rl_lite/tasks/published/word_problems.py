"""GSM8K and MATH-500: problems in words, prompts as in d1, the answer checked as a number or as
mathematics."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from ... import rewards
from ...names import unknown
from ...rewards import published
from ..benchmark import Benchmark, held_back
from ..task import SPLITS, Example
from .rows import Row, column, read_rows

# What stands before the question: d1's texts, to the letter (dllm-reasoning/d1,
# diffu-grpo/data_utils.py, eval/gsm8k.py, eval/math500.py), the stray quotation mark in the last
# included. AG-GRPO and TA-GRPO-d train with the same.
FORMAT = "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n\n\n"
EXPERT = (
    "You are a math expert. You will be given a question to solve. Solve it step by step. "
    "Wrap the final answer in a \\boxed{}."
)
BOXED = (
    "\nRespond in the following format:\n<reasoning>\nYour reasoning here\n</reasoning>\n<answer>\n\\boxed{...}\n"
    "</answer>"
)
GSM8K_PROMPTS = (FORMAT, EXPERT + " " + BOXED + "\n\n")  # training, evaluation
MATH_PROMPTS = (FORMAT + EXPERT + " \n\n", EXPERT + BOXED + '" \n\n\n')
PREFILL = "<reasoning>"
IN_WORDS = "d1's: the training prompt on train, without prefill; the evaluation prompt on validation and test, with it"
SHOTS_IN_WORDS = (
    "; {} worked examples of the train split, a fixed choice, in the format that the prompt asks for (d1's "
    "own are drawn anew in each run and keep the data set's format; its GSM8K loader ends up with none)"
)


def gsm8k_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Grade-school word problems (Cobbe et al., 2021); answers are numbers.

    Args:
        source: file, folder or hub id with the columns question and answer ("... #### 18"); default
            openai/gsm8k.
        shots: worked examples before each question.
        published_quirks: score as d1's release does; the gold answer then keeps its thousands
            separators.
    Raises:
        ValueError: on reading, for a row without "####", naming its place.
    """

    def parse(row: Row) -> Example:
        working, mark, gold = column(row, "answer", str).partition("####")
        if not mark or rewards.number(gold) is None:
            raise ValueError(
                f"{row.where}: the answer should end in '#### number', found {working[-40:] + mark + gold!r}"
            )
        gold = gold.strip() if published_quirks else gold.strip().replace(",", "")
        working = re.sub(
            r"<<.*?>>", "", working
        ).strip()  # <<3*4=12>> is for a calculator, not for readers
        return Example(column(row, "question", str), gold, {"working": working})

    own = [rewards.gsm8k_reward, rewards.gsm8k_correct]
    if published_quirks:
        own = [published.gsm8k_reward, published.gsm8k]
    source = source or "openai/gsm8k:main"
    return _benchmark(
        "gsm8k",
        {split: source for split in SPLITS},
        parse,
        GSM8K_PROMPTS,
        shots,
        published_quirks,
        *(rewards.per_row(rule, "answer") for rule in own),
    )


def math500_task(
    source: str | None = None, shots: int = 0, published_quirks: bool = False
) -> Benchmark:
    """Competition problems (Hendrycks et al., 2021): the 500 test problems of Lightman et al.
    (2023), 12 000 to train on.

    Args:
        source: file, folder or hub id with the columns problem and answer, or solution, whose last
            box is the answer; default ankner/math-500 to train on, as in d1, and
            HuggingFaceH4/MATH-500 to test on.
        shots: worked examples before each question; they need the column solution.
        published_quirks: score as d1's release does.
    Raises:
        ValueError: on reading, for a row with no answer, naming its place.
    """

    def parse(row: Row) -> Example:
        solution = column(row, "solution", str) if "solution" in row.values else ""
        gold = (
            column(row, "answer", str)
            if "answer" in row.values or not solution
            else rewards.last_boxed(solution)
        )
        if not (gold or "").strip():
            raise ValueError(
                f"{row.where}: no answer, neither in the column 'answer' nor in a \\boxed{{}} of 'solution'"
            )
        return Example(column(row, "problem", str), gold.strip(), {"working": solution.strip()})

    def as_batch(rule: Callable[[list[str], list[str]], list[float]]) -> Callable[..., list[float]]:
        def reward(
            prompts: list[str], completions: list[str], answer: list[str], **_
        ) -> list[float]:
            return rule(completions, answer)

        reward.__name__ = rule.__name__
        return reward

    if published_quirks:
        rules = [
            rewards.per_row(rule, "answer") for rule in (published.math_reward, published.math)
        ]
    else:
        rules = [as_batch(rule) for rule in (rewards.math_reward, rewards.math_correct)]
    hub = {
        "train": "ankner/math-500",
        "validation": "ankner/math-500",
        "test": "HuggingFaceH4/MATH-500",
    }
    sources = {split: source for split in SPLITS} if source else hub
    return _benchmark("math500", sources, parse, MATH_PROMPTS, shots, published_quirks, *rules)


def _benchmark(
    name: str,
    sources: dict[str, str],
    parse: Callable[[Row], Example],
    prompts: tuple[str, str],
    shots: int,
    published_quirks: bool,
    reward: Callable,
    correct: Callable,
) -> Benchmark:
    """The splits of a set of word problems: test as it is, validation held back from train, worked
    examples from train."""

    @cache
    def bare(split: str) -> list[Example]:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        examples = [
            parse(row) for row in read_rows(sources[split], "test" if split == "test" else "train")
        ]
        return examples if split == "test" else held_back(examples, split)

    @cache
    def read(split: str) -> list[Example]:
        worked = worked_examples(bare("train"), shots, name) if shots else []
        examples = [e for e in bare(split) if split != "train" or e not in worked]
        before, boxed = (prompts[0], name != "gsm8k") if split == "train" else (prompts[1], True)
        return [
            replace(e, prompt=before + with_shots(e.prompt, worked, boxed), columns={})
            for e in examples
        ]

    different = dict.fromkeys(sources[split] for split in ("train", "test"))
    in_words = IN_WORDS + (SHOTS_IN_WORDS.format(shots) if shots else "")
    return Benchmark(
        name,
        256,
        " and ".join(different),
        read,
        reward,
        correct,
        in_words,
        PREFILL,
        shots,
        published_quirks,
    )


def worked_examples(train: list[Example], shots: int, name: str) -> list[Example]:
    """The same `shots` examples of the train split in every run, shorter ones, for prompts have to
    fit.

    Raises ValueError if fewer have a working to show.
    """
    pool = [
        e for e in train if e.columns["working"] and len(e.prompt + e.columns["working"]) <= 600
    ]
    if not 0 < shots <= len(pool):
        raise ValueError(
            f"shots must be 0 to {len(pool)}, the number of short worked examples in {name}'s train split; "
            f"got {shots}"
        )
    return random.Random(f"{name}/shots").sample(pool, shots)


def with_shots(question: str, worked: list[Example], boxed: bool) -> str:
    """The question alone, or after the worked examples, in d1's frame of "Question:" and
    "Answer:"."""
    if not worked:
        return question
    answers = [f"\\boxed{{{e.answer}}}" if boxed else e.answer for e in worked]
    texts = [
        f"Question: {e.prompt}\nAnswer:\n<reasoning>\n{e.columns['working']}\n</reasoning>\n<answer>\n{a}\n</answer>"
        for e, a in zip(worked, answers, strict=True)
    ]
    return "\n\n".join([*texts, f"Question: {question}\nAnswer:\n"])
