# Shortcuts for what README.md and CONTRIBUTING.md spell out.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test check bench

demo:
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q . && $(BIN)/evtsim demo

test:
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q '.[test]' && $(BIN)/python -m pytest -n auto

check:
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench:
	$(PYTHON) -m venv .venv && $(BIN)/pip install -q '.[bench]' && $(BIN)/python -m bench.table --save bench-$$(git rev-parse --short HEAD).json
