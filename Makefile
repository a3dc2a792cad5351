# `make help` lists the commands. Each one sets up what it needs: a virtual environment in .venv from requirements.txt.
SHELL := /bin/bash -o pipefail
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
THREADS ?= 2
# Colab's own Python where this machine has one that runs (pyenv's too), else ours; requirements-colab.txt fits all three.
COLAB_PYTHON ?= $(shell for each in python3.13 $(HOME)/.pyenv/versions/3.13.*/bin/python python3.12 $(HOME)/.pyenv/versions/3.12.*/bin/python; do \
  $$each -c 'import ensurepip, venv' 2>/dev/null && echo $$each && exit; done; echo $(PYTHON))
NEWEST_TORCH ?= $(shell grep '^torch==' requirements.txt)
BOOK := _build/html/index.html
PYTEST := $(BIN)/python -m pytest
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(PYTEST) -n $(JOBS)# one thread each: threads of several processes wait for one another
NBMAKE := $(SIDE_BY_SIDE) -p tools.kernel_replies --nbmake --nbmake-timeout=900 -p no:cacheprovider
BOOK_SOURCES := _config.yml _toc.yml references.bib $(wildcard *.md api/*.md) $(wildcard chapters/*.md chapters/figures/*) \
  $(wildcard solutions/*.md) $(shell find course_lib tools benchmarks book_assets -type f -not -path '*/__pycache__/*' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help book test check lab serve notebooks recorded lock oracle bench bench-grading race browser looks mutants lint spelling unit run-alone newest colab-lock wheels offline clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

book: .venv/ready ## execute every chapter and build the book at _build/html
	@rm -f $(BOOK)
	@$(MAKE) --no-print-directory $(BOOK)
	@echo "The book: file://$(CURDIR)/$(BOOK)  (or: make serve)"

test: .venv/ready browser lint unit $(BOOK) run-alone ## run all tests: library, tools, every notebook, the built book
	COURSE_REQUIRE_BROWSER=$${COURSE_REQUIRE_BROWSER:-0} $(PYTEST) -n $(JOBS) --dist loadfile -m book -rs tests

check: ## what CI runs: build the book strictly, then all tests
	$(MAKE) book
	$(MAKE) test

lab: .venv/ready ## open JupyterLab on the chapters
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/chapters/00_start_here.ipynb

serve: $(BOOK) ## serve the built book on http://localhost:8000
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

notebooks: .venv/ready ## regenerate chapters/, solutions/ and exercises/ *.ipynb from their .md sources
	$(BIN)/python -m tools.notebooks

recorded: .venv/ready ## remake the recorded training runs that the book draws (long; goes on where it was stopped)
	$(BIN)/python -m tools.recorded_runs

oracle: .venv-oracle/ready ## compare with TransformerLens, in an environment of its own: .venv-oracle, about 2 GB
	.venv-oracle/bin/python -m pytest -p no:cacheprovider oracle

bench: .venv/ready .venv-oracle/ready .venv-tl4/ready ## time the course and its peers on a quiet machine (.venv-tl4: 2 GB more); THREADS=2
	BENCH_THREADS=$(THREADS) $(PYTEST) benchmarks --benchmark-storage=_build/benchmarks --benchmark-autosave
	$(BIN)/python -m benchmarks.compare --threads $(THREADS)

race: .venv/ready ## time from random weights to an induction head, on a quiet machine (goes on where it was stopped)
	$(BIN)/python -m benchmarks.race

bench-grading: .venv/ready .venv-graders/ready ## time the grader beside nbgrader and otter-grader, on a quiet machine
	$(BIN)/python -m benchmarks.grading

lock: .venv/ready ## write requirements.txt from the environment in .venv
	$(BIN)/python -m tools.lock

.venv/ready: requirements.txt pyproject.toml
.venv-oracle/ready: requirements-oracle.txt pyproject.toml
.venv-tl4/ready: requirements-tl4.txt pyproject.toml
.venv-graders/ready: requirements-graders.txt pyproject.toml
.venv/ready .venv-oracle/ready .venv-tl4/ready .venv-graders/ready:
	$(PYTHON) -m venv $(@D) || (echo "python3 needs its venv module: on Debian, apt-get install python3-venv" && exit 1)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-colab/ready: requirements-colab.txt
	$(COLAB_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< # no-deps: what Colab lacks stays out
	@touch $@

colab-lock: .venv/ready ## write requirements-colab.txt from Colab's list of packages: FREEZE=pip-freeze.txt (minutes)
	$(BIN)/python -m tools.colab_lock $(FREEZE)

$(BOOK): .venv/ready $(BOOK_SOURCES)
	$(BIN)/python -m tools.notebooks --check
	$(BIN)/python -m tools.build_book

lint: .venv/ready ## style, notebooks that no longer fit their sources, and what would break on Colab
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.notebooks --check
	$(BIN)/python -m tools.lint_notebooks

spelling: .venv/ready ## misspelt words in pages, chapters, code and drawings
	$(BIN)/codespell

unit: .venv/ready ## tests of the library and the tools
	$(SIDE_BY_SIDE) -m "not book" tests

# Without COURSE_RUNS, so that chapters train here, with these versions, and load nothing that the book's build trained.
define run-notebooks
	$(BIN)/python -m tools.alone .venv-$(1)
	env -u COURSE_RUNS $(NBMAKE) --nbmake-kernel=course-$(1) _alone/chapters
	COURSE_STRICT=passed $(NBMAKE) --nbmake-kernel=course-$(1) _alone/solutions
	COURSE_STRICT=not_attempted $(NBMAKE) --nbmake-kernel=course-$(1) _alone/exercises
endef

run-alone: .venv/ready .venv-colab/ready ## run every notebook alone in an empty folder, after its set-up cell, with Colab's versions
	$(call run-notebooks,colab)

newest: .venv/ready ## run every notebook with the newest version of everything (NEWEST_TORCH=torch: of torch too)
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check "$(NEWEST_TORCH)"
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check ipykernel .
	.venv-newest/bin/python -m pip uninstall --quiet --yes induction-heads-course
	$(call run-notebooks,newest)

wheels: .venv/ready ## collect wheels of the course and JupyterLab in _offline/wheels, for machines without internet
	$(BIN)/python -m tools.offline collect

offline: wheels ## prove that they suffice: install and run all chapters with the network cut (Linux; some minutes)
	$(BIN)/python -m tools.offline prove

mutants: .venv/ready ## mutation testing of the measurements (an hour or more; mutmut results lists the survivors)
	OMP_NUM_THREADS=1 $(BIN)/mutmut run

looks: $(BOOK) browser ## approve how the pages of the book look now (tests/looks), after you have looked at them
	COURSE_APPROVE=1 COURSE_REQUIRE_BROWSER=1 $(PYTEST) -m book tests/test_book_looks.py

browser: ## install Chromium for the browser tests, where this machine allows it
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  echo "NO BROWSER: the tests of the built book will be skipped. Install Chromium to run them."

clean: ## remove what was built, not the environment
	rm -rf _build _alone _offline dist mutants
