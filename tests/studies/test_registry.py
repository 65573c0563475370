"""Studies by name: every arm is a value, and names that are no study's are refused."""

from __future__ import annotations

import dataclasses
import functools

import pytest

from leandnn.errors import LeandnnError
from leandnn.studies import digests, registry
from leandnn.studies.comparison import Comparison


def test_every_wing_with_a_study_is_found():
    assert registry.wings() == ("autosparse", "bf16", "blocksparse", "dense", "hbsnn", "huffman", "rbgp")


@pytest.mark.parametrize("comparison", registry.matching(["all"]), ids=lambda comparison: comparison.study)
def test_an_arm_is_made_of_functions_and_plain_values(comparison: Comparison):
    assert registry.find(comparison.study) is comparison
    values = []
    for make in comparison.arms.values():
        roots: set[str] = set()
        values.append(digests.plain(make, roots))
        assert roots and all(root.startswith("leandnn.") for root in roots)
    assert all(values.count(value) == 1 for value in values), "no two arms do the same"


def test_what_could_hide_state_is_no_part_of_an_arm():
    def inner() -> None: ...

    for value in (lambda: 1, inner, functools.partial(inner), object(), [print, {1, 2}]):
        with pytest.raises(TypeError, match="^an arm has .*, expected plain values, functions and classes"):
            digests.plain(value, set())


def test_dataclasses_of_an_arm_are_read_field_by_field():
    @dataclasses.dataclass
    class Local:
        x: int = 3

    with pytest.raises(TypeError, match="Local"):
        digests.plain(Local(), set())
    from leandnn.hbsnn.study import Form

    roots: set[str] = set()
    found = digests.plain(Form(saliency="l2"), roots)
    assert (found["is"], found["saliency"], found["windows"]) == ("leandnn.hbsnn.study:Form", "l2", None)
    assert roots == {"leandnn.hbsnn.study:Form"}


def test_studies_are_chosen_by_name_by_wing_and_all_once():
    names = [
        comparison.study for comparison in registry.matching(["rbgp-patterns", "hbsnn", "rbgp-patterns"])
    ]
    assert names == ["rbgp-patterns", *(f"hbsnn-{name}" for name in registry.comparisons("hbsnn"))]
    assert len(registry.matching(["all", "bf16"])) == len({c.study for c in registry.matching(["all"])})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "bf17-vision",
            "study 'bf17-vision' is of no wing, expected one of autosparse, bf16, .*, then -NAME$",
        ),
        ("bf16-visions", "study 'bf16-visions' is unknown, expected bf16- and one of vision, speech"),
        ("", "study '' is of no wing"),
        ("../x-y", "study '../x-y' is of no wing"),
    ],
)
def test_a_name_that_is_no_studys_is_refused(name: str, words: str):
    for ask in (registry.find, lambda study: registry.matching([study])):
        with pytest.raises(LeandnnError, match=words):
            ask(name)
