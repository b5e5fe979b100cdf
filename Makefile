# For a fresh machine: `make demo`, `make smoke-test`, `make test`. All make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo smoke-test test lint install clean

demo: $(READY)
	$(BIN)/python -m benchmark.demo

# All protocols on the demo world, up to the page: what to run before spending GPU days.
smoke-test: $(READY)
	$(BIN)/python -m benchmark.smoke_test

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 8

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(READY)

# CONSTRAINTS=constraints.txt installs the exact set that was last tested.
$(READY): requirements.txt engine/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -r requirements.txt $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	touch $@

clean:
	rm -rf $(VENV)
