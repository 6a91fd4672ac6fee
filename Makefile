# Towpath. `make` says what there is to do; the first target sets up what it needs by itself.

PYTHON ?= python3
# More than cores: many tests wait for programs that they started.
WORKERS ?= 4
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv trusts what the machine trusts, as pip and git do.
export UV_SYSTEM_CERTS ?= 1
# Without a home that can be written, what is downloaded is kept here.
ifeq ($(shell test -n "$$HOME" && mkdir -p "$$HOME/.cache" 2>/dev/null && echo yes),)
export UV_CACHE_DIR := $(CURDIR)/.venv/cache
export PIP_CACHE_DIR := $(CURDIR)/.venv/cache
endif

BIN := .venv/bin
EXTRAS := worker,server,postgres,demo,dev
SOURCES := client worker server tests bench examples
SCRIPTS := protos/generate.py protos/breaking.py docs/draw_lifecycle.py docs/draw_demo.py docs/draw_soak.py

.DEFAULT_GOAL := help
.PHONY: help run test check lint types rooms protos generated fmt stubs picture constraints bench bench-quick soak clean

help: ## Say what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/ready ## Start a scheduler and a worker, and train on 336,776 flights
	@$(BIN)/towpath demo

test: .venv/ready .venv-stubs/ready ## Run all tests
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

check: lint types rooms protos generated ## Check style, types, rooms, protos and generated files

lint: .venv/ready ## Check style only (ruff)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/ready ## Check types only (mypy --strict, tests too)
	$(BIN)/mypy --strict $(SOURCES) $(SCRIPTS)

rooms: .venv/ready ## Check who imports whom only (import-linter)
	$(BIN)/lint-imports --no-logo

protos: .venv/ready ## Check the protos only: style, layout, and that they only grew (buf)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path protos/towpath
	$(BIN)/python protos/breaking.py

generated: .venv/ready .venv-stubs/ready ## Check only that what is generated is up to date
	.venv-stubs/bin/python protos/generate.py --check
	$(BIN)/python client/generate_sync.py --check
	$(BIN)/python docs/draw_lifecycle.py --check

fmt: .venv/ready ## Lay out code and protos, and repair what can be repaired
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format
	$(BIN)/buf format --write --path protos/towpath

stubs: .venv/ready .venv-stubs/ready ## Generate the stubs, the sync client and the diagram anew
	.venv-stubs/bin/python protos/generate.py
	$(BIN)/python client/generate_sync.py
	$(BIN)/python docs/draw_lifecycle.py

picture: .venv/ready ## Draw docs/demo.svg from a real run
	@$(BIN)/python docs/draw_demo.py

bench: .venv/ready ## Measure Towpath beside its peers and its ceiling: most of an hour
	@$(BIN)/python -m bench $(ARGS)

bench-quick: .venv/ready ## The same with the essentials only, in 3 minutes
	@$(BIN)/python -m bench --quick $(ARGS)

soak: .venv/ready ## Run the long tests: hours, not minutes
	@$(BIN)/pytest tests/soak --timeout 0 -s $(ARGS)

constraints: .venv/ready ## Choose the newest versions of everything that is used
	UV_CUSTOM_COMPILE_COMMAND="make constraints" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--no-annotate --no-emit-index-url --no-emit-find-links --all-extras pyproject.toml --output-file constraints.txt
	UV_CUSTOM_COMPILE_COMMAND="make constraints" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--no-annotate --no-emit-index-url --no-emit-find-links --group stubs --output-file constraints-stubs.txt

clean: ## Remove everything that is not in git's keeping
	rm -rf .venv .venv-stubs .bench dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) docs protos -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The environments. uv sets them up in seconds; where it cannot be had, pip does the same in minutes.

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Towpath needs Python 3.11 or newer, with venv. On Debian: apt-get install python3-venv."; \
		echo "Another one than python3: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt uv || true
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt \
		--editable '.[$(EXTRAS)]' || { echo "uv cannot: pip goes on, and takes longer"; \
		$(BIN)/python -m pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[$(EXTRAS)]'; }
	@touch $@

.venv-stubs/ready: constraints-stubs.txt .venv/ready
	@echo "Setting up .venv-stubs (once)"
	@$(PYTHON) -m venv .venv-stubs
	@$(BIN)/uv pip install --quiet --python .venv-stubs/bin/python --requirement constraints-stubs.txt || \
		.venv-stubs/bin/python -m pip install --quiet --requirement constraints-stubs.txt
	@touch $@
