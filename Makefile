# The main commands are `make run` and `make test`. Each runs `make setup` first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers-installed

.DEFAULT_GOAL := help
.PHONY: help setup run test check chaos gapless fuzz bench lock docs clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## install the locked dependencies into .venv

$(STAMP): requirements-dev.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Waybill needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "Python's venv module is incomplete; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing dependencies into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock requirements-uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## start everything and upload sample documents
	@exec $(BIN)/waybill up --samples

test: setup  ## run all tests, with a real Kafka and a real MongoDB
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: setup  ## run the linter, the type checker and the import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(PEERS): $(STAMP) requirements-bench.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-bench.lock
	@touch $@

chaos: setup  ## break pods, Kafka and MongoDB on purpose: make chaos [SEED=…] [FILES=2000]
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) --files $(or $(FILES),2000)

gapless: setup  ## check 500 subscribers for gaps while pods and connections fail: make gapless [SEED=…]
	$(BIN)/python -m tests.journeys.gapless $(if $(SEED),--seed $(SEED))

fuzz: setup  ## send raw requests to all services, checked with h11: make fuzz [SEED=…] [REQUESTS=100000]
	$(BIN)/python -m tests.fuzz --requests $(or $(REQUESTS),100000) $(if $(SEED),--seed $(SEED))

bench: setup $(PEERS)  ## run the benchmarks, about fifteen minutes; see benchmarks/README.md
	$(BIN)/python -m benchmarks.upload
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.rolling
	$(BIN)/python -m benchmarks.push
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.status
	$(BIN)/python -m benchmarks.ledger
	$(BIN)/python -m benchmarks.workers

docs: setup  ## generate parts of the documentation
	$(BIN)/python docs/generate.py

lock: setup  ## update the lock files from pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 pyproject.toml --extra local --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 --group bench -c requirements-dev.lock -o requirements-bench.lock
	echo uv | $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" - -o requirements-uv.lock

clean:  ## remove the environment and the local stack's data
	rm -rf $(VENV) .waybill build dist
