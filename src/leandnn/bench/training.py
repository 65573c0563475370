"""What runs of the pipeline took on this machine, as rows: it times nothing, training wrote build/costs.json."""

from __future__ import annotations

from statistics import median

from leandnn import paths
from leandnn.bench import benchfile
from leandnn.bench.benchfile import Row
from leandnn.bench.timing import row
from leandnn.errors import LeandnnError
from leandnn.studies import pipeline


def rows(quick: bool) -> list[Row]:
    """A row a run, whose case is its title and what it cost; quick changes nothing.

    LeandnnError where nothing was trained here, or the file is damaged.
    """
    path = pipeline.costs_file()
    try:
        costs = benchfile.read(path)
        return [
            row(
                "training", {"run": title, **cost}, "leandnn", cost["threads"], [cost["seconds"]], 1.0, "runs"
            )
            for title, cost in sorted(costs.items())
        ]
    except OSError as error:
        raise LeandnnError(
            f"cannot read {paths.relative(path)}: {error.strerror}, expected what runs took: train some (dvc repro)"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeandnnError(f"{paths.relative(path)} is no file of costs ({error}): delete it") from error


def summary(rows: list[Row]) -> str:
    """How many runs, and the median."""
    return f"{len(rows)} runs, {median(r['median_s'] for r in rows):.0f} s in the median"
