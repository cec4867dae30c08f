# valetkey: make run starts the gateway, make test proves it. Everything that is needed is set up in .venv.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
JOBS ?= 3
CALLS ?= 10000
MINUTES ?= 1
ATTACKS := PYTHONPATH=addons:tests $(BIN)/python -m attacks
FUZZ := PYTHONPATH=addons:tests $(BIN)/python -m fuzz --minutes $(MINUTES)
BENCH := PYTHONPATH=addons:tests $(BIN)/python -m bench --calls $(CALLS)

.PHONY: help run test attacks attacks-mutants fuzz check demo bench bench-peers wheel clean

help:  ## Show this help
	@awk 'BEGIN {FS = ":.*##"} /^[a-z-]+:.*##/ {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime  ## Start the gateway: mitmdump -s addons/gateway.py (ARGS="…" for more)
	$(BIN)/mitmdump -s addons/gateway.py $(ARGS)

test: $(VENV)/.dev  ## Run all tests (ARGS="tests/policy -k …" for some)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

attacks: $(VENV)/.dev  ## Attack the gateway and show what came of it (ARGS="--only C1", ARGS="--proxy HOST:PORT --ca FILE")
	$(ATTACKS) $(ARGS)

attacks-mutants: $(VENV)/.dev  ## Take away each defence and see its attacks succeed; takes minutes (ARGS="--only 12")
	PYTHONPATH=addons:tests $(BIN)/python -m attacks.mutants $(ARGS)

fuzz: $(VENV)/.dev  ## Feed hostile bytes to every parser (MINUTES=10, ARGS="--only sse --seed 7")
	$(FUZZ) $(ARGS)

check: $(VENV)/.dev  ## Lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/.runtime  ## Show the whole thing in under a minute, without any key
	$(BIN)/valetkey demo

bench: $(VENV)/.runtime  ## Measure the gateway against mitmdump (CALLS=100000 for memory, ARGS="--help")
	$(BENCH) $(ARGS)

bench-peers: $(VENV)/.runtime  ## The same, with LiteLLM and LLM-API-Key-Proxy where they are installed
	$(BENCH) --peers $(ARGS)

wheel: $(VENV)/.dev  ## Build the wheel and the sdist into dist/
	$(BIN)/python -m hatchling build

clean:  ## Remove what make has set up
	rm -rf $(VENV)

$(BIN)/python:
	@scripts/make-venv $(VENV)

# scripts/make-venv also finds fault with an environment that was there before: of an old Python, or without pip.
$(VENV)/.runtime: $(BIN)/python pyproject.toml constraints.txt
	@scripts/make-venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	@touch $@

# pip knows --group since 25.1; one that does already is left alone, without asking the network.
$(VENV)/.dev: $(VENV)/.runtime
	@$(PIP) install 'pip>=25.1'
	$(PIP) install -c constraints.txt --group dev
	@touch $@
