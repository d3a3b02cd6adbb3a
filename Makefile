# Two commands: `make quickstart` adapts a real model; `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
PIP_ARGS ?=
CPT := $(VENV)/bin/cpt

.PHONY: install dev quickstart test lint clean

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
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
	$(VENV)/bin/python -m pytest

clean:
	rm -rf $(VENV) runs
