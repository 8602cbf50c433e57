# make setup   a virtual environment in .venv with everything; DEVICE=gpu adds CUDA and builds Horovod with NCCL
# make run     train the energy-based model on the bundled digits: two Horovod workers, under five minutes
# make test    every test
# make check   formatting, lint, types
# make bench   the speed table of the README
#
# A fresh machine needs Python 3.11 or newer (PYTHON=python3.12 picks another), a C++ compiler, cmake and git.

PYTHON ?= python3
DEVICE ?= cpu
# Processes that run tests: most tests of several processes wait more than they compute.
TESTERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
STAMP := $(VENV)/.set-up-for-$(DEVICE)
EXTRA_cpu :=
EXTRA_gpu := [gpu]
BUILD_FLAGS_cpu :=
BUILD_FLAGS_gpu := --gpu

.PHONY: setup run test check bench
.DELETE_ON_ERROR:

setup: $(STAMP)

# TensorFlow before Horovod, which is compiled against its headers; both before lehr, which needs them.
$(STAMP): pyproject.toml constraints.txt cluster/horovod/build.py $(wildcard cluster/horovod/patches/*.patch)
	@$(if $(filter $(DEVICE),cpu gpu),,$(error DEVICE=$(DEVICE): accepted are cpu and gpu))
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	    f"{sys.executable} is Python {sys.version.split()[0]}: 3.11 or newer is needed\n  do: make setup PYTHON=python3.11")'
	@rm -f $(VENV)/.set-up-for-*
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip setuptools wheel
	$(PIP) 'tensorflow$(if $(filter gpu,$(DEVICE)),[and-cuda])'
	$(BIN)/python cluster/horovod/build.py $(BUILD_FLAGS_$(DEVICE))
	$(PIP) --no-build-isolation --group dev --editable '.$(EXTRA_$(DEVICE))'
	@touch $@

run: setup
	$(BIN)/lehr run jobs/ebm-digits.yaml

test: setup
	$(BIN)/python -m pytest tests --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

bench: setup
	$(BIN)/python tests/benchmarks/ebm_step.py
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/workers.py
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/checkpoints.py
	$(BIN)/python tests/benchmarks/storage.py
	$(BIN)/python tests/benchmarks/pixelcnn.py
	$(BIN)/python tests/benchmarks/pixelcnn_mixture.py
	$(BIN)/python tests/benchmarks/text.py
	$(BIN)/python tests/benchmarks/rbm.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/many_runs.py
	$(BIN)/python tests/benchmarks/sweep.py
	$(BIN)/python tests/benchmarks/submit.py
	PYTHONPATH=cluster/hosts $(BIN)/python tests/benchmarks/hosts.py
	PYTHONPATH=tests:cluster/hosts $(BIN)/python tests/benchmarks/host_death.py
