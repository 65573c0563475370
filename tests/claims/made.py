"""Claims files, runs and rules for the tests of claims and of what prints them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from leandnn.claims import claimfile
from leandnn.claims.claimfile import Rule
from leandnn.claims.evidence import Evidence, Run

RULE: dict[str, Any] = {
    "kind": "equivalence",
    "control": "fp32",
    "treatment": "bf16",
    "better": "higher",
    "margin": 0.01,
    "unit": "fraction",
    "confidence": 0.95,
}
RATIO: dict[str, Any] = {
    "kind": "ratio",
    "control": "fp32",
    "treatment": "bf16",
    "better": "higher",
    "at_least": 2,
    "up_to": 3,
    "confidence": 0.95,
}
CLAIM: dict[str, Any] = {
    "id": "bf16-vision",
    "paper": "bf16",
    "statement": "Equal.",
    "published": "not published here",
    "comparison": "vision",
    "metric": "test_accuracy",
    "net": "a net",
    "rule": RULE,
    "n": 3,
    "reason": "A test.",
}
STAGES: dict[str, Any] = {**RULE, "control": "bf16", "control_metric": "dense_accuracy"}
PAPER = {"title": "A paper", "arxiv": "1905.12322"}


def document(**changes: Any) -> dict[str, Any]:
    return {"papers": {"bf16": dict(PAPER)}, "claims": [copy.deepcopy({**CLAIM, **changes})]}


def write_claims(root: Path, content: Any) -> Path:
    path = root / "claims.yaml"
    # JSON is YAML, and it cannot hold what a test did not mean.
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_run(root: Path, folder_arm: str, folder_seed: int, values: Any = None, **changes: Any) -> Path:
    path = root / "runs" / "bf16" / "vision" / f"{folder_arm}-s{folder_seed}" / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "paper": "bf16",
        "comparison": "vision",
        "arm": folder_arm,
        "seed": folder_seed,
        "budget": {"epochs": 4},
        "metrics": {"test_accuracy": 0.8} if values is None else values,
    }
    path.write_text(json.dumps({**data, **changes}), encoding="utf-8")
    return path


def write_pairs(root: Path, control: list[float], treatment: list[float]) -> None:
    for arm, column in (("fp32", control), ("bf16", treatment)):
        for seed, value in enumerate(column):
            write_run(root, arm, seed, {"test_accuracy": value})


def evidence(control: list[float], treatment: list[float], planned: bool = True) -> Evidence:
    """Runs of the arms a and b, of a plan, so that they may decide."""
    runs = [
        Run(f"bf16/vision/{arm}", seed, {"epochs": 4}, {"m": value}, f"{arm}-s{seed}", planned=planned)
        for arm, column in (("a", control), ("b", treatment))
        for seed, value in enumerate(column)
    ]
    return Evidence("laptop", tuple(runs))


def rule(kind: str = "equivalence", better: str = "higher", n: int = 2, **rest: Any) -> Rule:
    arms = {"control": "bf16/vision/a", "treatment": "bf16/vision/b", "comparison": "vision", "metric": "m"}
    return claimfile.KINDS[kind](kind=kind, better=better, confidence=0.95, n=n, **arms, **rest)
