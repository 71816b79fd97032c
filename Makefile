# The commands: `make demo`, `make test` and `make docs`. They install what they need (Debian, root).

SHELL := /bin/bash
PYTHON := /usr/bin/python3
BIN := .venv/bin
PATCHED := $(basename $(notdir $(wildcard tests/cpython/patches/*.patch)))
STAMP := .venv/installed
TEST_STAMP := .venv/installed-for-tests
DOCS_STAMP := .venv/installed-for-docs

.PHONY: demo test docs check bench matrix venv test-venv packages cpython sid containers clean

demo: venv
	@echo "== python3.11-dbg -X showrefcount -c 'import decimal', under refdbg-run"
	$(BIN)/refdbg-run python3.11-dbg -X showrefcount -c 'import decimal'

test: test-venv check
	@$(MAKE) --no-print-directory --jobs=2 cpython sid containers
	@echo "== tests"
	$(BIN)/python -m pytest -n 2 --dist loadfile

docs: venv $(DOCS_STAMP)
	$(BIN)/python -m tools.document_options
	$(BIN)/python -m tools.man_pages man
	$(BIN)/mkdocs build --strict --quiet
	@echo "== site/index.html; man -l man/refdbg.1"

check: test-venv
	@echo "== ruff, mypy, import-linter"
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: test-venv
	$(BIN)/python -m tests.bench

matrix: test-venv cpython sid
	@echo "== a free-threaded debug build of 3.14 (where the archive has its sources)"
	-tests/cpython/build 3.14t
	@echo "== every interpreter under gdb and lldb"
	$(BIN)/python -m tests.matrix

packages:
	@tools/install-packages gdb gdbserver lldb-19 python3 python3-venv python3.11-dbg

venv: packages $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@echo "== virtual environment in .venv"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --editable . --config-settings editable_mode=compat
	touch $@

test-venv: venv $(TEST_STAMP)

$(TEST_STAMP): $(STAMP)
	@tools/install-packages gcc g++ libc6-dev graphviz chromium groff-base
	$(BIN)/pip install --quiet --editable '.[test,check]' --config-settings editable_mode=compat
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[docs]' --config-settings editable_mode=compat
	touch $@

cpython: packages
	@echo "== debug CPythons (cached outside the checkout; the first time takes minutes)"
	tests/cpython/build 3.11 3.13-release 3.13t-release 3.13 3.13t 3.9 3.11-trace-refs $(PATCHED)

sid: test-venv
	@echo "== debug builds of 3.14 and 3.15, in a root of Debian sid (cached outside the checkout; the first time takes minutes)"
	-$(BIN)/python -m tests.support.sid

containers: test-venv
	@echo "== the images of docker/compose.yaml (cached outside the checkout; REFDBG_IMAGES=all: those that build their CPython, too)"
	-$(BIN)/python -m tests.support.containers

clean:
	rm -rf .venv build site man *.egg-info
