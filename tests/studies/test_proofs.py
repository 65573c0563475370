"""The ledger of proofs: chains of equal digests, and damage that is one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.studies import digests, proofs, standing


def proof(old: str, new: str, how: str = "miniature") -> dict[str, object]:
    return {
        "of": "bf16-vision/bf16", "from": old, "to": new, "how": how, "base": "1a2b3c4d", "machine": "box",
        "versions": {"torch": "2"},
    }  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty repository's ledger."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "studies").mkdir()
    proofs.classes.cache_clear()
    yield proofs.ledger()
    proofs.classes.cache_clear()


def test_without_a_ledger_every_digest_stands_for_itself(ledger: Path):
    assert (proofs.read(), proofs.canonical("a")) == ([], "a")


def test_a_chain_of_proofs_has_its_first_digest_for_all(ledger: Path):
    for old, new in (("a", "b"), ("b", "c"), ("x", "y"), ("c", "d")):
        proofs.add(proof(old, new))
    assert [proofs.canonical(digest) for digest in "abcdxyz"] == ["a", "a", "a", "a", "x", "x", "z"]


def test_a_proof_between_two_chains_makes_one_of_them(ledger: Path):
    for old, new in (("a", "b"), ("x", "y"), ("y", "z"), ("b", "y")):
        proofs.add(proof(old, new))
    assert {proofs.canonical(digest) for digest in "abxyz"} == {"a"}


def test_an_edit_that_is_undone_ends_in_the_first_class(ledger: Path):
    for old, new in (("a", "b"), ("b", "a"), ("b", "c")):
        proofs.add(proof(old, new))
    assert {proofs.canonical(digest) for digest in "abc"} == {"a"}


def test_proofs_are_only_ever_added(ledger: Path):
    proofs.add(proof("a", "b"))
    before = ledger.read_text()
    proofs.add(proof("b", "c", "replay"))
    assert ledger.read_text().startswith(before)
    assert [(one["from"], one["to"], one["how"], one["format"]) for one in proofs.read()] == [
        ("a", "b", "miniature", 1),
        ("b", "c", "replay", 1),
    ]


def signed(**changes: object) -> str:
    return json.dumps(proofs.signed({"format": 1, **proof("c", "d"), **changes}))


def without(key: str) -> str:
    content = {k: v for k, v in json.loads(signed()).items() if k != key}
    return json.dumps(proofs.signed(content))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (signed()[:-20], "line 2 is not whole JSON"),
        ("[]", "line 2 has format None, expected 1"),
        (signed(format=2), "line 2 has format 2, expected 1"),
        (without("base"), "line 2 has no base, expected all of format, of"),
        (signed(how="feeling"), "line 2 was proved by 'feeling', expected miniature or replay"),
        (signed().replace('"c"', '"e"'), "line 2 has the SHA-256 .* \\(edited by hand\\?\\)"),
    ],
    ids=["truncated", "no object", "format", "key missing", "how", "edited"],
)
def test_a_damaged_line_is_named_and_nothing_is_added(ledger: Path, line: str, words: str):
    proofs.add(proof("a", "b"))
    text = ledger.read_text() + line + "\n"
    ledger.write_text(text)
    with pytest.raises(
        LeandnnError, match=f"^studies/proofs.jsonl, {words}.*: take it from git again"
    ) as caught:
        proofs.add(proof("y", "z"))
    assert "\n" not in str(caught.value)
    assert ledger.read_text() == text
    with pytest.raises(LeandnnError, match=words):
        proofs.canonical("a")


def test_a_ledger_that_is_no_text_is_one_sentence(ledger: Path):
    ledger.write_bytes(b"\xff\xfe")
    with pytest.raises(LeandnnError, match=r"^studies/proofs\.jsonl cannot be read .*: git checkout"):
        proofs.read()


def entry(**changes: object) -> dict[str, object]:
    return {
        "paper": "bf16", "comparison": "vision", "arm": "bf16", "profile": "desk", "seed": 0,
        "commit": "1a2b3c4d5e", "behaviour": "now", **changes,
    }  # fmt: skip


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "today", lambda: {"bf16-vision/bf16": "now"})


@pytest.mark.usefixtures("today")
def test_a_record_is_called_by_what_its_code_is_to_todays(ledger: Path):
    proofs.add(proof("old", "now"))
    said = {
        "now": "identical code",
        "old": "proved equal",
        "other": "different since 1a2b3c4d",
    }
    assert {digest: standing.standing(entry(behaviour=digest)) for digest in said} == said
    before = {key: value for key, value in entry().items() if key != "behaviour"}
    assert standing.standing(before) == "before digests, commit 1a2b3c4d"
    assert standing.standing(entry(arm="gone")) == "different since 1a2b3c4d"
    assert [standing.rank(words) for words in (*said.values(), standing.standing(before))] == [0, 1, 2, 2]


@pytest.mark.usefixtures("today")
def test_of_a_runs_records_the_one_of_todays_code_counts(ledger: Path):
    proofs.add(proof("old", "now"))
    entries = [
        entry(behaviour=digest, commit=str(at)) for at, digest in enumerate(("now", "old", "x", "now", "x"))
    ]
    assert [one["commit"] for one in standing.counting(entries)] == ["3"], "the newest of equals"
    assert [one["commit"] for one in standing.counting(entries[1:3])] == ["1"], (
        "proved equal before different"
    )
    assert len(standing.counting([*entries, entry(seed=1), entry(profile="paper")])) == 3
