# `make demo` sees everything work, `make test` tests it; both install what they need into .venv first.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || echo python3)
CORES ?= all
# Further options for snakemake, such as ARGS="--configfile config/recipes/football.yaml" or ARGS=-n.
ARGS ?=
NAME ?= football
EMBEDDED ?= yes

# Rules run `python`: this makes it the environment's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1

# Bars on a terminal, lines elsewhere.
SNAKEMAKE = snakemake --cores $(CORES) $$(if [ -t 2 ]; then echo --logger snaketune; else echo --quiet host reason rules; fi)

VENV := .venv/installed
REPORT := results/report.html
RECIPE_CONFIG := config/recipes/$(NAME).yaml $(if $(filter yes,$(EMBEDDED)),config/embedded.yaml)

.PHONY: help demo report summary recipe test lint unit format lock docs clean FORCE

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp holds a hash of the locks, so a checkout that only touches them installs nothing.
$(VENV): FORCE
	@.venv/bin/python -m envs.install --check 2>/dev/null || { \
		$(PYTHON) -m venv --clear .venv && .venv/bin/python -m envs.install; }

demo: $(VENV) ## From raw data to bundles and the leaderboard, on a small model made here (a few minutes)
	@$(SNAKEMAKE) $(ARGS)
	@$(MAKE) --no-print-directory report
	@python scripts/score/print_summary.py results

report: $(VENV) ## Make results/report.html anew if the leaderboard is newer
	@if [ ! results/leaderboard.csv -ot $(REPORT) ]; then snakemake --quiet all --report $(REPORT) $(ARGS); fi

recipe: $(VENV) ## Run config/recipes/NAME.yaml on the embedded model; EMBEDDED=no: on the real one
	@$(SNAKEMAKE) --configfile $(RECIPE_CONFIG) $(ARGS)
	@python scripts/score/print_summary.py results

test: $(VENV) lint ## Check the code and run all tests
	@pytest

unit: $(VENV) ## Run the tests of functions only
	@pytest tests/unit

lint: $(VENV) ## Check the code with ruff, snakefmt and snakemake
	@ruff check
	@ruff format --check
	@snakefmt --check Snakefile rules
	@snakemake --lint

format: $(VENV) ## Format the code
	@ruff check --fix
	@ruff format
	@snakefmt Snakefile rules

lock: $(VENV) ## Make locks and conda files anew from envs/*.in (UPGRADE=yes: newest versions that fit)
	@python -m envs.lock $(if $(UPGRADE),--upgrade)

docs: $(VENV) ## Make the configuration reference, the editor schema and the rule graph anew
	@python -m scripts.common.config.reference
	@python -m docs.rule_graph

clean: ## Remove results (not the environment)
	rm -rf results .snakemake
