"""Which digests were proved to be of equal behaviour: studies/proofs.jsonl, a line a proof, only ever added to.

A line: {"format": 1, "study", "arm", "from", "to", "how", "commit", "machine", …, "sha256"}; see prove.py. Of digests
that are equal the first stands for all.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import write_text

FORMAT = 1
KEYS = ("format", "of", "from", "to", "how", "base", "machine", "versions", "sha256")
HOWS = ("miniature", "replay")


def ledger() -> Path:
    """The file of proofs."""
    return paths.ROOT / "studies" / "proofs.jsonl"


def signed(proof: Mapping[str, Any]) -> dict[str, Any]:
    """The proof with a digest of itself, so that an edit by hand is seen."""
    content = {key: value for key, value in proof.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def read(path: Path | None = None) -> list[dict[str, Any]]:
    """The proofs of a file, none where there is no file; LeandnnError, naming the line, for a damaged one."""
    path = path or ledger()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise LeandnnError(f"{paths.relative(path)} cannot be read ({error}): git checkout -- it") from error
    return [
        _checked(line, f"{paths.relative(path)}, line {number}")
        for number, line in enumerate(lines, 1)
        if line
    ]


def _checked(line: str, where: str) -> dict[str, Any]:
    mend = "take it from git again, or delete the line and prove anew"
    try:
        proof = json.loads(line)
    except ValueError as error:
        raise LeandnnError(f"{where} is not whole JSON ({error}): {mend}") from error
    found = proof.get("format") if isinstance(proof, dict) else None
    if found != FORMAT:
        raise LeandnnError(f"{where} has format {found!r}, expected {FORMAT}: {mend}")
    if missing := [key for key in KEYS if key not in proof]:
        raise LeandnnError(f"{where} has no {', '.join(missing)}, expected all of {', '.join(KEYS)}: {mend}")
    if proof["how"] not in HOWS:
        raise LeandnnError(f"{where} was proved by {proof['how']!r}, expected {' or '.join(HOWS)}: {mend}")
    if (digest := signed(proof)["sha256"]) != proof["sha256"]:
        raise LeandnnError(
            f"{where} has the SHA-256 {digest[:12]}…, expected {str(proof['sha256'])[:12]}… (edited by hand?): {mend}"
        )
    return dict(proof)


def add(proof: Mapping[str, Any], path: Path | None = None) -> None:
    """Append a proof; the lines that are there stay as they are."""
    path = path or ledger()
    known = read(path)
    lines = [json.dumps(signed(one), sort_keys=True) for one in [*known, {"format": FORMAT, **proof}]]
    write_text(path, "\n".join(lines) + "\n")
    classes.cache_clear()


@functools.cache
def classes() -> Mapping[str, str]:
    """Digest → the first of those that were proved equal to it."""
    first: dict[str, str] = {}
    for proof in read():
        known, new = first.get(proof["from"], proof["from"]), first.get(proof["to"], proof["to"])
        if known != new:
            first |= {digest: known for digest, own in first.items() if own == new}
            first |= {proof["to"]: known, new: known}
    return first


def canonical(digest: str) -> str:
    """The digest that stands for all that were proved equal to this one."""
    return classes().get(digest, digest)
