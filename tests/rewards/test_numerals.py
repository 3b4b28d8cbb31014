"""Numbers in texts: a table of forms worked by hand, laws, and the real gold answers."""

import json
import math
import random
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.rewards import number, rational
from dllm_rl_lite.rewards.numerals import plain_signs

DATA = Path(__file__).parents[2].parent / "shared" / "data"

# What is a number and nothing else: `rational` and `number` read the same.
ALONE = {
    # whole numbers and decimals
    "18": 18,
    " 18\n": 18,
    "007": 7,
    "18.0": 18,
    "18.": 18,
    ".5": "1/2",
    "0.25": "1/4",
    ".0000672": "672/10000000",
    "９": 9,  # full width
    "9" * 300: 10**300 - 1,
    # signs
    "-3": -3,
    "+3": 3,
    "- 5": -5,
    "−3": -3,  # U+2212
    "–5": -5,  # en dash
    "‐5": -5,  # U+2010
    "‑5": -5,  # no-break hyphen
    "－5": -5,  # full width
    "- .5": "-1/2",
    "-0": 0,
    # thousands
    "1,000": 1000,
    "1,234,567": 1234567,
    "-1,234.50": "-2469/2",
    "1{,}000": 1000,
    r"1,\!000": 1000,
    r"11,\! 111,\! 111,\! 100": 11111111100,
    "1 234": 1234,
    "12 345 678": 12345678,
    "1\u2009234": 1234,  # thin space
    "1\u202f234": 1234,  # narrow no-break space
    "1\u00a0234": 1234,  # no-break space
    r"385\,000": 385000,
    r"385\ 000": 385000,
    "385~000": 385000,
    "1，000": 1000,  # full-width comma
    # fractions
    "3/4": "3/4",
    "3 / 4": "3/4",
    "-3/4": "-3/4",
    "3/-4": "-3/4",
    "6/4": "3/2",
    "1.5/2": "3/4",
    "1,000/3": "1000/3",
    "3⁄4": "3/4",  # fraction slash
    "½": "1/2",
    "-½": "-1/2",
    "¾": "3/4",
    r"\frac{3}{4}": "3/4",
    r"\dfrac{3}{4}": "3/4",
    r"\tfrac{3}{4}": "3/4",
    r"\cfrac{3}{4}": "3/4",
    r"\frac12": "1/2",
    r"\frac 34": "3/4",
    r"\frac 3 4": "3/4",
    r"\frac9{19}": "9/19",
    r"\frac{270}7": "270/7",
    r"\frac{ 3 }{ 4 }": "3/4",
    r"\frac{-1}{2}": "-1/2",
    r"\frac{1}{-2}": "-1/2",
    r"\frac{–1}{2}": "-1/2",
    r"-\frac{1}{2}": "-1/2",
    r"- \frac{1}{2}": "-1/2",
    r"-\frac{-1}{2}": "1/2",
    r"\frac{1.5}{0.5}": 3,
    r"\frac{1,000}{3}": "1000/3",
    r"1 \over 2": "1/2",
    # mixed numbers
    "1 1/2": "3/2",
    "-1 1/2": "-3/2",
    "12 3/4": "51/4",
    "2 and 1/2": "5/2",
    "1½": "3/2",
    "2 ¼": "9/4",
    r"2\frac{1}{2}": "5/2",
    r"2\frac12": "5/2",
    r"-2\frac{1}{2}": "-5/2",
    r"137 \frac{1}{2}": "275/2",
    r"2\,\frac{1}{2}": "5/2",
    r"1,000\frac{1}{2}": "2001/2",
    "1 125/500": "5/4",
    # powers of ten
    "5e3": 5000,
    "5E3": 5000,
    "5e+3": 5000,
    "-5e-3": "-1/200",
    "1.5e3": 1500,
    r"5 \times 10^3": 5000,
    r"5\times10^{3}": 5000,
    r"5 \times 10^{-3}": "1/200",
    r"5\times 10^{ 3 }": 5000,
    r"1.5 \cdot 10^3": 1500,
    "5×10^3": 5000,
    "5 × 10³": 5000,
    "5 × 10⁻³": "1/200",
    "5*10^3": 5000,
    "5 x 10^3": 5000,
    "5·10^6": 5000000,
    r"-2.5 \times 10^{12}": -2500000000000,
    # repeating decimals
    r"0.\overline{3}": "1/3",
    r"0.1\overline{6}": "1/6",
    r"0.\bar{3}": "1/3",
    r"0.\bar3": "1/3",
    r"-1.\overline{27}": "-14/11",
    r".\overline{9}": 1,
}
# With something around it that changes nothing.
AMONG = {
    "$18": 18,
    "18$": 18,
    "$18$": 18,
    r"\$18.50": "37/2",
    r"\$32,\!348": 32348,
    "-$5": -5,
    r"-\$5": -5,
    "$-5": -5,
    "US$5": 5,
    "€5": 5,
    "£ 5": 5,
    "5 €": 5,
    "5¢": 5,
    "USD 5": 5,
    "5 dollars": 5,
    "Rs. 500": 500,
    "20%": 20,
    r"20\%": 20,
    "20 percent": 20,
    "0.5%": "1/2",
    r"\frac{1}{2}\%": "1/2",
    r"90^\circ": 90,
    r"90^{\circ}": 90,
    r"-90 ^ {\circ}": -90,
    "90°": 90,
    "-5 °C": -5,
    r"20^\circ\text{F}": 20,
    r"90\degree": 90,
    "90 degrees": 90,
    "18 eggs": 18,
    "18 eggs.": 18,
    "18 eggs!": 18,
    "18 a day": 18,
    "5 kg": 5,
    "5kg": 5,
    "5 m": 5,
    "5 cm^2": 5,
    "5 m^3": 5,
    "5 cm²": 5,
    "90 km/h": 90,
    "5 m/s^2": 5,
    "$5/hour": 5,
    "5th": 5,
    "8 a.m.": 8,
    "5'": 5,
    "5 元": 5,
    "#5": 5,
    "18-year-old": 18,
    r"120\text{ minutes}": 120,
    r"5\text{ m}": 5,
    r"5\,\mathrm{kg}": 5,
    r"10 \text{ cm}^{2}": 10,
    r"864 \mbox{ inches}^2": 864,
    r"\frac{1}{2}\text{ hours}": "1/2",
    "3 1/2 cups": "7/2",
    r"\frac{270}7\text{ degrees}": "270/7",
    "5 hundred": 500,
    "5 thousand": 5000,
    "$2.5 million": 2500000,
    "3 billion people": 3 * 10**9,
    "(-5)": -5,
    "-(5)": -5,
    "{5}": 5,
    "[18]": 18,
    r"\left(18\right)": 18,
    r"\(18\)": 18,
    r"\[18\]": 18,
    r"\{5\}": 5,
    r"{1 \over 2}": "1/2",
    "**18**": 18,
    "*18*": 18,
    "`18`": 18,
    '"18"': 18,
    "18\\": 18,
    "18...": 18,
    r"\text{18}": 18,
    r"\mathbf{18}": 18,
    r"\boxed{18}": 18,
    r"\boxed{\frac{1}{2}}": "1/2",
    "it is -5": -5,
    "The answer is 1,234 apples.": 1234,
    "I think it's 18": 18,
    "Answer: -5": -5,
    "Answer: - 5": -5,
    "x = 5": 5,
    "x=-5": -5,
    "x_1 = 5": 5,
    "f(3) = 5": 5,
    "9 * 2 = 18": 18,
    r"5 \times 10^3 = 5000": 5000,
    "so, 1/2 + 1/3 = 5/6": "5/6",
    "9 * 2\n= 10 + 8\n= 18\n": 18,
    "18 = 18 eggs": 18,
    "9 * 2 = 10 + 8 = 18": 18,
    r"x \approx 5": 5,
    "x ≈ 5": 5,
    "=> 18": 18,
    "-> 18": 18,
    r"\Rightarrow 18": 18,
}
# No number, or several; the digits that are left are not one.
NONE = [
    "",
    "...",
    "-",
    "eighteen",
    "one half",
    "18 or 19",
    "18 or more",
    "2 hours 30 minutes",
    "2 hours and thirty minutes",
    "2 and a half",
    "3 halves",
    "5-7",
    "5–7",
    "5 - 7",
    "3 + 4",
    "(5,6)",
    "3, 5, 7",
    "1:30",
    "3:4",
    "1/2/3",
    "x = 5 or x = 6",
    "x = 5, y = 6",
    "x = 5; y = 6",
    "x = 5\ny = 6",
    "x=5 y=6",
    "x ≠ 5",
    "x <= 5",
    "5 = x",
    # thousands that are none
    "1,00",
    "1,0000",
    "1,234,56",
    "1040,000",
    "0,123",
    "1 2",
    "1 2345",
    "12 34",
    "1\n234",
    "1.000,5",
    "1.2.3",
    # fractions that are none
    "3/0",
    r"\frac{3}{0}",
    "0/0",
    "2 3/2",
    r"2\frac{3}{2}",
    r"2\frac{-1}{2}",
    "2.5 1/2",
    "1/x",
    "5/",
    r"\frac{1}{x}",
    r"\frac{20000}{\pi}",
    r"\frac{\sqrt{3}}{3}",
    r"\frac{1}{2^{99}}",
    r"\frac",
    r"\frac{1}",
    "1/2e3",
    # roots, factorials, powers, bases
    r"\sqrt{16}",
    r"\sqrt16",
    "√16",
    "sqrt(16)",
    "square root of 16",
    r"2\sqrt{5}",
    r"-\sqrt{3}",
    "5!",
    "(5)!",
    "5 !",
    "10^2",
    "2^{10}",
    "2**3",
    "10³",
    "5²",
    "5 squared",
    "204_5",
    "4210_{5}",
    "5e1000",
    r"5 \times 10^{3.5}",
    r"\times 10^3",
    r"x^3",
    # letters
    "3x",
    "3 x",
    "2k",
    "5m",
    "5xy",
    "5 xy",
    "x5",
    "3R^2",
    "2ab",
    "x-5",
    "7\\pi",
    "288 \\pi",
    "2 pi",
    "2π",
    "5i",
    "1+2i",
    "5e",
    "f(5)",
    "y = -2x",
    "2x = 10",
    "5x - 7y + 11z + 4 = 0",
    r"5\text{ x}",
    r"\log 5",
    "log 5",
    r"5 \cdot x",
    # other signs
    "Total - 5",
    "it is - 5",
    "COVID-19",
    "--5",
    "+-5",
    "5+",
    "5 -",
    "±5",
    r"\pm 5",
    "|-5|",
    r"\lfloor 5 \rfloor",
    ">5",
    "x > 5",
    r"x \ge 5",
    "x != 5",
    r"x \neq 5",
    r"(5,\infty)",
    r"(-\infty, 0]",
    "5∞",
    "0.333...",
    "0.333…",
    r"0.333\ldots",
    "minus 5",
    "五",
    "٣",
    "1e3e3",
    "9" * 1001,
]
FORMS = [(text, Fraction(value)) for text, value in [*ALONE.items(), *AMONG.items()]]
FORMS += [(text, None) for text in NONE]


