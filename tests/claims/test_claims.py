"""claims.yaml, the evidence it is judged by, the verdicts, and how they are printed."""

import copy
import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.claims import claimfile
from leandnn.claims import verdicts as claims
from leandnn.claims.claimfile import Difference, Equivalence, Ratio, Rule
from leandnn.claims.evidence import Evidence, Run, evidence_by_scale, problems
from leandnn.errors import LeandnnError
from leandnn.report import render

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("bf16", "autosparse", "rbgp", "hbsnn", "huffman")
REQUIRED = ("vision", "speech", "language", "generative", "recommendation", "fp16-needs-tuning")

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
    "rule": RULE,
    "n": 3,
    "reason": "A test.",
}
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


def evidence(control: list[float], treatment: list[float]) -> Evidence:
    runs = [
        Run(f"bf16/vision/{arm}", seed, {"epochs": 4}, {"m": value}, f"runs/bf16/vision/{arm}-s{seed}")
        for arm, column in (("a", control), ("b", treatment))
        for seed, value in enumerate(column)
    ]
    return Evidence("laptop", tuple(runs))


def rule(kind: str = "equivalence", better: str = "higher", n: int = 2, **rest: Any) -> Rule:
    arms = {"control": "bf16/vision/a", "treatment": "bf16/vision/b", "comparison": "vision", "metric": "m"}
    return claimfile.KINDS[kind](kind=kind, better=better, confidence=0.95, n=n, **arms, **rest)


def verdict_of(the_rule: Rule, low: float, high: float) -> str:
    """The verdict of evidence whose interval is [low, high]: 8 pairs with that mean and half-width."""
    unit = np.array([-1.0, 1.0] * 4)
    half = 1.894578605 * unit.std(ddof=1) / math.sqrt(8)  # t(0.95, 7)
    shape = (low + high) / 2 + unit * (high - low) / 2 / half
    found = claims.judge(the_rule, evidence([0.0] * 8, shape.tolist()))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    return found.verdict


# ---------------------------------------------------------------------------------------- claims.yaml


def test_the_claims_file_covers_all_five_papers():
    read = claimfile.read(ROOT / "claims.yaml")
    ids = [claim.id for claim in read]
    assert len(set(ids)) == len(ids)
    assert {claim.paper for claim in read} == set(PAPERS)
    assert all(claim.id.startswith(f"{claim.paper}-") for claim in read)
    assert {f"bf16-{short}" for short in REQUIRED} <= set(ids)


def test_published_values_carry_the_source_they_were_read_in():
    for claim in claimfile.read(ROOT / "claims.yaml"):
        tagged = re.search(r"\[(P|C)(-figure)?: .+\]$", claim.published)
        assert claim.published == "not published here" or tagged, claim.id


