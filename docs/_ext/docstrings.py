"""This package's docstrings as reStructuredText: what they have of Markdown, translated.

They use single backticks for code, `- name: …` lists of arguments, and code indented by four after a line
that ends with a colon; tables and emphasis are written the same way in both languages.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(``?)([^`\n]+?)\1(?!`)")
ITEM = re.compile(r"\s*- ")


def translate(lines: list[str]) -> list[str]:
    """The docstring's lines (their common indent removed) in reStructuredText."""
    result: list[str] = []
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        indented = line.startswith("    ") and not before.strip()
        if indented and result and not (_inside_code(result) or _inside_list(result)):
            result += ["::", ""]
        if ITEM.match(line) and before.strip() and not _is_item_text(lines, number - 1):
            result.append("")  # Markdown lets a list follow a sentence at once
        # A backslash and a space end the markup inside a word, and show nothing: ±`margin`, `unit`s.
        result.append(line if line.startswith("    ") else CODE.sub(r"\\ ``\2``\\ ", line))
    return result


def _inside_code(result: list[str]) -> bool:
    """Whether a `::` was opened and no line at the margin has followed."""
    for line in reversed(result):
        if line == "::":
            return True
        if line and not line.startswith("    "):
            return False
    return False


def _inside_list(result: list[str]) -> bool:
    last = next((line for line in reversed(result) if line and not line.startswith("  ")), "")
    return bool(ITEM.match(last))


def _is_item_text(lines: list[str], number: int) -> bool:
    """Whether a line belongs to an item of a list: walk up to where its paragraph starts."""
    while number >= 0 and lines[number].strip():
        if ITEM.match(lines[number]):
            return True
        number -= 1
    return False


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's event autodoc-process-docstring."""
    lines[:] = translate(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
