"""The prices of runs: grouped by arm, and a broken file does not stop the rest."""

from __future__ import annotations

import json
from pathlib import Path

from leandnn.machine import card
from leandnn.report import pages

CARD = card.read()


def cost(seconds: float) -> dict:
    return {
        "seconds": seconds,
        "seconds_per_step": seconds / 100,
        "peak_mib": 700,
        "budget": {},
        "threads": 1,
    }


def write(root: Path, name: str, content: object) -> None:
    path = root / "reference" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_runs_are_grouped_by_arm_with_their_median(tmp_path: Path):
    runs = {f"bf16/vision/fp32-s{i}": cost(60.0 * (i + 1)) for i in range(3)}
    write(tmp_path, "box/cost.json", {"machine": CARD, "runs": runs})
    (line,) = [x for x in pages.every_table()["training"].markdown(tmp_path).splitlines() if "fp32" in x]
    assert [c.strip() for c in line.strip("|").split("|")][:5] == [
        "`bf16/vision/fp32`",
        "3",
        "2.0 min",
        "1200 ms",
        "700 MiB",
    ]


def test_a_broken_file_is_named_and_the_others_are_shown(tmp_path: Path):
    write(tmp_path, "a/cost.json", {"machine": CARD, "runs": {"bf16/vision/fp32-s0": cost(60.0)}})
    for name, content in (("b", "{"), ("c", '{"runs": NaN}'), ("d", "[]"), ("e", {"runs": {"x-s0": {}}})):
        write(tmp_path, f"{name}/cost.json", content)
    text = pages.every_table()["training"].markdown(tmp_path)
    assert "1.0 min" in text
    for name in "bcde":
        assert f"`reference/{name}/cost.json` is refused" in text
