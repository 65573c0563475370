"""`leandnn prove`: shows that edits changed no result, by training on both sides of them.

Evidence is runs of runs/ and records of reference/, each with the digest of what its arm did. Where an arm does
something else today, by its digest, the newest commit is looked up at which it still did what its evidence did; that
state of the package is built by itself, and the arm is trained by both on this machine:

- in miniature, where a miniature can speak for the edit (edits.py), with every changed line seen executed;
- else, with `replay`, as a whole: one run of its evidence, which today's code must repeat to the bit (on the machine
  that made it, or the other side's code is trained as well).

Weights, metrics and history equal to the bit prove the digests equal, which is added to studies/proofs.jsonl at once;
anything else leaves the arm different. A proof that is killed has lost nothing but the arm it was at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.studies import digests, edits, proofs, records, states
from leandnn.studies.digests import Behaviour
from leandnn.studies.states import Side

DEPTH = 30  # commits that touch the source, looked at for the state that evidence is of
_SOURCE = ("src", "CMakeLists.txt", "pyproject.toml")


@dataclass(frozen=True)
class Evidence:
    """The cheapest run of an arm: what it was asked, and what came out."""

    arm: str
    behaviour: str
    budget: dict[str, Any]
    seed: int
    threads: int
    outcome: dict[str, Any]


def prove(only: Sequence[str] = (), *, base: str | None = None, replay: bool = False) -> int:
    """Prove what can be proved; prints a line an arm, and returns how many stay different.

    - only: studies or arms ("bf16-vision", "bf16-vision/bf16"); all that have evidence if empty.
    - base: the commit to compare with; searched for by default.
    - replay: train whole runs where a miniature cannot speak for the edit.
    """
    reader = digests.Reader()
    arms = digests.behaviours(reader)
    touched = [
        evidence
        for evidence in evidence_by_arm()
        if evidence.arm in arms
        and (not only or {evidence.arm, evidence.arm.partition("/")[0]} & set(only))
        and proofs.canonical(evidence.behaviour) != proofs.canonical(arms[evidence.arm].digest)
    ]
    if not touched:
        print("nothing to prove: every arm does what its evidence did")
        return 0
    different = 0
    with ExitStack() as stack:
        new = stack.enter_context(states.built("today's code", paths.ROOT))
        olds: dict[str, tuple[Side, dict[str, Behaviour]]] = {}
        for evidence in touched:
            commit = base or _commit_of(evidence, stack, olds)
            if commit not in olds:
                olds[commit] = states.side_of(commit, stack)
            old, before = olds[commit]
            was = before.get(evidence.arm)
            if was is None or proofs.canonical(was.digest) != proofs.canonical(evidence.behaviour):
                raise LeandnnError(
                    f"at {commit[:8]} {evidence.arm} did not do what its evidence did, expected a commit that does"
                )
            line, equal = _judged(evidence, was, arms[evidence.arm], old, new, replay=replay)
            print(f"{evidence.arm}: {line}", flush=True)
            different += not equal
    return different


def _judged(
    evidence: Evidence, was: Behaviour, now: Behaviour, old: Side, new: Side, *, replay: bool
) -> tuple[str, bool]:
    """(in words, whether proved equal); the proof is kept."""
    edit = edits.between(was.parts, now.parts, old.root / "src" / "leandnn", new.root / "src" / "leandnn")
    if was.value != now.value:
        edit = edits.Edit("the arm itself is made of other values")
    request: dict[str, Any] = {
        "study": evidence.arm.partition("/")[0],
        "arm": evidence.arm.partition("/")[2],
        "budget": None,
        "seed": evidence.seed,
        "threads": evidence.threads,
        "state": None,
        "lines": None,
    }
    if not edit.reason:
        sides = [
            side.train({**request, "lines": lines}, evidence.threads)
            for side, lines in ((old, edit.before), (new, edit.after))
        ]
        if where := _differs(sides[0]["outcome"], sides[1]["outcome"]):
            return f"different since {old.name}: in miniature its {where} is another", False
        for side, lines, result in zip((old, new), (edit.before, edit.after), sides, strict=True):
            missed = [
                f"{file}:{line}"
                for file, numbers in lines.items()
                for line in numbers
                if line not in result["executed"][file]
            ]
            if missed and not edit.reason:
                edit = edits.Edit(f"{missed[0]} ({side.name}) is not executed in miniature")
        if not edit.reason:
            _keep(evidence, now, "miniature", old.name)
            return "proved equal in miniature", True
    if not replay:
        return (
            f"different since {old.name}, as far as is known: {edit.reason}; --replay trains a whole run",
            False,
        )
    state = paths.BUILD / "prove" / f"{evidence.arm.replace('/', '-')}-{now.digest}.ckpt"
    state.parent.mkdir(parents=True, exist_ok=True)
    whole = {**request, "budget": evidence.budget}
    found = new.train({**whole, "state": str(state)}, evidence.threads)["outcome"]
    state.unlink(missing_ok=True)
    expected, by = evidence.outcome, "its evidence"
    if _differs(expected, found):  # perhaps of another machine
        expected, by = old.train(whole, evidence.threads)["outcome"], old.name
    if where := _differs(expected, found):
        return f"different since {old.name}: in a whole run its {where} is another", False
    _keep(evidence, now, "replay", old.name)
    return f"proved equal by a whole run, to the bits of {by}", True


def _differs(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The first of weights, metrics, history and failure that is not equal to the bit; "" if all are."""
    for name in ("weights_sha256", "failure", "history"):
        if one[name] != other[name]:
            return name
    names = one["metrics"].keys() | other["metrics"].keys()
    return next((n for n in sorted(names) if one["metrics"].get(n) != other["metrics"].get(n)), "")


