# Two commands do everything on a fresh machine with Python 3.11+, pip, git and make: `make run` and `make test`.
#
# TORCH picks the build of PyTorch: `cpu` (default), or a CUDA one such as `make run TORCH=cu130`; see pytorch.org for the names.
# PYTHON picks the interpreter that makes the virtual environment.
PYTHON ?= python3
TORCH ?= cpu
VENV ?= .venv

TORCH_VERSION := 2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# PyTorch's builds for macOS carry no label.
TORCH_PACKAGE := torch==$(TORCH_VERSION)$(if $(filter Darwin,$(shell uname -s)),,+$(TORCH))

.PHONY: run test check show clean-venv

run: $(VENV)/.installed-$(TORCH)
	$(BIN)/nasflow run

test: $(VENV)/.installed-test-$(TORCH)
	$(BIN)/python -m pytest

check: $(VENV)/.installed-test-$(TORCH)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_house_rules.py

show: $(VENV)/.installed-$(TORCH)
	$(BIN)/nasflow show

$(VENV)/.torch-$(TORCH):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nasflow needs Python 3.11 or newer, and $(PYTHON) is older: make run PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --retries 1 --no-deps "$(TORCH_PACKAGE)" --extra-index-url https://download.pytorch.org/whl/$(TORCH)
	rm -f $(VENV)/.torch-* $(VENV)/.installed-*
	touch $@

$(VENV)/.installed-$(TORCH): $(VENV)/.torch-$(TORCH) pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test-$(TORCH): $(VENV)/.installed-$(TORCH)
	$(PIP) install --quiet -c constraints.txt -e ".[test]"
	touch $@

clean-venv:
	rm -rf $(VENV)
