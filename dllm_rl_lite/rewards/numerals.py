"""The one number that a text states, read exactly.

The spelling is made plain, one number is found, and what stands around it may only be words, units
and punctuation: a root, a factorial, a power, a base or a variable would change the value, so with
one of those left over the text states no number.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

LONGEST = 1000  # characters that are looked at

# ---------------------------------------------------------------- spelling

# Hyphens, dashes and minus signs that stand for "-", as for str.translate.
MINUS_SIGNS = dict.fromkeys(map(ord, "−‐‑‒–—﹣－"), "-")
REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar|dot)\s*(?:\{([0-9]+)\}|([0-9]))")
SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
SPELLINGS = (
    (r"\\!\s*", ""),  # 11,\! 111 is one number
    (r"\\(?:left|right|displaystyle|textstyle)(?![A-Za-z])", ""),
    (r"\\[,;: ]|\\q?quad(?![A-Za-z])|~", " "),
    (r"\{,\}", ","),
    (r"\\over(?![A-Za-z])|⁄", "/"),
    # 5 \times 10^{3} is 5e3
    (
        r"(?<=[0-9.])\s*(?:\\times|\\cdot|[×⋅·*x])\s*10\s*\^\s*"
        r"(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([+-]?[0-9]{1,3})(?![0-9]))",
        r"e\1\2",
    ),
)


def plain_signs(text: str) -> str:
    """The text with one kind of minus sign, and 0.1\\overline{6} written as \\frac{15}{90}."""

    def quotient(found: re.Match) -> str:
        start = found[1] + found[2]
        period = found[3] or found[4]
        top = int(start + period) - int(start or "0")
        return f"\\frac{{{top}}}{{{'9' * len(period)}{'0' * len(found[2])}}}"

    return REPEATING.sub(quotient, text.translate(MINUS_SIGNS))


def _plain(text: str) -> str:
    """The text in ASCII digits and signs, without LaTeX's layout; words and units stay."""
    text = plain_signs(text)
    text = re.sub("(?<=[0-9])(?=[¼-¾⅐-⅞])", " ", text)  # 1½ is 1 1/2
    text = SUPERSCRIPT.sub(lambda raised: f"^{{{raised[0]}}}", text)
    text = unicodedata.normalize("NFKC", text).translate(MINUS_SIGNS)
    for pattern, replacement in SPELLINGS:
        text = re.sub(pattern, replacement, text)
    return text


# ---------------------------------------------------------------- one number

# 1,000 or 1 000 or 1000; before a slash the last group would be a numerator.
INTEGER = (
    r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])"
    r"|[1-9][0-9]{0,2}(?:[ ][0-9]{3})+(?![0-9]|\s*/)|[0-9]+)"
)
DECIMAL = rf"(?:{INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
ARGUMENT = rf"(\{{\s*-?\s*{DECIMAL}\s*\}}|[0-9])"
NUMBER = re.compile(
    rf"""
    (?:({INTEGER})(?:\s*(?=\\[cdt]?frac)|\s+(?:and\s+)?(?=[0-9]+\s*/)))?  # whole part of 1 1/2
    (?:
        \\[cdt]?frac\s*{ARGUMENT}\s*{ARGUMENT}
        |({DECIMAL})\s*/\s*(-?{DECIMAL})
        |({DECIMAL}(?:[eE][+-]?[0-9]{{1,3}}(?![0-9]))?)
    )
    """,
    re.VERBOSE,
)


def _value(found: re.Match) -> Fraction | None:
    """What a match of NUMBER is worth; None for x/0 and for a whole part before no proper
    fraction."""
    digits = [re.sub(r"[,\s{}]", "", group or "") for group in found.groups()]
    whole, top, bottom, left, right, decimal = digits
    if decimal:
        return Fraction(decimal)
    divisor = Fraction(bottom or right)
    if divisor == 0:
        return None
    quotient = Fraction(top or left) / divisor
    if not whole:
        return quotient
    return int(whole) + quotient if 0 < quotient < 1 else None


def rational(text: str) -> Fraction | None:
    """The exact value of a text that is a number and nothing else: -3, 1,000, .5, 5e3, 3/4,
    2\\frac{1}{2}, 0.\\overline{3}; else None."""
    if len(text) > LONGEST:
        return None
    text = _plain(text).strip()
    bare = re.sub(r"^[+-]\s*", "", text)
    found = NUMBER.fullmatch(bare)
    value = _value(found) if found else None
    if value is not None and text.startswith("-"):
        return -value
    return value


# ---------------------------------------------------------------- a number among words

