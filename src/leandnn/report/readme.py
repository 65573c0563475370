"""The generated blocks of README.md: filled by `leandnn claims --write`, compared by a test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from leandnn import paths
from leandnn.claims.verdicts import Result
from leandnn.errors import LeandnnError
from leandnn.files import write_text
from leandnn.report import pages, render


def filled(results: Sequence[Result], root: Path = paths.ROOT) -> str:
    """README.md with its blocks filled from claims, reference/ and nothing else.

    A block is "claims" or a table's name. LeandnnError for one that is neither.
    """
    text, known = (root / "README.md").read_text(encoding="utf-8"), pages.every_table()
    blocks = {}
    for name in re.findall(r"^<!-- generated: (.*) -->$", text, re.MULTILINE):
        if name != "claims" and name not in known:
            raise LeandnnError(
                f"README.md has a block {name!r}, expected claims or one of {', '.join(sorted(known))}"
            )
        blocks[name] = render.markdown(results) if name == "claims" else known[name].markdown(root)
    return render.fill_blocks(text, blocks)


def write(results: Sequence[Result], root: Path = paths.ROOT) -> None:
    """Fill README.md in place."""
    write_text(root / "README.md", filled(results, root))
