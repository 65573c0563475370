"""Result files of studies run outside the pipeline: reference/<machine>/<paper>-<comparison>.json.

One file per study and machine: {"format": 1, "study", "machine": card, "runs": {"<profile>/<run>": record}}.
A record says what the run's result depends on (budget, code, data, threads, device, versions, commit) and
carries a digest of itself, so that an edit by hand is seen. "failed" holds, under the same names, runs that ended
with an error: what they depend on, and the error's sentence ("why"). Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from leandnn.errors import LeandnnError
from leandnn.files import write_json
from leandnn.paths import relative

FORMAT = 1
KEYS = (
    "profile", "paper", "comparison", "arm", "seed", "budget", "threads", "device", "settings", "metrics",
    "best", "history", "parameters", "steps", "failure", "weights_sha256", "seconds", "peak_mib", "code",
    "code_of", "data", "versions", "commit",
)  # fmt: skip
FAILED_KEYS = (
    "profile", "paper", "comparison", "arm", "seed", "budget", "threads", "device", "code", "code_of", "data",
    "versions", "commit", "why",
)  # fmt: skip


def digest(record: dict[str, Any]) -> str:
    """SHA-256 over a record's canonical JSON, its own `sha256` left out."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def signed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its digest."""
    return {**record, "sha256": digest(record)}


def problem(record: Any, keys: tuple[str, ...] = KEYS) -> str | None:
    """Why a record cannot be trusted, in words, or None."""
    if not isinstance(record, dict):
        return f"it is a {type(record).__name__}, expected an object"
    if missing := [key for key in (*keys, "sha256") if key not in record]:
        return f"it lacks {', '.join(missing)}"
    if (found := digest(record)) != record["sha256"]:
        return f"its SHA-256 is {found[:12]}…, expected {str(record['sha256'])[:12]}… (edited by hand?)"
    return None


def read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A study's file, and a sentence for each record that is refused (it is left out).

    LeandnnError where the file as a whole cannot be used: half-written, NaN, another format.
    """
    name = relative(path)

    def refuse(constant: str) -> float:
        raise LeandnnError(f"{name} holds {constant}, expected finite numbers only")

    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise LeandnnError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LeandnnError(f"{name} is not whole JSON ({error}); restore it or delete it") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise LeandnnError(f"{name} has format {found!r}, expected {FORMAT}")
    if "runs" not in document:
        raise LeandnnError(f"{name} has no runs, expected an object of them")
    problems: list[str] = []
    kept: dict[str, dict[str, Any]] = {"runs": {}, "failed": {}}
    for part, keys in (("runs", KEYS), ("failed", FAILED_KEYS)):
        found = document.get(part, {})
        if not isinstance(found, dict):
            raise LeandnnError(f"{name} has {type(found).__name__} as {part}, expected an object")
        for key, record in found.items():
            if (why := problem(record, keys)) is None:
                kept[part][key] = record
            else:
                problems.append(f"{name}: run {key} is refused, {why}")
    return {**document, **kept}, problems


def merge(
    path: Path, study: str, card: dict[str, Any], key: str, record: dict[str, Any], *, part: str = "runs"
) -> None:
    """Add or replace one run in a study's file, atomically; the caller holds the study's lock.

    - part: "runs", or "failed" for one that ended with an error; an older result stays beside it.
    """
    document: dict[str, Any] = {"runs": {}, "failed": {}}
    if path.exists():
        document, problems = read(path)
        if problems:
            raise LeandnnError(f"{problems[0]}; restore or delete it before anything is added")
    parts = {name: dict(document[name]) for name in ("runs", "failed")}
    parts["failed"].pop(key, None)
    parts[part][key] = signed(record)
    if not parts["failed"]:
        del parts["failed"]
    write_json(path, {"format": FORMAT, "study": study, "machine": card, **parts})
