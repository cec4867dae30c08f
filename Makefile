# valetkey: make run starts the gateway, make test proves it. Everything that is needed is set up in .venv.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: help run test check demo clean

help:  ## Show this help
	@awk 'BEGIN {FS = ":.*##"} /^[a-z]+:.*##/ {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime  ## Start the gateway: mitmdump -s addons/gateway.py (ARGS="…" for more)
	$(BIN)/mitmdump -s addons/gateway.py $(ARGS)

test: $(VENV)/.dev  ## Run all tests (ARGS="tests/policy -k …" for some)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

check: $(VENV)/.dev  ## Lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(VENV)/.runtime  ## Show the whole thing in under a minute, without any key
	$(BIN)/valetkey demo

clean:  ## Remove what make has set up
	rm -rf $(VENV)

$(VENV)/bin/python:
	@scripts/make-venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev
	@touch $@
