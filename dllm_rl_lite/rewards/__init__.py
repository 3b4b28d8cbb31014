"""Scoring of text: our rules (answers.py), and the same as the releases compute it (published.py).
A reward function has TRL's signature, `reward(prompts, completions, **columns)`.
"""

from .answers import (
    blank_share,
    boxed_format,
    countdown_correct,
    countdown_reward,
    extract_answer,
    final_answer,
    gsm8k_correct,
    gsm8k_reward,
    integer_reward,
    keeps_givens,
    last_boxed,
    math_correct,
    math_reward,
    number_reward,
    per_row,
    soft_format,
    strict_format,
    sudoku_correct,
    tag_count,
)
from .calling import Reward, call_reward
from .expressions import evaluate_expression, read_expression
from .numerals import number, rational
from .rubrics import Item, met_share
