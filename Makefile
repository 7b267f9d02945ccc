# The two commands: `make studio` and `make test`. Each can be interrupted and repeated; what is done is not done again.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: studio test check lint slow gpu faults faults-long mutations clean setup

studio: setup ## make the environment, fetch the starter model, start the studio
	@echo "==> Starting the studio"
	@exec $(BIN)/atelier up

test: setup ## the same environment, then all tests
	@echo "==> Running the tests, two at a time"
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not alone and (sample or not faults)"
	@echo "==> Running the tests that measure times, alone"
	@$(BIN)/python -m pytest -m "alone and not slow and not gpu and not faults"

setup: $(READY)
	@$(BIN)/python -m engine.models.starter

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Atelier needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "==> Making the environment in .venv"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "==> Installing the pinned packages (several GB the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@sed -n 's/^#no-deps //p' requirements.txt | xargs $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

lint: setup ## format, style and types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

check: lint test ## everything that has to hold before a change is kept

slow: setup ## the tests that train for minutes
	@$(BIN)/python -m pytest -m "slow and not faults"

faults: setup ## the whole table of faults: kills, full disks, cut power, clocks that jump (under 20 minutes)
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile tests/faults -m "not slow"

MINUTES ?= 60

faults-long: setup ## 40 kills of a real run, and a soak of an hour (MINUTES=60) under random faults
	@echo "==> 40 runs of a small real model, each killed once: the same bytes at the end"
	@$(BIN)/python -m tests.faults.kills --kills 40
	@echo "==> A soak of $(MINUTES) minutes"
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

mutations: setup ## take each guard away and see a test fail for it
	@$(BIN)/python -m tests.faults.mutations

gpu: setup ## the checks that need a CUDA device
	@$(BIN)/python -m pytest -m gpu tests/gpu

clean: ## remove the environment; the studio's home is not touched
	@rm -rf .venv