def _keep(evidence: Evidence, now: Behaviour, how: str, base: str) -> None:
    proofs.add(
        {
            "of": evidence.arm,
            "from": evidence.behaviour,
            "to": now.digest,
            "how": how,
            "base": base,
            "machine": card.name(),
            "versions": card.versions(),
        }
    )


def evidence_by_arm() -> Iterator[Evidence]:
    """Of every arm that has evidence with a digest, the run with the fewest epochs and examples."""
    found: dict[tuple[str, str], Evidence] = {}
    documents = [json.loads(path.read_text()) for path in sorted(paths.RUNS.glob("*/*/*/metrics.json"))]
    histories = [path.with_name("history.csv") for path in sorted(paths.RUNS.glob("*/*/*/metrics.json"))]
    from leandnn.studies.outcome import read_history

    entries = [
        {**document, "history": read_history(history.read_text())}
        for document, history in zip(documents, histories, strict=True)
        if "behaviour" in document
    ]
    for path in sorted(paths.REFERENCE.glob("*/*.json")):
        if not path.name.startswith(("bench-", "cost", "fuzz-")):
            entries += [entry for entry in records.read(path)[0]["runs"] if "behaviour" in entry]
    for entry in entries:
        arm = f"{entry['paper']}-{entry['comparison']}/{entry['arm']}"
        outcome = {key: entry[key] for key in ("weights_sha256", "metrics", "failure", "history")}
        own = Evidence(arm, entry["behaviour"], entry["budget"], entry["seed"], entry["threads"], outcome)
        key = (arm, proofs.canonical(own.behaviour))
        if key not in found or _work(own) < _work(found[key]):
            found[key] = own
    yield from found.values()


def _work(evidence: Evidence) -> int:
    return int(evidence.budget["epochs"]) * int(evidence.budget["train_examples"])


def _commit_of(
    evidence: Evidence, stack: ExitStack, olds: dict[str, tuple[Side, dict[str, Behaviour]]]
) -> str:
    """The newest commit at which the arm does what its evidence did; LeandnnError where none of the last is."""
    commits = states.git(
        "log", "--format=%H", f"-{DEPTH}", "--first-parent", "HEAD", "--", *_SOURCE
    ).splitlines()
    for commit in commits:
        if commit not in olds:
            olds[commit] = states.side_of(commit, stack, build=False)
        was = olds[commit][1].get(evidence.arm)
        if was is not None and proofs.canonical(was.digest) == proofs.canonical(evidence.behaviour):
            olds[commit] = states.side_of(commit, stack)
            return commit
    raise LeandnnError(
        f"{evidence.arm} did what its evidence did at none of the last {len(commits)} commits that touch the source; "
        "--base names another one, or train it anew"
    )
