# The four verbs of a newcomer: demo, test, bench, clean.
PYTHON ?= python3
ARGS ?=
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export RMW_IMPLEMENTATION ?= rmw_fastrtps_cpp

.PHONY: setup demo test bench clean lint

setup:
	@$(PYTHON) scripts/setup_env.py

demo: setup
	@.venv/bin/salus demo $(ARGS)

test: setup
	@.venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

bench: setup
	@.venv/bin/salus bench $(ARGS)

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

clean:
	rm -rf .venv build install log runs *.egg-info
