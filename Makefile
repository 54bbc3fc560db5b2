# tierwise: `make demo` does the main job, `make test` proves the project. Both do all the set-up, in .venv.
#
# PyPI's Linux build of PyTorch brings gigabytes of CUDA. To take PyTorch's own CPU build instead, give its package
# index (pytorch.org's "Get started" page shows it for "CPU"):      make demo TORCH_INDEX=https://...
# A CPU wheel that pip already finds by itself (find-links) is used as it is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
MODEL ?= anomaly-detector
OUT ?= demo
TFLITE ?=
# What the environment brings (pio, tierwise) is found by what runs in it.
export PATH := $(abspath $(BIN)):$(PATH)
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test check platformio bench docs clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## One model answering on the device, at the edge and in the cloud
	@scripts/system-packages.sh mosquitto gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
	@$(BIN)/tierwise demo --model $(MODEL) --out $(OUT)

test: $(VENV)/.installed check  ## All checks and tests, also those against real servers
	@scripts/system-packages.sh mosquitto mosquitto-clients prometheus influxdb openssl chromium gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
	@$(BIN)/python -m pytest

check: $(VENV)/.installed  ## Style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

platformio: $(VENV)/.installed  ## Prepare platformio/ (pio run, upload, monitor) without its download server
	@scripts/system-packages.sh gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
	@test -n "$(TFLITE)" || test -d models/anomaly-detector || $(BIN)/tierwise model create anomaly-detector
	@$(BIN)/python platformio/prepare.py $(or $(TFLITE),models/anomaly-detector/anomaly-detector-int8.tflite)

bench: $(VENV)/.installed  ## The benchmarks, as tables with ratio and target
	@scripts/system-packages.sh mosquitto wrk
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.simulator.run
	@$(BIN)/python -m benchmarks.simulator.lockstep

docs: $(VENV)/.installed  ## Rewrite the reference pages that are made from the code
	@$(BIN)/python -m docs.generate

clean:  ## Remove what these commands made, except for models/: yours may be among them
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo

# torch is installed first, so that its source is this one and no other package decides it.
$(VENV)/.installed: pyproject.toml
	@echo "Installing into $(VENV): a few minutes the first time, nothing later."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; choose one with PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || scripts/system-packages.sh python3-venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade pip
	@$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	@$(PIP_INSTALL) --editable '.[all,dev]'
	@touch $@
