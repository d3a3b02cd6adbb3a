# `make quickstart` adapts a real model; `make test` runs the tests; `make docs` builds the documentation site.
PYTHON ?= python3
VENV := .venv
PIP_ARGS ?=
CPT := $(VENV)/bin/cpt

.PHONY: install dev quickstart test lint docs gpu-check clean

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

$(VENV)/.installed-docs: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	touch $@

quickstart: install
	$(CPT) run recipes/quickstart.yaml

lint: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -b html docs site
	@echo "Built site/index.html"

test: dev lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

gpu-check: install
	$(VENV)/bin/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) site
