"""What counts as a proof, by sides that only say what came out of them; test_prove.py trains real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.studies import digests, edits, proofs, prove, states
from leandnn.studies.digests import Behaviour

OUTCOME = {"weights_sha256": "w", "failure": None, "history": [{"loss": 1.0}], "metrics": {"acc": 0.5}}
EVIDENCE = prove.Evidence("p-c/arm", "", {"epochs": 1}, 0, 1, OUTCOME)
WAS, NOW, OTHER = (Behaviour({"m:f": digest}, [value]) for digest, value in (("1", 1), ("2", 1), ("2", 2)))


class Side:
    """A state of the package whose every training ends alike."""

    def __init__(
        self, name: str, root: Path, outcome: dict[str, Any], executed: tuple[int, ...] = (3,)
    ) -> None:
        self.name, self.root, self.outcome, self.executed = name, root, outcome, executed
        self.trained: list[dict[str, Any]] = []

    def train(self, request: dict[str, Any], threads: int) -> dict[str, Any]:
        self.trained.append(request)
        return {"outcome": self.outcome, "executed": {"m.py": list(self.executed)}}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty repository's ledger, where one line differs between the two sides."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(edits, "between", lambda *states: edits.Edit("", {"m.py": [3]}, {"m.py": [3]}))
    (tmp_path / "studies").mkdir()
    proofs.classes.cache_clear()
    yield proofs.ledger()
    proofs.classes.cache_clear()


def judged(root: Path, old: dict[str, Any], new: dict[str, Any], **how: Any) -> str:
    """What is said of an arm by the outcomes of the two sides."""
    sides = (
        Side("1a2b3c4d", root, OUTCOME | old, how.pop("before", (3,))),
        Side("today's code", root, OUTCOME | new, how.pop("after", (3,))),
    )
    values = {"was": WAS, "now": NOW, "replay": False, **how}
    line, equal = prove._judged(EVIDENCE, values.pop("was"), values.pop("now"), *sides, **values)
    assert equal == line.startswith("proved equal")
    return line


def test_equal_bits_of_lines_seen_executed_are_a_proof(ledger: Path):
    assert judged(ledger.parent, {}, {}) == "proved equal in miniature"
    (proof,) = proofs.read()
    assert (proof["of"], proof["to"], proof["how"]) == ("p-c/arm", NOW.digest, "miniature")
    assert proof["base"] == "1a2b3c4d"


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("weights_sha256", "x"),
        ("failure", "it diverged"),
        ("history", [{"loss": 1.0 + 2**-52}]),
        ("metrics", {"acc": 0.5 + 2**-53}),
        ("metrics", {"acc": 0.5, "more": 1.0}),
        ("metrics", {}),
    ],
    ids=["weights", "failure", "history", "last bit of a metric", "further metric", "no metric"],
)
@pytest.mark.parametrize("replay", [False, True], ids=["miniature", "whole run"])
def test_one_bit_that_differs_is_no_proof(ledger: Path, part: str, other: Any, replay: bool):
    how = {"replay": True, "now": OTHER} if replay else {}
    name = part if part != "metrics" else "more" if "more" in other else "acc"
    place = "a whole run" if replay else "miniature"
    assert judged(ledger.parent, {}, {part: other}, **how) == (
        f"different since 1a2b3c4d: in {place} its {name} is another"
    )
    assert not ledger.exists()


@pytest.mark.parametrize(("side", "name"), [("before", "1a2b3c4d"), ("after", "today's code")])
def test_a_line_that_is_not_executed_on_one_side_is_no_proof(ledger: Path, side: str, name: str):
    line = judged(ledger.parent, {}, {}, **{side: (2, 4)})
    assert f"m.py:3 ({name}) is not executed in miniature; --replay trains a whole run" in line
    assert not ledger.exists()


def test_an_arm_of_other_values_needs_a_whole_run(ledger: Path):
    assert "made of other values; --replay" in judged(ledger.parent, {}, {}, now=OTHER)
    assert not ledger.exists()
    said = judged(ledger.parent, {}, {}, now=OTHER, replay=True)
    assert said == "proved equal by a whole run, to the bits of its evidence"
    assert [proof["how"] for proof in proofs.read()] == ["replay"]


def test_evidence_of_another_machine_runs_whole_on_both_sides(ledger: Path):
    elsewhere = {"weights_sha256": "of this machine"}
    said = judged(ledger.parent, elsewhere, elsewhere, now=OTHER, replay=True)
    assert said == "proved equal by a whole run, to the bits of 1a2b3c4d"


@pytest.mark.usefixtures("ledger")
def test_a_base_that_did_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = prove.Evidence("p-c/arm", WAS.digest, {"epochs": 1}, 0, 1, OUTCOME)
    base = {"p-c/arm": Behaviour({"m:f": "3"}, [1])}
    sides = {name: Side(name, tmp_path, OUTCOME) for name in ("today's code", "0123456")}
    monkeypatch.setattr(digests, "behaviours", lambda reader: {"p-c/arm": NOW})
    monkeypatch.setattr(prove, "evidence_by_arm", lambda: [own])
    monkeypatch.setattr(states, "built", lambda name, root: ExitStack())
    monkeypatch.setattr(states, "side_of", lambda commit, stack: (sides[commit], base))
    with pytest.raises(
        LeandnnError, match="^at 0123456 p-c/arm did not do what its evidence did, expected a"
    ):
        prove.prove(base="0123456")
    assert not any(side.trained for side in sides.values())
    base["p-c/arm"] = WAS
    monkeypatch.setattr(prove, "_judged", lambda *sides, replay: ("proved equal", True))
    assert prove.prove(base="0123456") == 0
