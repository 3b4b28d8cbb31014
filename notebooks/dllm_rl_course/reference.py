"""The reference chapter: records described from their own source, and a picture of what the model
is asked."""

from __future__ import annotations

import ast
import inspect
import textwrap

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM

WIDTH = 88  # letters of a line that is printed
INDENT = 4
COLOURS = {"padding": "#DDDDDD", "token": "#FFFFFF", "mask": "#F3E3C3", "asked": "#9CCBE8"}


def describe(record: type) -> str:
    """A record's fields and what can be asked of it, in its own words.

    Args:
        record: a dataclass. A field's words are the comments above and beside it, or the help of an
            `option`; a property's or a method's are its docstring.
    Returns:
        text of lines of at most `WIDTH` letters.
    """
    source = textwrap.dedent(inspect.getsource(record))
    lines = source.splitlines()
    about = f"{record.__name__}: {_plain(inspect.getdoc(record))}"
    parts = _lines(about, 0, 0)
    definition = ast.parse(source).body[0]
    after = definition.body[0].end_lineno + 1  # the first line after the docstring
    for node in definition.body[1:]:
        if isinstance(node, ast.AnnAssign):
            words = _comments(lines, after, node)
            metadata = record.__dataclass_fields__[node.target.id].metadata
            parts.append(_entry(_signature(node), words or metadata.get("help", "")))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            call = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
            is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
            head = f".{node.name}" if is_property else f".{node.name}({call})"
            parts.append(_entry(head, _plain(ast.get_docstring(node))))
        after = node.end_lineno + 1
    return "\n".join(parts)


def _signature(node: ast.AnnAssign) -> str:
    """Name, type and default of a field."""
    head = f"{node.target.id}: {ast.unparse(node.annotation)}"
    if node.value is None:
        return head
    default = ast.unparse(node.value)
    if default.startswith(("option(", "field(", "lambda")):
        return head
    return f"{head} = {default}"


def _comments(lines: list[str], after: int, node: ast.AnnAssign) -> str:
    """The comment beside the field, and those between the line `after` and the field."""
    beside = lines[node.end_lineno - 1][node.end_col_offset :].strip()
    above = [line.strip() for line in lines[after - 1 : node.lineno - 1]]
    above = " ".join(line.lstrip("# ") for line in above if line.startswith("#"))
    return ". ".join(words for words in (beside.lstrip("# "), above) if words)


def _plain(docstring: str | None) -> str:
    """The first paragraph, in one line."""
    return " ".join((docstring or "").split("\n\n")[0].split())


def _entry(head: str, words: str) -> str:
    """A field or a call, and its words below it."""
    return "\n".join([*_lines(head, INDENT, 3 * INDENT), *_lines(words, 2 * INDENT, 2 * INDENT)])


def _lines(text: str, first: int, later: int) -> list[str]:
    """A text in lines of at most `WIDTH` letters, indented."""
    indents = {"initial_indent": first * " ", "subsequent_indent": later * " "}
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, **indents)


def draw_where(
    lm: MaskedDiffusionLM, ids: Tensor, attention_mask: Tensor, where: Tensor
) -> plt.Figure:
    """The rows of a call of the model; the positions asked for are numbered 0 to K - 1, as the rows
    of its answer are.

    Args:
        lm: gives the tokens their names.
        ids: (N, S) int64.
        attention_mask: (N, S) bool, False on padding.
        where: (N, S) bool, K True values.
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    """
    n, width = ids.shape
    number = where.flatten().long().cumsum(0).view(n, width) - 1
    fig, ax = plt.subplots(figsize=(8.6, 0.75 + 0.62 * n), dpi=110, layout="constrained")
    for i in range(n):
        for j in range(width):
            kind, word = _cell(lm, int(ids[i, j]), bool(attention_mask[i, j]))
            if where[i, j]:
                kind = "asked"
                ax.text(j + 0.5, i + 0.74, int(number[i, j]), ha="center", va="center", fontsize=10)
            look = {"facecolor": COLOURS[kind], "edgecolor": "#888888"}
            ax.add_patch(Rectangle((j + 0.04, i + 0.08), 0.92, 0.84, **look))
            place = 0.36 if where[i, j] else 0.5
            ax.text(j + 0.5, i + place, word, ha="center", va="center", fontsize=8.5)
    ax.set(xlim=(0, width), ylim=(n, 0))
    ax.axis("off")
    labels = {
        "padding": "padding (attention_mask False)",
        "token": "token",
        "mask": "mask",
        "asked": f"asked for (where True): K = {int(where.sum())}",
    }
    handles = []
    for kind, label in labels.items():
        look = {"facecolor": COLOURS[kind], "edgecolor": "#888888"}
        handles.append(Rectangle((0, 0), 1, 1, label=label, **look))
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9.5)
    plt.close(fig)
    return fig


def _cell(lm: MaskedDiffusionLM, token: int, is_real: bool) -> tuple[str, str]:
    """A key of `COLOURS`, and what is written in the cell."""
    if not is_real:
        return "padding", ""
    if token == lm.mask_id:
        return "mask", "mask"
    return "token", lm.tokenizer.decode([token]).strip("<>")
