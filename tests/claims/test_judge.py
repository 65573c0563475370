"""The words a rule and a claim get: the table of verdicts, its error rates, and no word without a plan."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.claims.made import document, evidence, rule, write_claims, write_pairs

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.claims.claimfile import Rule
from leandnn.claims.evidence import Evidence, Run
from leandnn.claims.judge import Finding, combine, judge
from leandnn.claims.words import WORDS
from leandnn.errors import LeandnnError

VERDICTS = set(WORDS[:5])


def verdict_of(the_rule: Rule, low: float, high: float) -> str:
    """The verdict of evidence whose interval is [low, high]: 8 pairs with that mean and half-width."""
    unit = np.array([-1.0, 1.0] * 4)
    half = 1.894578605 * unit.std(ddof=1) / math.sqrt(8)  # t(0.95, 7)
    shape = (low + high) / 2 + unit * (high - low) / 2 / half
    found = judge(the_rule, evidence([0.0] * 8, shape.tolist()))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    return found.verdict


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
        mirrored = judge(rule(better="lower", margin=1.0, unit="dB"), evidence([0.0] * 8, data))
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
    found = judge(rule("ratio", better, at_least=5.0, up_to=9.0), data)
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(math.prod(factors) ** (1 / len(factors)))
    assert found.unit == "×"


def test_without_an_upper_end_a_ratio_is_never_better():
    found = judge(rule("ratio", at_least=5.0), evidence([1.0] * 3, [50.0, 51.0, 52.0]))
    assert found.verdict == "reproduced"


def test_no_gain_at_all_does_not_pass_for_a_gain():
    assert judge(rule("difference", at_least=0.0, unit="dB"), evidence([1.0] * 3, [1.0] * 3)).verdict == (
        "not reproduced"
    )


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), max_size=4))
def test_fewer_pairs_than_the_rule_needs_are_at_most_undecided(pairs: list[tuple[float, float]]):
    data = evidence([a for a, _ in pairs], [b for _, b in pairs])
    rules = (
        rule(n=5, margin=0.01, unit="fraction"),
        rule("difference", n=5, at_least=0.0, unit="fraction"),
        rule("ratio", n=5, at_least=1.0, up_to=1.1),
    )
    for the_rule in rules:
        found = judge(the_rule, data)
        assert found.verdict == ("undecided" if pairs else "not measured")
        assert not pairs or (f"{len(pairs)} pair" in found.detail and "5 are needed" in found.detail)
        assert (found.low is None) == (len(pairs) < 2)


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=2, max_size=9))
@settings(deadline=None)
def test_no_data_are_both_shown_and_refuted(pairs: list[tuple[float, float]]):
    control, treatment = [a for a, _ in pairs], [b for _, b in pairs]
    there = judge(rule("difference", at_least=0.0, unit="fraction"), evidence(control, treatment))
    back = judge(rule("difference", at_least=0.0, unit="fraction"), evidence(treatment, control))
    assert there.verdict in WORDS
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
        wrong += judge(the_rule, data).verdict == wrong_word
    assert wrong / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def at_steps(differences: dict[int, list[float]]) -> Finding:
    """The verdict, within ±1, on one metric at several steps; per step the differences of the pairs."""
    runs = [
        Run(
            f"bf16/vision/{arm}",
            seed,
            {},
            {f"loss@{step}": on * d[seed] for step, d in differences.items()},
            f"{arm}{seed}",
            planned=True,
        )
        for arm, on in (("a", 0.0), ("b", 1.0))
        for seed in range(4)
    ]
    the_rule = rule(margin=1.0, unit="nats").model_copy(update={"metric": "loss@*"})
    return judge(the_rule, Evidence("laptop", tuple(runs)))


def test_a_rule_at_fixed_steps_must_hold_at_each():
    near, far = [0.01, -0.01, 0.02, -0.02], [-2.0, -2.1, -1.9, -2.0]
    every = at_steps({100: near, 20: near, 300: [0.3, 0.31, 0.29, 0.3]})
    assert every.verdict == "reproduced" and every.estimate == pytest.approx(0.3)
    assert "3 of 3 fixed steps" in every.detail and "loss@300" in every.detail
    one_off = at_steps({100: near, 20: far, 300: near})
    assert one_off.verdict == "not reproduced"
    assert "2 of 3 fixed steps; the worst is loss@20" in one_off.detail
    assert at_steps({}).verdict == "not measured"


@pytest.mark.parametrize("n", [3, 8])
def test_a_ratio_at_the_bound_passes_for_more_at_about_alpha(n: int):
    rng = np.random.default_rng(6)
    trials = 400
    wrong = 0
    for _ in range(trials):
        times = (5 * rng.lognormal(0, 0.05, n)).tolist()
        wrong += judge(rule("ratio", at_least=5.0), evidence([1.0] * n, times)).verdict == "reproduced"
    # The bootstrap's own error of 2 points beside the simulation's.
    assert wrong / trials <= 0.05 + 0.02 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_a_ratio_of_zero_is_refused_with_the_arms():
    with pytest.raises(LeandnnError, match=r"m = 0 in bf16/vision/a or bf16/vision/b"):
        judge(rule("ratio", at_least=1.0), evidence([0.0, 1.0], [1.0, 1.0]))


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
        (["exploratory", "not measured"], "exploratory"),
        (["exploratory", "reproduced"], "exploratory"),
    ],
)
def test_a_claim_of_several_rules_takes_its_verdict_from_all(words: list[str], verdict: str):
    findings = [
        Finding(word, 3, 3, 1.0 + i, None, None, "dB", f"metric {i}", (f"runs/a/b/c-s{i}", "runs/a/b/d-s0"))
        for i, word in enumerate(words)
    ]
    for order in (findings, findings[::-1]):
        whole = combine(order)
        assert whole.verdict == verdict
        assert whole.estimate == order[0].estimate
        assert len(set(whole.evidence)) == len(whole.evidence) == len(words) + 1
        assert all(one.detail in whole.detail for one in findings)
    assert combine(findings[:1]) == findings[0]


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=1, max_size=9))
@settings(deadline=None)
def test_runs_that_no_plan_asked_for_get_numbers_and_no_verdict(pairs: list[tuple[float, float]]):
    control, treatment = [a for a, _ in pairs], [b for _, b in pairs]
    the_rule = rule(margin=0.01, unit="fraction")
    planned, other = (judge(the_rule, evidence(control, treatment, planned=p)) for p in (True, False))
    assert other.verdict == "exploratory" and planned.verdict in VERDICTS
    assert (other.estimate, other.low, other.high) == (planned.estimate, planned.low, planned.high)
    assert other.control == pytest.approx(sum(control) / len(control))
    assert other.detail == ""


def test_one_run_without_a_plan_makes_all_exploratory():
    runs = list(evidence([0.8] * 3, [0.8] * 3).runs)
    assert judge(rule(margin=1.0, unit="dB"), Evidence("x", tuple(runs))).verdict == "reproduced"
    others = evidence([0.8] * 3, [0.8] * 3, planned=False).runs
    for at in (2, 5):  # of the control, of the treatment
        mixed = [*runs[:at], others[at], *runs[at + 1 :]]
        found = judge(rule(margin=1.0, unit="dB"), Evidence("x", tuple(mixed)))
        assert (found.verdict, found.n) == ("reproduced", 2)
        assert found.detail.endswith("not counted: 2 runs in pairs of another budget or code")


def test_what_the_pipeline_made_has_no_verdict_whatever_it_shows(tmp_path: Path):
    write_claims(tmp_path, document())
    write_pairs(tmp_path, [0.78, 0.79, 0.77], [0.78, 0.79, 0.77])
    (result,) = verdicts.compute(tmp_path)
    assert result.verdicts["laptop"].verdict == "exploratory"


@pytest.mark.parametrize("runs", [0, 3])
def test_a_claim_that_needs_what_nobody_had_is_not_tested(tmp_path: Path, runs: int):
    write_claims(tmp_path, document(needs="a GPU"))
    write_pairs(tmp_path, [0.78, 0.79, 0.77][:runs], [0.78, 0.79, 0.77][:runs])
    (result,) = verdicts.compute(tmp_path)
    assert (result.verdicts["laptop"].verdict, result.verdicts["laptop"].n) == ("not tested", runs)


def test_nothing_in_this_repository_has_a_verdict():
    for result in verdicts.compute(paths.ROOT):
        findings = [*result.verdicts.values(), *(one for rules in result.rules.values() for one in rules)]
        assert not {finding.verdict for finding in findings} & VERDICTS, result.claim.id
