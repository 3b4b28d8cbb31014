"""A value is what its option says, or an error of one line, whether it comes as YAML, as a word, as
a notebook's parameter or from Python."""

import json
import math
import os
import re
from dataclasses import asdict, dataclass, fields, make_dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import get_type_hints

import numpy
import pytest
import yaml

from dllm_rl_lite.evaluate import RunOptions, ScoringOptions
from dllm_rl_lite.methods import METHODS, Numbers
from dllm_rl_lite.run import parameters
from dllm_rl_lite.training import TrainConfig, read_config
from dllm_rl_lite.training.config import Parameters
from dllm_rl_lite.values import (
    check_options,
    option,
    read_file,
    read_values,
    read_words,
    read_yaml,
    split_arguments,
)

BOOK = Path(__file__).parents[1] / "notebooks" / "20_train.ipynb"


def schema(default) -> type:
    return make_dataclass("Settings", [("x", type(default), option(default, "help"))])


@pytest.mark.parametrize(
    "word, default, wanted",
    [
        ("x=1e3", 3, 1000),
        ("x=010", 3, 10),
        ("x=9007199254740993", 3, 9007199254740993),
        ("x=1e-6", 1.0, 1e-6),
        ("x=3", 0.5, 3.0),
        ("x=.5", 1.0, 0.5),
        ("x=no", True, False),
        ("x=True", False, True),
        ("x=", "", ""),
        ("x=1e3", "a", "1e3"),
        ("x=010", "a", "010"),
        ("x=null", "a", "null"),
        ("x=step 4: the best", "a", "step 4: the best"),
        ("x=${y} ???", "a", "${y} ???"),
        ("x=a=b", "a", "a=b"),
        ("x.lr=1e-4", {}, {"lr": 1e-4}),
        ("x.views.k=null", {}, {"views": {"k": None}}),
        ("x={'lr': 1e-4, \"group\": 4}", {}, {"lr": 1e-4, "group": 4}),
        ("x=[1, 2]", [], [1, 2]),
    ],
)
def test_a_word_reads_as_yaml_and_text_stays_as_it_is(word, default, wanted):
    kind = schema(default)
    result = read_values(kind, read_words(kind, [word]))["x"]
    assert result == wanted and type(result) is type(default)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("x: 010", 10),  # YAML 1.1: 8
        ("x: 1e-6", 1e-6),  # a text
        ("x: 1:30", "1:30"),  # 90
        ("x: 0x10", "0x10"),  # 16
        ("x: 1_000", "1_000"),  # 1000
        ("x: 2026-01-01", "2026-01-01"),  # a date
        ("x: '3'", "3"),
        ("x: 'no'", "no"),
        ("x: off", False),
        ("x: ~", None),
        ("x:", None),
        ("x: &a 3", 3),
        ("x: [1, -2.5, yes, a]", [1, -2.5, True, "a"]),
        ("\ufeffx: ü", "ü"),
    ],
)
def test_a_number_in_yaml_is_what_it_looks_like(tmp_path, text, wanted):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    found = read_file(path)["x"]
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"- 1\n", "must hold `name: value` lines, got [1]"),
        (b"0\n", "must hold `name: value` lines, got 0"),
        (b"steps\n", "must hold `name: value` lines, got 'steps'"),
        (b"steps: 1\nsteps: 2\n", "'steps' is given twice"),
        (b"numbers: {lr: 1, lr: 2}\n", "'lr' is given twice"),
        (b"steps: *x\n", "undefined alias"),
        (b"numbers: &x {views: *x}\n", "unknown view number of agrpo 'views'"),
        (b"a: &a [1]\nb: &b [*a, *a]\nsteps: [*b, *b]\n", "unknown parameter 'a'"),
        (b"steps: [1\n", "expected ',' or ']'"),
        (b"steps: 1\n\tseed: 2\n", "cannot start any token"),
        (b"steps: 1\n---\nseed: 2\n", "expected a single document"),
        (b"steps: \x00\n", "special characters are not allowed"),
        (b"task: \xff\xfe\n", "cannot be read as a UTF-8 text"),
        (b"steps: " + b"[" * 100_000, "is nested too deeply"),
        (b"steps: " + b"1" * 5000, "is not YAML"),
        (b"steps: !!int x\n", "is not YAML"),
        (b"steps: !!timestamp x\n", "is not YAML"),
        (b"steps: !!python/name:os.system\n", "could not determine a constructor"),
        (b"? {a: 1}\n: 2\n", "unhashable key"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, content, said):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_config(path)
    message = str(caught.value)
    assert said in message and "\n" not in message
    assert "bad.yaml" in message or message.startswith("unknown")


