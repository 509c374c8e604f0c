# One word each; every verb makes .venv itself when there is none. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OURS := carnet agent gateway tests benchmarks certs demo
FUZZ_SECONDS ?= 60
# Most tests wait for disks and other processes, so three at a time suit two cores; `make test TEST_WORKERS=` runs one at a time.
TEST_WORKERS ?= -n 3 --dist worksteal
# A test out of time fails (`timeout` in pyproject.toml); one that does not end even then takes its worker with it, and says where it was.
TEST_GUARD := -o faulthandler_timeout=960 -o faulthandler_exit_on_timeout=true

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full check bench bench-quick fuzz fmt lint types arch docs pki

help:  ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

# Without a C compiler the installation succeeds too: the kernel is optional, the Python twin makes the same cuts. The mode `compat`
# names our directory in a path file, where another one would run a finder at each start of a command.
$(STAMP): pyproject.toml carnet/_kernel.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "carnet needs Python 3.11 or newer, and $(PYTHON) is not; name another: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@$(BIN)/python -m compileall -q carnet gateway agent
	@touch $@

setup: $(STAMP)  ## make .venv with both commands and the tools of development

demo: $(STAMP)  ## three gateways and their agents on this machine, told in steps
	@$(BIN)/python demo/run.py

test: $(STAMP)  ## the tests, but for the whole counts
	$(BIN)/python -m pytest -q $(TEST_WORKERS) $(TEST_GUARD) -m "not full"

test-full: $(STAMP)  ## all tests with their whole counts
	$(BIN)/python -m pytest -q $(TEST_WORKERS)

check: lint types arch docs  ## what to run before a commit: all but the slow tests
	$(BIN)/python -m pytest -q -m "not full" tests/carnet tests/agent tests/gateway

bench: $(STAMP)  ## ours beside the rivals, measured here; writes benchmarks/results
	$(BIN)/python -m benchmarks.run

bench-quick: $(STAMP)  ## the same on small data in about two minutes
	$(BIN)/python -m benchmarks.run --quick

fuzz: $(STAMP)  ## mutate the test vectors at every parser of outside bytes for FUZZ_SECONDS; the C kernel under its sanitizers as long
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz.sanitized --seconds $(FUZZ_SECONDS)

fmt: $(STAMP)  ## format, fix what can be fixed, and write the generated parts of the documents
	$(BIN)/ruff format $(wildcard $(OURS))
	$(BIN)/ruff check --fix $(wildcard $(OURS))
	$(BIN)/python -m tests.docs.generated

lint: $(STAMP)  ## ruff
	$(BIN)/ruff format --check $(wildcard $(OURS))
	$(BIN)/ruff check $(wildcard $(OURS))

types: $(STAMP)  ## mypy --strict
	$(BIN)/python -m mypy

arch: $(STAMP)  ## layers, sizes, names: the rules of the source tree
	$(BIN)/python -m pytest -q tests/architecture

docs: $(STAMP)  ## compare the documents with the program, and run what they show
	$(BIN)/python -m pytest -q -m "not full" tests/docs

pki: $(STAMP)  ## write a throw-away development PKI to certs/dev
	$(BIN)/python certs/make_pki.py
