"""One table of symbols for the course: every letter of every formula is in it, once."""

import json
import re
from pathlib import Path

import pytest
from dllm_rl_course.symbols import FORMULA, SYMBOLS, letters, symbols

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("**/[0-9]*.ipynb"))
ROWS = [row for rows in SYMBOLS.values() for row in rows]
KNOWN = set().union(*(letters(symbol) for symbol, _, _ in ROWS))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_letter_is_in_the_table(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            assert letters(text) <= KNOWN, f"not in symbols.py, in: {text[:200]}"


def test_no_letter_is_in_two_rows():
    """But for k, a count, and the penalties k1, k2 and k3, and letters that only decorate."""
    index_letters = {"i", "j", "s", "m", "t", "G", "P", "k"}
    seen = {}
    for symbol, _, _ in ROWS:
        for letter in letters(symbol) - index_letters:
            assert letter not in seen, f"{letter} is in {seen[letter]} and in {symbol}"
            seen[letter] = symbol


def test_probabilities_are_written_with_a_small_p():
    """P alone is the number of tokens of a prompt."""
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            formulas = " ".join(FORMULA.findall("".join(cell["source"])))
            is_text = cell["cell_type"] == "markdown"
            assert not (is_text and re.search(r"(?<![A-Za-z])P\(", formulas)), path.name


def test_letters_finds_letters_and_not_words():
    assert letters(r"$\mathcal L = \tfrac1N \sum_i \mathrm{clip}(\rho_{ij})$, not $x$y") == {
        "calligraphic L", "N", "i", "j", r"\rho", "x",
    }  # fmt: skip
    assert letters("no formula: a, b") == set()


def test_the_table_is_markdown_with_three_columns():
    lines = symbols().data.splitlines()
    assert len(lines) == 2 + len(SYMBOLS) + len(ROWS)
    assert all(line.count("|") == 4 for line in lines)
