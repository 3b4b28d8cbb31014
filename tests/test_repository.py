"""The repository keeps its promises: README, Makefile, environment and pins say the same thing."""

import ast
import re
import tomllib
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dllm_rl_lite.evaluate import RunOptions, ScoringOptions
from dllm_rl_lite.training import TrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDES = {path.name: path.read_text() for path in sorted((ROOT / "notebooks/guides").glob("*.md"))}
PAGES = {"README.md": README, **GUIDES}
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
    page = GUIDES["package.md"]
    tree = re.search(r"## Files\n+```\n(.*?)```", page, re.S).group(1).splitlines()
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
                assert found, f"the tree in guides/package.md lacks {folder}/"
                lines = lines[found[0] :]
            assert any(re.search(rf"\s{re.escape(path.name)}(\s|$)", line) for line in lines), (
                f"the tree in guides/package.md lacks {path}"
            )


def commands(page):
    """The lines of a page's code blocks that a shell would run; what goes on after a backslash is
    part of its line."""
    blocks = re.findall(r"^```\n(.*?)^```", page.replace("\\\n", " "), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if re.match(r"(python|make|torchrun|accelerate|pip) ", line)]


COMMANDS = [
    pytest.param(line, id=f"{name}-{i}")
    for name, page in PAGES.items()
    for i, line in enumerate(commands(page))
]


def test_the_readme_is_short_and_leads_to_every_guide():
    assert len(README.splitlines()) <= 150
    assert not [name for name in GUIDES if f"(notebooks/guides/{name})" not in README]


def test_every_folder_of_the_package_is_in_the_readme():
    folders = {path.parent.name for path in (ROOT / "dllm_rl_lite").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^  (\w+)/ ", README, re.M))


@pytest.mark.parametrize("name", PAGES)
def test_every_make_command_exists(name):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = set(re.findall(r"(?:^|`)make ([a-z]+)", PAGES[name], re.M))
    assert used <= targets


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_names_programs_files_and_settings_that_exist(line):
    words = line.split()
    for flag, target in zip(words, words[1:], strict=False):
        if flag == "-m":
            assert (ROOT / (target.replace(".", "/") + ".py")).exists(), target
    for word in words:
        if word.startswith(("notebooks/", "benchmarks/")):
            assert (ROOT / word).exists(), word
    settings = {word.partition("=")[0] for word in words if re.match(r"[a-z_]+=", word)}
    if "dllm_rl_lite.train" in words:
        assert settings <= {field.name for field in fields(TrainConfig)} | {"dry_run"}
    if "dllm_rl_lite.evaluate run" in line:
        assert settings <= {field.name for field in fields(RunOptions)}
        assert "save" in settings, "it must be given"
    if "dllm_rl_lite.evaluate rescore" in line:
        assert settings <= {field.name for field in fields(ScoringOptions)}


def test_there_are_commands_to_test():
    assert len(COMMANDS) >= 20


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
