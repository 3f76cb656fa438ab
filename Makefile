# The front door. Each goal installs what it needs, once; stamp files remember what is installed.
# Needs: GNU make, bash, Python >= 3.11. Neither root nor a C compiler.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# Which Python makes the .venv; empty takes the first >= 3.11 that works.
PYTHON ?=
# Further arguments of pytest, as in: make test ARGS="-k router -x". With ARGS="-n 0" there is one process.
ARGS ?=

VENV := .venv
TOOLS := .tools
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
VENV_MADE := $(VENV)/.stamps/made
LOCKED := $(VENV)/.stamps/locked
INSTALLED := $(VENV)/.stamps/installed
ANVIL := $(TOOLS)/.stamps/anvil
PUBLISHED := $(TOOLS)/.stamps/contracts
RIVALS := $(TOOLS)/.stamps/rivals
SILVERBACK := $(TOOLS)/.stamps/silverback
SOURCES := protocol workers runnerd tests deploy docs

# Foreign modules on the path would shadow the locked ones.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help demo test check format bench faults contracts lock install clean distclean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: $(INSTALLED) $(ANVIL) ## watch sandboxed plugins run a vault, and keepers, on a real EVM node (DEMO_KEEP=1 keeps it running)
	@$(BIN)/python -m deploy.demo.run

test: $(INSTALLED) $(ANVIL) $(PUBLISHED) ## run every test (ARGS="..." goes to pytest)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED) ## format, lint, types and the import arrows
	@$(BIN)/ruff format --check --quiet --output-format concise $(SOURCES)
	@$(BIN)/ruff check --quiet --output-format concise $(SOURCES)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q tests/test_arrows.py
	@echo "· format, lint, types and arrows are fine"

format: $(INSTALLED) ## format the code and fix what the linter can fix
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

bench: $(INSTALLED) $(ANVIL) $(RIVALS) $(SILVERBACK) ## measure this machine beside others, and write docs/bench (about forty minutes)
	@$(BIN)/python -m tests.bench.run

# Variables of the command line reach the campaign: N, FAULT_SEED, FAULT_SECONDS, BREAK, KINDS, POINTS.
faults: $(INSTALLED) $(ANVIL) ## attack the daemon at random and check every effect (N=10000, FAULT_SEED=… replays a run)
	@$(BIN)/python -m tests.faults.campaign

contracts: $(INSTALLED) ## compile deploy/contracts into the committed artifacts
	@$(BIN)/python deploy/contracts/build.py

# Existing pins are kept; UPGRADE=1 moves them all to the newest versions.
# The second file, for servers, has the same versions: the first one is its seed. The others are no dependencies of ours.
lock: $(INSTALLED) ## write the lock files from pyproject.toml (UPGRADE=1 takes newer versions)
	@echo "· resolving and hashing every dependency: this takes minutes"
	@deploy/tools/write-lock.sh $(BIN)/pip-compile requirements.lock requirements.lock \
	    "Every dependency of runnerd and of its extras" --all-extras $(if $(UPGRADE),--upgrade)
	@deploy/tools/write-lock.sh $(BIN)/pip-compile deploy/requirements.lock requirements.lock \
	    "What runnerd needs on a server, and nothing of its development" --extra embedded
	@SOURCE=tests/bench/rivals.in deploy/tools/write-lock.sh $(BIN)/pip-compile \
	    tests/bench/rivals.lock tests/bench/rivals.lock "What the benchmark compares runnerd with" \
	    $(if $(UPGRADE),--upgrade)
	@SOURCE=tests/bench/silverback.in deploy/tools/write-lock.sh $(BIN)/pip-compile \
	    tests/bench/silverback.lock tests/bench/silverback.lock "What the benchmark compares triggers with" \
	    $(if $(UPGRADE),--upgrade)

install: $(INSTALLED) $(ANVIL) $(PUBLISHED) ## only install: .venv and .tools

clean: ## remove caches and build output
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv and .tools as well
	@rm -rf $(VENV) $(TOOLS)

$(VENV_MADE): deploy/tools/make-venv.sh
	@deploy/tools/make-venv.sh $(VENV) $(PYTHON)
	@mkdir -p $(@D) && touch $@

$(LOCKED): requirements.lock $(VENV_MADE)
	@echo "· installing the locked dependencies"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@touch $@

$(INSTALLED): pyproject.toml $(LOCKED)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(ANVIL): deploy/tools/install-anvil.sh deploy/tools/npm.sh deploy/tools/anvil/package-lock.json deploy/tools/nodejs.lock | $(VENV_MADE)
	@deploy/tools/install-anvil.sh $(TOOLS) $(BIN)/pip
	@mkdir -p $(@D) && touch $@

$(RIVALS): tests/bench/rivals.lock deploy/tools/make-venv.sh | $(VENV_MADE)
	@deploy/tools/make-venv.sh $(TOOLS)/rivals $(BIN)/python
	@echo "· installing what the benchmark compares with"
	@$(TOOLS)/rivals/bin/pip --disable-pip-version-check --no-input install --quiet --require-hashes \
	    -r tests/bench/rivals.lock
	@mkdir -p $(@D) && touch $@

# Of its own: it wants other versions of web3 and of half of what we have.
$(SILVERBACK): tests/bench/silverback.lock deploy/tools/make-venv.sh | $(VENV_MADE)
	@deploy/tools/make-venv.sh $(TOOLS)/silverback $(BIN)/python
	@echo "· installing Silverback, for the benchmark"
	@$(TOOLS)/silverback/bin/pip --disable-pip-version-check --no-input install --quiet --require-hashes \
	    -r tests/bench/silverback.lock
	@mkdir -p $(@D) && touch $@

$(PUBLISHED): deploy/tools/install-contracts.sh deploy/tools/npm.sh deploy/tools/contracts/package-lock.json | $(VENV_MADE)
	@deploy/tools/install-contracts.sh $(TOOLS) $(BIN)/pip
	@mkdir -p $(@D) && touch $@
