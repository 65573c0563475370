# Thin: each target sets everything up on a fresh machine and does its job, from any directory.
#   make repro   set up, restore, fetch data, run the pipeline, print the claims
#   make test    set up and run everything CI runs
#   make reference MINUTES=600   set up and run the desk studies that are missing, as far as time allows
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# By the shell, since make's own functions split a path at its spaces.
ROOT := $(shell cd "$$(dirname "$$(echo '$(MAKEFILE_LIST)' | sed 's/^ *//')")" && pwd)
export PATH := $(ROOT)/.venv/bin:$(PATH)
export LEANDNN_ROOT := $(ROOT)
MAKEFLAGS += --no-print-directory

.PHONY: setup repro test torture sanitize fuzz smoke lab bench reference site clean

setup:
	@cd "$(ROOT)" && tools/setup && leandnn doctor

repro:
	@cd "$(ROOT)" && tools/setup && tools/repro

test:
	@cd "$(ROOT)" && tools/setup && tools/test

# Every command killed 100 times at random moments (LEANDNN_KILLS), and the other tests of survival.
torture:
	@cd "$(ROOT)" && tools/setup && mkdir -p build && \
	  LEANDNN_KILLS="$${LEANDNN_KILLS:-100}" pytest -v tests/test_survival.py tests/test_security.py 2>&1 | tee build/torture.log

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
