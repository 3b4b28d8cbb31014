"""The plan of the package: folders are layers, imports point down, and each public name has one
home."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dllm_rl_lite"
# From the top down. A place imports from lower lines only; places on one line do not import each
# other.
LAYERS = [
    ("train", "run"),
    ("evaluate",),
    ("planning",),
    ("show", "training"),
    ("evaluation", "methods"),
    ("advantages", "estimators"),
    ("objectives", "tasks"),
    ("sampler",),
    ("models", "sandbox"),
    ("rewards", "values"),
    ("files", "names", "processes", "seeds"),
]
FLOOR = {place: height for height, line in enumerate(reversed(LAYERS)) for place in line}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))


def place_of(parts: tuple[str, ...]) -> str:
    """The layer's name of a module, given as its path below the package."""
    return parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    """The code of a Python file, or of all code cells of a notebook."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    return ast.parse(text)


def from_imports(path: Path) -> list[tuple[tuple[str, ...], list[str]]]:
    """Each `from dllm_rl_lite... import names` of a file: the module as a path below the package,
    and the names."""
    folder = path.relative_to(PACKAGE).parts[:-1] if path.is_relative_to(PACKAGE) else ()
    found = []
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ImportFrom):
            continue
        words = tuple(node.module.split(".")) if node.module else ()
        names = [alias.name for alias in node.names]
        if node.level:
            found.append((folder[: len(folder) + 1 - node.level] + words, names))
        elif words[0] == PACKAGE.name:
            found.append((words[1:], names))
    return found


def imported(path: Path) -> list[tuple[str, ...]]:
    """The modules of the package that a file imports, as paths below the package."""
    found = []
    for module, names in from_imports(path):
        for name in names:
            target = PACKAGE.joinpath(*module, name)
            is_module = target.is_dir() or target.with_suffix(".py").is_file()
            found.append(module + (name,) if is_module else module)
    return [module for module in found if module]


def test_every_place_has_a_layer():
    places = {place_of(path.relative_to(PACKAGE).parts) for path in FILES}
    assert places == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = place_of(path.relative_to(PACKAGE).parts)
    for module in imported(path):
        there = place_of(module)
        if there != here:
            assert FLOOR[there] < FLOOR[here], (
                f"{here} must not import {'.'.join(module)}: it stands beside or above"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_package_knows_no_notebook_test_or_benchmark(path):
    outside = {"dllm_rl_course", "notebooks", "tests", "benchmarks"}
    outside |= {p.stem for p in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/*.py")]}
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            assert name.split(".")[0] not in outside


def modules_within(folder: Path) -> dict[Path, set[Path]]:
    """Which files of a folder import which of the others, its face aside."""
    files = {path for path in folder.rglob("*.py") if path.name != "__init__.py"}
    edges = {}
    for path in files:
        targets = {PACKAGE.joinpath(*module).with_suffix(".py") for module in imported(path)}
        edges[path] = targets & files
    return edges


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_no_circle_within_a_folder(folder):
    edges = modules_within(folder)
    while edges:
        free = [path for path, targets in edges.items() if not targets & edges.keys()]
        assert free, f"files that import each other: {sorted(map(str, edges))}"
        for path in free:
            del edges[path]


def face(folder: Path) -> dict[str, str]:
    """The names that a folder hands on -> the file of each."""
    found = {}
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_face_says_what_its_folder_is_for_and_hides_no_file(folder):
    tree = ast.parse((folder / "__init__.py").read_text())
    assert len(ast.get_docstring(tree)) > 60
    files = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    assert not files & face(folder).keys(), "a name that hides the file of the same name"


USERS = [
    *ROOT.glob("benchmarks/*.py"),
    *ROOT.glob("tests/**/*.py"),
    *ROOT.glob("notebooks/**/*.ipynb"),
]


@pytest.mark.parametrize("path", [*FILES, *sorted(USERS)], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_name_on_a_face_is_imported_from_there(path):
    """One way to import a public name; inside its own folder it comes from its file."""
    own = path.relative_to(PACKAGE).parts[0] if path.is_relative_to(PACKAGE) else ""
    for module, names in from_imports(path):
        if len(module) < 2 or module[0] == own:
            continue
        homes = face(PACKAGE / module[0])
        for name in names:
            assert homes.get(name) != ".".join(module[1:]), (
                f"import {name} from dllm_rl_lite.{module[0]}"
            )
