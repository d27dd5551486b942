# What a person needs: `make demo` and `make test` set up everything they want by themselves.
#
#   make setup        Debian packages (as root), .venv with the command .venv/bin/mlvpn, the C kernels where they can be built
#   make demo         two unequal links alone, bonded, and one of them cut in mid-transfer (root)
#   make test         all tests; without root those that need it are skipped, and say so
#   make check        formatting, lint, types, import rules, generated pages
#   make docs         write the generated pages anew
#   make clean        remove what these commands made, .venv included

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests $(wildcard bench tools)

.PHONY: setup demo test check docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

# --- set-up: each step leaves a stamp in .venv and is not done again until what it depends on has changed

setup: $(VENV)/.installed $(VENV)/.kernels

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
$(VENV)/.kernels: $(VENV)/.installed $(wildcard src/mlvpn/burst/*.c src/mlvpn/burst/*.h) src/mlvpn/burst/build.py
	@echo "setup: C kernels"
	@if $(BIN)/python -m mlvpn.burst.build; then touch $@; fi

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

docs: setup
	$(BIN)/python -m mlvpn.config.document > docs/configuration.md
	$(BIN)/python tools/pages.py

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info src/mlvpn/burst/_kernels.*.so
	find src tests bench tools -name __pycache__ -prune -exec rm -rf {} +
