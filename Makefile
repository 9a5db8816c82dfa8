# Two commands on a fresh machine: `make lab` (the first notebook) and `make test` (everything).
# Needs python3 (3.11 or newer), a C compiler and make; no root. All goes into .venv and the user's cache.

PYTHON ?= python3
VENV ?= .venv
# More arguments for JupyterLab, another notebook among them: make lab LAB_ARGS="--no-browser --port 8899".
LAB_ARGS ?=
TEST_ARGS ?=
# Shared by the targets of `make fuzz`: two of the engine, one of the session.
FUZZ_SECONDS ?= 300
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# By file, in the order of collection: by the number of tests, as xdist would, the long files that have few come last.
BY_FILE := --dist loadfile --no-loadscope-reorder
BESIDE := -n 2 $(BY_FILE)
# A test with a machine or a browser waits for its guest, its kernel or the next frame a third of its time and more.
WAITING := -n 3 $(BY_FILE)
# What drives a browser is in one directory, which takes seconds to import, in each stage and worker anew.
ELSEWHERE := --ignore=tests/browser
# Set in many container images; but then each stage compiles every test file anew, and each kernel the package.
export PYTHONDONTWRITEBYTECODE :=
BOOTSTRAP := workbench/vm/bootstrap.py
STAMP := $(VENV)/setup.stamp
BUILT_FROM := pyproject.toml $(BOOTSTRAP) workbench/vm/debs.py workbench/engine/build.py \
	$(wildcard workbench/engine/*.c workbench/engine/*.h workbench/preload/*.c workbench/preload/*.h)

.PHONY: setup faults lab test fuzz demo bench lint clean

setup: $(STAMP)

$(STAMP): $(BUILT_FROM)
	$(PYTHON) $(BOOTSTRAP) $(VENV)
	@touch $@

lab: setup
	$(BIN)/workbench lab $(LAB_ARGS)

# The quick tests first: who breaks one need not wait for the machines. What measures speed comes last, alone.
# What failed is run once more, with nothing beside it: a machine that was busy is no defect, and both runs are shown.
define run
	$(PYTEST) $(2) $(3) -m "$(1)" $(TEST_ARGS) || \
	{ echo "== once more, alone: what failed =="; $(PYTEST) $(3) -m "$(1)" --last-failed --last-failed-no-failures=none $(TEST_ARGS); }
endef

test: setup
	$(call run,not slow and not vm and not alone,$(BESIDE),$(ELSEWHERE))
	-$(BIN)/python tests/native/clang.py
	-$(BIN)/python tests/programs.py
	-$(BIN)/workbench fetch
	$(call run,(slow or vm) and not alone,$(WAITING),$(ELSEWHERE))
	-$(BIN)/python tests/browser/chromium.py
	$(call run,not alone,$(WAITING),tests/browser)
	$(call run,alone)

fuzz: setup
	$(BIN)/python tests/native/fuzz.py $(FUZZ_SECONDS)

# What goes wrong around a device: make faults SEED=7 POINTS=20000 for other places than the usual ones, and more.
faults: setup
	SEED=$(or $(SEED),20261123) POINTS=$(or $(POINTS),1000) $(PYTEST) -q tests/faults

demo: setup
	$(BIN)/workbench demo

# Speed beside a libvfio-user that you built: make bench PEER=directory [ROWS="read post*"]; see tests/bench/README.md.
export PEER ?=
ROWS ?=
PICTURE ?= build/bench.png
bench: setup
	$(BIN)/python tests/bench/run.py --picture $(PICTURE) $(ROWS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info workbench/engine/*.so workbench/preload/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
