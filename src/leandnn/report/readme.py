"""What is generated in README.md: filled by `leandnn write`, compared by a test.

Three blocks (`<!-- generated: NAME -->` … `<!-- end: NAME -->`), and the numbers inside of sentences:
`<!-- CLAIM -->` … `<!-- / -->` holds effect, interval, n and place of a claim's strongest evidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from leandnn import paths
from leandnn.claims.verdicts import Result
from leandnn.errors import LeandnnError
from leandnn.files import write_text
from leandnn.report import costs, render, scoreboard

FOUND = re.compile(r"(<!-- ([\w-]+) -->).*?(<!-- / -->)")


def filled(results: Sequence[Result], root: Path = paths.ROOT) -> str:
    """README.md with its blocks and numbers filled from claims, reference/ and nothing else.

    LeandnnError for a block or a claim that is unknown.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    machines, known = scoreboard.letters(results), {"scoreboard", *costs.README}
    blocks = {}
    for name in re.findall(r"^<!-- generated: (.*) -->$", text, re.MULTILINE):
        if name not in known:
            raise LeandnnError(f"README.md has a block {name!r}, expected one of {', '.join(sorted(known))}")
        if name == "scoreboard":
            blocks[name] = f"{scoreboard.table(results, machines)}\n\n{scoreboard.legend(machines)}"
        else:
            blocks[name] = costs.README[name](root)
    numbers = {result.claim.id: scoreboard.in_words(result, machines) for result in results}

    def number(match: re.Match[str]) -> str:
        opening, name, closing = match.groups()
        if name not in numbers:
            raise LeandnnError(f"README.md has a number of {name!r}, expected the name of a claim")
        return f"{opening}{numbers[name]}{closing}"

    return FOUND.sub(number, render.fill_blocks(text, blocks))


def write(results: Sequence[Result], root: Path = paths.ROOT) -> None:
    """Fill README.md in place."""
    write_text(root / "README.md", filled(results, root))
