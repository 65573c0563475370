"""`leandnn studies run`: written run by run, never double, as far as the time allows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from leandnn.studies import records

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = {
    "threads": 1, "seeds": [0, 1],
    "studies": {"bf16": {"vision": {"epochs": 1, "train_examples": 256, "test_examples": 20}}},
}  # fmt: skip


@pytest.fixture
def small(repository: Path) -> Path:
    (repository / "studies" / "desk.yaml").write_text(json.dumps(SMALL))
    return repository


def test_a_study_runs_once_and_whole_pairs_first(leandnn: Run, small: Path):
    first = leandnn("studies", "run", "bf16-vision", "--minutes", "5", "--workers", "1")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip().endswith("nothing is missing")
    (path,) = (small / "reference").glob("*/bf16-vision.json")
    document, problems = records.read(path)
    assert problems == []
    names = ["desk/fp32-s0", "desk/bf16-s0", "desk/fp32-s1", "desk/bf16-s1"]
    assert [records.name(one) for one in document["runs"]] == names
    assert {"cpu", "cores"} <= set(document["machine"])
    assert all(one["behaviour"] and one["commit"] for one in document["runs"])

    before = path.read_bytes()
    assert leandnn("studies", "run", "all").stdout.strip() == "nothing is missing"
    assert path.read_bytes() == before
    more = ("--set", "seeds=0,2", "--minutes", "5", "--workers", "1")
    further = leandnn("studies", "run", "bf16-vision", *more)
    assert further.returncode == 0, further.stderr
    assert [records.name(one) for one in records.read(path)[0]["runs"]][4:] == [
        "desk/fp32-s2",
        "desk/bf16-s2",
    ]


def test_without_time_nothing_is_started_and_the_rest_is_named(leandnn: Run, small: Path):
    # Longer than the time that is left: the worker is stopped, and says so by what is missing.
    answer = leandnn("studies", "run", "bf16", "--minutes", "0.01")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith("4 runs are still missing; the same command goes on")
    assert not list((small / "reference").glob("*/bf16-vision.json"))


def test_parameters_travel_and_the_package_needs_few_libraries(leandnn: Run, small: Path):
    (small / "params.json").write_text(leandnn("params").stdout)
    (small / "params.yaml").unlink()
    # Everything but torch, torchvision, numpy, SciPy, pillow, safetensors, filelock and our sources is hidden.
    site = small / "hide" / "sitecustomize.py"
    site.parent.mkdir()
    site.write_text(
        "import sys\n"
        "class Hide:\n"
        "    names = {'tqdm', 'ruamel', 'seaborn', 'psutil', 'dvc', 'papermill'}\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        asked = 'importlib.util' in sys._getframe(2).f_code.co_filename  # torch lists what it may trace\n"
        "        if not asked and (name.split('.')[0] in self.names or name == 'leandnn.kernels._native'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    said = ("--params", "params.json", "--minutes", "5", "--set", "seeds=0")
    answer = leandnn("studies", "run", "bf16-vision", *said, PYTHONPATH=str(site.parent))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("reference kernels serve instead") == 1
    assert answer.stdout.strip().endswith("nothing is missing")
