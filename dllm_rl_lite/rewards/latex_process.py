"""The process that compares LaTeX for `latex.py`, run as a script: pairs as JSON on standard input,
"ready" and then 1 or 0 for each on standard output.

It imports nothing of this package, so that it starts in any folder.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from contextlib import suppress
from fractions import Fraction

CLOSE = Fraction(1, 10**6)  # how well a decimal has to stand for what it rounds
DIGITS = 100  # to which irrational numbers have to agree
MEMORY = 4 << 30  # bytes of address space


def close(a: Fraction, b: Fraction, rounded: bool) -> bool:
    """Are two rationals equal, or is one (`rounded`: one of them was written as a decimal) a
    rounding of the other, which no decimal can state exactly?"""
    if a == b or not rounded or (_ends(a) and _ends(b)):
        return a == b
    return abs(a - b) <= CLOSE * min(1, max(abs(a), abs(b)))


def _ends(value: Fraction) -> bool:
    """Has the value a finite decimal, its denominator no factor but 2 and 5?"""
    return pow(10, value.denominator.bit_length(), value.denominator) == 0


def same_number(gold, answer, *_) -> bool:
    """Are two parsed numbers, or matrices of them, equal? In the place of math-verify's own
    comparison, which is absolute: 0.0000002 and 0.0000003 are the same to it.

    "20%" is 0.2 or 20, as there. False for what is no number: it is compared symbolically.
    """
    from math_verify.grader import get_pct_val
    from sympy import MatrixBase, MatrixExpr

    if isinstance(gold, (MatrixBase, MatrixExpr)) and isinstance(answer, (MatrixBase, MatrixExpr)):
        gold = gold.doit()
        answer = answer.doit()
        cells = zip(gold.flat(), answer.flat(), strict=False)
        return gold.shape == answer.shape and all(same_number(a, b) for a, b in cells)
    bare = get_pct_val(gold, gold), get_pct_val(answer, answer)
    try:
        return _same_value(gold, answer) or _same_value(*bare)
    except (TypeError, ValueError, AttributeError):  # no numbers, or not finite
        return False


def _same_value(a, b) -> bool:
    from sympy import Float, Rational

    rounded = a.has(Float) != b.has(Float)
    exact = []
    for value in (a, b):
        decimals = {decimal: Rational(str(decimal)) for decimal in value.atoms(Float)}
        exact.append(value.xreplace(decimals).doit())
    a, b = exact
    if a.is_Rational and b.is_Rational:
        return close(Fraction(a.p, a.q), Fraction(b.p, b.q), rounded)
    if not (a.is_number and a.is_finite and b.is_number and b.is_finite):
        return False
    bound = Rational(1, 10**6) if rounded else Rational(1, 10**DIGITS)
    size = max(abs(a.evalf()), abs(b.evalf()))
    if rounded:
        size = min(1, size)
    return bool(abs((a - b).evalf(2 * DIGITS, maxn=8 * DIGITS)) <= bound * size)


def work() -> None:
    """Judge all pairs, each within the seconds of processor time that the first argument gives."""
    import resource

    from math_verify import grader, parse, verify
    from math_verify.parser import LatexExtractionConfig

    grader.sympy_numeric_eq = same_number
    # Nothing that a library prints is taken for a verdict.
    verdicts = sys.stdout
    sys.stdout = sys.stderr
    # It warns that its own time limits are off: here the system sets them.
    logging.disable(logging.CRITICAL)
    # macOS has no such limit; the one on processor time holds there as well.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ends the process at once, whatever C code it is in.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def read(text: str) -> list:
        return parse(
            f"\\boxed{{{text}}}",
            [LatexExtractionConfig(boxed_match_priority=0)],
            "no_fallback",
            parsing_timeout=None,
        )

    read("1")
    print("ready", file=verdicts, flush=True)
    for gold, answer in json.load(sys.stdin):
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
        try:
            # x > 5 is (5, \infty), on either side
            is_same = verify(
                read(gold), read(answer), timeout_seconds=None, allow_set_relation_comp=True
            )
        # whatever sympy raises on a model's text: not the gold answer
        except Exception:
            is_same = False
        print(int(is_same), file=verdicts, flush=True)


if __name__ == "__main__":
    work()
