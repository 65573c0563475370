"""A run as a value: everything that decides its bits, as plain data; and where it keeps its state and its result.

While a run trains, its state lies in build/checkpoints/<study>/<run>-<key>.ckpt; when it has finished, its result
lies beside it as .done.json: {"run", "metrics", "history", "cost"}.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.data import prepared
from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.studies.comparison import Comparison


@dataclass(frozen=True)
class Run:
    """One arm from one seed.

    - study, arm: e.g. "bf16-vision", "fp32". budget: as plain data.
    - behaviour: digest of what the arm's code does; see digests.py.
    - inputs: SHA-256 of what it reads, by name, and what else decides its bits (processes that share it).
    - torch: its version.
    """

    study: str
    arm: str
    budget: Mapping[str, Any]
    seed: int
    threads: int = 1
    device: str = "cpu"
    behaviour: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    torch: str = field(default_factory=lambda: card.versions()["torch"])

    @property
    def name(self) -> str:
        """E.g. "fp32-s0": the run's folder."""
        return f"{self.arm}-s{self.seed}"

    @property
    def title(self) -> str:
        """E.g. "bf16-vision/fp32-s0": the run's name for people."""
        return f"{self.study}/{self.name}"

    @property
    def key(self) -> str:
        """Twelve hex digits of all of it: a checkpoint or a result serves only a run of equal key."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @property
    def facts(self) -> dict[str, Any]:
        """What must be equal for a result to be this run's: all but its name."""
        return {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in ("study", "arm", "seed")
        }

    @property
    def _stem(self) -> Path:
        return paths.CHECKPOINTS / self.study / f"{self.name}-{self.key}"

    @property
    def state(self) -> Path:
        """Its checkpoint."""
        return self._stem.with_name(f"{self._stem.name}.ckpt")

    @property
    def done(self) -> Path:
        """Its result."""
        return self._stem.with_name(f"{self._stem.name}.done.json")

    def result(self) -> dict[str, Any] | None:
        """The finished result, None if there is none; a damaged one is moved aside and reported.

        A finished run needs no checkpoint: one that is left goes.
        """
        if not self.done.exists():
            return None
        try:
            result: dict[str, Any] = json.loads(self.done.read_text())
            kinds = {"metrics": dict, "history": list, "cost": dict}
            # A run that failed in its first epoch has no history.
            empty = {"history"} if result["metrics"].get("failure") else set()
            if bad := [k for k, kind in kinds.items() if not isinstance(result[k], kind)] or [
                k for k in kinds if not result[k] and k not in empty
            ]:
                raise ValueError(f"{bad[0]} is {result[bad[0]]!r}")
        except (ValueError, KeyError, TypeError) as error:
            aside = self.done.with_name(self.done.name + ".corrupt")
            self.done.replace(aside)
            raise LeandnnError(
                f"the stored result {paths.relative(self.done)} is corrupt ({error}); it was moved to {aside.name}, "
                "run the command again to train it afresh"
            ) from error
        self.state.unlink(missing_ok=True)  # there only if its worker was killed in between
        return result


def from_json(text: str) -> Run:
    """The run of `Run.to_json`; LeandnnError for anything else."""
    known = {f.name for f in dataclasses.fields(Run)}
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.keys() != known:
            raise ValueError(f"its keys are {sorted(found)}")
        return Run(**found)
    except (ValueError, TypeError) as error:
        raise LeandnnError(f"that is no run ({error}), expected {', '.join(sorted(known))}") from error


def of(
    comparison: Comparison,
    budget: Any,
    seeds: Sequence[int],
    *,
    threads: int,
    device: str,
    behaviours: Mapping[str, str],
    inputs: Mapping[str, str],
) -> list[Run]:
    """Every run of a comparison, pair by pair, so that a cut-short study has whole pairs.

    - behaviours: digest by arm. inputs: see `inputs`.
    """
    return [
        Run(
            comparison.study,
            arm,
            dataclasses.asdict(budget),
            seed,
            threads,
            device,
            behaviours[arm],
            dict(inputs),
        )
        for seed in seeds
        for arm in comparison.arms
    ]


def inputs(comparison: Comparison) -> dict[str, str]:
    """SHA-256 of each prepared data set, verified, and of each other file that a comparison reads."""
    digests = {name: prepared.digest(name) for name in comparison.data}
    for name in comparison.inputs:
        path = paths.ROOT / name
        if not path.is_file():
            raise LeandnnError(f"{name} is missing, which {comparison.study} reads: run `dvc repro`")
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
