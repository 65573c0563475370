"""Result files of studies run outside the pipeline: reference/<machine>/<paper>-<comparison>.json.

One file per study and machine: {"format": 2, "study", "machine": card, "runs": [record, …], "failed": [record, …]}.
A record says what the run's result depends on (budget, behaviour of its code, data, threads, device, versions,
commit) and carries a digest of itself, so that an edit by hand is seen. Records are added and never changed or
removed: one of the same run, made by other code, stands beside the old one. "failed" holds runs that ended with an
error: what they depend on, and the error's sentence ("why").

Files of format 1, whose parts are objects by run and whose records name source files and a digest of their bytes
("code_of", "code") instead of "behaviour", are read for ever. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leandnn.errors import LeandnnError
from leandnn.files import write_json
from leandnn.paths import relative

FORMAT = 2
PARTS = ("runs", "failed")
MADE_OF = (
    "profile", "paper", "comparison", "arm", "seed", "budget", "threads", "device", "versions", "commit",
)  # fmt: skip
KEYS = {
    "runs": (
        *MADE_OF, "settings", "metrics", "best", "history", "parameters", "steps", "failure", "weights_sha256",
        "seconds", "peak_mib",
    ),
    "failed": (*MADE_OF, "why"),
}  # fmt: skip


def name(record: Mapping[str, Any]) -> str:
    """E.g. "desk/bf16-s0": the run within its study."""
    return f"{record['profile']}/{record['arm']}-s{record['seed']}"


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 over a record's canonical JSON, its own `sha256` left out."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def signed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its digest."""
    return {**record, "sha256": digest(record)}


def problem(record: Any, part: str = "runs") -> str | None:
    """Why a record of "runs" or "failed" cannot be trusted, in words, or None."""
    if not isinstance(record, dict):
        return f"it is a {type(record).__name__}, expected an object"
    made_by = ("code", "code_of", "data") if "code" in record else ("behaviour", "inputs", "torch")
    if missing := [key for key in (*KEYS[part], *made_by, "sha256") if key not in record]:
        return f"it lacks {', '.join(missing)}"
    if (found := digest(record)) != record["sha256"]:
        return f"its SHA-256 is {found[:12]}…, expected {str(record['sha256'])[:12]}… (edited by hand?)"
    return None


def read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A study's file in format 2, and a sentence for each record that is refused (it is left out).

    LeandnnError where the file as a whole cannot be used: half-written, NaN, another format.
    """
    where = relative(path)
    document = _load(path, where)
    problems: list[str] = []
    kept: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for part in PARTS:
        for title, record in _entries(document, part, where):
            if (why := problem(record, part)) is None:
                kept[part].append(record)
            else:
                problems.append(f"{where}: run {title} is refused, {why}")
    return {**document, "format": FORMAT, **kept}, problems


def _load(path: Path, where: str) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise LeandnnError(f"{where} holds {constant}, expected finite numbers only")

    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise LeandnnError(f"cannot read {where}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LeandnnError(f"{where} is not whole JSON ({error}); restore it or delete it") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found not in (1, FORMAT):
        raise LeandnnError(f"{where} has format {found!r}, expected 1 or {FORMAT}")
    if "runs" not in document:
        raise LeandnnError(f"{where} has no runs, expected {'an object' if found == 1 else 'a list'} of them")
    return dict(document)


def _entries(document: dict[str, Any], part: str, where: str) -> Iterator[tuple[str, Any]]:
    """Records of one part, each with what to call it in a message."""
    kind, word = (dict, "an object") if document["format"] == 1 else (list, "a list")
    found = document.get(part, kind())
    if not isinstance(found, kind):
        raise LeandnnError(f"{where} has {type(found).__name__} as {part}, expected {word}")
    if isinstance(found, dict):
        yield from found.items()
        return
    for number, record in enumerate(found):
        known = isinstance(record, dict) and {"profile", "arm", "seed"} <= record.keys()
        yield (name(record) if known else str(number)), record


def append(path: Path, study: str, card: dict[str, Any], record: dict[str, Any], part: str = "runs") -> None:
    """Add a record to a study's file, atomically; the caller holds the study's lock.

    - card: of the machine, written with the first record.
    - part: "runs", or "failed" for a run that ended with an error.

    LeandnnError for a file with a record that is refused: nothing is written over what a person must look at.
    """
    document: dict[str, Any] = {"machine": card, **{part: [] for part in PARTS}}
    if path.exists():
        document, problems = read(path)
        if problems:
            raise LeandnnError(f"{problems[0]}; restore or delete it before anything is added")
    document[part].append(signed(record))
    write_json(path, {**document, "format": FORMAT, "study": study})


def unfinished(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The "failed" records of a file whose run has not ended well since, with the same code, budget and data."""

    def made(record: Mapping[str, Any]) -> str:
        keys = ("behaviour", "code", "budget", "threads", "device", "data", "inputs", "torch")
        by = [record.get(key) for key in keys]
        return json.dumps([name(record), *by], sort_keys=True)

    done = {made(record) for record in document["runs"]}
    return [record for record in document["failed"] if made(record) not in done]
