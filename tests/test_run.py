"""The papermill wrapper: unknown names are errors, values get the notebook's types, and only
results.json means finished."""

import json

import nbformat
import pytest

from dllm_rl_lite.run import declared, parameters, run
from dllm_rl_lite.values import cast

FINISH = "import json, pathlib\npathlib.Path(run_dir, 'results.json').write_text(json.dumps({'finished': True, 'lr': lr}))"


def notebook(path, last_cell):
    cell = nbformat.v4.new_code_cell
    declare = 'run_dir = ""  # output\nlr = 1e-4  # rate\nsteps = 3  # count\nuse_kl = True\nnumbers = {}\nname = "a"'
    cells = [cell(declare, metadata={"tags": ["parameters"]}), cell(last_cell)]
    book = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(book, path)
    return path


@pytest.mark.parametrize(
    "value, default, wanted",
    [
        ("1e-6", 1e-4, 1e-6),
        ("false", True, False),
        ("True", False, True),
        ("12", 3, 12),
        (12.0, 3, 12),
        ("1e3", 3, 1000),
        ("9007199254740993", 3, 9007199254740993),
        (7, "a", "7"),
        ('{"lr": 1}', {}, {"lr": 1}),
        (3, 0.5, 3.0),
        ([1], [], [1]),
    ],
)
def test_values_are_cast_to_the_type_of_the_default(value, default, wanted):
    result = cast("x", value, default)
    assert result == wanted and type(result) is type(default)


@pytest.mark.parametrize(
    "value, default", [("2.7", 3), ("maybe", True), ("abc", 1.0), (True, 3), ("[1", {}), ("inf", 3)]
)
def test_values_that_do_not_fit_are_named(value, default):
    with pytest.raises(ValueError, match="parameter lr=.* is not"):
        cast("lr", value, default)


def test_unknown_parameters_are_errors_with_the_nearest_match(tmp_path):
    book = notebook(tmp_path / "n.ipynb", FINISH)
    assert declared(book) == {
        "run_dir": "",
        "lr": 1e-4,
        "steps": 3,
        "use_kl": True,
        "numbers": {},
        "name": "a",
    }
    with pytest.raises(ValueError, match="unknown parameter 'stepz'; did you mean 'steps'"):
        parameters(book, None, ["stepz=4"])
    with pytest.raises(ValueError, match="write name=value"):
        parameters(book, None, ["steps"])
    with pytest.raises(ValueError, match="no parameter file"):
        parameters(book, tmp_path / "none.yaml", [])
    (tmp_path / "c.yaml").write_text("lr: 1e-6\nuse_kl: no\n")  # YAML reads 1e-6 as text
    assert parameters(book, tmp_path / "c.yaml", ["steps=9"]) == {
        "lr": 1e-6,
        "use_kl": False,
        "steps": 9,
    }


def test_a_run_ends_with_its_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(
        notebook(tmp_path / "n.ipynb", FINISH), None, ["lr=1e-6", f"run_dir={tmp_path / 'out'}"]
    )
    assert found == {"finished": True, "lr": 1e-6, "notebook": str(tmp_path / "out" / "n.ipynb")}
    executed = nbformat.read(found["notebook"], as_version=4)
    assert any(
        "1e-06" in c.source
        for c in executed.cells
        if "injected-parameters" in c.metadata.get("tags", [])
    )


@pytest.mark.parametrize(
    "cell, message",
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "did not finish"),
        ("raise KeyError('lost')", "did not finish: KeyError: 'lost'"),
        ("pass", "it wrote no finished results.json"),
    ],
)
def test_a_run_that_stopped_is_not_called_finished(tmp_path, monkeypatch, cell, message):
    """papermill's metadata says `completed` after a killed kernel; results.json does not lie. An
    old one does not count."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text(json.dumps({"finished": True}))
    with pytest.raises(RuntimeError, match=message):
        run(notebook(tmp_path / "n.ipynb", cell), None, [f"run_dir={out}"])
    assert (out / "n.ipynb").exists() and not (out / "results.json").exists()


def test_a_path_is_the_callers(tmp_path, monkeypatch):
    """The kernel works in the notebook's folder, so what exists here goes on as an absolute path;
    names stay as they are."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cast("data", "./data", "") == str(tmp_path / "data")
    assert (
        cast("data", "data", "") == "data"
    )  # a name such as a task's, even where a folder is called so
    assert cast("model", "GSAI-ML/LLaDA-8B-Instruct", "") == "GSAI-ML/LLaDA-8B-Instruct"
