# The two commands: `make demo` and `make test`. Both install what they need (Debian, root).

SHELL := /bin/bash
PYTHON := /usr/bin/python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test check bench venv packages cpython clean

demo: packages venv
	@echo "== python3.11-dbg -X showrefcount -c 'import decimal', under refdbg-run"
	$(BIN)/refdbg-run python3.11-dbg -X showrefcount -c 'import decimal'

test: packages venv check cpython
	@echo "== tests"
	$(BIN)/python -m pytest

check: venv
	@echo "== ruff, mypy, import-linter"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: packages venv
	$(BIN)/python -m tests.bench

packages:
	@tools/install-packages gdb python3 python3-venv python3.11-dbg gcc make

venv: packages $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@echo "== virtual environment in .venv"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --editable '.[test,check]'
	touch $@

cpython: packages
	@echo "== debug CPythons (cached outside the checkout; the first time takes minutes)"
	tests/cpython/build 3.9 3.13 3.11-trace-refs 3.11-shared

clean:
	rm -rf .venv build *.egg-info