def test_the_table_is_large():
    assert len({text for text, _ in FORMS}) == len(FORMS) > 300


@pytest.mark.parametrize("text, value", FORMS)
def test_number_by_hand(text, value):
    """The value that the whole text states, or none: never the digits that happen to stand in
    it."""
    assert number(text) == value


def test_rational_takes_a_number_and_nothing_else():
    wrong = [text for text, value in ALONE.items() if rational(text) != Fraction(value)]
    assert wrong == []
    # signs of layout aside, nothing may stand around it
    assert [text for text in [*AMONG, *NONE] if rational(text) is not None] == []


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**9), 10**9))
def test_number_reads_what_was_written(hundredths):
    """A decimal, a quotient, with and without separators, currency and units: the same exact
    number."""
    value = Fraction(hundredths, 100)
    for decimal in (f"{hundredths / 100:,.2f}", f"{hundredths / 100:.2f}"):
        for text in (
            decimal,
            decimal.replace(",", "\\,"),
            decimal.replace(",", " "),
            decimal.replace("-", "−"),
            f"\\${decimal}",
            f"{decimal}\\%",
            f"{decimal} \\text{{ cm}}^2",
            f"it is = {decimal} km",
            f"{decimal}e0",
            f"{decimal} \\times 10^{{0}}",
        ):
            assert number(text) == value, text
    top, bottom = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    for text in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}", f"\\dfrac {{{top}}} {bottom}"):
        if bottom < 10 or " " not in text:
            assert number(sign + text) == value, text
    whole, rest = divmod(top, bottom)
    if rest:
        assert number(f"{sign}{whole} {rest}/{bottom}") == value
        assert number(f"{sign}{whole}\\frac{{{rest}}}{{{bottom}}}") == value


