"""Records of several machines become one table."""

from __future__ import annotations

from pathlib import Path

from leandnn.report import runs
from leandnn.studies import records


def add(root: Path, machine: str, arm: str, seed: int, accuracy: float) -> None:
    own = dict.fromkeys(records.KEYS["runs"]) | {
        "profile": "desk", "arm": arm, "seed": seed, "metrics": {"test_accuracy": accuracy}, "commit": "0" * 40,
        "history": [{"epoch": 1, "test_accuracy": accuracy}], "steps": 3, "parameters": 5, "paper": "p",
        "comparison": "study", "behaviour": "b", "inputs": {}, "torch": "2",
    }  # fmt: skip
    records.append(root / f"reference/{machine}/p-study.json", "p-study", {"name": machine}, own)


def test_a_seeds_runs_are_of_the_machine_that_has_most_of_it(tmp_path: Path):
    assert runs.load_records(tmp_path, "p-study", "desk") is None
    for machine, arms in (("abacus", {"a": (0, 1), "b": (1,)}), ("box", {"a": (0, 1, 2), "b": (0, 1, 2)})):
        for arm, seeds in arms.items():
            for seed in seeds:
                add(tmp_path, machine, arm, seed, 0.5 if machine == "box" else 0.25)
    found = runs.load_records(tmp_path, "p-study", "desk")
    assert found is not None and runs.load_records(tmp_path, "p-study", "paper") is None
    final, history = found
    assert list(zip(final.arm, final.seed, final.test_accuracy, strict=True)) == [
        ("a", 0, 0.5), ("a", 1, 0.25), ("a", 2, 0.5), ("b", 0, 0.5), ("b", 1, 0.25), ("b", 2, 0.5),
    ]  # fmt: skip
    assert len(history) == 6
