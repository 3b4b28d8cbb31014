"""The papermill wrapper: unknown names are errors, values get the notebook's types, and only
results.json means finished."""

import json
import sys

import nbformat
import pytest

from dllm_rl_lite.files import locked
from dllm_rl_lite.run import declared, main, parameters, run

FINISH = (
    "import json, pathlib\n"
    "pathlib.Path(run_dir, 'results.json').write_text(json.dumps({'finished': True, 'lr': lr}))"
)


def notebook(path, last_cell):
    cell = nbformat.v4.new_code_cell
    declare = (
        'run_dir = ""  # output\nlr = 1e-4  # rate\nsteps = 3  # count\nuse_kl = True\n'
        'numbers = {}\nname = "a"'
    )
    cells = [cell(declare, metadata={"tags": ["parameters"]}), cell(last_cell)]
    book = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(book, path)
    return path


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


def test_runs_of_one_second_have_folders_of_their_own_and_one_folder_has_one_run(
    tmp_path, monkeypatch
):
    """A second run in a folder touches nothing there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260131-235959")
    book = notebook(tmp_path / "n.ipynb", FINISH)
    monkeypatch.setattr("dllm_rl_lite.run.execute", lambda notebook, folder, values: values)
    folders = [tmp_path / "runs" / "n" / f"20260131-235959{end}" for end in ("", "-2")]
    assert [run(book)["run_dir"] for _ in folders] == [str(folder) for folder in folders]
    monkeypatch.undo()
    results = folders[0] / "results.json"
    results.write_text("{}")
    with locked(folders[0] / "notebook.lock", "it"), pytest.raises(ValueError, match="is in use"):
        run(book, None, [f"run_dir={folders[0]}"])
    assert results.read_text() == "{}" and not (folders[0] / "n.ipynb").exists()


def test_help_is_the_parameters_cell(tmp_path, monkeypatch, capsys):
    book = notebook(tmp_path / "n.ipynb", FINISH)
    monkeypatch.setattr(sys, "argv", ["run", str(book), "--help"])
    main()
    assert "lr = 1e-4  # rate\nsteps = 3  # count\n" in capsys.readouterr().out


def test_the_command_line_says_what_is_wrong(tmp_path, monkeypatch):
    book = notebook(tmp_path / "n.ipynb", FINISH)
    monkeypatch.setattr(sys, "argv", ["run", str(book), "use_kl=maybe"])
    with pytest.raises(SystemExit, match="(?s)'maybe' is not a valid bool.*full_key: use_kl"):
        main()
