# Everything a checkout needs: `make run` for a first look, `make test` before a change. Settings: PYTHON=python3.12
# picks the interpreter for .venv, ARGS is handed on (make test ARGS="-k broker"; make run ARGS="--config other.yaml").

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PY := .venv/bin/python
ARGS ?=
# The benchmarks: one of benchmarks/*.py; the public data sets that most of them read are in the folder DATA
# (benchmarks/README.md).
DATA ?=
BENCH ?= short
# The fuzzers: targets of fuzz/README.md, and seconds for each.
FUZZ ?= payload packets config sources context echoes state
FUZZ_SECONDS ?= 600

.PHONY: help setup setup-dev run test test-all test-arm mutants lint types bench fuzz encoders docs manual lock install rollback uninstall clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## .venv with what it takes to run, from requirements.lock
	@tools/setup.sh

setup-dev: ## .venv with what it takes to test as well, from requirements-dev.lock
	@tools/setup.sh dev

run: setup ## a memory on this computer: broker, daemon and a sample day; Ctrl-C ends it
	@exec $(PY) examples/first_run.py $(ARGS)

test: setup-dev ## the whole test suite, with real brokers, in minutes
	@tools/test.sh $(ARGS)

mutants: setup-dev ## small faults put into copies of the code: does a test notice each? make mutants ARGS="-k forget"
	@tools/test.sh mutants $(ARGS)

test-all: mutants test ## both, the tests last

test-arm: setup-dev ## the core of it on emulated 64-bit ARM processors, in minutes; kept in .arm/
	@tools/test_arm.sh $(ARGS)

lint: setup-dev ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: setup-dev ## mypy, strict
	@$(PY) -m mypy

bench: setup-dev ## every figure in a line, in minutes: make bench DATA=FOLDER; BENCH=home for one in full
	@set -e; export OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1}; for each in $(BENCH); do \
	    case $$each in speed|faults|powercut|flood|attack|start|longrun|period|crowding|silence) set --;; *) set -- $(if $(DATA),--data "$(DATA)");; esac; \
	    $(PY) -m benchmarks.$$each "$$@" $(ARGS); done

fuzz: setup-dev ## the fuzzers, minutes each: make fuzz FUZZ=state FUZZ_SECONDS=60
	@set -e; for each in $(FUZZ); do $(PY) -m fuzz $$each --seconds $(FUZZ_SECONDS) $(ARGS); done

encoders: setup-dev ## the int8 encoder folders again, from models/weights and the published checkpoint
	@set -e; for each in l6 l3 original; do $(PY) models/build.py --model $$each $(ARGS); done

docs: ## the documentation as a site, in build/site
	@tools/setup.sh docs
	@$(PY) -m mkdocs build --quiet --strict --site-dir build/site $(ARGS)
	@echo "Open build/site/index.html"

manual: setup-dev ## man page and completions anew from the command line's own parser, into tools/share
	@tools/manual.sh

lock: ## resolve pyproject.toml anew into the three requirements*.lock
	@tools/lock.sh

install: ## as root, or into DESTDIR: the program in PREFIX (/opt/mda), its unit, its configuration; upgrades too
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" tools/install.sh

rollback: ## put the program back that the last upgrade replaced; the configuration stays
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" tools/rollback.sh

uninstall: ## remove that again, but for the configuration and everything learned
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" tools/uninstall.sh

clean: ## remove .venv, caches and build folders; never ./state
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-out
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
