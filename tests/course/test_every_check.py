"""Every exercise check of every chapter: nothing yet is todo, garbage is never right, and nothing
ever raises."""

import dllm_rl_course as checks
import pytest
from exercise import GARBAGE, said

ALL = pytest.mark.parametrize("name", checks.__all__)
OF_VALUES = {
    "ex_00_2",
    *(name for name in checks.__all__ if name.endswith("_1")),
}  # the others ask for a function


@ALL
def test_garbage_is_never_right_and_never_raises(capsys, name):
    for garbage in GARBAGE:
        assert ": not yet - " in said(capsys, getattr(checks, name), garbage), garbage


@ALL
def test_nothing_yet_is_todo(capsys, name):
    assert ": todo - " in said(capsys, getattr(checks, name), None)


@ALL
def test_a_stub_is_todo_where_a_function_is_asked_for(capsys, name):
    verdict = said(capsys, getattr(checks, name), lambda *a: None)
    assert (": not yet - " if name in OF_VALUES else ": todo - ") in verdict


def test_every_exercise_is_exported():
    """Three a chapter, in order."""
    assert len(checks.__all__) % 3 == 0 and checks.__all__ == sorted(checks.__all__)
