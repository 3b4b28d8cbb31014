"""GSM8K and MATH-500: problems in words, prompts as in d1, the answer checked as a number or as
mathematics."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from ... import rewards
from ...rewards import published
from ..benchmark import Benchmark
from ..task import Example
from .rows import Row, column, optional_column
from .splits import held_back, split_reader, train_and_test

# What stands before the question: d1's texts, to the letter (dllm-reasoning/d1,
# diffu-grpo/data_utils.py, eval/gsm8k.py, eval/math500.py), the stray quotation mark in the last
# included. AG-GRPO and TA-GRPO-d train with the same.
FORMAT = (
    "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n"
    "<answer>\n...\n</answer>\n\n\n"
)
EXPERT = (
    "You are a math expert. You will be given a question to solve. Solve it step by step. "
    "Wrap the final answer in a \\boxed{}."
)
BOXED = (
    "\nRespond in the following format:\n<reasoning>\nYour reasoning here\n</reasoning>\n"
    "<answer>\n\\boxed{...}\n</answer>"
)
GSM8K_PROMPTS = (FORMAT, EXPERT + " " + BOXED + "\n\n")  # training, evaluation
MATH_PROMPTS = (FORMAT + EXPERT + " \n\n", EXPERT + BOXED + '" \n\n\n')
PREFILL = "<reasoning>"
IN_WORDS = (
    "d1's: the training prompt on train, without prefill; "
    "the evaluation prompt on validation and test, with it"
)
SHOTS_IN_WORDS = (
    "; {} worked examples of the train split, a fixed choice, in the format that the prompt asks "
    "for (d1's own are drawn anew in each run and keep the data set's format; its GSM8K loader "
    "ends up with none)"
)


def gsm8k_task(
    source: str | None = None, shots: int = 0, published_quirks: bool | str = False
) -> Benchmark:
    """Grade-school word problems (Cobbe et al., 2021); answers are numbers.

    Columns: question and answer ("... #### 18"). With `published_quirks` the gold answer keeps its
    thousands separators.
    """
    rules = published if published_quirks else rewards

    def parse(row: Row, split: str) -> Example:
        working, mark, gold = column(row, "answer", str).partition("####")
        if not mark or rewards.number(gold) is None:
            raise ValueError(
                f"{row.where}: the answer should end in '#### number', "
                f"found {working[-40:] + mark + gold!r}"
            )
        gold = gold.strip()
        if not published_quirks:
            gold = gold.replace(",", "")
        # <<3*4=12>> is for a calculator, not for readers
        working = re.sub(r"<<.*?>>", "", working).strip()
        return Example(column(row, "question", str), gold, {"working": working})

    source = source or "openai/gsm8k:main"
    read_bare = split_reader("gsm8k", train_and_test(source, source), parse, held_back)
    return Benchmark(
        name="gsm8k",
        source=source,
        # d1's training format has no box, so the worked examples of a training prompt have none
        read=_with_prompts(read_bare, "gsm8k", GSM8K_PROMPTS, shots, boxed_on_train=False),
        reward=rewards.per_row(rules.gsm8k_reward, "answer"),
        correct=rewards.per_row(rules.gsm8k_correct, "answer"),
        prompt=_in_words(shots),
        prefill=PREFILL,
        shots=shots,
        published_quirks=published_quirks,
    )


def math500_task(
    source: str | None = None, shots: int = 0, published_quirks: bool | str = False
) -> Benchmark:
    """Competition problems (Hendrycks et al., 2021): the 500 test problems of Lightman et al.
    (2023), 12 000 to train on.

    Columns: problem and answer, or solution, whose last box is the answer; worked examples need
    the solution. The hub's are those that d1 trains on and tests on.
    """
    if published_quirks:
        timed = published_quirks == published.TIMED
        rule = published.timed_math_reward if timed else published.math_reward
        reward = rewards.per_row(rule, "answer")
        correct = rewards.per_row(published.math_correct, "answer")
    else:
        reward = _of_batch(rewards.math_reward)
        correct = _of_batch(rewards.math_correct)
    train = source or "ankner/math-500"
    test = source or "HuggingFaceH4/MATH-500"
    read_bare = split_reader("math500", train_and_test(train, test), _math_example, held_back)
    return Benchmark(
        name="math500",
        source=source or f"{train} and {test}",
        read=_with_prompts(read_bare, "math500", MATH_PROMPTS, shots, boxed_on_train=True),
        reward=reward,
        correct=correct,
        prompt=_in_words(shots),
        prefill=PREFILL,
        shots=shots,
        published_quirks=published_quirks,
    )


def _math_example(row: Row, split: str) -> Example:
    solution = optional_column(row, "solution", str)
    if "answer" in row.values or not solution:
        gold = column(row, "answer", str)
    else:
        gold = rewards.last_boxed(solution) or ""
    if not gold.strip():
        raise ValueError(
            f"{row.where}: no answer, neither in the column 'answer' "
            "nor in a \\boxed{} of 'solution'"
        )
    return Example(column(row, "problem", str), gold.strip(), {"working": solution.strip()})


def _of_batch(rule: Callable[[list[str], list[str]], list[float]]) -> Callable[..., list[float]]:
    """rule(completions, answers) as a function of TRL's signature."""

    def reward(prompts: list[str], completions: list[str], answer: list[str], **_) -> list[float]:
        return rule(completions, answer)

    reward.__name__ = rule.__name__  # what an error message calls it
    return reward


def _in_words(shots: int) -> str:
    return IN_WORDS + SHOTS_IN_WORDS.format(shots) if shots else IN_WORDS


def _with_prompts(
    read_bare: Callable[[str], list[Example]],
    name: str,
    prompts: tuple[str, str],
    shots: int,
    boxed_on_train: bool,
) -> Callable[[str], list[Example]]:
    """Reads a split with d1's prompt before each question, and worked examples of train in between,
    which train itself then lacks."""

    @cache
    def read(split: str) -> list[Example]:
        training = split == "train"
        before = prompts[0] if training else prompts[1]
        worked = []
        if shots:
            worked = worked_examples(read_bare("train"), shots, name)
        examples = read_bare(split)
        if training:
            examples = [example for example in examples if example not in worked]
        boxed = boxed_on_train or not training
        return [
            replace(example, prompt=before + with_shots(example.prompt, worked, boxed), columns={})
            for example in examples
        ]

    return read


def worked_examples(train: list[Example], shots: int, name: str) -> list[Example]:
    """The same `shots` examples of the train split in every run, shorter ones, for prompts have to
    fit.

    Raises ValueError if fewer have a working to show.
    """
    pool = [
        example
        for example in train
        if example.columns["working"] and len(example.prompt + example.columns["working"]) <= 600
    ]
    if not 0 < shots <= len(pool):
        raise ValueError(
            f"shots must be 0 to {len(pool)}, the number of short worked examples in {name}'s "
            f"train split; got {shots}"
        )
    return random.Random(f"{name}/shots").sample(pool, shots)


def with_shots(question: str, worked: list[Example], boxed: bool) -> str:
    """The question alone, or after the worked examples, in d1's frame of "Question:" and
    "Answer:"."""
    if not worked:
        return question
    texts = []
    for example in worked:
        answer = f"\\boxed{{{example.answer}}}" if boxed else example.answer
        texts.append(
            f"Question: {example.prompt}\nAnswer:\n<reasoning>\n{example.columns['working']}\n"
            f"</reasoning>\n<answer>\n{answer}\n</answer>"
        )
    return "\n\n".join([*texts, f"Question: {question}\nAnswer:\n"])
