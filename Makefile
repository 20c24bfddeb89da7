# Two commands do everything on a fresh machine, set-up included: `make book` and `make test`.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install packages book pdf test types suite quick test-gpu lab explorer results models bench lint notebooks normalise lock clean

# The first Python that runs; a name on the path may be a mere shim.
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS = $(shell find book -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' | sort)
# Whatever is installed bears a hash that the lock holds, uv itself included.
PIP = $(BIN)/python -m pip install --disable-pip-version-check --require-hashes
LOCKED := hemafl_book/build/locked.py
# With CPU=1, and from then on, what is installed is the lock without CUDA, and PyTorch from its own index, for
# which the lock has no hash.
CPU ?= $(wildcard $(VENV)/without-cuda.txt)
LIST = $(if $(CPU),$(VENV)/without-cuda.txt,requirements.lock)
TORCH_CPU := https://download.pytorch.org/whl/cpu
# Four processes on two cores: two wait for Ray, nodes and browsers while two compute, see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadscope

# One thread a process, so that numbers and times do not depend on the neighbours; nothing phones home.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export PYTHONHASHSEED := 0
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# Tests start some hundred processes; each would compile the packages again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: $(READY)  ## make the virtual environment .venv and install all that the book needs; CPU=1 leaves out CUDA

# Where there is no .venv, an active conda or virtual environment that has the packages becomes it, as a link.
$(READY): pyproject.toml requirements.lock
	@active="$${VIRTUAL_ENV:-$${CONDA_PREFIX:-}}"; \
	if ! test -e $(VENV) && test -n "$$active" && "$$active/bin/python" $(LOCKED) check 2>/dev/null; then \
	  echo "== Set-up: the active environment $$active has the packages; $(VENV) is a link to it"; \
	  ln -s "$$active" $(VENV); \
	fi
	@if test -L $(VENV); then \
	  $(BIN)/python $(LOCKED) check || { echo "Bring it up to date, or remove the link $(VENV)."; exit 1; }; \
	else \
	  $(MAKE) --no-print-directory packages; \
	fi
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

packages:  ## install what requirements.lock names into .venv
	@echo "== Set-up: the virtual environment $(VENV) ($(if $(CPU),3,8) GB, some minutes the first time)"
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed; install one and run: make install PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(PIP) --no-deps -r <(awk '/^uv==/ {on=1} on && /#/ {exit} on' requirements.lock) \
	  || echo "uv cannot be installed; going on with pip, which is slower."
	@$(if $(CPU),$(BIN)/python $(LOCKED) without-cuda > $(LIST))
	@if $(BIN)/python -c 'import uv' 2>/dev/null; then \
	  $(BIN)/python -m uv pip install --compile-bytecode --python $(BIN)/python --require-hashes $(if $(CPU),--no-deps) -r $(LIST); \
	else \
	  $(PIP) $(if $(CPU),--no-deps) -r $(LIST); \
	fi
	@$(if $(CPU),$(BIN)/python -m pip install --disable-pip-version-check --no-deps --index-url $(TORCH_CPU) $$(grep -E '^torch(vision)?==' constraints.txt))

book: $(READY)  ## build the book as web pages that need no network
	$(BIN)/jupyter-book build --warningiserror --keep-going --path-output . .
	@echo
	@echo "The book is built. Open this page in a browser:"
	@echo "  $(CURDIR)/_build/html/index.html"

pdf: $(READY)  ## print the book as one PDF through Chromium, build/book.pdf; SOLUTIONS=1 unfolds the solutions
	$(BIN)/jupyter-book build --builder singlehtml --path-output build/print .
	cd build/print/_build/singlehtml && cp book/intro.html book.html  # its links are those of a page at the top
	$(BIN)/python -m hemafl_book.build.pdf build/print/_build/singlehtml/book.html build/book.pdf $(if $(SOLUTIONS),--solutions)
	@echo "The next 'make book' links to it from the first page."

test: $(READY)  ## check everything: style, types, library, notebooks and the built book in a browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs=2 types suite

types: $(READY)  ## check types alone
	$(BIN)/mypy

suite: $(READY)  ## run all tests and all notebooks, and check nothing else
	$(PYTEST) --no-loadscope-reorder --nbval tests $(NOTEBOOKS)

quick: $(READY)  ## check style, types, and the fast tests of the rooms that you touched, within two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) --fast $$($(BIN)/python tests/touched.py)

test-gpu: $(READY)  ## check that a GPU gives the numbers of the CPU, within eight minutes; say so where there is none
	$(BIN)/python tests/gpu/prove.py

lab: $(READY)  ## open copies of the notebooks in JupyterLab; they lie in work/notebooks
	$(BIN)/python -m hemafl_book.build.lab

explorer: $(READY)  ## open the explorer of saliency in a browser, served to this machine only
	$(BIN)/python -m hemafl_book.build.explorer_app

results: $(READY)  ## compute the frozen results that are stale, on the real data that HEMAFL_DATA names; goes on if stopped
	$(BIN)/hemafl results make book/results

models: $(READY)  ## train the small models of the clinic again; the white cells need the real data of HEMAFL_DATA
	$(BIN)/hemafl clinic models --checkpoint work/clinic

bench: $(READY)  ## measure the federation engines on this machine
	$(BIN)/hemafl bench engines --out build/bench-engines.json

lint: $(READY)  ## bring the code into its normal style and name what is left
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(READY)  ## run every notebook in place on the embedded default data
	$(BIN)/jupyter execute --inplace --timeout=600 $(NOTEBOOKS)
	$(BIN)/python -m hemafl_book.build.normalise $(NOTEBOOKS)

normalise: $(READY)  ## bring every notebook into its normal form without running it
	$(BIN)/python -m hemafl_book.build.normalise $(NOTEBOOKS)

lock: $(READY)  ## resolve requirements.lock again from pyproject.toml and constraints.txt, for every system
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --constraint constraints.txt --universal \
	  --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --output-file requirements.lock

clean:  ## remove what was built; the virtual environment stays
	rm -rf _build build
