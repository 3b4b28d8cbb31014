"""Run a parameterised notebook safely.

    python -m dllm_rl_lite.run NOTEBOOK [CONFIG.yaml] [name=value ...]
    python -m dllm_rl_lite.run NOTEBOOK --help

The second line prints the notebook's parameters. papermill alone only warns on a mistyped
parameter, reads `lr=1e-6` as text and `use_kl=false` as true, and calls a killed run complete. Here
an unknown name is an error with the nearest match, each value must have the type of the notebook's
own default, and a run counts as finished only if its own results.json says so.
"""

from __future__ import annotations

import ast
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from pathlib import Path

from .files import locked, new_folder
from .values import option, read_file, read_values, read_words, split_arguments


def parameters_cell(notebook: Path) -> str:
    """The source of a notebook's cell tagged `parameters`.

    Raises ValueError if there is not exactly one.
    """
    if not notebook.is_file():
        raise ValueError(f"no notebook {notebook}")
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{notebook} is not a notebook") from error
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook} has {len(tagged)} cells tagged `parameters`; it needs exactly one"
        )
    return "".join(tagged[0]["source"])


def declared(notebook: Path) -> dict:
    """The parameters of a notebook: name -> default."""
    found = {}
    text = parameters_cell(notebook)
    try:
        for line in ast.parse(text).body:
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            found[target.id] = ast.literal_eval(line.value)
    except (SyntaxError, AttributeError, ValueError) as error:
        raise ValueError(f"the parameters of {notebook} must be lines `name = value`") from error
    return found


def parameters(notebook: Path, config: str | Path | None, words: Sequence[str]) -> dict:
    """The values of a YAML file and then of name=value words, as the notebook's own types."""
    defaults = declared(notebook)
    typed = [(name, type(value), option(value, help="")) for name, value in defaults.items()]
    schema = make_dataclass("Parameters", typed)
    return read_values(schema, read_file(config), read_words(schema, words))


def run(notebook: str | Path, config: str | Path | None = None, words: Sequence[str] = ()) -> dict:
    """Execute a notebook with parameters; its executed copy goes to runs/<notebook>/<time>/.

    A notebook with a `run_dir` parameter that is not given gets that folder as its own. What a
    finished run has left in a folder stays until the new one has finished too: a dry run has a
    folder of its own, and a run that is refused or interrupted leaves only an unfinished copy.

    Args:
        notebook: a notebook with one cell tagged `parameters`.
        config: a YAML file of parameters.
        words: name=value, over those of the file.
    Returns:
        its results.json, plus "notebook", the path of the executed copy.
    Raises:
        ValueError: for bad parameters, or a `run_dir` that another process works in.
        RuntimeError: if the run did not finish; the last line is the command that goes on with it.
    """
    notebook = Path(notebook)
    values = parameters(notebook, config, words)
    has_folder = "run_dir" in declared(notebook)
    if values.get("run_dir") and not values.get("dry_run"):
        folder = Path(values["run_dir"])
    else:
        folder = new_folder(Path("runs") / notebook.stem)
    resume = ""
    if has_folder:
        values["run_dir"] = str(folder.resolve())
        if not values.get("dry_run"):
            kept = [word for word in words if not word.startswith("run_dir=")]
            files = [str(path) for path in (notebook, config) if path is not None]
            resume = shlex.join(
                [sys.executable, "-m", "dllm_rl_lite.run", *files, *kept, f"run_dir={folder}"]
            )
    with locked(folder / "notebook.lock", f"run_dir {str(folder)!r}"):
        return execute(notebook, folder, values, resume)


def execute(notebook: Path, folder: Path, values: dict, resume: str) -> dict:
    """Execute a notebook in a folder that is this process's own; see `run`."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    results = folder / "results.json"
    copy = folder / notebook.name
    draft = folder / f"{notebook.stem}.unfinished.ipynb"
    before = last_written(results)
    failure = ""
    try:
        papermill.execute_notebook(
            str(notebook),
            str(draft),
            parameters=values,
            kernel_name="python3",
            log_output=True,
            progress_bar=False,
            cwd=str(notebook.parent),
        )
    except PapermillExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    except KeyboardInterrupt:
        failure = "it was interrupted"
    except Exception as error:  # a kernel that died: papermill's own record of it cannot be trusted
        failure = f"{type(error).__name__}: {error}"
    found = json.loads(results.read_text()) if last_written(results) != before else {}
    if failure or not found.get("finished"):
        why = failure or "it wrote no finished results.json"
        how = f"\nto go on with it:\n{resume}" if resume else ""
        raise RuntimeError(f"{notebook.name} did not finish: {why}\nexecuted so far: {draft}{how}")
    draft.replace(copy)
    return found | {"notebook": str(copy)}


def last_written(path: Path) -> int:
    """When a file was written, nanoseconds; 0 if there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def main() -> None:
    """The command line."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("papermill").setLevel(logging.INFO)
    try:
        files, words = split_arguments(sys.argv[1:], most=2)
        if not files:
            print(__doc__)
        elif "--help" in words:
            print(parameters_cell(Path(files[0])))
        else:
            found = run(*files, words=words)
            print(found.get("summary", "finished"))
            print(f"executed notebook: {found['notebook']}")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
