"""Are two LaTeX answers the same mathematics? Rational numbers are compared exactly, here; for the
rest math-verify says so, in a process of its own that may be killed.

Text that a model writes can ask sympy for 9^9^9^9: no alarm in this process stops that, and an
alarm works in the main thread only. So a batch is judged by a child (`latex_process.py`) whose
processor time is limited for each pair; if the system kills it, the pair at fault counts as
different and a fresh child goes on after it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from . import latex_process
from .numerals import plain_signs, rational

SECONDS = 4.0  # processor time for one pair; an ordinary pair takes a few hundredths
START_SECONDS = 120  # wall time for a child to start on a busy machine
# Characters of an answer that is looked at; the longest gold answer of MATH-500 has 53.
LONGEST = 300
# 204_5 or 204_{5}: to math-verify the base is no part of a number.
WITH_BASE = re.compile(r"\s*([0-9][0-9A-Za-z]*)\s*_\s*\{?\s*(?:\\text\s*\{)?\s*(\w+)[\s}]*")


def equivalent(pairs: list[tuple[str, str]]) -> list[bool]:
    """Is the answer equal to the gold answer, for each (gold, answer)?

    Args:
        pairs: LaTeX without \\boxed or dollar signs around it, any text.
    Returns:
        True if the texts agree apart from white space, are the same rational number (of which a
        decimal may be a rounding to a millionth), or math-verify finds them equal; False if it does
        not, cannot read one of them, or needs more than SECONDS or the memory it has, for numerals
        in different bases (none is ten), and for an answer longer than LONGEST.
    Raises:
        RuntimeError: if the child cannot start at all, as without math-verify.
    """
    same = {pair: _verdict(*pair) for pair in pairs}
    waiting = [pair for pair, verdict in same.items() if verdict is None]
    while waiting:
        verdicts = _child([tuple(map(plain_signs, pair)) for pair in waiting])
        same.update(zip(waiting, verdicts, strict=False))
        # The first one without a verdict killed the child: it stays without, which is False.
        waiting = waiting[len(verdicts) + 1 :]
    return [bool(same[pair]) for pair in pairs]


def _verdict(gold: str, answer: str) -> bool | None:
    """What can be said without math-verify; None if nothing can."""
    if _squeezed(gold) == _squeezed(answer):
        return True
    if not gold.strip() or not 0 < len(answer.strip()) <= LONGEST:
        return False
    bases = [WITH_BASE.fullmatch(text) for text in (gold, answer)]
    if any(bases):
        return all(bases) and bases[0].groups() == bases[1].groups()
    values = [rational(text) for text in (gold, answer)]
    if None in values:
        return None
    return latex_process.close(*values, rounded=("." in gold) != ("." in answer))


def _squeezed(text: str) -> str:
    """The text without white space, except between two digits: 1 1/2 is not 11/2."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text.strip())


def _child(pairs: list[tuple[str, str]]) -> list[bool]:
    """The verdicts that one child reached before it was done or killed."""
    # -P: this folder's names must not hide the library's modules
    command = [sys.executable, "-P", latex_process.__file__, str(SECONDS)]
    try:
        run = subprocess.run(
            command,
            input=json.dumps(pairs).encode(),
            capture_output=True,
            timeout=START_SECONDS + 3 * SECONDS * len(pairs),
        )
        output = run.stdout
        errors = run.stderr
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or b""
        errors = stopped.stderr or b""
    lines = output.split()
    if not lines or lines[0] != b"ready":
        raise RuntimeError(
            "the process that runs math-verify did not start: "
            + errors.decode(errors="replace")[-500:]
        )
    return [line == b"1" for line in lines[1:]]
