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
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.machine import card
from leandnn.studies import digests, edits, proofs, records
from leandnn.studies.digests import Behaviour

SIDE = Path("tools/side.py")
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


@dataclass(frozen=True)
class Side:
    """A state of the package that can be run: its name, its root, and what its Python path begins with."""

    name: str
    root: Path
    site: Path

    def train(self, request: dict[str, Any], threads: int) -> dict[str, Any]:
        """What tools/side.py says of a request; LeandnnError with its last line where it fails."""
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder) / "request.json", Path(folder) / "result.json"
            asked.write_text(json.dumps(request))
            libraries = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
            environment = {
                **os.environ,
                "LEANDNN_ROOT": str(paths.ROOT),  # the data, and nets that judge
                "OMP_NUM_THREADS": str(threads),
                "PYTHONPATH": f"{self.site}{os.pathsep}{libraries}",
            }
            # -S: an editable install of the working tree would come first.
            command = [sys.executable, "-S", str(self.root / SIDE), str(asked), str(answered)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise LeandnnError(
                    f"{request['study']}/{request['arm']} does not train at {self.name}: {said}"
                )
            result: dict[str, Any] = json.loads(answered.read_text())
            return result


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
        new = stack.enter_context(_built("today's code", paths.ROOT))
        olds: dict[str, tuple[Side, dict[str, Behaviour]]] = {}
        for evidence in touched:
            commit = base or _commit_of(evidence, stack, olds)
            if commit not in olds:
                olds[commit] = _side_of(commit, stack)
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


# -- states of the package ---------------------------------------------------------------------------------------


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except FileNotFoundError as error:
        raise LeandnnError("there is no git here, expected it: proofs compare with a commit") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["it failed"])[-1]
        raise LeandnnError(
            f"git {arguments[0]} says: {said}; proofs compare with a commit of this clone"
        ) from error


def _commit_of(
    evidence: Evidence, stack: ExitStack, olds: dict[str, tuple[Side, dict[str, Behaviour]]]
) -> str:
    """The newest commit at which the arm does what its evidence did; LeandnnError where none of the last is."""
    commits = _git("log", "--format=%H", f"-{DEPTH}", "--first-parent", "HEAD", "--", *_SOURCE).splitlines()
    for commit in commits:
        if commit not in olds:
            olds[commit] = _side_of(commit, stack, build=False)
        was = olds[commit][1].get(evidence.arm)
        if was is not None and proofs.canonical(was.digest) == proofs.canonical(evidence.behaviour):
            olds[commit] = _side_of(commit, stack)
            return commit
    raise LeandnnError(
        f"{evidence.arm} did what its evidence did at none of the last {len(commits)} commits that touch the source; "
        "--base names another one, or train it anew"
    )


def _side_of(commit: str, stack: ExitStack, *, build: bool = True) -> tuple[Side, dict[str, Behaviour]]:
    """The package at a commit, in a worktree of its own, and what every arm did there."""
    root = stack.enter_context(_worktree(commit))
    if not (root / SIDE).is_file():
        raise LeandnnError(f"{commit[:8]} has no {SIDE}: it is from before there were proofs")
    side = stack.enter_context(_built(commit[:8], root)) if build else Side(commit[:8], root, root / "src")
    code = (
        "import json, sys; from leandnn.studies import digests; "
        "print(json.dumps({a: [b.parts, b.value] for a, b in digests.behaviours().items()}))"
    )
    libraries = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    environment = {
        **os.environ,
        "LEANDNN_ROOT": str(root),
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{libraries}",
    }
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LeandnnError(f"what arms do at {commit[:8]} cannot be read: {said}")
    return side, {arm: Behaviour(*found) for arm, found in json.loads(done.stdout).items()}


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leandnn-prove-"))
    try:
        _git("worktree", "add", "--detach", "--force", str(folder / "tree"), commit)
        yield folder / "tree"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "-C", str(paths.ROOT), "worktree", "prune"], capture_output=True, check=False)


@contextmanager
def _built(name: str, root: Path) -> Iterator[Side]:
    """The package of a root, copied into a folder of its own together with its kernels."""
    site = Path(tempfile.mkdtemp(prefix="leandnn-site-"))
    try:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "cpu")
        shutil.copytree(root / "src" / "leandnn", site / "leandnn", ignore=ignored)
        kernels = _kernels(name, root)
        shutil.copy(kernels, site / "leandnn" / "kernels" / f"_native{kernels.suffix}")
        yield Side(name, root, site)
    finally:
        shutil.rmtree(site, ignore_errors=True)


def _kernels(name: str, root: Path) -> Path:
    """The compiled kernels of a root; those of the same C++ are built once, into build/prove/."""
    package = root / "src" / "leandnn"
    built = (
        paths.BUILD
        / "prove"
        / f"native-{digests.source_digest(root, package, ('.cpp', '.hpp', '.inc'))[:16]}.so"
    )
    if built.is_file():
        return built
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index",
            "--no-build-isolation", "--target", folder, str(root),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
            raise LeandnnError(f"{name} does not build: {(said or ['pip failed'])[0].strip()}")
        found = next(Path(folder).glob("leandnn/kernels/_native*.so"))
        with replacing(built) as stream:
            stream.write(found.read_bytes())
    return built
