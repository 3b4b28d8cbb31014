"""What is new in a method: its record and its functions beside its parent's, from the package's own
source."""

from __future__ import annotations

import ast
import difflib
import html
import inspect
from dataclasses import asdict, fields
from pathlib import Path

from .. import methods
from ..methods import METHODS, Method, Part
from ..methods.parts import SLOTS
from ..names import lookup
from .tables import table as plain_table

QUESTIONS = {
    "given": "given texts",
    "dice": "dice: whose noise a sibling uses",
    "views": "views: which masked copies score a text",
    "rewarded": "which texts are rewarded",
    "shape": "rewards before credit",
    "advantage": "credit",
    "token_credit": "credit of a token",
    "level": "what has a loss: view, token or text",
    "ratio": "what the clip looks at",
    "surrogate": "surrogate",
    "penalty": "penalty",
    "weighted_penalty": "penalty times the ratio",
    "to_reference": "compared with the reference",
    "average": "averaged by",
    "tempered": "scored at the rollouts' temperature",
}
FUNCTIONS = [name for name in QUESTIONS if name in SLOTS]  # answered by a function
STYLE = {"+": "background:#dff3e4;color:#0b5d2a", "-": "background:#fbe3e1;color:#8c1d13"}


def answers(method: Method) -> dict:
    """Question -> answer: the fields of a method and of its objective."""
    return {**vars(method), **vars(method.objective)}


def answer(value) -> str:
    """A function by its name, anything else as it is; nothing as a dash."""
    return "–" if value is None else getattr(value, "__name__", str(value))


def rows(method: Method, preset: str = "tiny") -> dict[str, str]:
    """question or number -> a method's answer, as text. preset: whose numbers, "tiny" or
    "paper"."""
    mine = answers(method)
    found = {text: answer(mine[name]) for name, text in QUESTIONS.items()}
    for name in ("given", "dice", "shape", "token_credit", "to_reference"):
        if not mine[name]:  # as in most: not worth a line
            del found[QUESTIONS[name]]
    numbers = asdict(method.numbers(preset))
    for f in fields(methods.Numbers):
        value = numbers[f.name]
        if isinstance(value, dict):
            found |= {f"{f.name}: {k}": str(v) for k, v in value.items()}
        else:
            found[f.name] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def method_table(name: str, preset: str = "tiny", parent: str | None = None) -> str:
    """A method's answers beside its parent's as plain text; only what differs, or all where there
    is no parent.

    name: a key of METHODS; parent: another to compare with. Raises ValueError for an unknown one,
    with the nearest match.
    """
    method = lookup("method", name, METHODS)
    parent = method.parent if parent is None else parent
    mine = rows(method, preset)
    if not parent:
        return plain_table([{"": k, name: v} for k, v in mine.items()])
    theirs = rows(lookup("method", parent, METHODS), preset)
    both = list(dict.fromkeys([*mine, *theirs]))
    changed = [
        {"": k, parent: theirs.get(k, "–"), name: mine.get(k, "–")}
        for k in both
        if mine.get(k) != theirs.get(k)
    ]
    same = ", ".join(
        k for k, text in QUESTIONS.items() if text in mine and mine[text] == theirs.get(text)
    )
    return plain_table(changed) + f"\n\nas in {parent}: {same}"


def record_source(name: str) -> str:
    """The lines of `methods/` that make a method's record."""
    lookup("method", name, METHODS)
    for path in sorted(Path(inspect.getfile(Method)).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and _name_of(node) == name:
                return ast.get_source_segment(source, node)
    raise ValueError(f"no record of {name!r} in the folder of {Method.__module__}")


def _name_of(node: ast.Assign) -> str | None:
    for keyword in getattr(node.value, "keywords", ()):
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


def code(part: Part) -> str:
    """A part's source without docstring and annotations; comments go with parsing."""
    node = ast.parse(inspect.getsource(part.function)).body[0]
    node.returns = None
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        argument.annotation = None
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(node))


def diff(name: str, parent: str | None = None) -> list[str]:
    """Lines "+ new", "- gone" and "  kept": the record, then each answer that is another function
    than the parent's. A method without a parent is all new."""
    method = lookup("method", name, METHODS)
    parent = method.parent if parent is None else parent
    theirs = answers(lookup("method", parent, METHODS)) if parent else {}
    lines = _compare(record_source(parent) if parent else "", record_source(name))
    for question in FUNCTIONS:
        new = answers(method)[question]
        old = theirs.get(question)
        if getattr(new, "function", None) is not getattr(old, "function", None):
            lines += ["", *_compare(code(old) if old else "", code(new) if new else "")]
    return lines


def _compare(old: str, new: str) -> list[str]:
    a, b = old.splitlines(), new.splitlines()
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    if matcher.ratio() < 0.5:  # two different functions: one after the other reads better
        return ["- " + line for line in a] + ["+ " + line for line in b]
    lines = []
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        kept = kind == "equal"
        lines += [("  " if kept else "- ") + line for line in a[a0:a1]] + [
            "+ " + line for line in b[b0:b1] if not kept
        ]
    return lines


class SourceDiff:
    """A diff that a notebook shows in colour and a terminal as plain text."""

    def __init__(self, lines: list[str]):
        self.lines = lines

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        spans = [
            f'<span style="{STYLE.get(line[:1], "")}">{html.escape(line) or " "}</span>'
            for line in self.lines
        ]
        return (
            # The border says that a long diff scrolls.
            '<pre style="font-size:12px;line-height:1.35;max-height:34em;overflow:auto;'
            'border:1px solid #cccccc;padding:4px">' + "\n".join(spans) + "</pre>"
        )


def source_diff(name: str, parent: str | None = None) -> SourceDiff:
    """The colour diff of a method against its parent (green: new, red: the parent's): leave it last
    in a cell."""
    return SourceDiff(diff(name, parent))
