"""The repository keeps its promises: README, Makefile, environment and pins say the same thing."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
)


def requirements():
    extras = PROJECT["optional-dependencies"]
    return [
        Requirement(r) for r in [*PROJECT["dependencies"], *extras["notebooks"], *extras["tests"]]
    ]


def test_every_requirement_is_pinned_within_its_range():
    assert PINS["torch"] == "2.13.0"
    for requirement in requirements():
        pins = {k.lower(): v for k, v in PINS.items()}
        assert pins[requirement.name.lower()] in requirement.specifier, requirement


def test_this_environment_is_the_pinned_one():
    for requirement in requirements():
        assert version(requirement.name).split("+")[0] == PINS[requirement.name], requirement.name


def test_conda_users_get_the_same():
    """Python and pip, and what `make setup` hands to pip: no pin of conda's own."""
    python, pip, from_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == "pip" and python == "python=3.11"
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"])
    installed = re.search(r"pip install .*(-c .*)", (ROOT / "Makefile").read_text()).group(1)
    assert " ".join(from_pip["pip"]) == installed.replace("'", "")


def test_the_file_tree_names_every_file():
    tree = re.search(r"## Files\n+```\n(.*?)```", README, re.S).group(1).splitlines()
    for root in ("dllm_rl_lite", "benchmarks"):
        start = tree.index(next(line for line in tree if line.startswith(f"{root}/")))
        for path in sorted((ROOT / root).rglob("*.py")):
            if path.name == "__init__.py":
                continue
            lines = tree[start:]
            for folder in path.relative_to(ROOT / root).parts[
                :-1
            ]:  # the line of each folder, then the file below it
                found = [i for i, line in enumerate(lines) if re.match(rf"\s+{folder}/", line)]
                assert found, f"README's tree lacks {folder}/"
                lines = lines[found[0] :]
            assert any(re.search(rf"\s{re.escape(path.name)}(\s|$)", line) for line in lines), (
                f"README's tree lacks {path}"
            )


def test_every_make_command_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M))
    assert used and used <= targets


@pytest.mark.parametrize("line", [x for x in README.splitlines() if x.startswith("python ")])
def test_every_python_command_in_the_readme_exists(line):
    words = line.split()
    target = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
    assert (ROOT / target).exists(), line


def test_the_shipped_model_is_small():
    files = list((ROOT / "dllm_rl_lite" / "models" / "tiny").iterdir())
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {f.name for f in files}
    assert sum(f.stat().st_size for f in files) < 12e6


def test_no_file_or_function_has_run_away():
    """Far above the hints (files of about 350 lines, functions of about 50): nobody packs lines."""
    for path in (ROOT / "dllm_rl_lite").rglob("*.py"):
        source = path.read_text()
        assert source.count("\n") <= 450, path.name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 90, (path.name, node.name)
