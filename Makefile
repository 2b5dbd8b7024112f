# Every target works in a fresh clone: it first makes the virtual environment it needs.
# Overridable: PYTHON (makes the environment, 3.10 or newer), VENV (its folder), ARGS (goes to quickstart, readme, test, bench).
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help install quickstart readme test lint types bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Make .venv and install the package with the pinned development tools
	@echo "kakehashi is installed: activate it with . $(VENV)/bin/activate"

quickstart: $(INSTALLED) ## Train and use a small model on the embedded corpus (6 minutes on two cores)
	$(VENV)/bin/kakehashi quickstart $(ARGS)

readme: $(INSTALLED) ## Compare what the READMEs show with the models that make quickstart left in runs/quickstart
	@test -f runs/quickstart/summary.json || { echo "error: runs/quickstart is missing: run make quickstart first" >&2; exit 1; }
	$(OFFLINE) KAKEHASHI_QUICKSTART=runs/quickstart $(VENV_PYTHON) -m pytest tests/test_readme.py $(ARGS)

test: $(INSTALLED) ## Run all tests, offline
	$(OFFLINE) $(VENV_PYTHON) -m pytest $(ARGS)

lint: $(INSTALLED) ## Check style and formatting with ruff
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

# On the source folders themselves mypy would see nothing across them: it reads an installed copy.
types: $(INSTALLED) ## Check types with mypy
	rm -rf build/types build/lib build/bdist.*
	$(VENV_PYTHON) -m pip install --quiet --no-deps --no-build-isolation --target build/types .
	MYPYPATH=build/types $(VENV_PYTHON) -m mypy -p kakehashi

# Waiting threads that sleep instead of spinning let the contestants share the cores with whatever else runs.
bench: $(INSTALLED) ## Measure training and generation speed beside T5 and BART of equal size
	$(OFFLINE) OMP_WAIT_POLICY=PASSIVE $(VENV_PYTHON) benchmarks/speed.py $(ARGS)

clean: ## Remove build products and caches (keeps .venv and runs/)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find kakehashi modeling tokenization training model_cards benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_PYTHON):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>/dev/null || echo "not found"); \
	  echo "error: kakehashi needs Python 3.10 or newer, but PYTHON=$(PYTHON) is $$found:" \
	       "name a newer one, as in make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) could not make $(VENV); on Debian and Ubuntu install python3-venv" >&2; exit 1; }

$(INSTALLED): pyproject.toml constraints.txt | $(VENV_PYTHON)
	$(VENV_PYTHON) -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev,onnx,ctranslate2,space,neighbours]"
	@touch $@
