"""What each paper shows beside its notebook. A folder of this package that has a `PAGE` is found; no list names it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leandnn import report
from leandnn.report import costs
from leandnn.report.tables import Table


@dataclass(frozen=True)
class Page:
    """A paper's, or the kernels'.

    - notebook: its name in notebooks/, by which pages are ordered. tables: in the order in which they are shown.
    - landing: the figure that shows what became of its main claim; "" for none.
    """

    notebook: str
    tables: Sequence[Table[Any]] = ()
    landing: str = ""


def pages() -> list[Page]:
    """Every page, in the order of the notebooks."""
    folders = [f"{report.__name__}.{m.name}" for m in pkgutil.iter_modules(report.__path__) if m.ispkg]
    found = [getattr(importlib.import_module(name), "PAGE", None) for name in folders]
    return sorted((page for page in found if page is not None), key=lambda page: page.notebook)


def speed() -> list[Table[Any]]:
    """The tables of all pages."""
    return [table for page in pages() for table in page.tables]


def every_table() -> dict[str, Table[Any]]:
    """All tables by their names."""
    tables: list[Table[Any]] = [*costs.TABLES, *speed()]
    return {table.name: table for table in tables}
