# `make demo` and `make test` do all their own set-up. ARGS="…" passes options on.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup demo bench chaos interleavings test test-fast lint lock images clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed java/target/.fetched ## .venv with surecount in it, and the jars

demo: setup ## a real cluster, a kill in the middle, books that balance
	@$(BIN)/surecount demo $(ARGS)

bench: setup ## measurements on a cluster of their own: make bench ARGS="latency"
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: setup ## breaks things on purpose for 10 minutes, and judges every record: make chaos ARGS="--seed 7"
	@$(BIN)/surecount chaos examples/pathways.toml --minutes 10 $(ARGS)

interleavings: setup ## two operators at once, whose commands are killed: make interleavings ARGS="--seed 1 --runs 100"
	@$(BIN)/python -m tests.interleavings $(ARGS)

test: setup ## the whole suite, 25 to 35 minutes on 2 cores; with ARGS="PATH …" what they choose
ifeq ($(ARGS),)
	@$(BIN)/python -m pytest tests/unit -q -n auto
	@$(BIN)/python -m pytest tests/cluster tests/job -n 2 --dist loadfile --no-loadscope-reorder --durations 25
else
	@$(BIN)/python -m pytest $(ARGS)
endif

test-fast: $(VENV)/.installed ## what needs no cluster, with fewer examples of each property: under 1 minute
	@SURECOUNT_FAST_TESTS=1 $(BIN)/python -m pytest tests/unit -q -n auto $(ARGS)

lint: $(VENV)/.installed ## ruff and mypy
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

LOCK := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-annotate --no-header

lock: ## pin what pyproject.toml asks for, with hashes: for production, and with what developing needs
	@$(LOCK) --output-file requirements.lock pyproject.toml
	@$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

images: ## pin the Dockerfile's base images by digest, in deploy/images.env; asks their registry with docker
	@sed -n 's/^ARG \([A-Z_]*_IMAGE\)=\(.*\)/\1 \2/p' Dockerfile | while read -r name image; do \
		digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$image") || exit 1; \
		echo "$$name=$$image@$$digest"; done > deploy/images.env.new
	@mv deploy/images.env.new deploy/images.env

clean: ## remove what set-up made
	rm -rf $(VENV) java/target

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null || \
		{ echo "surecount needs Python 3.11 or 3.12 as $(PYTHON); name another: make PYTHON=python3.11 …" >&2; exit 2; }
	@echo "installing the locked packages into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

java/target/.fetched: java/pom.xml $(wildcard java/src/*/java/surecount/*.java) surecount/local/archive.py surecount/local/client/flink $(VENV)/.installed
	@$(BIN)/python -c 'from surecount.local.prerequisites import check_prerequisites; check_prerequisites(fetching=True)'
	@echo "fetching the jars, and building our own …"
	@rm -rf java/target
	@mvn --batch-mode --quiet --file java/pom.xml package
	@echo "running a job on a stack, so that starts need not load their classes anew …"
	@$(BIN)/python -m surecount.local.archive
	@touch $@
