"""Scoring of text: our rules (answers.py), and the same as the releases compute it (published.py).
A reward function has TRL's signature, `reward(prompts, completions, **columns)`.
"""

from .answers import (
    blank_share,
    countdown_correct,
    countdown_reward,
    extract_answer,
    final_answer,
    gsm8k_correct,
    gsm8k_reward,
    keeps_givens,
    last_boxed,
    math_correct,
    math_reward,
    per_row,
    sudoku_correct,
)
from .calling import Reward, call_reward
from .expressions import evaluate_expression
from .numerals import number, rational
from .rubrics import Item, met_share
