"""Plotting code that stands outside the notebooks: every function draws a figure of a chapter."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import dllm_rl_course
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MODULES = [m.name for m in pkgutil.iter_modules(dllm_rl_course.__path__) if "plots" in m.name]


@pytest.mark.parametrize("name", MODULES)
def test_every_function_draws_a_figure_of_a_chapter(name):
    module = importlib.import_module(f"dllm_rl_course.{name}")
    users = [path.read_text() for path in NOTEBOOKS if f"import {name}" in path.read_text()]
    assert len(users) == 1, "one chapter, one module"
    for function, _ in inspect.getmembers(module, inspect.isfunction):
        if inspect.getmodule(getattr(module, function)) is module:
            assert f"{name}.{function}(" in users[0], f"nobody draws {name}.{function}"
