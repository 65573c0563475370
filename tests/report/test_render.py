"""The claims as text and Markdown, and the marked blocks of Markdown files."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.claims.made import RULE, document, write_claims, write_pairs

from leandnn import paths
from leandnn.claims import verdicts, words
from leandnn.claims.verdicts import Result
from leandnn.errors import LeandnnError
from leandnn.report import render


@pytest.fixture
def measured(tmp_path: Path) -> list[Result]:
    write_claims(tmp_path, document(rule=[RULE, {**RULE, "metric": "test_loss"}], caveat="It is flawed."))
    write_pairs(tmp_path, [0.78, 0.79, 0.77], [0.781, 0.789, 0.771])
    return verdicts.compute(tmp_path)


def test_json_says_for_each_claim_what_the_table_says(measured: list[Result]):
    data = json.loads(json.dumps(verdicts.as_json(measured), allow_nan=False))
    (claim,) = data["claims"]
    assert {"id", "paper", "statement", "published", "verdicts"} <= claim.keys()
    laptop = claim["verdicts"]["laptop"]
    assert {
        "verdict",
        "n",
        "estimate",
        "low",
        "high",
        "unit",
        "detail",
        "evidence",
        "control",
    } <= laptop.keys()
    assert (claim["id"], claim["paper"], laptop["n"], laptop["unit"]) == (
        "bf16-vision",
        "bf16",
        3,
        "fraction",
    )
    assert laptop["low"] < laptop["estimate"] < laptop["high"]
    assert laptop["evidence"][0] == "runs/bf16/vision/fp32-s0"
    assert [one["verdict"] for one in laptop["rules"]] == ["exploratory", "not measured"]


def test_the_own_table_is_complete_and_fits_100_columns():
    results = verdicts.compute(paths.ROOT)
    text = render.text(results)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.endswith("\n") and not text.startswith("\n")
    data = verdicts.as_json(results)["claims"]
    assert isinstance(data, list) and len(data) == len(results)
    for result in results:
        assert f"{result.claim.id}: " in text
        assert f"`{result.claim.id}`" in render.markdown(results)
        assert result.verdicts["laptop"].verdict in words.WORDS


def test_numbers_read_as_points_ratios_and_units(measured: list[Result]):
    text = render.text(measured)
    assert "+0.03 pp [-0.16, +0.23]" in text
    assert "a net; test_accuracy, 78.0 % in the control" in text
    assert "But: It is flawed." in text and "*But:* It is flawed." in render.markdown(measured)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert words.quantity(5.321, "×") == "5.32×"
    assert words.quantity(-0.0123, "nats/token") == "-0.0123 nats/token"
    assert words.quantity(0.01, "fraction", signed=False) == "1.00 pp"


def test_scales_stand_below_each_other_with_their_records(measured: list[Result]):
    (only,) = measured
    laptop = only.verdicts["laptop"]
    standings = {"identical code": 4, "different since 1a2b3c4d": 2}
    further = {"desk@ryzen": dataclasses.replace(laptop, standings=standings)}
    empty = {"desk@box": dataclasses.replace(laptop, verdict="not measured", n=0, estimate=None)}
    both = [Result(only.claim, {**only.verdicts, **further, **empty}, only.rules)]
    for text in (" ".join(render.text(both).split()), render.markdown(both)):
        assert text.count("bf16-vision") == text.count("desk@ryzen") == 1
        assert text.count("records: 4 identical code, 2 different since 1a2b3c4d") == 1
        assert "desk@box" not in text


def test_a_markdown_cell_cannot_break_the_table(tmp_path: Path):
    write_claims(tmp_path, document(statement="a | b\nc"))
    lines = render.markdown(verdicts.compute(tmp_path)).splitlines()
    assert len(lines) == 3
    assert "a \\| b c" in lines[2]


def test_no_claims_print_as_a_sentence(tmp_path: Path):
    write_claims(tmp_path, {"papers": {}, "claims": []})
    assert "no claims" in render.text(verdicts.compute(tmp_path))


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
        "import sys; from pathlib import Path; from leandnn.claims import verdicts; from leandnn.report import render;"
        f"render.text(verdicts.compute(Path({str(tmp_path)!r})));"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_runs_nothing_is_measured_and_nothing_fails(tmp_path: Path):
    write_claims(tmp_path, document())
    (result,) = verdicts.compute(tmp_path)
    found = result.verdicts["laptop"]
    assert (found.verdict, found.n, found.estimate, found.evidence) == ("not measured", 0, None, ())
    assert "not measured" in render.text([result])
    assert "not measured" in render.markdown([result])