SURROUNDINGS = (
    (r"\\(?:(?:text|math)(?:bf|it|rm)|text|mbox)(?![A-Za-z])|\\?boxed(?![A-Za-z])", " "),
    (r"(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°)(?:[\s{]*[CFK](?![A-Za-z]))?", " "),
    (r"(?<=[A-Za-z])\\?[$€£¥₹]", " "),  # US$5
    (r"\\?[$€£¥₹¢]|\\(?:pounds|euro)(?![A-Za-z])|\\[()\[\]]", ""),
    (r"\\?%", " "),
    (r"\\([{}])", r"\1"),
    (r"[=-]+>|[→⇒≈]|\\(?:approx|implies|to|[Rr]ightarrow)(?![A-Za-z])", "="),
    (r"([A-Za-z]\s*\}?)\s*\^\s*(?:\{\s*-?[1-3]\s*\}|-?[1-3])", r"\1"),  # cm^2
    (r"(?<=[0-9])[ -]?hundreds?\b", "e2"),
    (r"(?<=[0-9])[ -]?thousands?\b", "e3"),
    (r"(?<=[0-9])[ -]?millions?\b", "e6"),
    (r"(?<=[0-9])[ -]?billions?\b", "e9"),
    (r"\b([A-Za-z])\.(?=[A-Za-z]\b)", r"\1"),  # a.m.
    (r"(?<=[A-Za-z])['’](?:s|t|re|ve|ll|d|m)\b", ""),
    (r"\b[aAI]\s+(?=[A-Za-z]{2})", ""),
)
# Words that would change the value: with one of them left over no number is stated.
OF_VALUE = frozenset(
    "pi sqrt root sin cos tan cot csc log ln exp mod inf infinity factorial squared cubed "
    "minus plus times negative or half halves thirds quarter quarters fourths fifths sixths "
    "eighths tenths hundredths thousandths hundred thousand million billion trillion dozen "
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
)
# Words of one or two letters, and of three next to a digit; any other is a product of variables.
SHORT = frozenset(
    "m g s h l w v cm mm km nm kg mg ml dl cl ft in yd mi lb oz hr ms pt qt gb mb kb tb hz kw cc "
    "ha am pm us uk rs no st nd rd th min hrs lbs mph kph kmh sec yrs gal kwh deg rad usd eur "
    "an as at be by do go he if is it me my of on so to up we ok".split()
)


def number(text: str) -> Fraction | None:
    """The one number that a text of up to 1000 characters states, exactly; None if it states none
    or several.

    Reads what `rational` reads, with words, units, a currency, a percent sign or degrees around it,
    and the words hundred to billion; of an equation what follows the last "=". "20%" is 20, as data
    sets that ask for a percentage have it. A root, factorial, power, base, variable or any other
    sign that is left over gives None: 3x, 5!, \\sqrt{16}, 2^3, 7\\pi.
    """
    if len(text) > LONGEST:
        return None
    text = _plain(text)
    for pattern, replacement in SURROUNDINGS:
        text = re.sub(pattern, replacement, text)
    *sides, stated = text.rstrip("\\ \n").split("=")
    found = list(NUMBER.finditer(stated))
    if len(found) != 1 or not _leads_to_a_value(sides):
        return None
    sign, before = _signed(stated[: found[0].start()])
    after = stated[found[0].end() :]
    value = _value(found[0])
    open_ended = re.search(r"\.[0-9]+$", found[0][0]) and after.startswith("..")  # 0.33...
    if value is None or sign == 0 or open_ended or not _only_words(before, after):
        return None
    return sign * value


def _leads_to_a_value(sides: list[str]) -> bool:
    """Does what stands before the last "=" of a text leave one value to state? Not so 2x = 10,
    x != 5, and x = 5 or x = 6."""
    if any(re.search(r"[0-9][A-Za-z](?![A-Za-z0-9])|[<>!]$", side) for side in sides):
        return False
    several = r"[,;]\s+\S|\n\s*\S|\b(?:or|and)\b|\s[A-Za-z]\s*$"
    return not any(re.search(several, side) for side in sides[1:])


def _signed(before: str) -> tuple[int, str]:
    """The sign at the end of what stands before a number, and the rest; 0 for a minus or plus that
    may be an operator."""
    found = re.fullmatch(r"(.*?)([+-])(\s*)[\s({\[]*", before, re.DOTALL)
    if found is None:
        return 1, before
    head, sign, gap = found.groups()
    starts = re.search(r"(?:^|[^\w\s)}\]+-])\s*$", head)  # at the start, or after ":" or "("
    if not starts and (gap or not head.endswith((" ", "\n"))):
        return 0, before
    return (-1 if sign == "-" else 1), head


def _only_words(before: str, after: str) -> bool:
    """Is all that stands around a number words, units and punctuation?"""
    rest = f"{before} {after}"
    if re.search(r"[^\w\s.,;:!?'\"’‘“”`()\[\]{}*#/-]|_|[\u0370-\u03ff]", rest):
        return False
    if re.match(r"[\s)\]}]*!", after) or re.search(r"[/-](?!\s*[^\W\d_])", rest):
        return False
    if any(sign.isnumeric() for sign in rest):
        return False
    for found in re.finditer(r"[^\W\d_]+", rest):
        word = found[0].lower()
        attached = found.end() == len(before) or found.start() == len(before) + 1
        short = len(word) <= (3 if attached else 2)
        if word in OF_VALUE or (attached and len(word) == 1):
            return False
        if short and word.isascii() and word not in SHORT:
            return False
    return True
