"""The numbers that a figure draws, read back from it: what its CSV holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DENSE = 200
PIXELS = 1024  # of an image; a larger one is its own best table, and its rows would be most of reports/
COLUMNS = ("panel", "x axis", "y axis", "drawn as", "label", "x", "y")


def numbers(figure: Figure) -> pd.DataFrame:
    """A row for every point, end of a bar and pixel that is drawn in data coordinates, in the order of drawing.

    Columns: panel (its title), the axes' labels, what the number is drawn as, its label (or the legend's of
    its colour), x and y. A bar gives its end, a pixel its place; value, a further column, is the bar's
    length and the pixel's number. Where an axis has names instead of numbers, x or y is the name. Of a line
    of more than DENSE points every so many-th is given. Areas (bands), help lines that span an axis, and
    images of more than PIXELS pixels are left out.
    """
    import pandas as pd

    known = _by_colour(figure)
    rows = [row for number, ax in enumerate(figure.axes, 1) for row in _of_panel(ax, number, known)]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "value"])
    return table.drop(columns="value") if table.value.isna().all() else table


def _of_panel(ax: Axes, number: int, known: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    titles = (ax.get_title(where).replace("\n", ", ") for where in ("left", "center", "right"))
    panel = next(filter(None, titles), str(number))
    head = (panel, *(label().replace("\n", " ") for label in (ax.get_xlabel, ax.get_ylabel)))
    names = [_names(ax, which) for which in "xy"]

    def row(kind: str, artist: Any, x: Any, y: Any, value: float = np.nan) -> tuple[Any, ...]:
        said = str(artist.get_label())
        if said.startswith("_"):
            said = known.get(_colour(artist), "")
        x, y = (named.get(round(float(at), 3), at) for named, at in zip(names, (x, y), strict=True))
        return *head, kind, said, x, y, value

    for line in ax.lines:
        if line.get_transform() == ax.transData:  # others, such as axvline, span an axis
            xs, ys = (np.asarray(values, np.float64) for values in line.get_data(orig=False))
            every = slice(None, None, -(-len(xs) // DENSE) or 1)
            yield from (row("line", line, x, y) for x, y in zip(xs[every], ys[every], strict=True))
    for bars in ax.containers:
        for bar in getattr(bars, "patches", ()):
            x, y, width, height = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
            upright = getattr(bars, "orientation", "vertical") == "vertical"
            at = (x + width / 2, y + height) if upright else (x + width, y + height / 2)
            yield row("bar", bar, *at, height if upright else width)
    for marks in ax.collections:
        if marks.get_offset_transform() == ax.transData and not marks.get_paths()[1:]:
            yield from (row("mark", marks, x, y) for x, y in np.asarray(marks.get_offsets(), float))
    for image in ax.images:
        values: Any = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
        if values.ndim == 2 and values.size <= PIXELS:
            yield from (row("pixel", image, x, y, value) for (y, x), value in np.ndenumerate(values))


def _by_colour(figure: Figure) -> dict[str, str]:
    """Colour → the label of what the legends show in it; colours of two labels are left out."""
    legends = [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]
    found: dict[str, set[str]] = {}
    for legend in legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if handle is not None:
                found.setdefault(_colour(handle), set()).add(text.get_text())
    return {colour: labels.pop() for colour, labels in found.items() if len(labels) == 1}


def _colour(artist: Any) -> str:
    """Of a line, a bar or marks, without its transparency; "" for what has none or several."""
    from matplotlib.colors import to_hex

    for name in ("get_color", "get_facecolor"):
        if hasattr(artist, name):
            colour = getattr(artist, name)()
            if name == "get_facecolor" and np.ndim(colour) == 2:
                colour = colour[0] if len(colour) == 1 else None
            return "" if colour is None else to_hex(colour)
    return ""


def _names(ax: Axes, which: str) -> dict[float, str]:
    """Place → name, of an axis whose ticks are named one by one."""
    from matplotlib.ticker import FixedLocator

    axis = getattr(ax, f"{which}axis")
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    places, texts = axis.get_ticklocs(), (text.get_text() for text in axis.get_ticklabels())
    named = zip(places, texts, strict=False)
    return {round(float(at), 3): text.replace("\n", " ") for at, text in named if text}
