# `make help` lists the targets. Only tests of the image and of the real node need root; everything that is
# downloaded or built goes to .venv or to the cache outside the repository.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
FAULTS := tests/chaos $(wildcard tests/integration/test_*fault*.py) tests/integration/test_ledger_recount.py
# Once more on the compiled core: what takes the whole way, and decides by the stored state.
COMPILED := $(patsubst %,tests/integration/test_%.py,main_job ledger_recount deduplication)
BIN := .venv/bin
# What people read. Tests, and the parts that are not in this language yet, are left out.
PROSE := '*.md' config k8s examples bench tools streamer ':!streamer/source' ':!streamer/view' ':!tools/words.txt'
export FALCO_STREAMER_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/falco-streamer
# uv installs into the Python at hand; it never fetches one.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
UV := $(FALCO_STREAMER_CACHE)/uv-$(shell cksum < requirements/uv.txt | cut -d' ' -f1)/bin/uv

.PHONY: help
help:  ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s'|'

.PHONY: setup
setup: .venv/.ready  ## Make .venv with everything that runs (.venv/bin/falco-streamer).

$(UV): requirements/uv.txt
	@echo "setup: installing uv (once)" >&2
	@rm -rf $(dir $(@D)) && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: Python 3.11 or newer is needed; name one with PYTHON=python3.x")'
	@$(PYTHON) -m venv $(dir $(@D)) && $(dir $(@D))bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $<

.venv/.ready: requirements/dev.txt pyproject.toml streamer/__init__.py | $(UV)
	@echo "setup: filling .venv from requirements/dev.txt" >&2
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lock
lock: | $(UV)  ## Renew the hashed requirement files from pyproject.toml (uv itself: edit requirements/uv.txt).
	@for set in "run.txt" "dev.txt --extra demo --group dev"; do \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --upgrade pyproject.toml -o requirements/$$set; done

.PHONY: manifests
manifests: setup  ## Render k8s/base and k8s/components from the Helm chart.
	@$(BIN)/python -m tests.testbed.chart

.PHONY: config-docs
config-docs: setup  ## Renew what is generated from the settings: schema, config/streamer.yaml, docs/configuration.md.
	@for made in schema:config/streamer.schema.json reference:config/streamer.yaml manual:docs/configuration.md; do \
	  $(BIN)/python -m tools.settings_docs $${made%%:*} > .generated && mv .generated $${made#*:}; done

.PHONY: demo
demo: setup  ## The main job in one command: simulated cluster, worker and broker (ARGS='--seconds 15 --ledger FILE').
	@$(BIN)/falco-streamer demo $(ARGS)

.PHONY: format
format: setup  ## Format and sort imports.
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

.PHONY: lint
lint: setup  ## Style, words, types and the direction of imports.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@git ls-files -z -- $(PROSE) | xargs -0 $(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

.PHONY: test-quick
test-quick: lint  ## What needs Python only, under two minutes: lint, types, unit, flow and contract tests.
	@$(BIN)/python -m pytest -q -n auto -m 'not real' --ignore=tests/e2e $(ARGS)

.PHONY: test
test: test-quick parts  ## The quick tests, the compiled core, the commands as processes, more attacks, then real Kafka and a real API server (built once).
	@$(BIN)/python -m tests.testbed.compiled
	@$(BIN)/python -m pytest -q -n auto tests/e2e
	@ADVERSARIAL_SEEDS=1000 $(BIN)/python -m pytest -q -n auto tests/adversarial
	@$(BIN)/python -m tests.testbed.compiled -n 0 -m real $(COMPILED)
	@$(BIN)/python -m pytest -q -m real $(ARGS)

.PHONY: test-compiled
test-compiled: setup  ## Of these, the core's tests on its compiled form (needs a C compiler): 2 min.
	@$(BIN)/python -m tests.testbed.compiled $(ARGS)

.PHONY: test-faults
test-faults: parts  ## Of these, faults alone: worker, brokers and API killed, frozen, cut off; a full disk (7 min).
	@$(BIN)/python -m pytest -q -m real $(FAULTS) $(ARGS)

.PHONY: test-node
test-node: parts  ## Of these, a real node alone (kubelet, containerd, runc; needs root): 5 min.
	@$(BIN)/python -m pytest -q -m node tests/node $(ARGS)

.PHONY: chaos
chaos: parts  ## The worker under faults at length, with a report: MINUTES=2 SEED=any (ARGS='--only KILL KAFKA_KILL').
	@$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: parts
parts: setup  ## Build what tests on real parts need, where that was not done before (25 min; then cached).
	@$(BIN)/python -m tests.testbed build || test -z "$${CI:-}"

.PHONY: testbed
testbed: setup  ## Start real Kafka, API server and log endpoint, print their addresses, stop at Ctrl-C.
	@$(BIN)/python -m tests.testbed up

.PHONY: bench
bench: setup  ## The benchmarks; results as tables on stdout (docs/benchmarks.md says how to read them).
	@$(BIN)/python -m bench $(ARGS)

.PHONY: clean
clean:  ## Remove .venv and caches inside the repository (the cache outside stays).
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
