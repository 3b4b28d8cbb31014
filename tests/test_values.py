"""Values get the types of a dataclass, whether they come as YAML, as words or from Python."""

import os
import re
from dataclasses import dataclass, make_dataclass

import pytest

from dllm_rl_lite.values import (
    check_options,
    option,
    read_file,
    read_values,
    read_words,
    split_arguments,
)


def schema(default) -> type:
    return make_dataclass("Settings", [("x", type(default), option(default, "help"))])


@pytest.mark.parametrize(
    "value, default, wanted",
    [
        ("1e-6", 1e-4, 1e-6),
        ("false", True, False),
        ("True", False, True),
        ("no", True, False),
        ("12", 3, 12),
        (12.0, 3, 12),
        (1e3, 3, 1000),
        ("9007199254740993", 3, 9007199254740993),
        (7, "a", "7"),
        ('{"lr": 1}', {}, {"lr": 1}),
        ('{"lr": 1e-4}', {}, {"lr": 1e-4}),
        (3, 0.5, 3.0),
        ([1], [], [1]),
        ("[1, 2]", [], [1, 2]),
    ],
)
def test_values_are_cast_to_the_type_of_the_default(value, default, wanted):
    result = read_values(schema(default), {"x": value})["x"]
    assert result == wanted and type(result) is type(default)


@pytest.mark.parametrize(
    "word, default, wanted",
    [
        ("x=1e3", 3, 1000),
        ("x=1e-6", 1.0, 1e-6),
        ("x=", "a", ""),
        ("x=1e3", "a", "1e3"),
        ("x=step 4: the best", "a", "step 4: the best"),
        ("x=a=b", "a", "a=b"),
        ("x.lr=1e-4", {}, {"lr": 1e-4}),
        ("x.views.k=null", {}, {"views": {"k": None}}),
        ("x={'lr': 1e-4, \"group\": 4}", {}, {"lr": 1e-4, "group": 4}),
    ],
)
def test_a_word_reads_as_yaml_and_text_stays_as_it_is(word, default, wanted):
    kind = schema(default)
    result = read_values(kind, read_words(kind, [word]))["x"]
    assert result == wanted and type(result) is type(default)


@pytest.mark.parametrize(
    "value, default, wanted",
    [
        ("2.7", 3, "Integer"),
        (2.7, 3, "Integer"),
        ("inf", 3, "Integer"),
        (float("inf"), 3, "Integer"),
        (True, 3, "Integer"),
        ("maybe", True, "bool"),
        ("abc", 1.0, "Float"),
        (3, {}, "Dict"),
        (None, "a", "str"),
    ],
)
def test_values_that_do_not_fit_are_named(value, default, wanted):
    with pytest.raises(ValueError) as caught:
        read_values(schema(default), {"x": value})
    said = str(caught.value)
    assert "full_key: x" in said and wanted in said
    assert str(value) in said or type(value).__name__ in said


def test_only_given_values_are_returned_and_the_last_one_wins():
    kind = make_dataclass(
        "Settings",
        [("a", int, option(1, "")), ("b", int, option(2, "")), ("c", dict, option({}, ""))],
    )
    words = read_words(kind, ["b=5", "c.views.k=4", "c.lr=1"])
    found = read_values(kind, {"b": 3, "c": {"lr": 0.5, "views": {"n": 2}}}, words)
    assert found == {"b": 5, "c": {"lr": 1, "views": {"n": 2, "k": 4}}}
    with pytest.raises(ValueError, match="unknown number 'cc'; did you mean 'c'"):
        read_values(kind, {"cc": 1}, kind="number")


def test_a_file_that_does_not_hold_settings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no parameter file .*none.yaml"):
        read_file(tmp_path / "none.yaml")
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="list.yaml must hold `name: value` lines, found a list"):
        read_file(path)
    path.write_text("")
    assert read_file(path) == {} == read_file(None)


def test_a_path_is_the_callers(tmp_path, monkeypatch):
    """A kernel works in the notebook's folder, so what exists here goes on as an absolute path;
    names stay as they are. `~` is nobody else's to read: a shell leaves it within name=value."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def read(text: str) -> str:
        return read_values(schema(""), {"x": text})["x"]

    assert read("./data") == read("~/data") == os.path.realpath(tmp_path / "data")
    assert read("data") == "data"  # a name such as a task's, even where a folder is called so
    assert read("GSAI-ML/LLaDA-8B-Instruct") == "GSAI-ML/LLaDA-8B-Instruct"
    assert read("~/runs/new") == str(tmp_path / "runs" / "new")


def test_options_are_held_to_their_range_and_choices():
    @dataclass
    class Settings:
        steps: int = option(1, "how many", least=1)
        device: str = option("cpu", "where", choices=("cpu", "auto"))

    check_options(Settings())
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        check_options(Settings(steps=0))
    with pytest.raises(ValueError, match=re.escape("device must be 'cpu' or 'auto', got 'gpu'")):
        check_options(Settings(device="gpu"))


def test_a_command_line_is_names_and_then_words():
    arguments = ["run", "tiny", "chain2", "steps=3", "extra", "--help"]
    assert split_arguments(arguments, most=3) == (arguments[:3], arguments[3:])
    with pytest.raises(ValueError, match="cannot read 'extra': write name=value"):
        read_words(schema(0), ["extra"])
