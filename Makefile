# The one entry to everything. Each target works on a fresh clone; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# A caller's PYTHONPATH could shadow the package under test.
unexport PYTHONPATH

.PHONY: help setup demo check test static format bench matrix system-packages third-party debian fuzz clean distclean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Make or update .venv and the generated code; does nothing when up to date
	@scripts/setup

demo: setup  ## A server under load, diagnosed live; FAULT=name injects a fault
	@$(BIN)/python -m examples.demo $(if $(FAULT),--fault $(FAULT))

check: static  ## The fast loop: format, lint, types, import rule, tests that start no server
	@$(BIN)/pytest -q tests --ignore=tests/integration --ignore=tests/e2e --ignore=tests/thirdparty

test: system-packages third-party debian static  ## Everything that CI runs
	@$(BIN)/pytest -q tests

format: setup  ## Format the code and apply the safe fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

matrix: setup  ## The probe's tests under every Python that is found (3.10 to 3.14)
	@scripts/matrix

bench: setup  ## What probe and agent cost, beside their peers: about 15 minutes
	@scripts/system-packages bench
	@$(BIN)/python -m bench.overhead
	@$(BIN)/python -m bench.agent

static: setup
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: run `make format`' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@found=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$found" >&2; exit 1; }

# Outside CI a machine without the packages runs what it can; the tests that need them are skipped.
system-packages:  ## Install the Debian packages that the tests need
	@scripts/system-packages tests || { [[ $${CI:-} != true ]] && echo 'going on without: tests that need them are skipped'; }

third-party: setup  ## Make .venv-third-party: servers nobody here wrote, for the tests
	@scripts/third-party || { [[ $${CI:-} != true ]] && echo 'going on without: tests that need them are skipped'; }

debian: setup  ## Fetch the guest with cgroup v2 and later releases of Prometheus, for the tests
	@{ scripts/cgroup-guest --build && scripts/prometheus-versions; } || { [[ $${CI:-} != true ]] && echo 'going on without: tests that need them are skipped'; }

fuzz: setup  ## Fuzz what the agent reads; RUNS=200000 of each kind
	@scripts/fuzz $(or $(RUNS),200000)

clean:  ## Remove caches, build products and generated code
	@rm -rf dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -rf examples/open_inference/generated
	@find agent bench examples tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## The same, and the virtual environments
	@rm -rf .venv .venv-third-party .venv-matrix .venv-fuzz .bench-venv .cache
