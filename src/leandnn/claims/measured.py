"""Everything that was measured, by scale: the pipeline's runs, the records of studies, rounds of timings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leandnn.claims import bench_rounds, pipeline_runs, study_runs
from leandnn.claims.evidence import LAPTOP, Evidence, Run


@dataclass(frozen=True)
class Measured:
    """Evidence by scale, `laptop` first and always there (empty without runs).

    - problems: a sentence for each file or record under reference/ that is refused.
    """

    scales: Mapping[str, Evidence]
    problems: tuple[str, ...]


def read(root: Path) -> Measured:
    """What lies below `root`; LeandnnError for a metrics file of the pipeline that cannot be trusted, naming it."""
    rounds, problems = bench_rounds.read(root)
    recorded, further = study_runs.read(root)
    by_scale: dict[str, list[Run]] = {}
    for scale, run in rounds + recorded:
        by_scale.setdefault(scale, []).append(run)
    scales = {scale: Evidence(scale, tuple(by_scale[scale])) for scale in sorted(by_scale)}
    return Measured({LAPTOP: pipeline_runs.read(root), **scales}, (*problems, *further))
