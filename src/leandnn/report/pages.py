"""What each paper shows beside its notebook. A folder of this package that has a `PAGE` is found; no list names it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leandnn import report
from leandnn.report import costs
from leandnn.report.tables import Table


@dataclass(frozen=True)
class Page:
    """A paper's, or the kernels'.

    - notebook: its name in notebooks/, by which pages are ordered. tables: by name, in their order on the page.
    - landing: the figure that shows what became of its main claim; "" for none.
    - missed: why targets of its benches are missed, and where its numbers hold, as Markdown.
    """

    notebook: str
    tables: Mapping[str, Table[Any]] = field(default_factory=dict)
    landing: str = ""
    missed: str = ""

    @property
    def name(self) -> str:
        """Of its file in reports/; a paper's is its key in claims.yaml."""
        return self.notebook.partition("_")[2]


def pages() -> list[Page]:
    """Every page, in the order of the notebooks."""
    folders = [f"{report.__name__}.{m.name}" for m in pkgutil.iter_modules(report.__path__) if m.ispkg]
    found = [getattr(importlib.import_module(name), "PAGE", None) for name in folders]
    return sorted((page for page in found if page is not None), key=lambda page: page.notebook)


def speed() -> dict[str, Table[Any]]:
    """The tables of all pages, by name."""
    return {name: table for page in pages() for name, table in page.tables.items()}


def every_table() -> dict[str, Table[Any]]:
    """All tables by name: of prices, too."""
    return costs.TABLES | speed()
