"""The papermill wrapper: unknown names are errors, values get the notebook's types, and only
results.json means finished."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from dllm_rl_lite.files import locked
from dllm_rl_lite.run import declared, main, parameters, run

FINISH = (
    "import json, pathlib\n"
    "pathlib.Path(run_dir, 'results.json').write_text(json.dumps({'finished': True, 'lr': lr}))"
)

PARAMETERS = '{"cells": [{"metadata": {"tags": ["parameters"]}, "source": ["%s"]}]}'


def notebook(path, last_cell):
    cell = nbformat.v4.new_code_cell
    declare = (
        'run_dir = ""  # output\nlr = 1e-4  # rate\nsteps = 3  # count\nuse_kl = True\n'
        'numbers = {}\nname = "a"\ndry_run = False'
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
        "dry_run": False,
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


@pytest.fixture
def interrupts():
    """Interrupts arrive as KeyboardInterrupt, also where the shell that started the tests in the
    background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "cell, message",
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "did not finish"),
        (
            "raise ValueError('another run is here')",
            "did not finish: ValueError: another run is here",
        ),
        ("pass", "it wrote no finished results.json"),
        (
            "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)",
            "did not finish: .*nterrupt",
        ),
    ],
)
def test_a_run_that_stopped_touches_nothing_that_a_finished_one_left(
    tmp_path, monkeypatch, interrupts, cell, message
):
    """papermill's metadata says `completed` after a killed kernel; results.json does not lie. An
    old one does not count, and stays."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text(json.dumps({"finished": True}))
    (out / "n.ipynb").write_text("the executed notebook of a finished run")
    book = notebook(tmp_path / "n.ipynb", cell)
    with pytest.raises(RuntimeError, match=message) as caught:
        run(book, None, ["steps=4", "name=it's", f"run_dir={out}"])
    assert json.loads((out / "results.json").read_text()) == {"finished": True}
    assert (out / "n.ipynb").read_text() == "the executed notebook of a finished run"
    assert (out / "n.unfinished.ipynb").exists()
    last = str(caught.value).splitlines()[-1]
    command = [sys.executable, "-m", "dllm_rl_lite.run", str(book), "steps=4", "name=it's"]
    assert shlex.split(last) == [*command, f"run_dir={out}"]


def test_the_command_that_is_printed_goes_on_with_the_run(tmp_path, monkeypatch):
    """It fails once, and ends when that very command is run."""
    monkeypatch.chdir(tmp_path)
    once = (
        "from pathlib import Path\nold = Path(run_dir, 'seen')\nseen = old.exists()\n"
        "old.touch()\nassert seen\n" + FINISH
    )
    book = notebook(tmp_path / "n.ipynb", once)
    with pytest.raises(RuntimeError) as caught:
        run(book, None, ["lr=1e-6"])
    ended = subprocess.run(
        shlex.split(str(caught.value).splitlines()[-1]), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "runs" / "n").iterdir()
    assert json.loads((folder / "results.json").read_text()) == {"finished": True, "lr": 1e-6}
    assert sorted(p.name for p in folder.glob("*.ipynb")) == ["n.ipynb"]


def test_a_dry_run_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    found = run(notebook(tmp_path / "n.ipynb", FINISH), None, ["dry_run=true", f"run_dir={out}"])
    assert found["finished"] and not out.exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is not a notebook"),
        ("[1]", "is not a notebook"),
        ('{"cells": [3]}', "is not a notebook"),
        ("[" * 100_000, "is not a notebook"),
        ('{"cells": []}', "has 0 cells tagged `parameters`"),
        (PARAMETERS % "a = 1 +", "must be lines `name = value`"),
        (PARAMETERS % "a = print(1)", "must be lines `name = value`"),
        (PARAMETERS % "import os", "must be lines `name = value`"),
        (PARAMETERS % "a.b = 1", "must be lines `name = value`"),
    ],
)
def test_what_is_no_parameterised_notebook_is_named_in_one_line(tmp_path, text, said):
    book = tmp_path / "n.ipynb"
    book.write_text(text)
    with pytest.raises(ValueError) as caught:
        run(book)
    assert said in str(caught.value) and "n.ipynb" in str(caught.value)
    assert "\n" not in str(caught.value)
    for missing in (tmp_path / "none.ipynb", tmp_path):
        with pytest.raises(ValueError, match=f"no notebook {missing}"):
            run(missing)


NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").rglob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_papermill_lists_every_parameter_of_our_notebooks_with_type_and_help(path):
    """What `papermill --help-notebook` prints. It reads one declaration a line, with one `=`; of
    others it only warns."""
    tags = [
        tag for c in json.loads(path.read_text())["cells"] for tag in c["metadata"].get("tags", [])
    ]
    if "parameters" not in tags:
        return  # nothing to list: solutions without numbers of their own
    listed = papermill.inspect_notebook(path)
    assert set(listed) == set(declared(path))
    for name, about in listed.items():
        assert about["inferred_type_name"] not in ("", "None", "Unknown"), f"{name} has no type"
        assert about["help"], f"{name} does not say what it is"


def test_runs_of_one_second_have_folders_of_their_own_and_one_folder_has_one_run(
    tmp_path, monkeypatch
):
    """A second run in a folder touches nothing there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260131-235959")
    book = notebook(tmp_path / "n.ipynb", FINISH)
    monkeypatch.setattr("dllm_rl_lite.run.execute", lambda book, folder, values, resume: values)
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
    with pytest.raises(SystemExit, match="use_kl must be true or false, got 'maybe'"):
        main()
