"""Rows: every format gives the same rows, and whatever is wrong with one is said with its file and
line."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.tasks.published.rows import Row, column, read_rows

DATA = Path(__file__).parents[2].parent / "shared" / "data"
VALUES = [
    {"question": '1+1, "twice"?\u2028', "answer": "2"},
    {"question": "line\nbreak", "answer": "é"},
]


def write(path: Path, values=VALUES) -> Path:
    """The values in the format that the suffix names."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(values), path)
        return path
    with (gzip.open if path.name.endswith(".gz") else open)(
        path, "wt", encoding="utf-8", newline=""
    ) as file:
        if name.endswith(".csv"):
            writer = csv.DictWriter(file, list(values[0]))
            writer.writeheader()
            writer.writerows(values)
        elif name.endswith(".json"):
            json.dump(values, file)
        else:
            file.write("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values))
    return path


@pytest.mark.parametrize(
    "name",
    ["a.json", "a.jsonl", "a.csv", "a.parquet", "a.json.gz", "a.jsonl.gz", "a.csv.gz", "A.JSONL"],
)
def test_every_format_gives_the_same_rows(tmp_path, name):
    """Values as they were written, quotes, line breaks and separators within them included, each
    with its place."""
    path = (
        write(tmp_path / name)
        if name != "A.JSONL"
        else write(tmp_path / "b.jsonl").rename(tmp_path / name)
    )
    rows = read_rows(str(path), "train")
    assert [r.values for r in rows] == VALUES
    assert all(r.where.startswith(str(path)) for r in rows) and rows[0].where != rows[1].where


def test_places_are_the_lines_of_the_file(tmp_path):
    """jsonl counts empty lines, csv counts the lines within a cell and the header."""
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [r.where for r in read_rows(str(path), "test")] == [f"{path} line 2", f"{path} line 4"]
    assert [r.where for r in read_rows(str(write(tmp_path / "a.csv")), "test")] == [
        f"{tmp_path / 'a.csv'} line 2",
        f"{tmp_path / 'a.csv'} line 4",
    ]
    assert (
        read_rows(str(write(tmp_path / "a.json")), "test")[1].where
        == f"{tmp_path / 'a.json'} item 2"
    )
    assert (
        read_rows(str(write(tmp_path / "a.parquet")), "test")[1].where
        == f"{tmp_path / 'a.parquet'} row 2"
    )


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfx,y\n1,2\n")
    assert read_rows(str(path), "test")[0].values == {"x": "1", "y": "2"}


def test_a_folder_gives_the_file_of_the_split(tmp_path):
    """Whole words only, shards in order; a file of another split or an ambiguity is refused, so no
    split leaks."""
    for name, n in [("train.jsonl", 1), ("4x4_test_sudoku.jsonl", 2), ("constrained.jsonl", 3)]:
        write(tmp_path / name, [{"n": n}])
    (tmp_path / "README.md").write_text("not data")
    assert read_rows(str(tmp_path), "train")[0].values == {"n": 1}
    assert read_rows(str(tmp_path), "test")[0].values == {"n": 2}
    with pytest.raises(
        ValueError, match=r"no file for the split 'validation' \(4x4_test_sudoku.jsonl, constrained"
    ):
        read_rows(str(tmp_path), "validation")
    write(tmp_path / "test_too.jsonl")
    with pytest.raises(ValueError, match="several files for the split 'test'"):
        read_rows(str(tmp_path), "test")


def test_shards_are_read_in_order(tmp_path):
    for i in (1, 0):
        write(tmp_path / f"train-0000{i}-of-00002.parquet", [{"n": i}])
    assert [r.values["n"] for r in read_rows(str(tmp_path), "train")] == [0, 1]


@pytest.mark.parametrize(
    "names",
    [
        ["test-00000-of-00002.jsonl"],
        ["test-00001-of-00002.jsonl"],
        ["test-00000-of-00003.jsonl", "test-00002-of-00003.jsonl"],
        ["test-00000-of-00002.jsonl", "test-00000-of-00002.json"],
        ["test-00000-of-00002.jsonl", "test-00001-of-00003.jsonl"],
        ["test-00002-of-00003.jsonl", "test-00003-of-00003.jsonl"],
        ["a-test-00000-of-00001.jsonl", "b-test-00000-of-00001.jsonl"],
        ["test_0_of_2.jsonl"],
        ["data-00000-of-00002.jsonl"],
        ["test-00000-of-00002.jsonl.gz"],
        ["test-00000-of-99999999999.jsonl"],
    ],
)
def test_a_data_set_with_missing_shards_is_no_split(tmp_path, names):
    """Neither from the folder nor from the file: a part would pass for the whole."""
    for name in names:
        write(tmp_path / name)
    for source in [tmp_path] + [tmp_path / name for name in names if len(names) == 1]:
        with pytest.raises(ValueError, match=f"has the shards .*{names[0]}.* alone: pass a folder"):
            read_rows(str(source), "test")


@pytest.mark.parametrize(
    "names",
    [
        ["test-00000-of-00001.jsonl"],
        ["test-00000-of-00002.jsonl", "test-00001-of-00002.jsonl"],
        ["test-00001-of-00002.jsonl", "test-00002-of-00002.jsonl"],
        ["test_1_of_2.jsonl", "test_2_of_2.jsonl"],
    ],
)
def test_all_shards_are_the_split(tmp_path, names):
    for i, name in enumerate(names):
        write(tmp_path / name, [{"n": i}])
    assert [row.values["n"] for row in read_rows(str(tmp_path), "test")] == list(range(len(names)))


def test_the_file_named_for_the_split_comes_before_others(tmp_path):
    """GSM8K's own folder has a socratic variant of each split, and solutions of models."""
    names = ["train", "train_socratic", "test", "test_socratic", "example_model_solutions"]
    for i, name in enumerate(names):
        write(tmp_path / f"{name}.jsonl", [{"n": i}])
    assert read_rows(str(tmp_path), "train")[0].values == {"n": 0}
    assert [row.values for row in read_rows(str(tmp_path), "test")] == [{"n": 2}]
    write(tmp_path / "test.csv", [{"n": 5}])
    with pytest.raises(ValueError, match="several files for the split 'test'"):
        read_rows(str(tmp_path), "test")


def test_files_are_utf8_whatever_the_locale(tmp_path):
    """In a C locale without Python's UTF-8 mode, for every text format."""
    for name in ("a.jsonl", "a.json", "a.csv", "a.jsonl.gz"):
        write(tmp_path / name)
    code = (
        "import locale, sys; assert 'utf' not in locale.getpreferredencoding(False).lower();"
        "from dllm_rl_lite.tasks.published.rows import read_rows;"
        "[print(ascii(read_rows(path, 'test')[1].values['answer'])) for path in sys.argv[1:]]"
    )
    files = sorted(map(str, tmp_path.iterdir()))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code, *files],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["'\\xe9'"] * 4


