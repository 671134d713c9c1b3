# Every habit is one command. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-packaging test-interop check lint types seeds fmt docs bench lock clean
SHELL := bash
BIN := .venv/bin
STAMP := .venv/.set-up
PYTEST_ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv from the locks (once; again when they change)

$(STAMP): requirements.lock requirements-dev.lock pyproject.toml tools/setup
	@tools/setup
	@touch $@

demo: $(STAMP) ## four organisations on this machine, narrated (KEEP=1 leaves them running)
	@$(BIN)/mesh demo $(if $(KEEP),--keep)

test: $(STAMP) ## the tests (PYTEST_ARGS="-k name" for some)
	@$(BIN)/python -m pytest $(PYTEST_ARGS) \
	  && echo "ok tests passed. Next: make demo" \
	  || { echo "not ok: tests failed (above). One again: $(BIN)/pytest FILE::NAME" >&2; exit 1; }

test-packaging: $(STAMP) ## wheel and sdist, installed by the lock into empty environments (minutes)
	@$(BIN)/python -m pytest -m slow tests/test_packaging.py

test-interop: $(STAMP) ## libp2p programs in JavaScript and Go, and the light client, at a real node (needs node, npm and go; minutes)
	@tests/interop/install
	@MESH_INTEROP=1 $(BIN)/python -m pytest tests/interop $(PYTEST_ARGS)

check: $(STAMP) lint types test seeds ## format, lint, types, floors, tests, twenty seeds
	@echo "ok everything checked. Next: git commit"

lint: $(STAMP) ## format and lint, changing nothing
	@$(BIN)/ruff format --check --quiet . || { echo "not ok: run make fmt" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@echo "ok format and lint"

types: $(STAMP) ## mypy --strict
	@$(BIN)/python tools/view.py
	@$(BIN)/mypy -p meshos
	@$(BIN)/mypy tools/view.py tools/reference.py

seeds: $(STAMP) ## twenty seeds of the simulator
	@$(BIN)/mesh sim run --seeds 1..20

fmt: $(STAMP) ## format, and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

docs: $(STAMP) ## write the pages anew that are made from the source or show what commands print (minutes; look at the diff)
	@$(BIN)/python -m tools.reference
	@MESH_WRITE_PAGES=1 $(BIN)/python -m pytest -q tests/test_console.py

bench: $(STAMP) ## list the benchmarks; `mesh bench NAME` runs one
	@$(BIN)/mesh bench

lock: $(STAMP) ## resolve the two locks anew (needs the network; KEEP=1 keeps versions)
	@$(BIN)/python tools/lock.py $(if $(KEEP),--keep)

clean: ## remove everything generated, the environment included (a testnet's folder stays)
	rm -rf .venv build dist sim .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