def test_a_file_that_is_missing_is_named_and_an_empty_one_holds_nothing(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ValueError, match=f"no parameter file {path}"):
            read_file(path)
    (tmp_path / "empty.yaml").write_text("")
    assert read_file(tmp_path / "empty.yaml") == {} == read_file(None)


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


def test_a_command_line_is_names_and_then_words():
    arguments = ["run", "tiny", "chain2", "steps=3", "extra", "--help"]
    assert split_arguments(arguments, most=3) == (arguments[:3], arguments[3:])
    with pytest.raises(ValueError, match="cannot read 'extra': write name=value"):
        read_words(schema(0), ["extra"])


@dataclass
class Settings:
    steps: int = option(1, "how many", least=1)
    share: float = option(0.5, "of what", above=0, most=1)
    name: str = option("a", "not empty")
    note: str = option("", "may be empty")
    device: str = option("cpu", "where", choices=("cpu", "auto", "gpu"))
    margin: int | str = option(2, "a union", least=0, choices=("fitted",))


@pytest.mark.parametrize(
    "given, said",
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": True}, "steps must be a whole number of at least 1, got True"),
        ({"steps": 2**63}, "got a number of more than 64 bits"),
        ({"share": 0}, "share must be a finite number above 0 and of at most 1, got 0"),
        ({"share": 1.5}, "share must be a finite number above 0 and of at most 1, got 1.5"),
        ({"name": ""}, "name must be a text of one line, not empty, got ''"),
        ({"note": "a\nb"}, r"note must be a text of one line, got 'a\nb'"),
        ({"device": "cpi"}, "device must be 'cpu', 'auto' or 'gpu', got 'cpi'; did you mean 'cpu'"),
        ({"margin": -1}, "margin must be a whole number of at least 0 or 'fitted', got -1"),
        ({"margin": "wide"}, "margin must be a whole number of at least 0 or 'fitted', got 'wide'"),
    ],
)
def test_options_are_held_to_type_range_and_choices(given, said):
    check_options(Settings())
    check_options(Settings(steps=2**63 - 1, share=1, margin="fitted"))
    with pytest.raises(ValueError, match=re.escape(said)):
        check_options(Settings(**given))


# ---------------------------------------------------------------- every field, every odd value

ODD = [
    *(None, True, False, 0, 1, 2, 7, -1, -5, 10**6, 2**63, 10**400, 0.5, 1.0, 1.5, -0.1, 1e30),
    *(math.nan, math.inf, -math.inf, 1e-320, "", "a", "no", "1", "1.5", "nan", "null", "auto"),
    *("010", "1:30", "=agrpo", "${HOME}", "???", "a\nb", "\0", "\ud800", "ü", "'", "{", "a" * 999),
    *([], [1], {}, {"a": 1}, {1: 2}, {"lr": {}}, b"x", (1,), Fraction(1, 2)),
    *(numpy.int64(3), numpy.float32(0.5), object()),
]
FIELDS = [(Parameters, f.name) for f in fields(Parameters)]
FIELDS += [(Numbers, f.name) for f in fields(Numbers)]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """20_train.ipynb, cut down to its parameters."""
    found = json.loads(BOOK.read_text())
    found["cells"] = [c for c in found["cells"] if "parameters" in c["metadata"].get("tags", [])]
    path = tmp_path_factory.mktemp("book") / "20_train.ipynb"
    path.write_text(json.dumps(found))
    return path


def in_python(schema: type, name: str, value) -> dict:
    if schema is Numbers:
        return asdict(TrainConfig(numbers={name: value}).resolved())
    return asdict(Parameters(**{name: value}))


def read(schema: type, path: Path | None, given: dict) -> dict:
    """What a run that a file and values decide would start with."""
    config, start = read_config(path, given)
    if schema is Numbers:
        return asdict(config.resolved())
    return read_values(Parameters, read_file(path), given) | asdict(config) | start


def from_words(schema: type, word: str) -> dict:
    return read(schema, None, read_words(Parameters, [word]))


def from_notebook(schema: type, book: Path, word: str) -> dict:
    return read(schema, None, parameters(book, None, [word]))


def value_of(text: str):
    """What a text says as YAML; None if it is not YAML."""
    try:
        return read_yaml(text, "it")
    except ValueError:
        return None


def is_same(found, value) -> bool:
    """Is this the value that was given? A whole number may be written as 1.0, a number as 1."""
    if isinstance(value, dict):
        return value.items() <= found.items()
    if type(found) in (int, float) and type(value) in (int, float):
        return found == value
    return type(found) is type(value) and found == value


def check(build, name: str, value, where: str) -> bool:
    """Either the run has this very value (True), or an error of one line names the field."""
    try:
        built = build()
    except ValueError as error:
        said = str(error)
        names = [name, *map(str, value)] if isinstance(value, dict) else [name]
        assert "\n" not in said and len(said) < 2000, f"{where}: {said}"
        assert any(word in said for word in names), f"{where}: {said}"
        return False
    assert is_same(built[name], value), f"{where} became {built[name]!r:.80}"
    return True


