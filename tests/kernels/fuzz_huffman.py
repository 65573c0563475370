"""Fuzzing of all that reads .lhuf files: inputs with something wrong, for a given time (tools/fuzz runs this).

Two thirds of the inputs are sections of coded matrices, for every decoder (huffman_mutations.py), one third files
(huffman_files.py). An input follows from the seed and its number. It lies in --current while it is tried, so that what
ends the process can be found; what raises anything that is no refusal is kept in --keep, and so is, with
--classes, the first input of every outcome.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import hashlib
import json
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
from tests.kernels import conftest, huffman_files, huffman_mutations

from leandnn.kernels import dispatch

MUTATIONS = 8  # of one matrix
REFERENCE_EVERY = 8  # matrices; the readable decoders are slow
MOST_FAILURES = 5
ROOM = 4 << 30  # address space, in bytes, beyond what is used at the start: more is a failure


def inputs(seed: int, number: int) -> list[tuple[str, bytes]]:
    """(kind, input) of the batch of that number; the first of a matrix is valid."""
    random = np.random.default_rng([seed, number])
    if number % 3 == 2:
        files = huffman_files.valid()
        return [("lhuf", huffman_files.mutate(files[i % len(files)], random)) for i in range(MUTATIONS)]
    section = huffman_mutations.valid(random)
    mutated = [huffman_mutations.mutate(section, random) for _ in range(MUTATIONS)]
    return [("section", own) for own in (section, *mutated)]


def keep(folder: Path, name: str, kind: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()[:10]
    (folder / f"{name}-{digest}.{kind}").write_bytes(data)


def outcome(kind: str, data: bytes, number: int, folder: Path) -> str:
    if kind == "lhuf":
        return huffman_files.outcome(data, folder / "fuzz.lhuf")
    return huffman_mutations.outcome(data, against_reference=number % REFERENCE_EVERY == 0)


def run(options: argparse.Namespace) -> dict[str, object]:
    outcomes: collections.Counter[str] = collections.Counter()
    failures, slowest, number = 0, 0.0, 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begin < options.seconds and failures < MOST_FAILURES:
            for kind, data in inputs(options.seed, number):
                options.current.with_suffix(f".{kind}").write_bytes(data)
                started = time.monotonic()
                try:
                    found = f"{kind} {outcome(kind, data, number, Path(folder))}"
                except Exception as error:
                    found = f"{kind} failed: {type(error).__name__}: {error}"
                    failures += 1
                    traceback.print_exc()
                    keep(options.keep, "failed", kind, data)
                slowest = max(slowest, time.monotonic() - started)
                if options.classes and found not in outcomes:
                    keep(options.keep, found.split(" ")[1].rstrip(":"), kind, data)
                outcomes[found] += 1
                options.current.with_suffix(f".{kind}").unlink()
            number += 1
    return {
        "build": options.build,
        "seed": options.seed,
        "seconds": round(time.monotonic() - begin, 1),
        "inputs": outcomes.total(),
        "batches": number,
        "failures": failures,
        "slowest_s": round(slowest, 2),
        "paths": list(dispatch.supported()),
        "outcomes": dict(sorted(outcomes.items())),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--build", default="release", help="what the result calls the extension's build")
    parser.add_argument("--current", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--classes", action="store_true")
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    assert conftest.NAME in sys.modules or options.build == "release"
    faulthandler.enable()
    warnings.simplefilter("ignore")
    if options.build == "release":  # the sanitizers map terabytes
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    result = run(options)
    options.result.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"fuzz: {result['inputs']} inputs in {result['seconds']} s ({options.build}), {result['failures']} failures"
    )
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