@settings(max_examples=200, deadline=None)
@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=99))
def test_repeating_decimals_are_exact(value):
    """Long division written with a bar over the period gives the fraction back."""
    whole, rest = divmod(abs(value.numerator), value.denominator)
    digits, seen = "", {}
    while rest and rest not in seen:
        seen[rest] = len(digits)
        digit, rest = divmod(10 * rest, value.denominator)
        digits += str(digit)
    if not rest:
        return
    start = seen[rest]
    text = f"{whole}.{digits[:start]}\\overline{{{digits[start:]}}}"
    sign = "-" if value < 0 else ""
    assert number(sign + text) == rational(sign + text) == value
    assert plain_signs("x = " + text).startswith("x = \\frac{")


PIECES = (
    "0 1 12 000 , . - – + / \\frac { } \\frac{1}{2} ^ _ ! = x e 10 \\times \\, $ % ½ ² \\text cm"
)
PIECES = [*PIECES.split(), " ", "\n", "\\overline{3}", "million", "a"]


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
def test_any_text_gives_a_number_or_none(text):
    """Never an exception; what `rational` reads `number` reads the same; white space around it
    changes nothing."""
    value = number(text)
    assert value is None or isinstance(value, Fraction)
    assert rational(text) in (None, value)
    assert number(f"\n {text} ") == value


