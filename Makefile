# `make help` lists the targets. Everything runs in .venv, offline once it is set up, on two CPU cores.
PYTHON ?= python3
BIN := .venv/bin
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-sanitize-with tests/nbval_sanitize.cfg
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb) $(wildcard notebooks/solutions/*.ipynb)
ARGS ?=

.PHONY: help setup train evaluate test notebooks chapters lab base
help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.done  ## create .venv and install everything (again only when the requirements change)

.venv/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

train: setup  ## train on the tiny world in notebooks/20_train.ipynb; ARGS="seed=1 task=sudoku4" changes parameters
	$(BIN)/python -m dllm_rl_lite.run notebooks/20_train.ipynb $(ARGS)

evaluate: setup  ## evaluate in notebooks/21_evaluate.ipynb; ARGS="model=FOLDER task=gsm8k data=FOLDER" changes parameters
	$(BIN)/python -m dllm_rl_lite.run notebooks/21_evaluate.ipynb $(ARGS)

test: setup  ## unit tests, then every notebook, with smaller runs: does it run, and are its checked outputs the same?
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(NBVAL) -p no:cacheprovider notebooks

notebooks: setup  ## execute every notebook again and save it with its outputs
	cd notebooks && for n in $(NOTEBOOKS:notebooks/%=%); do echo $$n; ../$(BIN)/python -m nbconvert --to notebook \
		--execute --inplace --ExecutePreprocessor.record_timing=False --log-level=WARN $$n || exit 1; done

chapters: setup  ## numbers, titles, times, maps and links of the chapters again, from notebooks/chapters.yaml
	$(BIN)/python -m dllm_rl_course.chapters

lab: setup  ## open JupyterLab on the notebooks
	$(BIN)/python -m jupyterlab --notebook-dir notebooks

base: setup  ## pretrain the shipped base model again, into runs/base (half an hour)
	$(BIN)/python -m dllm_rl_lite.training.base_model runs/base
