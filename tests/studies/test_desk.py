"""Studies outside the pipeline: written run by run, never double, damaged records named, the rest read on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.claims import measured
from leandnn.claims.evidence import Pairs
from leandnn.studies import digests, proofs, records

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = {
    "threads": 1, "seeds": [0, 1],
    "studies": {"bf16": {"vision": {"epochs": 1, "train_examples": 256, "test_examples": 20}}},
}  # fmt: skip


def make(**changes: object) -> dict:
    content = {
        "profile": "desk", "paper": "bf16", "comparison": "vision", "arm": "fp32", "seed": 0,
        "budget": {"epochs": 1}, "threads": 1, "device": "cpu", "settings": {}, "metrics": {"test_accuracy": 0.8},
        "best": {}, "history": [], "parameters": 1, "steps": 1, "failure": None, "weights_sha256": "0",
        "seconds": 1.0, "peak_mib": 1, "behaviour": "f", "inputs": {}, "torch": "2", "versions": {"torch": "2"},
        "commit": "abcdef0123",
    }  # fmt: skip
    return records.signed(content | changes)


def pairs(n: int = 3, **changes: object) -> list[dict]:
    arms = {"fp32": "f", "bf16": "b"}
    return [
        make(
            **{
                "arm": arm,
                "seed": seed,
                "behaviour": behaviour,
                "metrics": {"test_accuracy": 0.8 + seed / 1000},
                **changes,
            }
        )
        for seed in range(n)
        for arm, behaviour in arms.items()
    ]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root where today's code does what the records of `pairs` did."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(digests, "today", lambda: {"bf16-vision/fp32": "f", "bf16-vision/bf16": "b"})
    proofs.classes.cache_clear()
    return tmp_path


def write(root: Path, runs: object, machine: str = "box", **head: object) -> Path:
    path = root / "reference" / machine / "bf16-vision.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": 2, "study": "bf16-vision", "machine": {}, "runs": runs, "failed": []}
    path.write_text(json.dumps(document | head))
    return path


def found(root: Path, scale: str = "desk@box") -> Pairs:
    return measured.read(root).scales[scale].pairs("bf16/vision/fp32", "bf16/vision/bf16", "test_accuracy")


def test_each_profile_and_machine_is_a_scale_of_its_own(root: Path):
    write(root, [*pairs(), *pairs(2, profile="paper")])
    write(root, pairs(1), "other")
    read = measured.read(root)
    assert read.problems == ()
    assert set(read.scales) == {"laptop", "desk@box", "paper@box", "desk@other"}
    assert [len(found(root, scale).seeds) for scale in ("desk@box", "paper@box", "desk@other")] == [3, 2, 1]
    assert found(root).standings == {"identical code": 6}


def test_records_of_other_code_count_as_long_as_they_are_alike(root: Path, monkeypatch: pytest.MonkeyPatch):
    write(root, pairs())
    monkeypatch.setattr(digests, "today", dict)
    assert found(root).seeds == (0, 1, 2)
    assert found(root).standings == {"different since abcdef01": 6}


def test_arms_of_different_commits_are_no_pair(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digests, "today", dict)
    write(root, [{**one, **make(**{**one, "commit": one["arm"]})} for one in pairs()])
    assert found(root).seeds == ()
    assert found(root).left_out == ("6 runs in pairs of another budget or code",)


def test_files_of_the_first_format_are_read_for_ever(root: Path):
    old = [
        {k: v for k, v in one.items() if k not in ("behaviour", "inputs", "torch", "sha256")}
        for one in pairs()
    ]
    signed = [records.signed({**one, "code": "c", "code_of": ["x.py"], "data": {}}) for one in old]
    write(root, {records.name(one): one for one in signed}, format=1, failed={})
    assert measured.read(root).problems == ()
    assert found(root).standings == {"before digests": 6}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t[: len(t) // 2], "bf16-vision.json is not whole JSON"),
        (lambda t: "", "bf16-vision.json is not whole JSON"),
        (lambda t: t.replace('"format": 2', '"format": 9'), "format 9, expected 1 or 2"),
        (lambda t: t.replace("0.801", "0.9", 1), "run desk/fp32-s1 is refused, its SHA-256"),
        (lambda t: t.replace("0.801", "NaN", 1), "holds NaN, expected finite"),
        (lambda t: t.replace('"commit"', '"comit"', 1), "run desk/fp32-s0 is refused, it lacks commit"),
        (lambda t: json.dumps({"format": 2, "runs": {}}), "dict as runs, expected a list"),
        (
            lambda t: json.dumps({"format": 2, "runs": [1]}),
            "run 0 is refused, it is a int, expected an object",
        ),
    ],
    ids=["half-written", "empty", "other format", "edited", "NaN", "key missing", "no list", "no object"],
)
def test_what_cannot_be_trusted_is_named_and_the_rest_read(root: Path, damage, words: str):
    path = write(root, pairs(4))
    write(root, pairs(4), "other")
    path.write_text(damage(path.read_text()))
    (problem,) = measured.read(root).problems
    assert words in problem
    assert len(found(root, "desk@other").seeds) == 4


def test_a_metric_that_is_beyond_all_numbers_is_refused(root: Path):
    write(root, [*pairs(1), make(seed=9, metrics={"test_accuracy": 1e300})])
    (problem,) = measured.read(root).problems
    assert "desk/fp32-s9 has test_accuracy = 1e+300, expected a finite number" in problem


def test_an_error_is_recorded_and_takes_no_result_away(tmp_path: Path):
    path, keys = (
        tmp_path / "bf16-vision.json",
        ("settings", "metrics", "best", "history", "seconds", "sha256"),
    )
    failed = {k: v for k, v in make().items() if k not in keys} | {"why": "it has 3, expected 4"}
    records.append(path, "bf16-vision", {}, failed, part="failed")
    document, problems = records.read(path)
    assert (problems, document["runs"]) == ([], [])
    assert [one["why"] for one in records.unfinished(document)] == ["it has 3, expected 4"]

    path.with_name("edited.json").write_text(path.read_text().replace("expected 4", "expected 5"))
    document, problems = records.read(path.with_name("edited.json"))
    assert document["failed"] == []
    assert "desk/fp32-s0 is refused, its SHA-256 is" in problems[0]

    records.append(path, "bf16-vision", {}, make())
    document, _ = records.read(path)
    assert (len(document["runs"]), len(document["failed"])) == (1, 1)
    assert records.unfinished(document) == []


@pytest.fixture
def small(repository: Path) -> Path:
    (repository / "studies" / "desk.yaml").write_text(json.dumps(SMALL))
    return repository


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_time_nothing_is_started_and_the_rest_is_named(leandnn: Run, small: Path):
    # Longer than the time that is left: the worker is stopped, and says so by what is missing.
    answer = leandnn("studies", "run", "bf16", "--minutes", "0.01")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith("4 runs are still missing; the same command goes on")
    assert not list((small / "reference").glob("*/bf16-vision.json"))


@pytest.mark.slow
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


def test_importing_the_record_format_needs_no_torch():
    code = "import sys; import leandnn.studies.records, leandnn.claims.evidence; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
