"""What counts as evidence, what is paired, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.claims.made import RATIO, STAGES, document, write_claims, write_pairs, write_run

from leandnn.claims import measured, pipeline_runs, verdicts
from leandnn.claims.evidence import Evidence, Run
from leandnn.errors import LeandnnError


def test_two_metrics_of_one_arm_are_paired_run_by_run(tmp_path: Path):
    write_claims(tmp_path, document(rule=STAGES))
    for seed, (dense, coded) in enumerate([(0.80, 0.801), (0.81, 0.808), (0.79, 0.791)]):
        write_run(tmp_path, "bf16", seed, {"dense_accuracy": dense, "test_accuracy": coded})
    write_run(tmp_path, "bf16", 3, {"test_accuracy": 0.8})
    (result,) = verdicts.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert (found.verdict, found.n) == ("exploratory", 3)
    assert found.estimate == pytest.approx((0.001 - 0.002 + 0.001) / 3)
    assert found.evidence == tuple(f"runs/bf16/vision/bf16-s{seed}" for seed in range(3))
    assert found.metric == "test_accuracy against dense_accuracy"
    assert found.control == pytest.approx(0.8)
    assert found.detail == "not counted: 1 run in pairs without dense_accuracy or test_accuracy"


def test_a_ratio_of_two_metrics_of_one_arm_names_it_once(tmp_path: Path):
    rule = {**RATIO, "control": "bf16", "control_metric": "dense_bytes", "better": "lower", "at_least": 2.0}
    write_claims(tmp_path, document(rule=rule, metric="bytes"))
    (result,) = verdicts.compute(tmp_path)
    assert "no pair of runs of bf16/vision/bf16" in result.verdicts["laptop"].detail
    assert result.verdicts["laptop"].detail.count("bf16/vision/bf16") == 1
    for seed in range(3):
        write_run(tmp_path, "bf16", seed, {"dense_bytes": 1000.0 + seed, "bytes": 400.0})
    (result,) = verdicts.compute(tmp_path)
    assert result.verdicts["laptop"].estimate == pytest.approx(2.5, rel=0.01)
    write_run(tmp_path, "bf16", 0, {"dense_bytes": 1000.0, "bytes": 0.0})
    with pytest.raises(LeandnnError, match="bytes = 0 in bf16/vision/bf16, expected values above 0"):
        verdicts.compute(tmp_path)


def test_pairs_are_the_seeds_that_both_arms_have(tmp_path: Path):
    write_pairs(tmp_path, [0.80, 0.81, 0.82], [0.80, 0.81])
    (tmp_path / "runs/bf16/vision/bf16-s2").mkdir()  # a run that is not finished
    pairs = pipeline_runs.read(tmp_path).pairs("bf16/vision/fp32", "bf16/vision/bf16", "test_accuracy")
    assert pairs.seeds == (0, 1)
    assert pairs.control == pairs.treatment == (0.80, 0.81)
    assert pairs.sources[:2] == ("runs/bf16/vision/fp32-s0", "runs/bf16/vision/bf16-s0")
    assert pairs.left_out == ("1 run without a partner",)


def test_runs_without_the_metric_or_of_another_budget_are_out(tmp_path: Path):
    write_pairs(tmp_path, [0.8] * 5, [0.8] * 5)
    write_run(tmp_path, "bf16", 0, {"loss": 1.0})
    write_run(tmp_path, "bf16", 1, budget={"epochs": 30})
    for arm in ("fp32", "bf16"):
        write_run(tmp_path, arm, 2, budget={"epochs": 30})
    pairs = pipeline_runs.read(tmp_path).pairs("bf16/vision/fp32", "bf16/vision/bf16", "test_accuracy")
    assert pairs.seeds == (3, 4)
    assert pairs.left_out == (
        "2 runs in pairs without test_accuracy",
        "4 runs in pairs of another budget or code",
    )


@pytest.mark.parametrize(
    ("profile", "epochs", "verdict"),
    [("smoke", 1, "not measured"), ("laptop", 1, "not measured"), ("laptop", 4, "exploratory")],
    ids=["smoke is active", "left over from smoke", "laptop"],
)
def test_runs_of_the_smoke_profile_are_never_evidence(
    tmp_path: Path, profile: str, epochs: int, verdict: str
):
    write_claims(tmp_path, document())
    laptop = {"threads": 1, "seeds": [0, 1, 2], "studies": {"bf16": {"vision": 4}}}
    smoke = {"threads": 1, "seeds": [0, 1]}
    params = {"profile": profile, "laptop": laptop, "smoke": smoke}
    (tmp_path / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    for seed in range(3):
        for arm, accuracy in (("fp32", 0.8), ("bf16", 0.801)):
            metrics = {"test_accuracy": accuracy + seed / 1000}
            write_run(tmp_path, arm, seed, metrics, budget={"epochs": epochs})
    (result,) = verdicts.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert found.verdict == verdict
    assert ("6 runs not of the active profile" in found.detail) == (verdict == "not measured")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"metrics": {"test_accuracy": NaN}}', "holds NaN"),
        ('{"metrics": {"test_accuracy": -Infinity}}', "holds -Infinity"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds a list, expected an object"),
        ("{}", "has no paper, comparison, arm, seed, budget, metrics"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused_by_file(tmp_path: Path, content: str, message: str):
    path = write_run(tmp_path, "fp32", 0)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LeandnnError, match=rf"runs/bf16/vision/fp32-s0/metrics\.json {message}"):
        pipeline_runs.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"test_accuracy": "high"}}, "has test_accuracy = 'high', expected a finite number"),
        ({"metrics": {"test_accuracy": None}}, "has test_accuracy = None"),
        ({"metrics": {"test_accuracy": True}}, "has test_accuracy = True"),
        ({"metrics": {"test_accuracy": 10**400}}, "has test_accuracy = 1000"),
        ({"metrics": [0.8]}, "has a list as metrics"),
        ({"budget": 4}, "has a int as budget"),
        ({"seed": 1}, "says that it belongs to runs/bf16/vision/fp32-s1, expected runs/bf16/vision/fp32-s0"),
        ({"seed": "0"}, "says that it belongs to"),
        ({"arm": "bf16"}, "says that it belongs to runs/bf16/vision/bf16-s0"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused_by_file(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    write_run(tmp_path, "fp32", 0, **changes)
    with pytest.raises(LeandnnError, match=re.escape(f"fp32-s0/metrics.json {message}")):
        pipeline_runs.read(tmp_path)


def test_bytes_that_are_no_text_are_refused_by_file(tmp_path: Path):
    write_run(tmp_path, "fp32", 0).write_bytes(b"\xff\xfe{}")
    with pytest.raises(LeandnnError, match=r"fp32-s0/metrics\.json is not JSON"):
        pipeline_runs.read(tmp_path)


def test_rounds_of_a_bench_are_pairs_of_a_speed_claim(tmp_path: Path):
    path = tmp_path / "reference" / "box" / "bench-rbgp.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"machine": {}, "rows": [], "rounds": {"a": [2.0, 4.0], "b": [1.0, 2.0]}}))
    found = measured.read(tmp_path).scales["desk@box"].pairs("rbgp/speed/a", "rbgp/speed/b", "seconds")
    assert (found.control, found.treatment) == ((2.0, 4.0), (1.0, 2.0))
    path.write_text('{"rounds": {"a": ["fast"]}}')
    assert "bench-rbgp.json has no rounds that can be read" in measured.read(tmp_path).problems[0]


def records_of(**standings: str) -> Evidence:
    """Runs a and b of seed 0, several of each: standing → code; the value is the code's number."""
    runs = [
        Run(
            f"p/c/{arm}",
            0,
            {},
            {"m": float(code)},
            f"{arm}{code}",
            code=code,
            standing=standing.replace("_", " "),
        )
        for standing, code in standings.items()
        for arm in "ab"
    ]
    return Evidence("desk@box", tuple(runs))


