# Thin: each target sets everything up on a fresh machine and does its job, from any directory.
#   make repro   set up, restore, fetch data, run the pipeline, print the claims
#   make check   set up, lint, types and unit tests; `make test` adds the notebooks and the pipeline at smoke scale,
#                `make test-slow` has kills, sanitizers, browser and site (CI runs these two), `make nightly` the rest
#   make reference MINUTES=600   set up and run the desk studies that are missing, as far as time allows
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# By the shell, since make's own functions split a path at its spaces.
ROOT := $(shell cd "$$(dirname "$$(echo '$(MAKEFILE_LIST)' | sed 's/^ *//')")" && pwd)
export PATH := $(ROOT)/.venv/bin:$(PATH)
export LEANDNN_ROOT := $(ROOT)
# DVC and torch ask for it, and the system knows none for a container's bare number.
export LOGNAME ?= $(shell id -un 2>/dev/null)
MAKEFLAGS += --no-print-directory

.PHONY: setup repro check test test-slow nightly sanitize fuzz smoke lab bench reference site clean

setup:
	@cd "$(ROOT)" && tools/setup && leandnn doctor

repro:
	@cd "$(ROOT)" && tools/setup && tools/repro

check test nightly:
	@cd "$(ROOT)" && tools/setup && tools/test $@

test-slow:
	@cd "$(ROOT)" && tools/setup && tools/test slow

# The kernel tests under AddressSanitizer and UBSan.
sanitize:
	@cd "$(ROOT)" && tools/setup && tools/sanitize

# Damaged and hostile .lhuf files on every decoder, MINUTES of them with and without the sanitizers.
fuzz:
	@cd "$(ROOT)" && tools/setup && MINUTES="$${MINUTES:-10}" tools/fuzz

smoke:
	@cd "$(ROOT)" && tools/setup && tools/smoke

lab:
	@cd "$(ROOT)" && tools/setup && jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks/00_tour.ipynb

bench:
	@cd "$(ROOT)" && tools/setup && for name in train-step rounding panels sparse-step rbgp hbsnn autosparse huffman; do leandnn bench $$name --reference; done

reference:
	@cd "$(ROOT)" && tools/setup && dvc repro --quiet data data-digits train-features && leandnn studies run all --minutes "$${MINUTES:-600}"

# Ends with the path of the page to open; needs no network and no server to be read.
site:
	@cd "$(ROOT)" && tools/setup && leandnn site

clean:
	@cd "$(ROOT)" && rm -rf build/sanitize build/smoke build/scratch build/native .mypy_cache .pytest_cache .ruff_cache .hypothesis
