# The two commands are `make run` and `make test`; each sets up what it needs first.
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

run: setup  ## start everything and put a few sample documents in
	@exec $(BIN)/waybill up --samples

test: setup  ## run every test, on a real Kafka and a real MongoDB
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: setup  ## lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(PEERS): $(STAMP) requirements-bench.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-bench.lock
	@touch $@

chaos: setup  ## break pods, broker and MongoDB on purpose: make chaos [SEED=…] [FILES=2000]
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) --files $(or $(FILES),2000)

gapless: setup  ## 500 observers, pods that die, connections that break: make gapless [SEED=…]
	$(BIN)/python -m tests.journeys.gapless $(if $(SEED),--seed $(SEED))

fuzz: setup  ## raw requests to all services, judged by h11: make fuzz [SEED=…] [REQUESTS=100000]
	$(BIN)/python -m tests.fuzz --requests $(or $(REQUESTS),100000) $(if $(SEED),--seed $(SEED))

bench: setup $(PEERS)  ## measure, in some fifteen minutes; see benchmarks/README.md
	$(BIN)/python -m benchmarks.upload
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.rolling
	$(BIN)/python -m benchmarks.push
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.status
	$(BIN)/python -m benchmarks.ledger
	$(BIN)/python -m benchmarks.workers

docs: setup  ## write the generated parts of the documentation
	$(BIN)/python docs/generate.py

lock: setup  ## bring the lock files up to date with pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 pyproject.toml --extra local --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 --group bench -c requirements-dev.lock -o requirements-bench.lock
	echo uv | $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" - -o requirements-uv.lock

clean:  ## remove the environment and the local stack's data
	rm -rf $(VENV) .waybill build dist
