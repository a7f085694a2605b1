# Every target does its own set-up, on a machine with Python 3.11 or newer and make.
# What is installed, and in which version, stands in requirements/*.txt with hashes.

PYTHON ?= python3
FUZZ_SECONDS ?= 600
BIN := .venv/bin
PIP_INSTALL := install --quiet --disable-pip-version-check --require-hashes

# What is not about a database, or about SQLite's own files, or asks what other tests ask, by way of
# commands and SDKs, or what wires refuse before a database is asked, runs once.
ONCE := pki custody gateway fuzz durability hostile benchmark cli agent clients \
  test_limits.py test_pace.py test_sas.py test_ids.py test_architecture.py \
  $(addprefix wire/test_, csr_refusals.py management_api.py onboarding_refusals.py \
  provisioning_https.py provisioning_refusals.py schemathesis.py websocket.py)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-postgresql coverage up bench herd fuzz hostile crashes lint format lock clean

help:  ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

install: .venv/.installed  ## Make .venv with the program in it (.venv/bin/fleetroot)

demo: .venv/.installed .venv-sdk/.installed  ## Run the main job from nothing, each step timed
	@tools/debian-packages demo
	@$(BIN)/python -m demo

test: .venv/.installed-test .venv-sdk/.installed .node-sdk/.installed  ## Run all tests from nothing, on PostgreSQL those of the rooms and the storage
	@tools/debian-packages test
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal --database=postgresql tests/rooms tests/storage

test-postgresql: .venv/.installed-test .venv-sdk/.installed .node-sdk/.installed  ## Run on PostgreSQL whatever asks a database (15 min)
	@tools/debian-packages test
	@$(BIN)/python -m pytest -n 2 --dist worksteal --database=postgresql \
	  $(ONCE:%=--ignore=tests/%) tests

coverage: .venv/.installed-test .venv-sdk/.installed .node-sdk/.installed  ## Run all tests on SQLite, and say what they did not reach
	@$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered tests

up: .venv/.installed  ## Start a server on ./data
	@$(BIN)/fleetroot up

bench: .venv/.installed  ## Print the benchmark table (14 min; ARGS="connect room": parts of it)
	@tools/debian-packages bench
	@$(BIN)/python -m bench $(ARGS)

herd: .venv/.installed  ## Let 10,000 devices arrive at once (1 min)
	@$(BIN)/python -m bench herd

fuzz: .venv-fuzz/.installed  ## Fuzz each target for FUZZ_SECONDS (600) seconds
	@.venv-fuzz/bin/python -m fuzz --seconds $(FUZZ_SECONDS)

hostile: .venv/.installed-test  ## Serve 500 honest devices while everybody else attacks (some 20 min)
	@HOSTILE=full $(BIN)/python -m pytest tests/hostile

crashes: .venv/.installed-test  ## Kill servers and cut their power more often than the tests do (3 min)
	@tools/debian-packages test
	@CRASHES=full $(BIN)/python -m pytest tests/crashes tests/durability

lint: .venv/.installed-test  ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/.installed-test  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: .venv/.installed-test  ## Pin and hash the newest versions that the ranges allow
	@tools/lock $(PYTHON)

clean:  ## Remove the environments and caches; ./data stays
	rm -rf .venv .venv-* .node-sdk .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Fleetroot needs Python 3.11 or newer; say which with make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.created requirements/main.txt requirements/build.txt pyproject.toml
	@echo "Installing Fleetroot into .venv ..."
	@$(BIN)/pip $(PIP_INSTALL) -r requirements/build.txt -r requirements/main.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.installed-test: .venv/.installed requirements/test.txt
	@echo "Installing what tests need into .venv ..."
	@$(BIN)/pip $(PIP_INSTALL) -r requirements/test.txt
	@touch $@

# The unmodified Azure device SDK needs another paho-mqtt than we do.
.venv-sdk/.installed: requirements/sdk-python.txt
	@echo "Installing the Azure device SDK into .venv-sdk ..."
	@$(PYTHON) -m venv .venv-sdk
	@.venv-sdk/bin/pip $(PIP_INSTALL) -r requirements/sdk-python.txt
	@touch $@

# Without npm, tests with the SDKs for Node are skipped and say so.
.node-sdk/.installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	@tools/debian-packages node
	@mkdir -p .node-sdk && cp tests/clients/node/package*.json .node-sdk
	@if command -v npm >/dev/null; then \
	  echo "Installing the Azure device SDKs for Node into .node-sdk ..." && cd .node-sdk && \
	  npm ci --ignore-scripts --no-audit --no-fund --silent && touch .installed; fi

# The fuzzer has wheels for few versions of Python, and nobody else needs it.
.venv-fuzz/.installed: requirements/main.txt requirements/build.txt requirements/fuzz.txt pyproject.toml
	@echo "Installing Fleetroot and the fuzzer into .venv-fuzz ..."
	@$(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/pip $(PIP_INSTALL) -r requirements/build.txt -r requirements/main.txt -r requirements/fuzz.txt
	@.venv-fuzz/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
