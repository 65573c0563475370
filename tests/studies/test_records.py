"""Files of records: added to and never edited, damaged ones named, and what they are as evidence."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from leandnn.claims import measured, verdicts
from leandnn.errors import LeandnnError
from leandnn.studies import digests, records


def make(**changes: object) -> dict:
    content = {
        "profile": "desk", "paper": "bf16", "comparison": "vision", "arm": "fp32", "seed": 0,
        "budget": {"epochs": 1}, "threads": 1, "device": "cpu", "settings": {}, "metrics": {"test_accuracy": 0.8},
        "best": {}, "history": [], "parameters": 1, "steps": 1, "failure": None, "weights_sha256": "0",
        "seconds": 1.0, "peak_mib": 1, "behaviour": "c", "inputs": {}, "torch": "2", "versions": {"torch": "2"},
        "commit": "abcdef0123",
    }  # fmt: skip
    return records.signed(content | changes)


def old(**changes: object) -> dict:
    """A record from before format 2."""
    own = ("behaviour", "inputs", "torch", "sha256")
    content = {key: value for key, value in make(**changes).items() if key not in own}
    return records.signed(content | {"code": "c", "code_of": ["errors.py"], "data": {}})


def write(root: Path, runs: dict[str, object], **head: object) -> Path:
    path = root / "reference" / "box" / "bf16-vision.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, "study": "bf16-vision", "machine": {}, "runs": runs} | head))
    return path


def pairs(accuracy: tuple[float, float] = (0.8, 0.8), n: int = 3) -> dict[str, object]:
    return {
        f"desk/{arm}-s{seed}": old(arm=arm, seed=seed, metrics={"test_accuracy": value + 0.001 * (seed % 2)})
        for seed in range(n)
        for arm, value in zip(("fp32", "bf16"), accuracy, strict=True)
    }


def verdict(root: Path, scale: str) -> verdicts.Finding:
    return next(r for r in verdicts.compute(root) if r.claim.id == "bf16-vision").verdicts[scale]


def test_each_profile_and_machine_is_a_scale_of_its_own(repository: Path):
    runs = pairs() | {
        k.replace("desk", "paper"): records.signed({**v, "profile": "paper"})
        for k, v in pairs((0.8, 0.7)).items()
    }
    write(repository, runs)
    desk, paper = (verdict(repository, f"{profile}@box") for profile in ("desk", "paper"))
    assert (desk.verdict, desk.estimate) == ("exploratory", pytest.approx(0.0))
    assert (paper.verdict, paper.estimate) == ("exploratory", pytest.approx(-0.1))
    assert verdict(repository, "laptop").verdict == "not measured"
    assert measured.read(repository).problems == ()


def test_records_of_a_committed_plan_decide_and_others_do_not(repository: Path):
    (repository / "studies").mkdir(exist_ok=True)
    (repository / "studies" / "bf16.yaml").write_text("a plan\n")
    digest = hashlib.sha256(b"a plan\n").hexdigest()
    for plan, word in ((digest, "reproduced"), ("0" * 64, "exploratory"), (None, "exploratory")):
        write(repository, {key: records.signed({**run, "plan": plan}) for key, run in pairs().items()})
        assert verdict(repository, "desk@box").verdict == word


def test_each_number_says_what_todays_code_is_to_its_records(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(digests, "today", lambda: {"bf16-vision/fp32": "c", "bf16-vision/bf16": "d"})
    path = write(repository, pairs())
    assert verdict(repository, "desk@box").standings == {"before digests": 6}
    for seed in range(3):
        for arm, behaviour in (("fp32", "c"), ("bf16", "d")):
            records.append(path, "bf16-vision", {}, make(arm=arm, seed=seed, behaviour=behaviour))
        found = verdict(repository, "desk@box")
        # One new pair is outvoted by two old ones; then the new ones count.
        expected = ({"before digests": 6}, {"identical code": 4}, {"identical code": 6})[seed]
        assert (2 * found.n, found.standings) == (sum(expected.values()), expected)
    monkeypatch.setattr(digests, "today", lambda: {})
    assert verdict(repository, "desk@box").standings == {"different since abcdef01": 6}


def test_arms_of_different_code_are_no_pair(repository: Path):
    runs = {k: v if "fp32" in k else records.signed({**v, "code": "d"}) for k, v in pairs().items()}
    write(repository, runs)
    assert verdict(repository, "desk@box").verdict == "not measured"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t[: len(t) // 2], "bf16-vision.json is not whole JSON"),
        (lambda t: "", "bf16-vision.json is not whole JSON"),
        (lambda t: t.replace('"format": 1', '"format": 9'), "format 9, expected 1 or 2"),
        (lambda t: t.replace("0.801", "0.9", 1), "run desk/fp32-s1 is refused, its SHA-256"),
        (lambda t: t.replace("0.801", "NaN", 1), "holds NaN, expected finite"),
        (lambda t: t.replace('"commit"', '"comit"', 1), "run desk/fp32-s0 is refused, it lacks commit"),
        (lambda t: json.dumps({"format": 1, "runs": [1]}), "list as runs, expected an object"),
        (lambda t: json.dumps({"format": 2, "runs": {}}), "dict as runs, expected a list"),
        (lambda t: json.dumps({"format": 2, "runs": [1]}), "run 0 is refused, it is a int"),
    ],
    ids=[
        "half-written",
        "empty",
        "other format",
        "edited",
        "NaN",
        "key missing",
        "no object",
        "no list",
        "no record",
    ],
)
def test_what_cannot_be_trusted_is_named_and_the_rest_counts(repository: Path, damage, words: str):
    path = write(repository, pairs(n=4))
    other = repository / "reference" / "other" / "bf16-vision.json"
    other.parent.mkdir()
    other.write_text(path.read_text())
    path.write_text(damage(path.read_text()))
    (problem,) = measured.read(repository).problems
    assert words in problem
    assert verdict(repository, "desk@other").n == 4


def test_a_non_finite_metric_that_json_can_hold_is_refused(repository: Path):
    write(repository, {"desk/fp32-s0": make(metrics={"test_accuracy": 1e300}), **pairs(n=1)})
    assert measured.read(repository).problems == ()  # the later entry of the same key wins in JSON
    write(repository, {**pairs(n=1), "desk/fp32-s9": make(seed=9, metrics={"test_accuracy": 1e300})})
    (problem,) = measured.read(repository).problems
    assert "desk/fp32-s9 has test_accuracy = 1e+300, expected a finite number" in problem


def test_records_are_added_and_never_replaced(tmp_path: Path):
    path = tmp_path / "reference" / "box" / "x.json"
    first, again = make(), make(behaviour="d", steps=7)
    for record in (first, again):
        records.append(path, "x", {"name": "box"}, record)
    document, problems = records.read(path)
    assert (problems, document["runs"], document["failed"]) == ([], [first, again], [])
    assert json.loads(path.read_text())["machine"] == {"name": "box"}


def test_a_file_of_format_1_keeps_its_records_to_the_bit(repository: Path):
    path = write(repository, pairs(), failed={"desk/bf16-s9": failure(old(seed=9, arm="bf16"))})
    before = records.read(path)[0]
    texts = [json.dumps(one, sort_keys=True) for one in json.loads(path.read_text())["runs"].values()]
    records.append(path, "bf16-vision", {"name": "another"}, make())
    written = json.loads(path.read_text())
    assert (written["format"], written["machine"]) == (2, {})
    assert [json.dumps(one, sort_keys=True) for one in written["runs"][:-1]] == texts
    after, problems = records.read(path)
    assert problems == [] and after == {**before, "runs": [*before["runs"], make()]}


def test_nothing_is_added_to_a_damaged_file(tmp_path: Path):
    path = tmp_path / "x.json"
    records.append(path, "x", {}, make())
    path.write_text(path.read_text().replace('"steps": 1', '"steps": 2', 1))
    before = path.read_text()
    with pytest.raises(LeandnnError, match=r"desk/fp32-s0 is refused.*restore or delete"):
        records.append(path, "x", {}, make(seed=2))
    assert path.read_text() == before


def failure(record: dict) -> dict:
    gone = ("settings", "metrics", "best", "history", "seconds", "sha256")
    return records.signed(
        {k: v for k, v in record.items() if k not in gone} | {"why": "it has 3, expected 4"}
    )


def test_a_failed_run_is_unfinished_until_it_ends_well(tmp_path: Path):
    path = tmp_path / "bf16-vision.json"
    records.append(path, "bf16-vision", {}, failure(make()), part="failed")
    document, problems = records.read(path)
    assert (problems, document["runs"]) == ([], [])
    assert [one["why"] for one in records.unfinished(document)] == ["it has 3, expected 4"]

    edited = path.with_name("edited.json")
    edited.write_text(path.read_text().replace("expected 4", "expected 5"))
    document, problems = records.read(edited)
    assert document["failed"] == []
    assert "desk/fp32-s0 is refused, its SHA-256 is" in problems[0]

    records.append(path, "bf16-vision", {}, make())
    document, _ = records.read(path)
    assert len(document["failed"]) == 1 and records.unfinished(document) == []
    records.append(path, "bf16-vision", {}, failure(make(behaviour="d")), part="failed")
    document, _ = records.read(path)
    assert [one["behaviour"] for one in records.unfinished(document)] == ["d"]
    assert len(document["runs"]) == 1, "an error takes no result away"


def test_importing_the_record_format_needs_no_torch():
    code = "import sys; import leandnn.studies.records, leandnn.claims.measured; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
