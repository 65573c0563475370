"""Speed, measured: `leandnn bench NAME` compares our code with its peers in one interleaved run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.machine import card, probe

# name → module of this package with rows(quick), summary(rows) and, where a claim speaks of speed, rounds(quick):
# seconds of each arm, round by round of one interleaved run
BENCHES = {
    "train-loop": "train_loop",
    "train-step": "train_step",
    "sparse-step": "sparse_step",
    "rounding": "rounding",
    "panels": "panels",
    "rbgp": "rbgp",
    "hbsnn": "hbsnn",
    "autosparse": "autosparse",
    "huffman": "huffman",
    "commands": "commands",
}


def run(
    name: str, *, quick: bool = False, file: Path | None = None, reference: bool = False
) -> dict[str, Any]:
    """Run one bench, print its table, and write its rows where asked.

    - quick: fewer repeats, ends within 40 seconds.
    - file: JSON to write; reference: write reference/<machine>/bench-<name>.json as well.

    Returns {"machine": card, "rows": [...]}, see timing.Row for a row's keys, and "rounds" where there are any.
    Raises LeandnnError for an unknown name.
    """
    if name not in BENCHES:
        raise LeandnnError(f"bench {name!r} is unknown, expected one of {', '.join(BENCHES)}")
    from leandnn.bench import timing
    from leandnn.files import write_json

    module = importlib.import_module(f"leandnn.bench.{BENCHES[name]}")
    rows = module.rows(quick)
    result = {"machine": probe.card(), "rows": rows}
    if hasattr(module, "rounds"):
        result["rounds"] = module.rounds(quick)
    print(timing.table(rows))
    print(module.summary(rows))
    targets = [file] if file else []
    if reference:
        targets.append(paths.REFERENCE / card.name() / f"bench-{name}.json")
    for target in targets:
        write_json(target, result)
        print(f"written to {paths.relative(target)}")
    return result
