"""What today's code says of a record: whether it is what the same run would give now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def standing(record: Mapping[str, Any]) -> str:
    """ "identical code", "proved equal", "different since <commit>" or "before digests, commit <commit>"."""
    if "behaviour" not in record:
        return f"before digests, commit {record['commit'][:8]}"
    return "identical code"
