"""What an arm executes is part of its digest: the source was not read with too little in mind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leandnn import params, paths
from leandnn.studies import digests, registry

pytestmark = pytest.mark.slow

STUDIES = [
    f"{paper}-{name}"
    for paper, own in params.load("laptop").studies.items()
    if paper != "features"
    for name in own
]
# Not the arm's: what it is asked, and what is said of it.
IDENTITY = {
    "studies/runs.py",
    "studies/registry.py",
    "studies/comparison.py",
    "machine/card.py",
    "studies/locks.py",
}


def places(function: str) -> set[str]:
    """The units that a called function may be: "train/loop.py:_Loop.step" → leandnn.train.loop:_Loop, …:_Loop.step."""
    file, _, name = function.partition(":")
    module = "leandnn." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    parts = name.split(".<locals>")[0].split(".")
    return {f"{module}:{'.'.join(parts[:end])}" for end in range(1, len(parts) + 1)}


@pytest.mark.parametrize("study", STUDIES)
def test_what_an_arm_calls_is_in_its_digest(study: str, tmp_path: Path):
    comparison = registry.find(study)
    if not all((paths.PREPARED / f"{name}.safetensors").is_file() for name in comparison.data):
        pytest.skip("NOT CHECKED without the prepared data: run `make repro`")
    if not all((paths.ROOT / name).is_file() for name in comparison.inputs):
        pytest.skip("NOT CHECKED without the classifier that judges images: run `make repro`")
    arm = list(comparison.arms)[-1]
    request = {
        "study": study,
        "arm": arm,
        "budget": None,
        "seed": 0,
        "threads": 1,
        "state": None,
        "lines": {},
    }
    asked, answered = tmp_path / "request.json", tmp_path / "result.json"
    asked.write_text(json.dumps(request))
    subprocess.run([sys.executable, paths.ROOT / "tools" / "side.py", asked, answered], check=True)
    called = json.loads(answered.read_text())["functions"]
    reached = {place.split(" at ")[0] for place in digests.Reader().arm(comparison, arm).parts}
    unread = [
        f
        for f in called
        if f.partition(":")[0] not in IDENTITY and "<lambda>" not in f and not places(f) & reached
    ]
    assert len(called) > 50 and not unread
