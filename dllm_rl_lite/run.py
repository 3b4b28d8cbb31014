"""Run a parameterised notebook safely: `python -m dllm_rl_lite.run NOTEBOOK [config.yaml]
[name=value ...]`.

papermill alone only warns on a mistyped parameter, reads `lr=1e-6` as text and `use_kl=false` as
true, and calls a killed run complete. Here an unknown name is an error with the nearest match, each
value is cast to the type of the notebook's own default, and a run counts as finished only when its
own results.json says so.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import logging
import sys
import time
from pathlib import Path

import yaml

from .values import cast, merged


def declared(notebook: Path) -> dict:
    """The parameters cell of a notebook: name -> default. Raises ValueError where there is none, or
    it is not literal."""
    cells = json.loads(notebook.read_text())["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook} has {len(tagged)} cells tagged `parameters`; it needs exactly one"
        )
    found = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        target, value = (
            node.target if isinstance(node, ast.AnnAssign) else node.targets[0],
            ast.literal_eval(node.value),
        )
        pairs = (
            zip(target.elts, value, strict=True)
            if isinstance(target, ast.Tuple)
            else [(target, value)]
        )
        found |= {name.id: default for name, default in pairs}
    return found


def parameters(notebook: Path, config: Path | None, overrides: list[str]) -> dict:
    """Values from a YAML file and then from name=value words, checked against the notebook's
    parameters."""
    given: dict = {}
    if config is not None:
        if not config.is_file():
            raise ValueError(f"no parameter file {config}")
        given = yaml.safe_load(config.read_text()) or {}
        if not isinstance(given, dict):
            raise ValueError(
                f"{config} must hold `name: value` lines, found {type(given).__name__}"
            )
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"cannot read {word!r}: write name=value")
        given = merged(given, {name: value})
    defaults = declared(notebook)
    for name in given:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1, 0.4)
            raise ValueError(
                f"unknown parameter {name!r}{f'; did you mean {near[0]!r}?' if near else ''} "
                f"({notebook.name} has: {', '.join(defaults)})"
            )
    return {name: cast(name, value, defaults[name]) for name, value in given.items()}


def run(
    notebook: str | Path, config: str | Path | None = None, overrides: list[str] | None = None
) -> dict:
    """Execute a notebook with parameters; its executed copy goes to runs/<notebook>/<time>/.

    A notebook with a `run_dir` parameter that is not given gets that folder as its own. Returns its
    results.json, plus "notebook", the path of the executed copy. Raises ValueError for bad
    parameters, RuntimeError if the run did not finish.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = Path(notebook)
    if not notebook.is_file():
        raise ValueError(f"no notebook {notebook}")
    values = parameters(notebook, Path(config) if config else None, overrides or [])
    folder = Path("runs") / notebook.stem / time.strftime("%Y%m%d-%H%M%S")
    if "run_dir" in declared(notebook):
        folder = Path(values.setdefault("run_dir", str(folder)))
        values["run_dir"] = str(folder.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    results, copy = folder / "results.json", folder / notebook.name
    results.unlink(missing_ok=True)
    failure = ""
    try:
        papermill.execute_notebook(
            str(notebook),
            str(copy),
            parameters=values,
            kernel_name="python3",
            log_output=True,
            progress_bar=False,
            cwd=str(notebook.parent),
        )
    except PapermillExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    except Exception as error:  # a kernel that died: papermill's own record of it cannot be trusted
        failure = f"{type(error).__name__}: {error}"
    found = json.loads(results.read_text()) if results.is_file() else {}
    if failure or not found.get("finished"):
        raise RuntimeError(
            f"{notebook.name} did not finish: {failure or 'it wrote no finished results.json'}\n"
            f"executed so far: {copy}; run again with run_dir={folder} to go on"
        )
    return found | {"notebook": str(copy)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook")
    parser.add_argument("config", nargs="?", help="a YAML file of parameters")
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print the notebook's parameters and their defaults, and stop",
    )
    a = parser.parse_args()
    words = a.overrides
    if a.config and "=" in a.config:  # no parameter file was given
        words, a.config = [a.config, *words], None
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for name in ("papermill", "traitlets", "asyncio"):
        logging.getLogger(name).setLevel(logging.INFO if name == "papermill" else logging.WARNING)
    try:
        if a.list:
            print("\n".join(f"{k} = {v!r}" for k, v in declared(Path(a.notebook)).items()))
            return
        found = run(a.notebook, a.config, words)
    except (ValueError, RuntimeError) as error:
        parser.exit(1, f"{error}\n")
    print(found.get("summary", "finished"))
    print(f"executed notebook: {found['notebook']}")


if __name__ == "__main__":
    main()
