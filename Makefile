# `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test check fix lock bench-data bench-build bench-jobs soak clean

PYTHON ?= python3
ARGS ?=
EDITABLES := -e . -e plugins/jobs -e plugins/scaffold -e plugins/otel

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/.done: requirements-uv.txt requirements-dev.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	@rm -rf .venv
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo 'no venv: apt-get install python3 python3-venv make git' >&2; exit 1; }
	@.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@VIRTUAL_ENV=.venv .venv/bin/uv pip install -q --require-hashes -r requirements-dev.txt
	@VIRTUAL_ENV=.venv .venv/bin/uv pip install -q --no-deps --no-build-isolation $(EDITABLES)
	@touch $@

demo: .venv/.done  ## build the example, migrate, create, roll back, run the worker
	@cd examples/shop && PATH="$(CURDIR)/.venv/bin:$$PATH" ../../.venv/bin/python demo.py

test: .venv/.done  ## everything that must hold: tests, types, lint, arrows
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

soak: .venv/.done  ## half an hour of killed workers and crashed servers under load
	@PATH="$(CURDIR)/.venv/bin:$$PATH" FORGE_SOAK=$${FORGE_SOAK:-1800} .venv/bin/python -m pytest -s tests/faults

check: .venv/.done  ## lint, format and types of the sources alone
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports
	@.venv/bin/mypy forgecore plugins/jobs/forgecore_jobs plugins/scaffold/forgecore_scaffold plugins/otel/forgecore_otel
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/pyright

fix: .venv/.done  ## format and repair what ruff can
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

lock: .venv/.done  ## resolve the pins anew
	@.venv/bin/uv lock -q --upgrade
	@.venv/bin/uv export -q --all-packages --no-emit-workspace --no-header --no-annotate -o requirements-dev.txt

bench-data: .venv/.done  ## create and get against raw psycopg, SQLAlchemy, SQLModel and Django
	@VIRTUAL_ENV=.venv .venv/bin/uv pip install -q -r benchmarks/requirements.txt
	@.venv/bin/python benchmarks/data.py

bench-jobs: .venv/.done  ## drain, latency, enqueue and held snapshots against the peers, one Postgres
	@PYTHON="$(PYTHON)" .venv/bin/python benchmarks/jobs.py

bench-build: .venv/.done  ## cold, again and after one change, against three generators, 10 to 1,000 resources
	@.venv/bin/python benchmarks/build.py

clean:  ## remove the virtual environment and caches
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
