"""Arithmetic in the texts that models write, read without executing anything."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from .numerals import MINUS_SIGNS, number

OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def arithmetic(text: str, operators: dict[type, Callable], number: Callable):
    """The value of an expression in Python's syntax, its tree walked by hand: nothing is executed.

    Args:
        operators: what each node of an operator does; others are refused.
        number: the value of a constant.
    Raises:
        SyntaxError, ValueError: for anything but such arithmetic.
    """

    def value(node: ast.AST):
        if isinstance(node, ast.Constant):
            return number(node.value)
        if isinstance(node, ast.UnaryOp) and type(node.op) in operators:
            return operators[type(node.op)](value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in operators:
            return operators[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"not arithmetic: {ast.dump(node)[:40]}")

    return value(ast.parse(text, mode="eval").body)


def evaluate_expression(text: str) -> tuple[Fraction, Counter] | None:
    """Exact value of an arithmetic expression and the multiset of numbers in it; None if it is not
    one.

    Only digits, + - * / and brackets. A sign belongs to no number: -3 + 5 has the numbers 3 and 5.
    """
    text = text.strip()
    if len(text) > 200 or not set(text) <= set("0123456789+-*/() "):
        return None
    numbers: Counter = Counter()

    def counted(value: int) -> Fraction:
        numbers[value] += 1
        return Fraction(value)

    try:
        return arithmetic(text, OPERATORS, counted), numbers
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


LATEX_SIGNS = {
    "\\times": "*",
    "\\cdot": "*",
    "×": "*",
    "⋅": "*",
    "\\div": "/",
    "÷": "/",
    "\\left": "",
    "\\right": "",
    "\\(": "",
    "\\)": "",
    "\\[": "",
    "\\]": "",
    "$": "",
    "\n": " ",
}


def read_expression(text: str) -> tuple[Fraction, Counter] | None:
    """`evaluate_expression` of what models write: LaTeX signs and fractions, brackets of all kinds,
    a tail "= 51".

    The tail has to be true: an expression that is said to equal something else is not read (None).
    """
    for latex, sign in LATEX_SIGNS.items():
        text = text.replace(latex, sign)
    text = text.translate(MINUS_SIGNS)
    text = re.sub(r"\\[cdt]?frac\s*(\{[^{}]*\}|[0-9])\s*(\{[^{}]*\}|[0-9])", r"(\1/\2)", text)
    text = text.translate(str.maketrans("{}[]", "()()"))
    expression, *stated = text.split("=")
    found = evaluate_expression(expression)
    if found is None or not stated:
        return found
    if len(stated) > 1 or not re.fullmatch(r"\s*-?[0-9.,/]+\s*", stated[0]):
        return None
    return found if number(stated[0]) == found[0] else None
