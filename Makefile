# `make demo` and `make test` need Python 3.11 or newer and nothing else; both install into .venv at first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo site test test-slow test-lowest check-phantom lint format clean

demo: $(INSTALLED)
	$(BIN)/cxrbench demo --out demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# Some of them open the HTML report in Chromium (Debian: apt-get install chromium) and are skipped without one.
test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m slow

# The lowest versions that pyproject.toml allows, in an environment of their own in LOWEST (some 6 GB); needs uv.
LOWEST ?= /tmp/cxrbench-lowest
test-lowest:
	.ci/lowest $(LOWEST)

# A small run on drawn images against committed numbers; CHECK=--update writes them anew.
check-phantom: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/regression/phantom_run.py build/phantom $(CHECK)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

site: $(INSTALLED)
	$(BIN)/python -m website site

clean:
	rm -rf $(VENV) demo build dist *.egg-info