@pytest.mark.parametrize(
    ("standings", "counted"),
    [
        ({"different_since_1": "1", "identical_code": "2", "different_since_3": "3"}, 2.0),
        ({"identical_code": "1", "proved_equal": "2"}, 1.0),
        ({"before_digests": "1", "different_since_2": "2"}, 2.0),
    ],
    ids=["identical code first", "then proved equal", "then the newest"],
)
def test_of_several_records_the_best_standing_counts(standings: Mapping[str, str], counted: float):
    pairs = records_of(**standings).pairs("p/c/a", "p/c/b", "m")
    assert pairs.control == pairs.treatment == (counted,)
    assert sum(pairs.standings.values()) == 2 and pairs.left_out == ()


def test_a_new_record_of_one_arm_takes_no_pair_away():
    old = records_of(different_since_1="1").runs
    new = Run("p/c/a", 0, {}, {"m": 2.0}, "a2", code="today", standing="identical code")
    pairs = Evidence("desk@box", (*old, new)).pairs("p/c/a", "p/c/b", "m")
    assert (pairs.control, pairs.treatment) == ((1.0,), (1.0,))
    assert pairs.standings == {"different since 1": 2}


@pytest.mark.parametrize(("commit", "seeds"), [("1", (0, 1)), ("2", ())], ids=["one state", "two states"])
def test_old_digests_are_a_pair_if_a_commit_made_both(commit: str, seeds: tuple[int, ...]):
    runs = [
        Run(f"p/c/{arm}", seed, {}, {"m": 1.0}, f"{arm}{seed}", code=f"of {arm}", commit=own)
        for arm, seed, own in (("a", 0, "1"), ("b", 0, commit), ("a", 1, "3"), ("b", 1, "4"))
    ]
    assert Evidence("desk@box", tuple(runs)).pairs("p/c/a", "p/c/b", "m").seeds == seeds


def test_unequal_code_is_no_pair_within_a_comparison_only():
    runs = tuple(
        Run(arm, 0, {}, {"m": 1.0}, arm, code=code)
        for arm, code in (("p/c/a", "1"), ("p/c/b", "2"), ("p/d/b", "2"))
    )
    found = Evidence("desk@box", runs)
    assert found.pairs("p/c/a", "p/c/b", "m").left_out == ("2 runs in pairs of another budget or code",)
    assert found.pairs("p/c/a", "p/d/b", "m").seeds == (0,)


def test_planned_pairs_go_before_others_and_never_mix_with_them():
    runs = [
        Run(f"p/c/{arm}", seed, {}, {"m": float(planned)}, f"{arm}{seed}{planned}", planned=planned)
        for planned, seeds in ((False, range(3)), (True, range(2)))
        for seed in seeds
        for arm in "ab"
    ]
    pairs = Evidence("desk@box", tuple(runs)).pairs("p/c/a", "p/c/b", "m")
    assert (pairs.seeds, pairs.control, pairs.planned) == ((0, 1), (1.0, 1.0), True)
