# The verbs of a newcomer: demo, test, bench, clean.
PYTHON ?= python3
ARGS ?=
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export RMW_IMPLEMENTATION ?= rmw_fastrtps_cpp

.PHONY: setup demo docs test bench clean lint results

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

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

# Sphinx is heavy and nobody else needs it, so it has an environment of its own.
docs: setup
	@test -x build/docs-venv/bin/sphinx-build || { $(PYTHON) -m venv build/docs-venv && build/docs-venv/bin/pip install --quiet -r docs/requirements.txt; }
	@PYTHONPATH=$(CURDIR):$(wildcard $(CURDIR)/build/docs-venv/lib/python3*/site-packages) .venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

clean:
	rm -rf .venv build install log runs *.egg-info
