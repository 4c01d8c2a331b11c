# The project's chores. Each creates .venv and installs what it needs; a second run installs nothing.

PYTHON ?= python3
install = .venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt
# the real data sets for tests and benchmarks, where this folder exists and nothing else is set
export DIFFUSCOPE_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: demo test coverage lint mutants bench docs clean

demo: .venv/core  # train a small model on scikit-learn's digits and audit it
	.venv/bin/diffuscope audit --out out/demo

test: .venv/dev  # the whole test suite; shapes and types are checked in the first calls of every test
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --durations=10  # the processes that tests start need not compile the library anew

coverage: .venv/dev  # the lines and branches that the tests execute, as a table of what they miss
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered $(COVERAGE)

lint: .venv/dev  # style, types, and the direction of imports
	.venv/bin/ruff check --no-cache
	.venv/bin/ruff format --no-cache --check
	.venv/bin/pyright
	.venv/bin/lint-imports

mutants: .venv/dev  # single edits of the changed files that the tests miss; MUTANTS="--all --number 100" for more
	.venv/bin/python tools/mutants.py $(MUTANTS)

bench: .venv/bench  # side by side with peers, into out/benchmarks; "python tools/bench.py compare OLD NEW" finds changes
	.venv/bin/python tools/bench.py run $(BENCH)

docs: .venv/docs  # the pages and the gallery, into docs/_build/html
	.venv/bin/python -m sphinx -q -W --keep-going -j 2 docs docs/_build/html

clean:  # what the chores wrote, but not .venv
	rm -rf out/demo dist docs/_build docs/api docs/gallery docs/sg_execution_times.rst
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The environment, one file in .venv for each set of packages; they renew when a requirement changes.

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "diffuscope needs Python 3.11 or later, and '$(PYTHON)' is not: name one, as in 'make demo PYTHON=python3.12'"; \
	  exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/core: pyproject.toml constraints.txt | .venv/bin/python
	$(install) --editable .
	@touch $@

.venv/dev: .venv/core
	$(install) --quiet --editable '.[dev]'
	@touch $@

.venv/docs: .venv/core
	$(install) --quiet --editable '.[docs]'
	@touch $@

.venv/bench: .venv/core  # the peers; those of the second line alone, as what they need beyond ours is not used
	$(install) --quiet --editable '.[diffusers]'
	$(install) --quiet --no-deps smalldiffusion azula einops k-diffusion
	$(install) --quiet py-pde fplanck
	@touch $@
