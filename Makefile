# Two commands: `make quickstart` adapts a real model; `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
PIP_ARGS ?=
CPT := $(VENV)/bin/cpt

.PHONY: install dev quickstart test lint gpu-check clean

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cpt needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing; PyTorch is large, this takes a few minutes."
	$(VENV)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install
	$(CPT) run recipes/quickstart.yaml

lint: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: dev lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

gpu-check: install
	$(VENV)/bin/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV)
