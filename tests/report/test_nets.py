"""The table of nets near convergence: means over seeds, validation apart from test, refused records named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leandnn.machine import card
from leandnn.report import nets
from leandnn.studies import records


def add(root: Path, comparison: str, seed: int, judge: str, accuracy: float) -> Path:
    record: dict[str, Any] = dict.fromkeys((*records.KEYS["runs"], "behaviour", "inputs", "torch"))
    metrics = {
        f"{judge}_accuracy": accuracy,
        f"{judge}_mirror_accuracy": accuracy + 0.01,
        f"{judge}_loss": 0.4,
    }
    record |= {
        "profile": "desk", "paper": "dense", "comparison": comparison, "arm": "a", "seed": seed, "commit": "c",
        "budget": {"epochs": 12}, "steps": 2340, "metrics": metrics, "seconds": 60.0 * (seed + 1), "peak_mib": 800,
    }  # fmt: skip
    path = root / "reference" / "box" / f"dense-{comparison}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    records.append(path, f"dense-{comparison}", card.read(), record)
    return path


def test_seeds_become_a_mean_and_a_spread(tmp_path: Path):
    for seed, accuracy in enumerate((0.92, 0.93, 0.925)):
        add(tmp_path, "main", seed, "test", accuracy)
    add(tmp_path, "pilots", 0, "validation", 0.91)
    pilots, main = sorted(
        (line for line in nets.nets(tmp_path).splitlines() if "a |" in line), key=lambda line: "main" in line
    )
    cells = [cell.strip() for cell in main.strip("|").split("|")]
    assert cells == [
        "main, a", "1", "12", "3", "92.50 % ± 0.50", "93.50 % ± 0.50", "0.195", "2.0 min", "800 MiB",
    ]  # fmt: skip
    assert "| 1 | 91.00 % | 92.00 % |" in pilots


def test_an_edited_record_is_refused_by_name(tmp_path: Path):
    path = add(tmp_path, "main", 0, "test", 0.92)
    path.write_text(path.read_text().replace("0.92,", "0.99,"))
    text = nets.nets(tmp_path)
    assert "Not measured yet" in text and "run desk/a-s0 is refused, its SHA-256 is" in text
