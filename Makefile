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
RECIPE_RESULTS := results$(if $(filter yes,$(EMBEDDED)),/embedded)
# After a dry run there is nothing to show.
DRY := $(filter -n% -pn --dry-run --dryrun,$(ARGS))

.PHONY: help demo report summary recipe test lint unit format lock docs clean FORCE

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp holds a hash of the locks, so a checkout that only touches them installs nothing. A link is left alone:
# what it leads to is somebody's environment, and --clear would empty it.
$(VENV): FORCE
	@.venv/bin/python -m envs.install --check 2>/dev/null || { \
		if [ -L .venv ]; then echo ".venv is a link, and not to what the locks describe: remove the link" >&2; exit 1; fi; \
		$(PYTHON) -m venv --clear .venv && .venv/bin/python -m envs.install; }

demo: $(VENV) ## From raw data to bundles and the leaderboard, on a small model made here (a few minutes)
	@$(SNAKEMAKE) $(ARGS)
	@$(if $(DRY),,$(MAKE) --no-print-directory report)
	@$(if $(DRY),,python scripts/score/print_summary.py results)

report: $(VENV) ## Make results/report.html anew if the leaderboard is newer
	@if [ ! results/leaderboard.csv -ot $(REPORT) ]; then snakemake --quiet all --report $(REPORT) $(ARGS); fi

recipe: $(VENV) ## Run config/recipes/NAME.yaml on the embedded model; EMBEDDED=no: on the real one
	@$(SNAKEMAKE) --configfile $(RECIPE_CONFIG) $(ARGS)
	@$(if $(DRY),,python scripts/score/print_summary.py $(RECIPE_RESULTS))

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