@pytest.mark.parametrize("schema, name", FIELDS, ids=lambda x: getattr(x, "__name__", x))
def test_a_run_starts_with_the_value_or_an_error_names_the_field(tmp_path, book, schema, name):
    """Whatever is written, wherever: never another value, never another kind of error."""
    path = tmp_path / "a.yaml"
    is_number = schema is Numbers
    is_text = get_type_hints(schema)[name] is str and not is_number
    for value in ODD:
        where = f"{name} = {value!r:.40}"
        given = {"numbers": {name: value}} if is_number else {name: value}
        fine = check(partial(in_python, schema, name, value), name, value, f"Python: {where}")
        also = check(partial(read, schema, None, given), name, value, f"values: {where}")
        assert also == fine or value == 1.0  # which is written where a whole number is meant
        if type(value) not in (type(None), bool, int, float, str, list, dict):
            continue  # nobody can write it down
        path.write_bytes(yaml.safe_dump(given).encode(errors="surrogatepass"))
        assert check(partial(read, schema, path, {}), name, value, f"YAML: {where}") == also
        text = value if isinstance(value, str) else json.dumps(value)
        word = f"numbers.{name}={text}" if is_number else f"{name}={text}"
        value = text if is_text else value_of(text)
        check(partial(from_words, schema, word), name, value, f"word: {where}")
        check(partial(from_notebook, schema, book, word), name, value, f"notebook: {where}")


@pytest.mark.parametrize("schema", [RunOptions, ScoringOptions])
def test_the_command_line_of_evaluate_takes_the_value_or_names_the_field(schema):
    for name, kind in get_type_hints(schema).items():
        for value in ODD:
            if not isinstance(value, (bool, int, float, str, list, dict)):
                continue
            text = value if isinstance(value, str) else json.dumps(value)
            wanted = text if kind is str else value_of(text)
            words = [f"{name}={text}"]
            build = partial(lambda words: read_values(schema, read_words(schema, words)), words)
            check(build, name, wanted, f"{schema.__name__}: {words}")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_value_of_a_nested_number_or_names_it(name):
    """By the signature of the function that gets it: a text is no flag, 2.5 is no count."""
    method = METHODS[name]
    for part in ("views", "credit", "tokens", "loss", "gate", "guide", "verify"):
        own = getattr(method.numbers("tiny"), part)
        assert getattr(method.numbers("tiny", **{part: own}), part) == own
        for key, kept in own.items():
            for value in ODD:
                where = f"{name} {part}.{key} = {value!r:.40}"
                try:
                    found = getattr(method.numbers("tiny", **{part: {key: value}}), part)[key]
                except ValueError as error:
                    assert key in str(error) and "\n" not in str(error), where
                    continue
                assert is_same(found, value), where
                assert isinstance(value, bool) == isinstance(kept, bool), where
                assert not isinstance(value, float) or math.isfinite(value), where


@pytest.mark.parametrize(
    "method, numbers, said",
    [
        ("agrpo", {"views": {"k": 2.5}}, "views.k must be a whole number, got 2.5"),
        ("gdpo", {"views": {"nodes": 2.5}}, "views.nodes must be a whole number or a text"),
        ("ta-grpo-d", {"gate": {"test_tau": 7}}, "gate.test_tau must be a finite number of at"),
        ("ta-grpo-d", {"gate": {"test_tau": -1}}, "gate.test_tau must be a finite number of at"),
        ("ta-grpo-d", {"gate": {"n_min": 1.5}}, "gate.n_min must be a whole number, got 1.5"),
        ("ta-grpo-d", {"tokens": {"clamp": "no"}}, "tokens.clamp must be true or false, got 'no'"),
        ("ta-grpo-d", {"verify": {"fill": "no"}}, "verify.fill must be true or false, got 'no'"),
        ("ag-grpo", {"guide": {"repredict": "no"}}, "guide.repredict must be true or false"),
        ("ag-grpo", {"guide": {"rows": "1"}}, "guide.rows must be a whole number"),
        ("ag-grpo", {"guide": {"rows": 9}}, "guide.rows must be at most 8 (group), got 9"),
        ("ag-grpo", {"guide": {"margin": "wide"}}, "guide.margin must be a whole number of at"),
        ("agrpo", {"views": 3}, "views must be name: value pairs, got 3"),
        ("agrpo", {1: 2}, "unknown number 1 (known: "),
    ],
)
def test_a_nested_number_is_checked_before_the_run_starts(method, numbers, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        TrainConfig(method=method, numbers=numbers)
