"""How the d1 release scores text, mistakes included: its evaluator's four rules and its training
rewards; last, what TA-GRPO-d's release has of its own.

Rules read from dllm-reasoning/d1 (`eval/parse_and_get_acc.py`, `eval/parser_helper.py`,
`diffu-grpo/reward_func.py`, `math500_utils.py`) and written fresh. SPG, wd1, AG-GRPO and TA-GRPO-d
score by the same rules, with the differences named below. `answers.py` has the rules to count
by if no number has to be reproduced, under the same names.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from . import expressions
from .answers import blank_share

TIMED = "ta-grpo-d"  # the release whose differences stand at the end
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


# ---------------------------------------------------------------- the evaluator's rules


def gsm8k_correct(completion: str, answer: str) -> float:
    """1.0 if d1's evaluator reads the gold number.

    It takes the first \\boxed{...} that holds a number, and of that box the first number if it is
    not one altogether (so "1,000" is 1); failing that the first answer tag, and of that the last
    number. A box ends at its first closing brace. It reads no gold answer below zero, so such a
    problem (five of GSM8K's) is always wrong. SPG adds, for a text without a closing tag, the last
    number after "<answer>".
    """
    gold = re.match(r"\$?([\d,]+(?:\.\d+)?)", answer)
    if gold is None:
        return 0.0
    found = None
    for box in re.findall(r"\\boxed{(.*?)}", completion):
        if found is None and box.strip("."):
            found = _number(box.strip(), 0)
    tag = ANSWER.search(completion)
    if found is None and tag:
        found = _number(tag[1].strip(), -1)
    return float(found == float(gold[1].replace(",", "")))


def _number(text: str, which: int) -> float | None:
    """float(text), else the first (0) or the last (-1) number in it, else None."""
    try:
        return float(text)
    except ValueError:
        numbers = re.findall(r"-?\d+\.?\d*", text)
        return float(numbers[which]) if numbers else None


def math_correct(completion: str, answer: str) -> float:
    """1.0 if the last box equals the gold answer after Hendrycks's normalisation of both
    strings.

    A text without a box is compared as a whole, so an answer in bare tags counts as wrong; only
    if the last box never closes are the first answer tags read instead.
    """
    found = boxed(completion)
    tag = ANSWER.search(completion)
    if not found and tag:
        found = tag[1].strip()
    return float(found is not None and equivalent(found, answer))


def countdown_correct(completion: str, numbers: list[int], target: int) -> float:
    """1.0 if the expression has the target's value (to 1e-5) and its digits spell the numbers.

    It is read from the last box; if there is none, anywhere: the first "... = number" of the
    text, prose included, counts. Evaluated as Python, so ** and // count as well. Whatever follows
    "=" is not looked at.
    """
    text = boxed(completion)
    if text is None:
        tag = ANSWER.search(completion)
        text = tag[1].strip() if tag else completion
    return _right_expression(text, numbers, target)


def _right_expression(text: str, numbers: list[int], target: int) -> float:
    """1.0 if what stands before the first "= number", or else the whole text, is right."""
    for latex, sign in (("\\div", "/"), ("\\times", "*"), ("\\cdot", "*")):
        text = text.replace(latex, sign)
    if stated := re.search(r"(?<![0-9+\-*/() ])([0-9+\-*/() ]+)=[0-9. ]", text):
        text = stated[1].strip()
    return float(_spells(text, numbers) and _reaches(text, target))


def sudoku_correct(completion: str, puzzle: str, answer: str) -> float:
    """Share of the puzzle's blank cells that hold the stored solution's digit; 0.0 if no answer
    is read.

    White space is dropped, whatever else stands there counts as a cell, missing cells are wrong and
    those beyond the sixteenth ignored. Answers are looked for in five places, the last of them any
    sixteen digits in a row.
    """
    opened = completion.partition("<answer>")[2]
    closed = completion.partition("</answer>")[2]
    places = (
        (opened, r".*?```([\d\s]+)```"),
        (opened, r"(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|</answer>)"),
        (closed, r"\s*(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|$)"),
        (completion, r".*?(\d{16})\s*</answer>"),
        (completion, r".*?\b(\d{16})\b"),
    )
    for text, place in places:
        # From the start only: a search would begin anew at every character.
        found = re.match(place, text, re.DOTALL)
        if found and found[1].strip():
            return blank_share(puzzle, re.sub(r"\s", "", found[1]), answer)
    return 0.0


# ---------------------------------------------------------------- the training rewards


def gsm8k_reward(completion: str, answer: str) -> float:
    """d1's five GSM8K rewards summed, at most 4.001; `answer` as the data set writes it, thousands
    separators included.

    The two format tests run without DOTALL, as in d1's first release and in AG-GRPO, so reasoning
    on several lines never earns them (d1 has since repaired it). A text without tags is its own
    answer. If no line break follows the closing tag, 0.001 is charged for every character of the
    whole completion.
    """
    found = completion.split("<answer>")[-1].split("</answer>")[0].strip()
    strict = re.match(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$", completion)
    soft = re.match(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>", completion)
    return (
        2.0 * (found == answer)
        + 0.5 * (found.isdigit() + bool(strict) + bool(soft))
        + _xml_count(completion)
    )


def _xml_count(text: str) -> float:
    count = 0.0
    for tag in ("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>"):
        if text.count(tag) == 1:
            count += 0.125
    if text.count("\n<answer>\n") == 1:
        count -= 0.001 * len(text.split("\n</answer>\n")[-1])
    if text.count("\n</answer>") == 1:
        count -= 0.001 * (len(text.split("\n</answer>")[-1]) - 1)
    return count


def math_reward(completion: str, answer: str) -> float:
    """2.0 for a last box equal to the gold answer, and 0.75 with an <answer> tag, 0.25 without.

    The papers describe 1.0 for a box between the tags; the release looks for a backspace and
    "oxed", so nobody earns it.
    """
    found = boxed(completion)
    if found is None:
        found = completion
    form = 0.75 if "<answer>" in completion else 0.25
    return 2.0 * equivalent(found, answer) + form


def countdown_reward(completion: str, numbers: list[int], target: int) -> float:
    """1.0 for a right expression between the last answer tags, 0.1 for any other answer between
    tags, 0.0 without."""
    tags = ANSWER.findall(completion)
    if not tags:
        return 0.0
    text = tags[-1].strip()
    return 1.0 if _spells(text, numbers) and _reaches(text, target) else 0.1


def sudoku_reward(completion: str, puzzle: str, answer: str) -> float:
    """Share of the puzzle's blank cells that the digits between the last answer tags fill as the
    stored solution does; a tag within the tags ends nothing, and its digits count."""
    tags = ANSWER.findall(completion)
    digits = "".join(filter(str.isdigit, tags[-1] if tags else ""))
    return blank_share(puzzle, digits, answer)


# ---------------------------------------------------------------- where TA-GRPO-d differs


def timed_math_reward(completion: str, answer: str) -> float:
    """`math_reward` with the box literal repaired, as in TA-GRPO-d's release: the format is worth
    1.0 for a box between the first answer tags, 0.75 for a tag without, 0.5 for a box without a
    tag, 0.25 for neither."""
    _, tag, tagged = completion.partition("<answer>")
    text = tagged.partition("</answer>")[0] if tag else completion
    _, box, held = text.rpartition("\\boxed{")
    found = boxed(completion)
    right = found is not None and equivalent(found, answer)
    return 2.0 * right + 0.5 * bool(tag) + (0.5 if box and "}" in held else 0.25)


def timed_countdown_correct(completion: str, numbers: list[int], target: int) -> float:
    """`countdown_correct` as TA-GRPO-d's release evaluates: read from the first answer tags, else
    from the whole text, and never from a box."""
    tag = ANSWER.search(completion)
    return _right_expression(tag[1].strip() if tag else completion, numbers, target)


# ---------------------------------------------------------------- what they are made of


def boxed(text: str) -> str | None:
    """What the last \\boxed or \\fbox holds; the text itself if there is none; None if it
    never closes."""
    if "\\boxed " in text:
        return text.split("\\boxed ")[-1].split("$")[0]
    start = text.rfind("\\boxed")
    if start < 0:
        start = text.rfind("\\fbox")
    if start < 0:
        return text
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if text[end] == "}" and depth == 0:
            found = text[start : end + 1]
            return found[7:-1] if found.startswith("\\boxed{") else found
    return None


def equivalent(a: str, b: str) -> bool:
    """Equality of two LaTeX answers after `normalise`, of the bare strings if either cannot be
    normalised."""
    try:
        return normalise(a) == normalise(b)
    except (IndexError, ValueError):
        return a == b


REPLACED = (
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
)


def normalise(text: str) -> str:
    """The string normalisation of Hendrycks et al. (2021), "Measuring mathematical problem solving
    with the MATH data set".

    Drops layout, degrees, dollar signs, percent signs, a unit in \\text{ ...} at the right and a
    short "x =" at the left; writes fractions and roots with braces. Raises IndexError or ValueError
    for texts that it cannot read, such as "\\frac" at the end or a quotient a/b of anything but
    integers; the release then compares the bare strings.
    """
    for old, new in REPLACED:
        text = text.replace(old, new)
    pieces = text.split("\\text{ ")
    if len(pieces) > 2:
        raise ValueError(f"several units in {text!r}")
    text = pieces[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    if text == "0.5":
        text = "\\frac{1}{2}"
    return _slash_to_fraction(text)


def _braced_roots(text: str) -> str:
    """\\sqrt3 -> \\sqrt{3}."""
    result, *rest = text.split("\\sqrt")
    for part in rest:
        if part[0] != "{":
            part = "{" + part[0] + "}" + part[1:]
        result += "\\sqrt" + part
    return result


def _braced_fractions(text: str) -> str:
    """\\frac12 -> \\frac{1}{2} and \\frac1{72} -> \\frac{1}{72}; one character after \\frac: the
    text as it is."""
    result, *rest = text.split("\\frac")
    for part in rest:
        if part[0] != "{":
            if len(part) < 2:
                return text
            denominator = part[1:]
            if part[1] != "{":
                denominator = "{" + part[1] + "}" + part[2:]
            part = "{" + part[0] + "}" + denominator
        result += "\\frac" + part
    return result


def _slash_to_fraction(text: str) -> str:
    """3/4 -> \\frac{3}{4}; ValueError if a or b of a/b is no integer."""
    sides = text.split("/")
    if len(sides) != 2:
        return text
    a, b = map(int, sides)
    if text != f"{a}/{b}":
        return text
    return f"\\frac{{{a}}}{{{b}}}"


def _spells(text: str, numbers: list[int]) -> bool:
    """Are the runs of digits in the text the numbers, in any order?"""
    found = [run.lstrip("0") or "0" for run in re.findall(r"[0-9]+", text)]
    return sorted(found) == sorted(map(str, numbers))


def _reaches(text: str, target: int) -> bool:
    """Has the text, as Python arithmetic, the target's value?"""
    if not re.fullmatch(r"[0-9+\-*/().\s]+", text):
        return False
    try:
        value = expressions.arithmetic(text.strip(), OPERATORS, number=lambda constant: constant)
        return abs(value - target) < 1e-5
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False


def _power(base: int | float, exponent: int | float) -> int | float:
    """base ** exponent; one of more than 10 000 bits is refused instead of waited for."""
    if type(base) is int and abs(exponent) * base.bit_length() > 10_000:
        raise ValueError("power too large")
    return base**exponent


# What `eval` would do.
OPERATORS: dict[type, Callable] = {
    **expressions.OPERATORS,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}
