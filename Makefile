# Starts from python3 >= 3.11, make and git. Everything is installed into .venv and nowhere else.
# Which index packages come from is the user's own configuration of pip and uv; none is named here.

UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 env` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; \
	done)

# Tests on purpose left out of `make test`: they need a browser, a GPU, a hub or patience.
QUICK := not browser and not slow and not gpu and not hub
ARGS ?=

# uv reads its own configuration. Where a person has told only pip of a mirror or a certificate,
# uv is told the same.
export SSL_CERT_FILE ?= $(PIP_CERT)
ifeq ($(SSL_CERT_FILE),)
unexport SSL_CERT_FILE
endif
UV_CONFIGURED := $(UV_DEFAULT_INDEX)$(UV_INDEX_URL)$(UV_INDEX)$(UV_CONFIG_FILE)$(wildcard $(HOME)/.config/uv/uv.toml /etc/uv/uv.toml)
PIP_MIRROR = $(if $(UV_CONFIGURED),,$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)})
RUN_UV = @mirror="$(PIP_MIRROR)"; $${mirror:+env UV_DEFAULT_INDEX="$$mirror"} $(UV) pip
INSTALL = install --python $(BIN)/python

# TORCH=cpu (or cu130, auto, ...) is uv's --torch-backend: torch and torchvision then come, both, from
# PyTorch's own index for that backend. The choice is remembered in $(VENV). The CUDA libraries in the
# lock belong to the default build.
TORCH ?= $(or $(UV_TORCH_BACKEND),$(shell cat $(VENV)/torch-backend 2>/dev/null))
ifeq ($(strip $(TORCH)),)
LOCKED := requirements.lock
BACKEND :=
READY := $(VENV)/.ready
else
LOCKED := $(VENV)/requirements.$(TORCH).lock
BACKEND := --torch-backend $(TORCH) --reinstall-package torch --reinstall-package torchvision
READY := $(VENV)/.ready-$(TORCH)
endif

.DEFAULT_GOAL := help
.PHONY: help env lab app test test-browser test-parquet bench docs lint format lock training-env clean

help:
	@echo 'make lab           open JupyterLab on the first tutorial, with the app in it'
	@echo 'make app           serve the app on its own page'
	@echo 'make test          run the tests (no browser, GPU, hub or network needed)'
	@echo 'make test-browser  run the tests that drive headless Chromium'
	@echo 'make test-parquet  add the reader of parquet files (large), and run its tests'
	@echo 'make bench         measure merging, evaluation, opening and memory'
	@echo 'make docs          build the documentation in docs/_build/html'
	@echo 'make lint          ruff (format and rules) and mypy'
	@echo 'make env           only set up $(VENV); with TORCH=cpu, torch without CUDA'
	@echo 'make lock          resolve requirements.lock anew'
	@echo 'make training-env  add what the scripts in training/ need'
	@echo 'ARGS="..." is passed on:  make lab ARGS="--no-browser --port 9000"'

env: $(READY)
	@echo 'Ready. Next: make lab'

$(UV): Makefile
	@test -n "$(PYTHON)" || { echo 'No python3 of version 3.11 or newer was found. Install one (for example "apt install python3 python3-venv", or from your distribution), or name it: make PYTHON=/path/to/python3.12 env' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments with pip in them. On Debian and Ubuntu: "apt install python3-venv"; elsewhere install the ensurepip and venv modules of this Python, then run make again.' >&2; exit 1; }
	@echo 'Making $(VENV) with $(PYTHON) ...'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)'
	@touch $@

$(VENV)/requirements.$(TORCH).lock: requirements.lock $(UV)
	grep -vE '^(nvidia-|cuda-|triton)' requirements.lock > $@

$(READY): requirements.lock pyproject.toml $(UV) $(filter-out requirements.lock,$(LOCKED))
	@echo 'Installing the locked versions into $(VENV) (the first time a few minutes) ...'
	$(RUN_UV) $(INSTALL) --compile-bytecode $(BACKEND) --requirement $(LOCKED)
	$(RUN_UV) $(INSTALL) --quiet --no-deps --editable .
	@echo '$(TORCH)' > $(VENV)/torch-backend
	@touch $@

lab: $(READY)
	$(BIN)/explorer lab $(ARGS)

app: $(READY)
	$(BIN)/explorer app $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -m '$(QUICK)' --nbmake --nbmake-timeout=300 tests notebooks $(ARGS)

test-browser: $(READY)
	$(BIN)/python -m pytest -m browser --timeout 600 tests/browser $(ARGS)

test-parquet: $(READY)
	$(RUN_UV) $(INSTALL) --constraint requirements.lock --extra parquet --requirement pyproject.toml
	$(BIN)/python -m pytest tests/test_parquet.py $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html $(ARGS)
	@echo 'Built: docs/_build/html/index.html'

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# --upgrade: a lock is made anew on purpose or not at all.
lock: $(UV)
	$(RUN_UV) compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--group test --group bench --group docs pyproject.toml --output-file requirements.lock

training-env: $(READY)
	$(RUN_UV) $(INSTALL) --constraint requirements.lock --group training

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
	find explorer tests benchmarks training -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
