# Every target works alone on a machine with Python 3.11 or newer and a package registry.
# Another environment than .venv: make test VENV=/path. Another interpreter: make test PYTHON=python3.12.

VENV ?= .venv
export VENV SLOW

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch check build lock clean

help: ## show this text
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: ## train a small model, try every recipe, write files and a report to build/demo
	@scripts/install
	@"$(VENV)/bin/kompakt" demo --out build/demo

test: ## run the tests on TensorFlow, and the contract tests on JAX too (SLOW=1: those that take long as well)
	@scripts/install test
	@scripts/test

test-torch: ## run the contract tests on torch
	@scripts/install test,torch
	@scripts/test torch

check: ## ruff and mypy
	@scripts/install dev
	@scripts/check

build: ## write the wheel and the source archive to dist
	@scripts/install dev
	@scripts/build

lock: ## resolve every dependency anew and write constraints.txt
	@scripts/lock

clean: ## remove build, dist and caches (.venv stays)
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