def test_the_longest_texts_are_read_at_once():
    """Nothing runs away on 1000 characters of any repeated piece, or on huge exponents: a second
    of processor time for all of them is ten times what it takes."""
    rng = random.Random(0)
    texts = [(piece * 1000)[:1000] for piece in [*PIECES, "1 ", "1,", "{1}", "\\frac{", "- ", "a "]]
    for _ in range(100):
        texts.append("".join(rng.choices(PIECES, k=300))[:1000])
    start = time.process_time()
    for text in texts:
        number(text)
        rational(text)
    assert time.process_time() - start < 5
    assert number("1e999") == 10**999 and number("1e-999") == Fraction(1, 10**999)
    assert number("1e9999999") is None and number("9^9^9^9^9") is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the public benchmark files are not here")
def test_the_gold_answers_of_the_data_sets():
    """All 8792 of GSM8K are read as the plain digits they are; of MATH-500's the whole numbers,
    fractions and mixed numbers, and nothing that has a letter, a root or a power."""
    golds = []
    for split in ("train", "test"):
        for line in (DATA / "gsm8k" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            golds.append(json.loads(line)["answer"].rpartition("####")[2])
    assert len(golds) == 8792
    assert all(number(gold) == rational(gold) == int(gold.replace(",", "")) for gold in golds)
    lines = (DATA / "math500" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    read = {answer: number(answer) for answer in answers}
    assert sum(number(answer) is not None for answer in answers) == 401
    for answer, value in read.items():
        bare = re.sub(r"\\text{[^}]*}|\\mbox{[^}]*}|\\d?frac|\\circ|x=|[a-z]{2,}", "", answer)
        if re.search(r"[A-Za-z]|\\infty|\\sqrt|\^[^\\23]|_", bare):
            assert value is None, answer
    assert read["1\\frac{4}{5}"] == Fraction(9, 5) and read["137 \\frac{1}{2}"] == Fraction(275, 2)
    assert not any(value is not None and math.isnan(value) for value in read.values())
