"""What a reference program and its tests say of themselves: the names that it defines, the modules
that it imports, what may be done with objects of its classes, the tests of a pytest file."""

from __future__ import annotations

import ast
import builtins
import collections
import warnings

from .rows import Row

# What tests may do with objects of such classes, beside what their bodies name.
COMPARED = ("__eq__", "__lt__", "__le__", "__gt__", "__ge__")
GIVEN = {
    "dataclass": (*COMPARED, "__repr__"),
    "total_ordering": COMPARED,
    "Enum": ("name", "value", "__iter__", "__getitem__"),
}
# Functions of a test class that run before each of its tests.
PREPARING = ("setup_class", "setUpClass", "setup_method", "setUp")


def parse(code: str) -> ast.Module | None:
    """The syntax tree, or None of what is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes such as "\\w" in plain strings
            return ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def defined_names(block: ast.Module | ast.ClassDef) -> list[str]:
    """Names that a module or a class defines in its own body, in order."""
    names = []
    for node in block.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = getattr(node, "targets", None) or [node.target]
            for part in [part for target in targets for part in ast.walk(target)]:
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    names.append(part.id)
    return list(dict.fromkeys(names))


def parsed(code: str, row: Row) -> ast.Module:
    """The syntax tree of a row's code. Raises ValueError that names the row."""
    tree = parse(code)
    if tree is None:
        raise ValueError(
            f"{row.where}: the reference code or its tests are no Python: {code!r:.80}"
        )
    return tree


def import_lines(reference: ast.Module) -> str:
    """The import statements at the top level of a reference: its tests may use the modules, and
    import them anew, for what a generated program calls `math` may be anything."""
    lines = []
    for node in reference.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines.append(ast.unparse(node))
    return "\n".join(lines)


def class_members(reference: ast.Module) -> list[str]:
    """What tests may do with objects of a reference's classes: the attributes, methods and
    operators that their bodies, bases and decorators name. A reference without classes has none."""
    found: list[str] = []
    for node in ast.walk(reference):
        if isinstance(node, ast.ClassDef):
            found += defined_names(node)
            for part in [*node.bases, *node.decorator_list]:
                found += _given(ast.unparse(part))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            found.append(node.attr)
    return list(dict.fromkeys(found))


def _given(text: str) -> list[str]:
    """What a base class or a decorator adds to a class."""
    found = [member for word, members in GIVEN.items() if word in text for member in members]
    name = text.rpartition(".")[2]
    base = getattr(builtins, name, None) or getattr(collections, name, None)
    if isinstance(base, type) and not issubclass(base, BaseException):
        for kind in base.__mro__[:-1]:
            found += vars(kind)
    return found


def list_tests(test: str, row: Row) -> list[str]:
    """One call for each test function of a pytest file, and for each test method of a class."""
    calls = []
    for node in parsed(test, row).body:
        if _is_test(node):
            calls.append(f"{node.name}()")
        elif isinstance(node, ast.ClassDef) and _is_test_class(node):
            methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
            before = [f"case = {node.name}()"]
            for name in PREPARING:
                if name in methods:
                    # pytest hands the test to a setup_method that asks for it
                    more = "None" if len(methods[name].args.args) > 1 else ""
                    before.append(f"case.{name}({more})")
            for item in node.body:
                if _is_test(item):
                    calls.append("\n".join([*before, f"case.{item.name}()"]))
    if not calls:
        raise ValueError(f"{row.where}: the test file has no test function")
    return calls


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test")


def _is_test_class(node: ast.ClassDef) -> bool:
    return node.name.startswith("Test") or "TestCase" in "".join(map(ast.unparse, node.bases))