def test_the_only_file_of_a_folder(tmp_path):
    """It is read for any split, unless its name says which one it is."""
    write(tmp_path / "problems.jsonl")
    assert len(read_rows(str(tmp_path), "train")) == len(read_rows(str(tmp_path), "test")) == 2
    (tmp_path / "problems.jsonl").rename(tmp_path / "problems_test.jsonl")
    with pytest.raises(ValueError, match="no file for the split 'train'"):
        read_rows(str(tmp_path), "train")
    with pytest.raises(ValueError, match="named for the test split and 'train' was asked for"):
        read_rows(str(tmp_path / "problems_test.jsonl"), "train")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl line 2 is not JSON"),
        (
            "a.jsonl",
            '{"a": 1}\n[1, 2]\n',
            r"a\.jsonl line 2 should be an object with named columns, found list \[1, 2\]",
        ),
        ("a.json", '[{"a": 1}, 3]', r"a\.json item 2 should be an object"),
        ("a.json", '{"a": 1}\n{"a": 2}', r"a\.json is not JSON: .*one object a line is \.jsonl"),
        ("a.json", '{"a": 1}', r"a\.json should hold a list of objects, found dict"),
        ("a.csv", "x,y\n1,2\n1\n", r"a\.csv line 3 has 1 cells, the header names 2"),
        ("a.csv", "x,y\n1,2,3\n", r"a\.csv line 2 has 3 cells"),
        ("a.csv", "", "no rows"),
        ("a.csv", "x,y\n", "no rows"),
        ("a.jsonl", "\n\n", "no rows for the split 'test'"),
        ("a.json", "[]", "no rows"),
        ("a.jsonl", '{"a": 1}\n' + "[" * 100_000 + "\n", r"a\.jsonl line 2 is not JSON"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}\n", r"a\.jsonl line 1 is not JSON"),
        ("a.json", "[" * 100_000, r"a\.json is not JSON"),
        ("a.txt", "x", r"unknown suffix '\.txt': use \.jsonl, \.json, \.csv, \.parquet"),
        ("a.parquet", "no parquet", "cannot be read as parquet"),
        ("a.jsonl.gz", "not gzipped", "cannot be read as text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(str(tmp_path / name), "test")


def test_bytes_that_are_no_text_are_named(tmp_path):
    broken = bytearray(gzip.compress(b'{"a": 1}\n' * 1000))
    broken[20:40] = b"x" * 20
    (tmp_path / "b.jsonl.gz").write_bytes(broken)
    with pytest.raises(ValueError, match=r"b\.jsonl\.gz cannot be read as text"):
        read_rows(str(tmp_path / "b.jsonl.gz"), "test")
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read as text in UTF-8"):
        read_rows(str(tmp_path / "a.jsonl"), "test")


@pytest.mark.parametrize("source", ["nowhere/at/all", "missing.jsonl", "folder/missing.csv.gz"])
def test_a_missing_file_is_no_hub_id(source):
    with pytest.raises(FileNotFoundError, match="no data at .*give a file"):
        read_rows(source, "test")


def test_a_hub_id_goes_to_datasets(monkeypatch):
    """Name, configuration and split reach `datasets`; its rows are named by split and index; its
    failure says what to do."""
    import datasets

    asked = []

    def fake(name, configuration, split):
        asked.append((name, configuration, split))
        if name == "no/such":
            raise datasets.exceptions.DatasetNotFoundError("cannot be found")
        return [{"q": 1}, {"q": 2}]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert read_rows("openai/gsm8k:main", "test") == [
        Row({"q": 1}, "openai/gsm8k:main test[0]"),
        Row({"q": 2}, "openai/gsm8k:main test[1]"),
    ]
    assert read_rows("a/b", "train")[0].where == "a/b train[0]"
    assert asked == [("openai/gsm8k", "main", "test"), ("a/b", None, "train")]
    with pytest.raises(
        ConnectionError,
        match="no/such is no file or folder here.*cannot be found.*download it and pass",
    ):
        read_rows("no/such", "test")


@pytest.mark.parametrize(
    "value, kind, found",
    [
        ("x", str, "x"),
        ("7", str, "7"),
        (7, int, 7),
        ("7", int, 7),
        ("-7", int, -7),
        (7, float, 7.0),
        ("7.5", float, 7.5),
        ([1], list, [1]),
        ("[1, 2]", list, [1, 2]),
        ({"a": 1}, dict, {"a": 1}),
        ('{"a": 1}', dict, {"a": 1}),
        ("", str, ""),
    ],
)
def test_column_gives_the_kind_asked_for(value, kind, found):
    """A text that is the JSON of a kind counts as one, for csv has only texts."""
    got = column(Row({"c": value}, "f line 1"), "c", kind)
    assert got == found and type(got) is kind


@pytest.mark.parametrize(
    "value, kind",
    [
        (7, str),
        (None, str),
        ([1], str),
        (True, int),
        (7.0, int),
        ("7.0", int),
        ("x", int),
        ("", int),
        (None, float),
        ("seven", float),
        ("true", float),
        ((1,), list),
        ("1,2", list),
        ([1], dict),
        ("[1]", dict),
        ("[" * 100_000, list),
        ("9" * 5000, int),
    ],
)
def test_column_names_what_it_found(value, kind):
    """Place, column, wanted and found kind, and the columns there are."""
    with pytest.raises(ValueError) as error:
        column(Row({"c": value, "other": 1}, "f.csv line 9"), "c", kind)
    for part in (
        "f.csv line 9",
        "'c'",
        kind.__name__,
        type(value).__name__,
        repr(value)[:80],
        "'other'",
    ):
        assert part in str(error.value)


def test_a_missing_column_names_the_others():
    with pytest.raises(
        ValueError, match="f line 3 has no column 'answer'; it has 'Question', 'gold'"
    ):
        column(Row({"Question": "", "gold": 1}, "f line 3"), "answer", str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(value=json_values, kind=st.sampled_from([str, int, float, list, dict]))
def test_column_gives_the_kind_or_a_value_error(value, kind):
    """Never anything else, whatever the value."""
    try:
        assert type(column(Row({"c": value}, "w"), "c", kind)) is kind
    except ValueError as error:
        assert str(error).startswith("w")


@pytest.mark.skipif(not DATA.is_dir(), reason="the public benchmark files are not here")
@pytest.mark.parametrize(
    "folder, split, n, last",
    [
        ("gsm8k", "train", 7473, "train.jsonl line 7473"),
        ("gsm8k", "test", 1319, "test.jsonl line 1319"),
        ("math500", "test", 500, "test.jsonl line 500"),
        ("countdown", "test", 256, "countdown_cd3_test.jsonl line 256"),
        ("sudoku4", "test", 500, "4x4_test_sudoku.csv line 501"),
        ("humaneval", "test", 164, "HumanEval.jsonl.gz line 164"),
        ("mbpp", "train", 974, "mbpp.jsonl line 974"),
    ],
)
def test_the_published_files_are_read(folder, split, n, last):
    rows = read_rows(str(DATA / folder), split)
    assert len(rows) == n and rows[-1].where == str(DATA / folder / last)
