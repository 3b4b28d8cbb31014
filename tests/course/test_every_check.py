"""Every exercise check of every chapter: nothing yet is todo, garbage is never right, and nothing
ever raises."""

import importlib
import pkgutil
import re

import dllm_rl_course
import pytest
from dllm_rl_course.verdict import predict
from exercise import GARBAGE, said

CHECKS = {}
for module in pkgutil.iter_modules(dllm_rl_course.__path__):
    chapter = importlib.import_module(f"dllm_rl_course.{module.name}")
    for name in dir(chapter):
        if re.fullmatch(r"exercise_\d", name):
            CHECKS[f"{module.name}.{name}"] = getattr(chapter, name)

ALL = pytest.mark.parametrize("name", CHECKS)


def asks_for_a_value(name):
    """The others ask for a function."""
    return name.endswith("_1") or name == "start_here.exercise_2"


@ALL
def test_garbage_is_never_right_and_never_raises(capsys, name):
    for garbage in GARBAGE:
        assert ": not yet - " in said(capsys, CHECKS[name], garbage), garbage


@ALL
def test_nothing_yet_is_todo(capsys, name):
    assert said(capsys, CHECKS[name], None).startswith(f"exercise {name[-1]}: todo - ")


@ALL
def test_a_stub_is_todo_where_a_function_is_asked_for(capsys, name):
    verdict = said(capsys, CHECKS[name], lambda *a: None)
    assert (": not yet - " if asks_for_a_value(name) else ": todo - ") in verdict


def test_every_chapter_has_three_exercises():
    assert len(CHECKS) >= 54 and len(CHECKS) % 3 == 0


def test_a_prediction_is_noted_and_never_judged(capsys):
    assert said(capsys, predict, "b") == "prediction: b - the measurement below tells"
    assert said(capsys, predict, None).startswith("prediction: todo - ")
    for garbage in [*GARBAGE, "", "ab", "d"]:
        assert said(capsys, predict, garbage).startswith("prediction: not yet - "), garbage
