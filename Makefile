# make demo | test | check | docs | bench | study: each sets up .venv/ here when it is missing or out of date.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.steadygaze-ready
# Two test processes with one arithmetic thread each use two cores without crowding each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow peer mutate check format docs notebooks bench study clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## .venv/ with everything, at the versions of constraints.txt

# The build backend comes first, so that the last step needs no isolated second environment.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "steadygaze needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV)/ (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt torch hatchling editables
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## verify a small network on a real digit; writes steadygaze-demo/
	@$(BIN)/steadygaze demo

test: $(STAMP) ## the tests, less the slow ones
	$(PYTEST) -q -n $(WORKERS) -m "not slow"

test-slow: $(STAMP) ## the slow tests alone
	$(PYTEST) -q -n $(WORKERS) -m slow

peer: $(STAMP) ## ask Marabou what we say of exported questions; sets up .venv-peer/ with its older libraries
	@test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	@.venv-peer/bin/python -m pip install --quiet maraboupy==2.0.0 'numpy<2' 'onnx<1.17' 'onnxruntime<1.24'
	$(PYTEST) -q -m peer

mutate: $(STAMP) ## change the code in small places and see whether tests notice (ROOM=, SAMPLE=, SEED=, AGAIN=1)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt cosmic-ray
	$(BIN)/python scripts/mutate.py $(if $(ROOM),--room $(ROOM)) --sample $(or $(SAMPLE),44) \
		--seed $(or $(SEED),0) $(if $(AGAIN),--again)

check: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --warnings

format: $(STAMP) ## mend the style in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## the documentation as a site, in site/: it opens from disk
	$(BIN)/python scripts/documentation.py

notebooks: $(STAMP) ## run the notebooks of examples/ and keep what they show
	$(BIN)/python scripts/notebooks.py

bench: $(STAMP) ## the workloads, by every search: regions, seconds, memory, floor
	$(BIN)/python -m benchmarks

study: $(STAMP) ## the study of the NFM 2023 paper, quick form, and its report in nfm2023-out/
	$(BIN)/python -m studies.nfm2023 run --quick
	$(BIN)/python -m studies.nfm2023 report

clean: ## remove the environment and everything made
	rm -rf $(VENV) .venv-peer build dist .pytest_cache .ruff_cache .hypothesis steadygaze-out steadygaze-demo site nfm2023-out mutation-out
	find src -name __pycache__ -prune -exec rm -rf {} +
