# `make demo` runs the workflow, `make test` tests it; both install their packages into .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || echo python3)
CORES ?= all
# Further options for snakemake, such as ARGS="--configfile config/mine.yaml" or ARGS=-n; put a target first.
ARGS ?=
NAME ?= football
EMBEDDED ?= yes
# Settings for a smaller or larger GPU that the recipe fits: t4, 24gb or 80gb.
GPU ?=
# The bundle to verify.
BUNDLE ?=
# Number of test files that run at the same time; many of them wait more than they compute.
JOBS ?= 3
PYTEST = pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --durations 40

# Rules run `python`, which must be that of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
# Many notebook images set this variable; every program would then compile its modules at every start.
unexport PYTHONDONTWRITEBYTECODE

OPTIONS = --cores $(CORES)

# Container images that `make containers` builds (default: all), and their build of torch: cuda or cpu.
ENVS ?=
TORCH ?= cuda
NATIVE ?=

VENV := .venv/installed
# Prints the results folder of the configuration files in ARGS.
RESULTS_COMMAND = python -m scripts.workflow.results_folder $(filter %.yaml %.yml %.json,$(ARGS))
RESULTS = $(shell PATH="$(PATH)" $(RESULTS_COMMAND) 2>/dev/null)
RECIPES := $(sort $(basename $(notdir $(wildcard config/recipes/*.yaml))))
OVERLAYS := $(if $(GPU),config/gpu/$(GPU)/$(NAME).yaml) $(if $(filter yes,$(EMBEDDED)),config/embedded.yaml)
RECIPE_CONFIG := config/recipes/$(NAME).yaml $(OVERLAYS)
RECIPE_RESULTS = $(shell PATH="$(PATH)" python -m scripts.workflow.results_folder $(RECIPE_CONFIG))
# A dry run has no results to show.
DRY := $(filter -n% -pn --dry-run --dryrun,$(ARGS))

.PHONY: help demo report recipe known-recipe verify review trackers llama-server test test-all system lint unit format \
	lock docs bench site containers clean FORCE

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp contains a hash of the locks, so a checkout that only touches them installs nothing. A link is not changed:
# it points to another environment, which --clear would delete. A second make waits where flock works.
$(VENV): FORCE
	@.venv/bin/python -m envs.install --check 2>/dev/null || { \
		if [ -L .venv ]; then echo ".venv is a link to an environment that does not match the locks: remove the link" >&2; exit 1; fi; \
		exec 9<$(firstword $(MAKEFILE_LIST)); \
		flock -n 9 2>/dev/null || { echo "waits for another make that installs .venv"; flock 9 2>/dev/null || true; }; \
		.venv/bin/python -m envs.install --check 2>/dev/null || \
			{ $(PYTHON) -m venv --clear .venv && .venv/bin/python -m envs.install; }; }

# These targets print the summary themselves, after the report.
demo recipe: export SNAKETUNE_NO_SUMMARY := 1

demo: $(VENV) ## From raw data to bundles, verdicts and reports, on SmolLM2-135M (a few minutes)
	@snakemake $(OPTIONS) $(ARGS)
	@$(if $(DRY),,$(MAKE) --no-print-directory report)
	@$(if $(DRY),,python scripts/score/print_summary.py $(RESULTS))

report: $(VENV) ## Make Snakemake's report if results are newer (of another configuration: ARGS="--configfile config/mine.yaml")
	@folder=$(shell PATH="$(PATH)" $(RESULTS_COMMAND)); [ -n "$$folder" ] || exit 2; \
	if [ ! -f $$folder/leaderboard.csv ]; then \
		echo "$$folder/leaderboard.csv does not exist yet: run snakemake first" >&2; exit 2; \
	elif [ ! $$folder/leaderboard.csv -ot $$folder/report.html ]; then \
		snakemake --quiet all --report $$folder/report.html $(ARGS); fi

recipe: known-recipe $(VENV) ## Run config/recipes/NAME.yaml on a stand-in; EMBEDDED=no [GPU=t4]: on the real model
	@snakemake --configfile $(RECIPE_CONFIG) $(OPTIONS) $(ARGS)
	@$(if $(DRY),,python scripts/score/print_summary.py --recipe $(NAME) $(RECIPE_RESULTS))

known-recipe:
	@case " $(RECIPES) " in *" $(NAME) "*) ;; *) \
		echo "no recipe '$(NAME)'; there are: $$(echo $(RECIPES) | sed 's/ /, /g')" >&2; exit 2;; esac
	@case "$(EMBEDDED)" in yes|no) ;; *) echo "EMBEDDED is '$(EMBEDDED)'; give yes or no" >&2; exit 2;; esac
	@[ -z "$(GPU)" ] || [ -f "config/gpu/$(GPU)/$(NAME).yaml" ] || { \
		known=$$(cd config/gpu && ls */$(NAME).yaml | cut -d/ -f1 | paste -sd, | sed 's/,/, /g'); \
		echo "no settings of recipe '$(NAME)' for GPU=$(GPU); there are: $$known" >&2; exit 2; }

verify: $(VENV) ## Compare a bundle's record with the current files: BUNDLE=results/runs/NAME/bundle
	@[ -n "$(BUNDLE)" ] || { echo "name the bundle: BUNDLE=results/runs/NAME/bundle" >&2; exit 2; }
	@python scripts/deploy/verify_bundle.py "$(BUNDLE)" $(ARGS)

review: $(VENV) ## The page to read data and answers on, and to judge them (RESULTS=folder, ARGS="--port 8765")
	@$(RESULTS_COMMAND) >/dev/null
	@python scripts/review/serve.py $(RESULTS) $(filter-out %.yaml %.yml %.json --configfile,$(ARGS))

test: $(VENV) lint ## Check the code, run unit and integration tests, JOBS files at a time; needs no root and no services
	@$(PYTEST) tests/integration tests/unit

test-all: test system ## Everything: `make test`, then `make system`

system: $(VENV) ## Run the long tests: Slurm, Apptainer, kills, a full disk, fuzzing, demo and recipes from end to end
	@$(PYTEST) tests/system

unit: $(VENV) ## Run the unit tests only
	@$(PYTEST) tests/unit

lint: $(VENV) ## Check the code with ruff, snakefmt and snakemake
	@ruff check
	@ruff format --check
	@snakefmt --check Snakefile workflow rules
	@snakemake --lint

format: $(VENV) ## Format the code
	@ruff check --fix
	@ruff format
	@snakefmt Snakefile workflow rules

lock: $(VENV) ## Make locks and conda files from envs/*.in (UPGRADE=yes: with the newest compatible versions)
	@python -m envs.lock $(if $(UPGRADE),--upgrade)

docs: $(VENV) ## Make the configuration reference, the editor schema, config/gpu, the rules' page and graph
	@python -m scripts.config.reference
	@python -m scripts.workflow.memory.write_gpu_settings
	@python -m docs.rule_graph
	@python -m docs.rules_page

bench: $(VENV) ## Run the benchmarks that need no GPU and write docs/benchmarks.md (ARGS=scoring: only this one)
	@python -m tests.benchmarks $(ARGS)

site: $(VENV) ## Build the documentation site in site/, without broken links (it loads nothing from the network)
	@python -m docs.build_site

containers: $(VENV) ## Build the container images (ENVS="dataset score", TORCH=cpu, NATIVE=yes: llama.cpp for this CPU)
	@python -m containers.build $(ENVS) --torch $(TORCH) $(if $(filter yes,$(NATIVE)),--native)

trackers: $(VENV) ## Install what `training.report_to` can name into .venv: wandb, mlflow, tensorboard, trackio
	@python -m envs.install --add trackers

llama-server: $(VENV) ## Build llama.cpp's server, which serves bundles, into .venv (about a minute)
	@python -m envs.llama_server

clean: ## Remove the demo's results (not those of other configurations, nor the environment)
	cd results && rm -rf benchmarks datasets leaderboard.* .leaderboard.* logs models report.html runs sweeps tools
