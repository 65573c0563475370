"""Speed, measured: `leandnn bench NAME` compares our code with its peers in one interleaved run.

A folder of this package names its benches: `BENCHES`, name → module of the folder. Such a module has rows(quick),
summary(rows) and, where a claim speaks of speed, rounds(quick): seconds of each arm, round by round.
What was asked of a folder's benches stands in its targets.py: `TARGETS`, name → targets.
"""

from __future__ import annotations

import importlib
import pkgutil
from datetime import date
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError

BENCHES = {"commands": "commands", "train-loop": "train_loop", "training": "training"}


def benches() -> dict[str, str]:
    """Every bench by name → the module that has it; found in the folders, listed nowhere else."""
    found = {name: f"{__name__}.{module}" for name, module in BENCHES.items()}
    for folder in pkgutil.iter_modules(__path__):
        if folder.ispkg:
            own = importlib.import_module(f"{__name__}.{folder.name}")
            found |= {name: f"{own.__name__}.{module}" for name, module in own.BENCHES.items()}
    return dict(sorted(found.items()))


def run(
    name: str, *, quick: bool = False, file: Path | None = None, reference: bool = False
) -> dict[str, Any]:
    """Run one bench, print its table, and write its rows where asked.

    - quick: fewer repeats, ends within 40 seconds.
    - file: JSON to write; reference: write reference/<machine>/bench-<name>.json as well.

    Returns {"date": day, "machine": card, "rows": [...]}, see benchfile.Row for a row's keys, and "rounds" where there
    are any.
    Raises LeandnnError for an unknown name.
    """
    known = benches()
    if name not in known:
        raise LeandnnError(f"bench {name!r} is unknown, expected one of {', '.join(known)}")
    from leandnn.bench import targets, timing
    from leandnn.bench.benchfile import BenchFile
    from leandnn.files import write_json
    from leandnn.machine import card, probe

    module = importlib.import_module(known[name])
    rows = module.rows(quick)
    result: dict[str, Any] = {"machine": probe.card(), "rows": rows}
    if hasattr(module, "rounds"):
        result["rounds"] = module.rounds(quick)
    result["date"] = date.today().isoformat()
    print(timing.table(rows))
    print(module.summary(rows))
    if asked := targets.of(module.__name__, name):
        print(targets.text(asked, BenchFile(result["machine"], rows)))
    written = [file] if file else []
    if reference:
        written.append(paths.REFERENCE / card.name() / f"bench-{name}.json")
    for path in written:
        write_json(path, result)
        print(f"written to {paths.relative(path)}")
    return result
