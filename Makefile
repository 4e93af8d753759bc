# The verbs of a newcomer: demo, test, bench, clean.
PYTHON ?= python3
ARGS ?=
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export RMW_IMPLEMENTATION ?= rmw_fastrtps_cpp

.PHONY: setup demo docs test bench clean lint results proof faults soak mutation

setup:
	@$(PYTHON) scripts/setup_env.py

# CONSOLE=1 offers the operator console on port 8080, any other number on that port.
demo: setup
	@.venv/bin/salus demo $(if $(CONSOLE),--console $(filter-out 1,$(CONSOLE))) $(ARGS)

# Tests that start nodes as processes keep time, so they run one at a time and with nothing beside them. A test
# that fails is tried once more and listed as RERUN: on a shared machine a busy moment looks like a late node,
# and a software renderer's context sometimes fails to close.
test: setup
	@.venv/bin/python -m pytest -n 2 --dist loadgroup -m "not graph" --reruns 1 -rR $(ARGS)
	@.venv/bin/python -m pytest -m graph --reruns 1 -rR $(ARGS) || [ $$? = 5 ]

# Latency, throughput and size, each beside a reference of the same run; ARGS names parts.
bench: setup
	@.venv/bin/salus bench $(ARGS)

# Remakes every figure of the docs from the seeds on: hours. `make results ARGS=--list` says what is missing.
results: setup
	@.venv/bin/python scripts/results.py $(ARGS)

# The gate's guarantees on thousands of examples each, and every table of the docs: a quarter of an hour.
proof: setup
	@HYPOTHESIS_PROFILE=thorough .venv/bin/python -m pytest -n 2 --dist loadgroup --timeout 14400 test/intervention $(ARGS)
	@.venv/bin/python scripts/safety_docs.py --check

# Every fault of docs/safety.md, 20 times each on live nodes; nothing else should run. ARGS="-k policy" runs some.
faults: setup
	@SALUS_FAULT_REPEATS=20 SALUS_FAULT_RESULTS=docs/faults.json .venv/bin/python -m pytest test/faults $(ARGS)
	@.venv/bin/python scripts/safety_docs.py

# The gate for an hour at full rate; ARGS="--duration 60" for less.
soak: setup
	@.venv/bin/python test/faults/soak.py --output docs/soak.json $(ARGS)
	@.venv/bin/python scripts/safety_docs.py

# How many small changes to the gate's code its tests notice, in the files changed since; ARGS names others.
mutation: setup
	@.venv/bin/python test/mutation/run.py $(ARGS)

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

# Sphinx is heavy and nobody else needs it, so it has an environment of its own.
docs: setup
	@test -x build/docs-venv/bin/sphinx-build || { $(PYTHON) -m venv build/docs-venv && build/docs-venv/bin/pip install --quiet -r docs/requirements.txt; }
	@PYTHONPATH=$(CURDIR):$$(echo $(CURDIR)/build/docs-venv/lib/python3*/site-packages) .venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

clean:
	rm -rf .venv build install log runs *.egg-info
