# What a person needs: `make demo` and `make test` set up everything they want by themselves.
#
#   make setup        Debian packages (as root), .venv with the command .venv/bin/mlvpn, C kernels and compiled modules where they can be built
#   make demo         two unequal links alone, bonded, and one of them cut in mid-transfer (root)
#   make test         all tests; without root those that need it are skipped, and say so
#   make check        formatting, lint, types, import rules, generated pages
#   make bench-bond   links bonded against the sum of them, row by row (root, an hour); ARGS="--rows 1,4 --quick" for less
#   make bench-failover  each link cut in turn, loaded and idle (root); ARGS="--stability 600" or "--fairness" instead
#   make bench-speed  how fast, beside the tunnels that Debian has (root)
#   make bench-interop  the protocol of MLVPN 2.x, beside and against its C daemon (root); MLVPN_C=/path/to/mlvpn
#   make profile      where the time goes (root)
#   make docs         write the generated pages anew
#   make clean        remove what these commands made, .venv included

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests $(wildcard bench tools)

.PHONY: help setup compiled demo test check bench-bond bench-failover bench-speed bench-interop profile docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

# --- set-up: each step leaves a stamp in .venv and is not done again until what it depends on has changed

setup: $(VENV)/.installed $(VENV)/.kernels compiled

$(VENV)/.packages: tools/packages.sh
	@bash tools/packages.sh $(PYTHON)
	@mkdir -p $(VENV) && touch $@

$(VENV)/.installed: $(VENV)/.packages pyproject.toml setup.py
	@echo "setup: virtual environment in $(VENV), with everything pyproject.toml asks for"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: Python 3.11 or newer is needed; name one: make PYTHON=python3.11 setup")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@

# Without a compiler this step says so and is tried again next time; the Python kernels run meanwhile.
$(VENV)/.kernels: $(VENV)/.installed $(foreach part,burst system,$(wildcard src/mlvpn/$(part)/*.[ch] src/mlvpn/$(part)/*build.py))
	@echo "setup: C kernels"
	@built=yes; for part in burst.build burst.secretbox_build system.receive_build; do \
	    $(BIN)/python -m mlvpn.$$part || built=no; done; test $$built = no || touch $@

# Looks by itself whether there is something to do.
compiled: $(VENV)/.installed
	@$(BIN)/python -m mlvpn.compiled.build || true

# --- what setup is for

demo: setup
	@$(BIN)/mlvpn demo

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_imports.py tests/unit/test_repository.py
	$(BIN)/python -m mlvpn.config.document --check
	$(BIN)/python tools/pages.py --check

bench-bond: setup
	@$(BIN)/python -m bench.bond $(ARGS)

bench-failover: setup
	@$(BIN)/python -m bench.failover $(ARGS)

bench-speed: setup
	@$(BIN)/python -m bench.speed $(ARGS)

bench-interop: setup
	@$(BIN)/python -m bench.interop $(ARGS)

profile: setup
	@$(BIN)/python -m bench.profile $(ARGS)

docs: setup
	$(BIN)/python -m mlvpn.config.document > docs/configuration.md
	$(BIN)/python tools/pages.py

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info src/mlvpn/*/_*.so src/mlvpn/compiled/lib src/mlvpn/compiled/.build-*
	find src tests bench tools -name __pycache__ -prune -exec rm -rf {} +
