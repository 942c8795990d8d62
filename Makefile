# make demo   set everything up, start two nodes, open a chat between them
# make test   every check: format, lint, types, import arrows, tests (`make stories`: the long ones)
# make help   the rest

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check style types arrows tests stories fuzz format bench bench-e2ee bench-calls bench-peers lock clean

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Debian splits ensurepip out of python3; without it pip fills the environment
# from outside.
.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Telex needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip .venv \
	       && $(PYTHON) -m pip --python .venv/bin/python install --quiet pip; }
	@touch $@

.venv/.installed: .venv/.created requirements/dev.txt pyproject.toml
	@echo "Installing what Telex needs into .venv (a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/.installed  ## make the virtual environment

demo: setup  ## two nodes, two accounts and a chat between them (ARGS=--two for two terminals)
	@$(BIN)/telex demo $(ARGS)

test: style types arrows tests  ## every check

style: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

arrows: setup
	$(BIN)/lint-imports

# A file to each worker, in the order of tests/conftest.py (xdist would put files of
# many short tests first); one to each of two cores, for calls are heard in real time.
tests: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

stories: setup  ## the long stories over real processes that `make test` leaves out
	$(BIN)/python -m pytest -n 2 --dist loadfile -m long

fuzz: setup  ## fuzz every decoder for longer
	TELEX_FUZZ=1 $(BIN)/python -m pytest -m fuzz --timeout=3600

format: setup  ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-e2ee:  ## measure the encryption (one JSON array; bench/README.md)
	@$(MAKE) --no-print-directory setup >&2
	@$(BIN)/python -m bench.e2ee $(ARGS)

# PESQ is built from source, with tools that do not stay; without a compiler the part
# that uses it does without.
.venv/.bench: requirements/bench.txt requirements/bench-build.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target .venv/bench-build -r requirements/bench-build.txt
	@PYTHONPATH=.venv/bench-build $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --no-build-isolation -r requirements/bench.txt
	@rm -rf .venv/bench-build
	@touch $@

bench-calls:  ## measure calls (ARGS="cpu --rounds 1", or --help); ten minutes on a quiet machine
	@$(MAKE) --no-print-directory setup >&2
	@$(MAKE) --no-print-directory .venv/.bench >&2 || echo "PESQ could not be built here" >&2
	@$(BIN)/python -m bench.calls $(ARGS)

bench:  ## measure the node on this machine (ARGS="dm --seconds 5", or --help)
	@$(MAKE) --no-print-directory setup >&2
	@$(BIN)/telex-node bench $(ARGS)

bench-peers:  ## the same work against Prosody and ejabberd of Debian, side by side
	@$(MAKE) --no-print-directory setup >&2
	@$(BIN)/python -m bench.peers $(ARGS)

lock:  ## pin and hash the requirements again (needs uv; UPGRADE=--upgrade for newer ones)
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --override requirements/overrides.txt $(UPGRADE) requirements/dev.in -o requirements/dev.txt
	for one in bench bench-build; do uv pip compile --python-version 3.11 --universal --generate-hashes --no-deps --no-emit-index-url --no-emit-find-links --no-header --no-annotate $(UPGRADE) requirements/$$one.in -o requirements/$$one.txt || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