def test_the_first_claim_is_what_the_trunk_measures():
    (claim,) = (c for c in claimfile.read(ROOT / "claims.yaml") if c.id == "bf16-vision")
    (only,) = claim.rules
    assert isinstance(only, Equivalence)
    assert (only.control, only.treatment) == ("bf16/vision/fp32", "bf16/vision/bf16")
    assert (only.metric, only.better) == ("test_accuracy", "higher")
    assert only.n >= 3


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every mapping in plain data."""
    if isinstance(data, dict):
        yield path
        for key, value in data.items():
            yield from places(value, (*path, key))
    if isinstance(data, list):
        for index, value in enumerate(data):
            yield from places(value, (*path, index))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize("form", [RULE, RATIO, [RULE, RATIO]], ids=["equivalence", "ratio", "list"])
def test_an_unknown_key_is_refused_by_its_path_wherever_it_stands(tmp_path: Path, form: Any):
    for path in places(document(rule=form)):
        if path == ("papers",):
            continue  # any name of a paper may stand there
        bad = document(rule=form)
        at(bad, path)["marign"] = 1
        with pytest.raises(LeandnnError, match=r"claims\.yaml.*\.marign is unknown, expected one of"):
            claimfile.read(write_claims(tmp_path, bad))


@pytest.mark.parametrize("form", [RULE, RATIO, [RULE, RATIO]], ids=["equivalence", "ratio", "list"])
def test_a_missing_key_is_refused_by_its_path_wherever_it_stands(tmp_path: Path, form: Any):
    for path in places(document(rule=form)):
        for key in at(document(rule=form), path):
            if key == "up_to":
                continue  # may be left out
            bad = document(rule=form)
            del at(bad, path)[key]
            with pytest.raises(LeandnnError, match=rf"claims\.yaml.*{key}"):
                claimfile.read(write_claims(tmp_path, bad))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": {**RULE, "margin": 0}}, r"bf16-vision\.rule\.margin is 0"),
        ({"rule": {**RULE, "margin": "wide"}}, r"bf16-vision\.rule\.margin is 'wide'"),
        ({"rule": {**RULE, "margin": True}}, r"bf16-vision\.rule\.margin is True"),
        ({"rule": {**RULE, "confidence": 95}}, r"bf16-vision\.rule\.confidence is 95"),
        ({"rule": {**RULE, "better": "larger"}}, r"rule\.better is 'larger', expected one of higher, lower"),
        ({"rule": {**RULE, "kind": "sameness"}}, r"rule\.kind is 'sameness', expected one of equivalence"),
        ({"rule": {**RULE, "kind": ["ratio"]}}, r"rule\.kind is \['ratio'\]"),
        ({"rule": {**RULE, "treatment": "fp32"}}, r"rule\.treatment is 'bf16/vision/fp32', expected another"),
        ({"rule": {**RULE, "control": "a/b"}}, r"rule\.control is 'a/b', expected an arm"),
        ({"rule": {**RULE, "control": "../../x/y"}}, r"rule\.control is '\.\./\.\./x/y', expected an arm"),
        ({"rule": {**RULE, "n": 1}}, r"rule\.n is 1"),
        ({"rule": {**RATIO, "up_to": 2}}, r"rule\.up_to is 2\.0, expected more than at_least, 2"),
        ({"rule": []}, r"rule is an empty list"),
        ({"rule": "equal"}, r"rule is a str, expected a mapping"),
        ({"rule": [RULE, {**RULE, "margin": -1}]}, r"bf16-vision\.rule\[1\]\.margin is -1"),
        ({"n": 1}, r"bf16-vision\.n is 1"),
        ({"n": 2.5}, r"bf16-vision\.n is 2\.5"),
        ({"id": "rbgp-vision"}, r"id is 'rbgp-vision', expected bf16-"),
        ({"id": "bf16-Vision"}, r"id is 'bf16-Vision', expected bf16-"),
        ({"paper": "bert"}, r"paper is 'bert', expected one of bf16"),
        ({"statement": " "}, r"bf16-vision\.statement is empty"),
        ({"published": "76 %"}, r"bf16-vision\.published is '76 %', expected a value with its source"),
        ({"published": "Not published here"}, r"published is 'Not published here'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(LeandnnError, match=message):
        claimfile.read(write_claims(tmp_path, document(**changes)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("claims: [", r"claims\.yaml"),
        ("papers: {}\nclaims: []\nclaims: []\n", r"claims\.yaml"),
        ("papers: !!python/object/apply:os.system ['false']\nclaims: []\n", r"claims\.yaml"),
        ("[]", r"claims\.yaml is a list, expected a mapping"),
        ("papers: {}\nclaims: {}\n", r"claims\.yaml\.claims is a dict, expected a list"),
        ("papers: {}\nclaims: [1]\n", r"claims\.yaml\.claims\[0\] is a int, expected a mapping"),
        ("papers: []\nclaims: []\n", r"claims\.yaml\.papers is a list, expected a mapping"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str, message: str):
    with pytest.raises(LeandnnError, match=message) as caught:
        claimfile.read(write_claims(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_repeated_id_are_refused(tmp_path: Path):
    with pytest.raises(LeandnnError, match=r"claims\.yaml"):
        claimfile.read(tmp_path / "claims.yaml")
    twice = document()
    twice["claims"] *= 2
    with pytest.raises(LeandnnError, match=r"claims\[1\]\.id is 'bf16-vision' again"):
        claimfile.read(write_claims(tmp_path, twice))


def test_a_rule_of_a_list_may_name_its_own_comparison_metric_n_and_arms_elsewhere(tmp_path: Path):
    own = {**RULE, "comparison": "speech", "metric": "wer", "n": 8, "control": "rbgp/patterns/dense"}
    (claim,) = claimfile.read(write_claims(tmp_path, document(rule=[RULE, own])))
    first, second = claim.rules
    assert (first.comparison, first.metric, first.n) == ("vision", "test_accuracy", 3)
    assert (second.comparison, second.metric, second.n) == ("speech", "wer", 8)
    assert (second.control, second.treatment) == ("rbgp/patterns/dense", "bf16/speech/bf16")


STAGES: dict[str, Any] = {**RULE, "control": "bf16", "control_metric": "dense_accuracy"}


def test_a_rule_may_compare_two_metrics_of_one_arm_but_nothing_with_itself(tmp_path: Path):
    (claim,) = claimfile.read(write_claims(tmp_path, document(rule=STAGES)))
    assert claim.rules[0].control == claim.rules[0].treatment == "bf16/vision/bf16"
    assert claim.rules[0].control_metric == "dense_accuracy"
    for bad in ("", "test_accuracy"):
        own = {**STAGES, "control_metric": bad}
        with pytest.raises(LeandnnError, match="expected another arm than the control, or another metric"):
            claimfile.read(write_claims(tmp_path, document(rule=own)))
    with pytest.raises(LeandnnError, match=r"control_metric is 'dense_accuracy', expected none for loss@\*"):
        claimfile.read(write_claims(tmp_path, document(rule=STAGES, metric="loss@*")))


# ------------------------------------------------------------------------------------------- evidence


def test_two_metrics_of_one_arm_are_paired_run_by_run(tmp_path: Path):
    write_claims(tmp_path, document(rule=STAGES))
    for seed, (dense, coded) in enumerate([(0.80, 0.801), (0.81, 0.808), (0.79, 0.791)]):
        write_run(tmp_path, "bf16", seed, {"dense_accuracy": dense, "test_accuracy": coded})
    write_run(tmp_path, "bf16", 3, {"test_accuracy": 0.8})
    (result,) = claims.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert found.verdict == "reproduced" and found.n == 3
    assert found.estimate == pytest.approx((0.001 - 0.002 + 0.001) / 3)
    assert found.evidence == tuple(f"runs/bf16/vision/bf16-s{seed}" for seed in range(3))
    assert found.detail.startswith("test_accuracy against dense_accuracy: ")
    assert "(not counted: 1 run in pairs without dense_accuracy or test_accuracy)" in found.detail


def test_a_ratio_of_two_metrics_of_one_arm_names_it_once(tmp_path: Path):
    rule = {**RATIO, "control": "bf16", "control_metric": "dense_bytes", "better": "lower", "at_least": 2.0}
    write_claims(tmp_path, document(rule=rule, metric="bytes"))
    (result,) = claims.compute(tmp_path)
    assert "no pair of runs of bf16/vision/bf16" in result.verdicts["laptop"].detail
    assert result.verdicts["laptop"].detail.count("bf16/vision/bf16") == 1
    for seed in range(3):
        write_run(tmp_path, "bf16", seed, {"dense_bytes": 1000.0 + seed, "bytes": 400.0})
    (result,) = claims.compute(tmp_path)
    assert result.verdicts["laptop"].verdict == "reproduced"
    assert result.verdicts["laptop"].estimate == pytest.approx(2.5, rel=0.01)
    write_run(tmp_path, "bf16", 0, {"dense_bytes": 1000.0, "bytes": 0.0})
    with pytest.raises(LeandnnError, match="bytes = 0 in bf16/vision/bf16, expected values above 0"):
        claims.compute(tmp_path)


def test_without_runs_nothing_is_measured_and_nothing_fails(tmp_path: Path):
    write_claims(tmp_path, document())
    (result,) = claims.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert (found.verdict, found.n, found.estimate, found.evidence) == ("not measured", 0, None, ())
    assert "not measured" in render.text([result])
    assert "not measured" in render.markdown([result])


def test_pairs_are_the_seeds_that_both_arms_have(tmp_path: Path):
    write_pairs(tmp_path, [0.80, 0.81, 0.82], [0.80, 0.81])
    (tmp_path / "runs/bf16/vision/bf16-s2").mkdir()  # a run that is not finished
    pairs = evidence_by_scale(tmp_path)["laptop"].pairs(
        "bf16/vision/fp32", "bf16/vision/bf16", "test_accuracy"
    )
    assert pairs.seeds == (0, 1)
    assert pairs.control == pairs.treatment == (0.80, 0.81)
    assert pairs.folders[:2] == ("runs/bf16/vision/fp32-s0", "runs/bf16/vision/bf16-s0")
    assert pairs.left_out == ("1 run without a partner",)


def test_runs_without_the_metric_or_of_another_budget_do_not_count(tmp_path: Path):
    write_pairs(tmp_path, [0.8] * 5, [0.8] * 5)
    write_run(tmp_path, "bf16", 0, {"loss": 1.0})
    write_run(tmp_path, "bf16", 1, budget={"epochs": 30})
    for arm in ("fp32", "bf16"):
        write_run(tmp_path, arm, 2, budget={"epochs": 30})
    pairs = evidence_by_scale(tmp_path)["laptop"].pairs(
        "bf16/vision/fp32", "bf16/vision/bf16", "test_accuracy"
    )
    assert pairs.seeds == (3, 4)
    assert pairs.left_out == (
        "2 runs in pairs without test_accuracy",
        "4 runs in pairs of another budget or code",
    )


SMOKE = {"bf16": {"vision": {"epochs": 1, "seeds": [0, 1]}}}
LAPTOP = {"bf16": {"vision": {"epochs": 4, "seeds": [0, 1, 2]}}}


@pytest.mark.parametrize(
    ("active", "epochs", "verdict"),
    [(SMOKE, 1, "not measured"), (LAPTOP, 1, "not measured"), (LAPTOP, 4, "reproduced")],
    ids=["smoke is active", "left over from smoke", "laptop"],
)
def test_runs_of_the_smoke_profile_are_never_evidence(
    tmp_path: Path, active: dict[str, Any], epochs: int, verdict: str
):
    write_claims(tmp_path, document())
    params = {"smoke": SMOKE, "laptop": LAPTOP, "active": active}
    (tmp_path / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    for seed in range(3):
        for arm, accuracy in (("fp32", 0.8), ("bf16", 0.801)):
            metrics = {"test_accuracy": accuracy + seed / 1000}
            write_run(tmp_path, arm, seed, metrics, budget={"epochs": epochs})
    (result,) = claims.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert found.verdict == verdict
    assert ("6 runs not of the active profile" in found.detail) == (verdict == "not measured")
    assert ("6 runs not of the active profile" in " ".join(render.text([result]).split())) == (
        verdict == "not measured"
    )


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
        evidence_by_scale(tmp_path)


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
        evidence_by_scale(tmp_path)


def test_bytes_that_are_no_text_are_refused_by_file(tmp_path: Path):
    write_run(tmp_path, "fp32", 0).write_bytes(b"\xff\xfe{}")
    with pytest.raises(LeandnnError, match=r"fp32-s0/metrics\.json is not JSON"):
        evidence_by_scale(tmp_path)


# ------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.5, "reproduced"),
        (0.2, 0.9, "reproduced"),
        (-0.9, -0.2, "reproduced"),
        (0.2, 1.5, "better"),
        (1.2, 1.5, "better"),
        (-0.2, 1.5, "undecided"),
        (-1.5, -0.2, "undecided"),
        (-1.5, 1.5, "undecided"),
        (-1.5, -1.2, "not reproduced"),
    ],
)
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_verdict_of_an_equivalence_with_margin_one(low: float, high: float, verdict: str, better: str):
    ends = (low, high) if better == "higher" else (-high, -low)
    the_rule = rule(margin=1.0, unit="dB")
    found = verdict_of(the_rule, low, high)
    assert found == verdict
    if better == "lower":  # the same data mirrored, with the metric's direction mirrored
        unit = np.array([-1.0, 1.0] * 4) * math.sqrt(8) / (1.894578605 * np.std([-1, 1] * 4, ddof=1))
        data = (sum(ends) / 2 + unit * (ends[1] - ends[0]) / 2).tolist()
        mirrored = claims.judge(rule(better="lower", margin=1.0, unit="dB"), evidence([0.0] * 8, data))
        assert mirrored.verdict == verdict
        assert mirrored.low == pytest.approx(low, abs=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.3, "undecided"),
        (0.6, 0.9, "reproduced"),
        (0.6, 2.5, "reproduced"),
        (2.1, 2.5, "better"),
        (0.1, 0.4, "not reproduced"),
        (-0.5, 0.7, "undecided"),
    ],
)
def test_verdict_of_a_difference_of_at_least_a_half(low: float, high: float, verdict: str):
    at_least = 0.2 if (low, high) == (0.1, 0.3) else 0.5
    assert verdict_of(rule("difference", at_least=at_least, up_to=2.0, unit="dB"), low, high) == verdict


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([6.0, 6.1, 6.2], "reproduced"),
        ([5.0, 5.0, 5.0], "reproduced"),
        ([9.5, 9.6, 9.7], "better"),
        ([8.5, 9.0, 9.5], "reproduced"),
        ([4.0, 5.0, 6.0], "undecided"),
        ([4.0, 4.1, 4.2], "not reproduced"),
    ],
)
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_verdict_of_a_ratio_of_five_to_nine(factors: list[float], verdict: str, better: str):
    one = [1.0] * len(factors)
    data = evidence(one, factors) if better == "higher" else evidence(factors, one)
    found = claims.judge(rule("ratio", better, at_least=5.0, up_to=9.0), data)
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(math.prod(factors) ** (1 / len(factors)))
    assert found.unit == "×"


def test_without_an_upper_end_a_ratio_is_never_better():
    found = claims.judge(rule("ratio", at_least=5.0), evidence([1.0] * 3, [50.0, 51.0, 52.0]))
    assert found.verdict == "reproduced"


def test_no_gain_at_all_does_not_pass_for_a_gain():
    assert claims.judge(
        rule("difference", at_least=0.0, unit="dB"), evidence([1.0] * 3, [1.0] * 3)
    ).verdict == ("not reproduced")


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), max_size=4))
def test_fewer_pairs_than_the_rule_needs_are_at_most_undecided(pairs: list[tuple[float, float]]):
    data = evidence([a for a, _ in pairs], [b for _, b in pairs])
    rules = (
        rule(n=5, margin=0.01, unit="fraction"),
        rule("difference", n=5, at_least=0.0, unit="fraction"),
        rule("ratio", n=5, at_least=1.0, up_to=1.1),
    )
    for the_rule in rules:
        found = claims.judge(the_rule, data)
        assert found.verdict == ("undecided" if pairs else "not measured")
        assert not pairs or (f"{len(pairs)} pair" in found.detail and "5 are needed" in found.detail)
        assert (found.low is None) == (len(pairs) < 2)


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=2, max_size=9))
@settings(deadline=None)
def test_no_data_are_both_shown_and_refuted(pairs: list[tuple[float, float]]):
    control, treatment = [a for a, _ in pairs], [b for _, b in pairs]
    there = claims.judge(rule("difference", at_least=0.0, unit="fraction"), evidence(control, treatment))
    back = claims.judge(rule("difference", at_least=0.0, unit="fraction"), evidence(treatment, control))
    assert there.verdict in claims.WORDS
    assert not (there.verdict == back.verdict == "reproduced")
    assert there.estimate == pytest.approx(-back.estimate if back.estimate is not None else None)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize(
    ("the_rule", "truth", "wrong_word"),
    [
        (rule(margin=0.01, unit="fraction"), 0.01, "reproduced"),
        (rule(margin=0.01, unit="fraction"), -0.01, "reproduced"),
        (rule(margin=0.01, unit="fraction"), -0.0099999, "not reproduced"),
        (rule(margin=0.01, unit="fraction"), 0.0, "better"),
        (rule("difference", at_least=0.01, unit="fraction"), 0.01, "reproduced"),
        (rule("difference", at_least=0.01, unit="fraction"), 0.01, "not reproduced"),
    ],
)
def test_a_verdict_is_wrong_at_most_alpha_of_the_time(the_rule: Rule, truth: float, wrong_word: str, n: int):
    rng = np.random.default_rng(5)
    trials = 1500
    wrong = 0
    for _ in range(trials):
        control = rng.normal(0.8, 0.02, n)
        data = evidence(control.tolist(), (control + rng.normal(truth, 0.003, n)).tolist())
        wrong += claims.judge(the_rule, data).verdict == wrong_word
    assert wrong / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def at_steps(differences: dict[int, list[float]]) -> claims.Finding:
    """The verdict, within ±1, on one metric at several steps; per step the differences of the pairs."""
    runs = [
        Run(
            f"bf16/vision/{arm}",
            seed,
            {},
            {f"loss@{step}": on * d[seed] for step, d in differences.items()},
            "",
        )
        for arm, on in (("a", 0.0), ("b", 1.0))
        for seed in range(4)
    ]
    the_rule = dataclasses.replace(rule(margin=1.0, unit="nats"), metric="loss@*")
    return claims.judge(the_rule, Evidence("laptop", tuple(runs)))


def test_a_rule_at_fixed_steps_must_hold_at_each_and_shows_the_worst():
    near, far = [0.01, -0.01, 0.02, -0.02], [-2.0, -2.1, -1.9, -2.0]
    every = at_steps({100: near, 20: near, 300: [0.3, 0.31, 0.29, 0.3]})
    assert every.verdict == "reproduced" and every.estimate == pytest.approx(0.3)
    assert "3 of 3 fixed steps" in every.detail and "loss@300" in every.detail
    one_off = at_steps({100: near, 20: far, 300: near})
    assert one_off.verdict == "not reproduced"
    assert "2 of 3 fixed steps; the worst is loss@20" in one_off.detail
    assert at_steps({}).verdict == "not measured"


@pytest.mark.parametrize("n", [3, 8])
def test_a_true_ratio_at_the_bound_passes_for_more_at_about_alpha(n: int):
    rng = np.random.default_rng(6)
    trials = 400
    wrong = 0
    for _ in range(trials):
        times = (5 * rng.lognormal(0, 0.05, n)).tolist()
        wrong += claims.judge(rule("ratio", at_least=5.0), evidence([1.0] * n, times)).verdict == "reproduced"
    # The bootstrap's own error of 2 points beside the simulation's.
    assert wrong / trials <= 0.05 + 0.02 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_a_ratio_of_zero_is_refused_with_the_arms():
    with pytest.raises(LeandnnError, match=r"m = 0 in bf16/vision/a or bf16/vision/b"):
        claims.judge(rule("ratio", at_least=1.0), evidence([0.0, 1.0], [1.0, 1.0]))


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (["not measured", "not measured"], "not measured"),
        (["reproduced", "reproduced"], "reproduced"),
        (["better", "better"], "better"),
        (["better", "reproduced"], "reproduced"),
        (["reproduced", "not reproduced"], "partly"),
        (["better", "not reproduced", "undecided"], "partly"),
        (["not reproduced", "not reproduced"], "not reproduced"),
        (["not reproduced", "undecided"], "not reproduced"),
        (["reproduced", "undecided"], "undecided"),
        (["reproduced", "not measured"], "undecided"),
        (["undecided", "not measured"], "undecided"),
    ],
)
def test_a_claim_of_several_rules_takes_its_verdict_from_all(words: list[str], verdict: str):
    findings = [
        claims.Finding(
            word, 3, 3, 1.0 + i, None, None, "dB", f"metric {i}", (f"runs/a/b/c-s{i}", "runs/a/b/d-s0")
        )
        for i, word in enumerate(words)
    ]
    for order in (findings, findings[::-1]):
        whole = claims.combine(order)
        assert whole.verdict == verdict
        assert whole.estimate == order[0].estimate
        assert len(set(whole.evidence)) == len(whole.evidence) == len(words) + 1
        assert all(one.detail in whole.detail for one in findings)
    assert claims.combine(findings[:1]) == findings[0]


# ------------------------------------------------------------------------------------------- printing


@pytest.fixture
def measured(tmp_path: Path) -> list[claims.Result]:
    write_claims(tmp_path, document(rule=[RULE, {**RULE, "margin": 0.0001}]))
    write_pairs(tmp_path, [0.78, 0.79, 0.77], [0.781, 0.789, 0.771])
    return claims.compute(tmp_path)


def test_json_says_for_each_claim_what_the_table_says(measured: list[claims.Result]):
    data = json.loads(json.dumps(claims.as_json(measured), allow_nan=False))
    (claim,) = data["claims"]
    assert {"id", "paper", "statement", "published", "verdicts"} <= claim.keys()
    laptop = claim["verdicts"]["laptop"]
    assert {"verdict", "n", "estimate", "low", "high", "unit", "detail", "evidence"} <= laptop.keys()
    assert (claim["id"], claim["paper"], laptop["n"], laptop["unit"]) == (
        "bf16-vision",
        "bf16",
        3,
        "fraction",
    )
    assert laptop["low"] < laptop["estimate"] < laptop["high"]
    assert laptop["evidence"][0] == "runs/bf16/vision/fp32-s0"
    assert [one["verdict"] for one in laptop["rules"]] == ["reproduced", "undecided"]


def test_the_repository_s_own_table_is_complete_and_fits_100_columns():
    results = claims.compute(ROOT)
    text = render.text(results)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.endswith("\n") and not text.startswith("\n")
    data = claims.as_json(results)["claims"]
    assert isinstance(data, list) and len(data) == len(results)
    for result in results:
        assert result.claim.id in text
        assert f"`{result.claim.id}`" in render.markdown(results)
        assert result.verdicts["laptop"].verdict in claims.WORDS


def test_numbers_read_as_points_ratios_and_units(measured: list[claims.Result]):
    text = render.text(measured)
    assert "+0.03 pp [-0.16, +0.23]" in text
    assert "undecided: test_accuracy: the interval crosses the margin of ±0.01 pp" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert claims.quantity(5.321, "×") == "5.32×"
    assert claims.quantity(-0.0123, "nats/token") == "-0.0123 nats/token"
    assert claims.quantity(0.01, "fraction", signed=False) == "1.00 pp"


def test_scales_stand_below_each_other_in_text_and_beside_each_other_in_markdown(
    measured: list[claims.Result],
):
    (only,) = measured
    verdicts = {**only.verdicts, "desk@ryzen": only.verdicts["laptop"]}
    both = [claims.Result(only.claim, verdicts, {**only.rules, "desk@ryzen": only.rules["laptop"]})]
    text = render.text(both)
    assert text.count("bf16-vision") == 1 and text.count("desk@ryzen") == 1
    header = render.markdown(both).splitlines()[0]
    assert header == "| claim | what it says | published | laptop | desk@ryzen |"


def test_a_markdown_cell_cannot_break_the_table(tmp_path: Path):
    write_claims(tmp_path, document(statement="a | b\nc"))
    lines = render.markdown(claims.compute(tmp_path)).splitlines()
    assert len(lines) == 3
    assert "a \\| b c" in lines[2]


def test_no_claims_print_as_a_sentence(tmp_path: Path):
    write_claims(tmp_path, {"papers": {}, "claims": []})
    assert "no claims" in render.text(claims.compute(tmp_path))


EMPTY = "<!-- generated: b --><!-- end: b -->\n"
BLOCKS = "# Title\n<!-- generated: claims -->\nold\n<!-- end: claims -->\nmine\n" + EMPTY


@given(st.text(alphabet="ab|\\\n <>-1", max_size=40))
def test_filled_blocks_hold_the_content_once_and_leave_the_rest(content: str):
    filled = render.fill_blocks(BLOCKS, {"claims": content})
    assert filled == render.fill_blocks(filled, {"claims": content})
    assert filled.startswith("# Title\n<!-- generated: claims -->\n")
    assert filled.endswith("\n<!-- end: claims -->\nmine\n" + EMPTY)
    assert content.strip("\n") in filled
    assert "old" not in filled


def test_several_blocks_are_filled_in_one_go():
    filled = render.fill_blocks(BLOCKS, {"b": "two\n", "claims": "one\n"})
    assert filled == (
        "# Title\n<!-- generated: claims -->\none\n<!-- end: claims -->\nmine\n"
        "<!-- generated: b -->\ntwo\n<!-- end: b -->\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "<!-- generated: claims --> is there 0 times"),
        ("<!-- generated: claims -->", "<!-- end: claims --> is there 0 times"),
        (BLOCKS + "<!-- end: claims -->", "<!-- end: claims --> is there 2 times"),
        (BLOCKS * 2, "<!-- generated: claims --> is there 2 times"),
        ("<!-- end: claims --><!-- generated: claims -->", "<!-- end: claims --> stands before"),
        (
            "<!-- generated: claims --><!-- generated: x --><!-- end: claims --><!-- end: x -->",
            "<!-- generated: x --> lies inside block claims",
        ),
    ],
)
def test_a_marker_that_is_missing_or_in_the_wrong_place_is_named(text: str, message: str):
    with pytest.raises(LeandnnError, match=re.escape(message)):
        render.fill_blocks(text, {"claims": "new"})


def test_content_with_the_block_s_own_marker_is_refused():
    with pytest.raises(LeandnnError, match="content of block claims holds"):
        render.fill_blocks(BLOCKS, {"claims": "<!-- end: claims -->"})


def test_the_table_loads_nothing_heavy(tmp_path: Path):
    write_claims(tmp_path, document())
    write_pairs(tmp_path, [0.78, 0.79, 0.77], [0.781, 0.789, 0.771])
    code = (
        "import sys; from pathlib import Path; from leandnn.report import claims, render;"
        f"render.text(claims.compute(Path({str(tmp_path)!r})));"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rule_kinds_are_the_three_that_are_judged():
    assert set(claimfile.KINDS.values()) == {Equivalence, Difference, Ratio}


def test_rounds_of_a_bench_are_pairs_of_a_speed_claim(tmp_path: Path):
    path = tmp_path / "reference" / "box" / "bench-rbgp.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"machine": {}, "rows": [], "rounds": {"a": [2.0, 4.0], "b": [1.0, 2.0]}}))
    found = evidence_by_scale(tmp_path)["desk@box"].pairs("rbgp/speed/a", "rbgp/speed/b", "seconds")
    assert (found.control, found.treatment) == ((2.0, 4.0), (1.0, 2.0))
    path.write_text('{"rounds": {"a": ["fast"]}}')
    assert "bench-rbgp.json has no rounds that can be read" in problems(tmp_path)[0]
