# `make demo` and `make test` install all they need; both are instant where nothing changed. GNU make 3.81 or later.

VENV ?= .venv
VENV_LABEL_STUDIO ?= .venv-label-studio
EXTRAS ?= dev
LABEL_STUDIO = 1.23.2

# The first Python that every pinned package has a wheel for; else python3, which is then judged by its version.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && exit; \
	done; echo python3)

# TORCH=cpu takes the pair of torch and torchvision without CUDA: less to download, for Linux without a GPU.
TORCH ?= pypi
TORCH_INDEX_cpu = https://download.pytorch.org/whl/cpu
TORCH_INDEX = $(TORCH_INDEX_$(TORCH))

# Tests run in so many processes. A file stays in one, and the slow suites come first: none of them is left at the end.
WORKERS ?= 2
PYTEST = $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
ALL_TESTS = tests/e2e tests/integration tests/contract tests/unit $(wildcard tests/test_*.py)

.DEFAULT_GOAL := help
.PHONY: help install .venv-label-studio demo test thorough lint format unit e2e bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9.-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Install hardfirst into .venv (PYTHON=python3.12, TORCH=cpu)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' 2>/dev/null || { \
		echo "hardfirst needs Python 3.11 or later, and $(PYTHON) is `$(PYTHON) -V 2>&1 | head -n 1`:" \
			"install one, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/python -m pip install --index-url $(TORCH_INDEX) -c constraints.txt torch torchvision)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

.venv-label-studio: $(VENV_LABEL_STUDIO)/.installed ## Install Label Studio into an environment of its own

$(VENV_LABEL_STUDIO)/.installed: constraints-label-studio.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' 2>/dev/null || { \
		echo "Label Studio needs Python 3.11 or later here, and $(PYTHON) is `$(PYTHON) -V 2>&1 | head -n 1`:" \
			"install one, or name it: make .venv-label-studio PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV_LABEL_STUDIO)
	$(VENV_LABEL_STUDIO)/bin/python -m pip install -c constraints-label-studio.txt label-studio==$(LABEL_STUDIO)
	@touch $@

demo: install .venv-label-studio ## Label Studio and hardfirst, running (IMAGES=folder MODEL=weights ORACLE=labels)
	@$(VENV)/bin/python -m ls_backend.demo $(if $(IMAGES),--images "$(IMAGES)") $(if $(MODEL),--model "$(MODEL)") \
		$(if $(ORACLE),--oracle "$(ORACLE)")

test: lint .venv-label-studio ## Everything CI runs: ruff, mypy, import-linter, all tests (WORKERS=4)
	$(PYTEST) $(ALL_TESTS)

thorough: install .venv-label-studio ## The tests with every crash and every kill they know, not a choice of them
	HARDFIRST_TEST_THOROUGH=1 $(PYTEST) $(ALL_TESTS)

lint: install ## ruff, mypy, import-linter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: install ## Put the code in shape
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

unit: install ## Only the fast tests
	$(PYTEST) tests/unit tests/contract

e2e: install .venv-label-studio ## Only the tests with a real Label Studio and a real browser
	$(PYTEST) -m e2e

bench: install .venv-label-studio ## Measure, and print ratios
	$(VENV)/bin/python -m bench

clean: ## Remove caches and build products; environments and data stay
	rm -rf build dist bench/out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './$(VENV_LABEL_STUDIO)/*' -prune \
		-exec rm -rf {} +
