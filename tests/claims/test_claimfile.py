"""claims.yaml: what it must hold, and how what is wrong is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.claims.made import RATIO, RULE, STAGES, document, write_claims

from leandnn import paths
from leandnn.claims import claimfile
from leandnn.claims.claimfile import Difference, Equivalence, Ratio
from leandnn.errors import LeandnnError

PAPERS = ("bf16", "autosparse", "rbgp", "hbsnn", "huffman")
REQUIRED = ("vision", "speech", "language", "generative", "recommendation", "fp16-needs-tuning")


def test_the_claims_file_covers_all_five_papers():
    read = claimfile.read(paths.CLAIMS)
    ids = [claim.id for claim in read]
    assert len(set(ids)) == len(ids)
    assert {claim.paper for claim in read} == set(PAPERS)
    assert all(claim.id.startswith(f"{claim.paper}-") for claim in read)
    assert {f"bf16-{short}" for short in REQUIRED} <= set(ids)


def test_published_values_carry_the_source_they_were_read_in():
    for claim in claimfile.read(paths.CLAIMS):
        tagged = re.search(r"\[(P|C)(-figure)?: .+\]$", claim.published)
        assert claim.published == "not published here" or tagged, claim.id


def test_the_first_claim_is_what_the_trunk_measures():
    (claim,) = (c for c in claimfile.read(paths.CLAIMS) if c.id == "bf16-vision")
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
def test_an_unknown_key_is_refused_by_its_path(tmp_path: Path, form: Any):
    for path in places(document(rule=form)):
        if path == ("papers",):
            continue  # any name of a paper may stand there
        bad = document(rule=form)
        at(bad, path)["marign"] = 1
        with pytest.raises(LeandnnError, match=r"claims\.yaml.*\.marign is unknown, expected one of"):
            claimfile.read(write_claims(tmp_path, bad))


@pytest.mark.parametrize("form", [RULE, RATIO, [RULE, RATIO]], ids=["equivalence", "ratio", "list"])
def test_a_missing_key_is_refused_by_its_path(tmp_path: Path, form: Any):
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
        (
            {"rule": {**RULE, "better": "larger"}},
            r"rule\.better is 'larger', expected it to be 'higher' or 'lower'",
        ),
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
        ({"statement": " "}, r"bf16-vision\.statement is ' ', expected a sentence"),
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
        ("papers: {}\nclaims: {}\n", r"claims\.yaml\.claims is {}, expected it to be a valid list"),
        ("papers: {}\nclaims: [1]\n", r"claims\.yaml\.claims\[0\] is a int, expected a mapping"),
        ("papers: []\nclaims: []\n", r"claims\.yaml\.papers is \[\], expected it to be a valid dictionary"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str, message: str):
    with pytest.raises(LeandnnError, match=message) as caught:
        claimfile.read(write_claims(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_repeated_id_are_refused(tmp_path: Path):
    with pytest.raises(LeandnnError, match=r"no claims\.yaml in .*, expected a clone of the repository"):
        claimfile.read(tmp_path / "claims.yaml")
    twice = document()
    twice["claims"] *= 2
    with pytest.raises(LeandnnError, match=r"claims\[1\]\.id is 'bf16-vision' again"):
        claimfile.read(write_claims(tmp_path, twice))


def test_a_rule_of_a_list_may_name_what_is_its_own(tmp_path: Path):
    own = {**RULE, "comparison": "speech", "metric": "wer", "n": 8, "control": "rbgp/patterns/dense"}
    (claim,) = claimfile.read(write_claims(tmp_path, document(rule=[RULE, own])))
    first, second = claim.rules
    assert (first.comparison, first.metric, first.n) == ("vision", "test_accuracy", 3)
    assert (second.comparison, second.metric, second.n) == ("speech", "wer", 8)
    assert (second.control, second.treatment) == ("rbgp/patterns/dense", "bf16/speech/bf16")


def test_two_metrics_of_one_arm_may_be_compared_but_not_one(tmp_path: Path):
    (claim,) = claimfile.read(write_claims(tmp_path, document(rule=STAGES)))
    assert claim.rules[0].control == claim.rules[0].treatment == "bf16/vision/bf16"
    assert claim.rules[0].control_metric == "dense_accuracy"
    for bad in ("", "test_accuracy"):
        own = {**STAGES, "control_metric": bad}
        with pytest.raises(LeandnnError, match="expected another arm than the control, or another metric"):
            claimfile.read(write_claims(tmp_path, document(rule=own)))
    with pytest.raises(LeandnnError, match=r"control_metric is 'dense_accuracy', expected none for loss@\*"):
        claimfile.read(write_claims(tmp_path, document(rule=STAGES, metric="loss@*")))


def test_rule_kinds_are_the_three_that_are_judged():
    assert set(claimfile.KINDS.values()) == {Equivalence, Difference, Ratio}
