"""Studies outside the pipeline: written run by run, whole pairs first, never double."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from leandnn.studies import records

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = "{epochs: 1, train_examples: 256, test_examples: 20, seeds: [0, 1]}"


def small_desk(repository: Path) -> None:
    params = repository / "params.yaml"
    head, tail = params.read_text().split("desk: &desk\n")
    _, rest = tail.split("# GPU scale")
    params.write_text(f"{head}desk: &desk\n  threads: 1\n  bf16:\n    vision: {SMALL}\n\n# GPU scale{rest}")


@pytest.mark.slow
def test_a_study_runs_once_whole_pairs_first_and_its_verdict_has_its_own_column(
    leandnn: Run, repository: Path
):
    small_desk(repository)
    first = leandnn("reference", "bf16-vision", "--minutes", "5", "--workers", "1")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip().endswith("nothing is missing")
    (path,) = (repository / "reference").glob("*/bf16-vision.json")
    document, problems = records.read(path)
    assert problems == []
    assert sorted(map(records.name, document["runs"])) == [
        "desk/bf16-s0",
        "desk/bf16-s1",
        "desk/fp32-s0",
        "desk/fp32-s1",
    ]
    written = [line for line in first.stdout.splitlines() if "written to" in line]
    assert [line.split()[0] for line in written] == [
        "desk/fp32-s0",
        "desk/bf16-s0",
        "desk/fp32-s1",
        "desk/bf16-s1",
    ]
    assert {"cpu", "cores"} <= set(document["machine"])

    before = path.read_bytes()
    second = leandnn("reference", "all")
    assert second.stdout.strip() == "nothing is missing"
    assert path.read_bytes() == before
    table = json.loads(leandnn("claims", "--json").stdout)
    (claim,) = [c for c in table["claims"] if c["id"] == "bf16-vision"]
    assert claim["verdicts"][f"desk@{path.parent.name}"]["n"] == 2


@pytest.mark.slow
def test_without_time_nothing_is_started_twice_and_the_rest_is_named(leandnn: Run, repository: Path):
    small_desk(repository)
    # Longer than the time that is left: the worker is stopped, and says so by what is missing.
    answer = leandnn("reference", "bf16", "--minutes", "0.01")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith("4 runs are still missing; the same command goes on")
    assert not list((repository / "reference").glob("*/bf16-vision.json"))


@pytest.mark.slow
def test_parameters_travel_as_json_and_the_package_needs_few_libraries(leandnn: Run, repository: Path):
    small_desk(repository)
    (repository / "params.json").write_text(leandnn("params").stdout)
    (repository / "params.yaml").unlink()
    # Everything but torch, torchvision, numpy, SciPy, pillow, safetensors and our sources is hidden.
    site = repository / "hide" / "sitecustomize.py"
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
    answer = leandnn(
        "reference", "bf16-vision", "--params", "params.json", "--minutes", "5", PYTHONPATH=str(site.parent)
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("reference kernels serve instead") == 1
    assert answer.stdout.strip().endswith("nothing is missing")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reference", "bf16-visions"), ("'bf16-visions'", "bf16-vision")),
        (("reference", "all", "--minutes", "-1"), ("minutes is -1", "above 0")),
        (("reference", "all", "--params", "nowhere.json"), ("nowhere.json",)),
        (("reference", "all", "--params", "claims.yaml"), ("claims.yaml", "leandnn params")),
    ],
)
def test_bad_arguments_are_one_sentence(leandnn: Run, arguments, words):
    answer = leandnn(*arguments)
    last = answer.stderr.strip().splitlines()[-1]
    assert answer.returncode == 1
    assert last.startswith("leandnn: ")
    assert all(word in last for word in words), last
