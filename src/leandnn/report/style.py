"""One style for every figure, and a byte-stable way to save it as SVG and PNG with its caption."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn.files import replacing, write_json, write_text
from leandnn.report import drawn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Colour-blind safe (Okabe and Ito); one colour per arm in every figure of the companion.
COLOURS = {"fp32": "#0072B2", "bf16": "#D55E00", "fp16": "#009E73", "neutral": "#555555", "margin": "#E8EEF4"}


def use_style() -> None:
    """Set the companion's look for all figures drawn from here on."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs everywhere
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "grid.color": "#DDDDDD",
        },
    )
    mpl.rcParams["svg.hashsalt"] = "leandnn"  # element ids are random without it


def heading(figure: Figure, note: str) -> None:
    """A note above a figure, in as many lines as its width asks for; nothing for "".

    - note: what a reader must know first, such as that the runs are a smoke test.
    """
    if note:
        words = textwrap.fill(note, int(13 * figure.get_figwidth()))
        figure.suptitle(words, x=0.01, ha="left", fontsize=9, fontweight="bold")


def save(
    figure: Figure,
    name: str,
    caption: str,
    out_dir: Path | str,
    *,
    data: pd.DataFrame | None = None,
    **facts: Any,
) -> None:
    """Write `<name>.svg`, `.png`, `.csv` and `.json` (caption and facts, for the paper's page) to `out_dir`.

    - name: says what the figure shows, `<paper>-<what>`.
    - caption: full sentences with n, spread and seeds.
    - data: the numbers behind it; if None, those that it draws (drawn.numbers). Without any there is no CSV.
    - facts: plain data kept beside the caption.

    Equal figures give equal bytes (no dates, fixed ids).
    """
    folder = Path(out_dir)
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        with replacing(folder / f"{name}.{kind}") as stream:
            stream.write(content.getvalue() if kind == "svg" else in_few_colours(content.getvalue()))
    table = drawn.numbers(figure) if data is None else data
    (folder / f"{name}.csv").unlink(missing_ok=True)
    if len(table):
        write_text(
            folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        )
    write_json(folder / f"{name}.json", {"name": name, "caption": caption, **facts})


def in_few_colours(png: bytes) -> bytes:
    """A figure has few colours: with a palette of 256 it looks the same, in a third of the bytes that git keeps.

    One that has a palette stays as it is.
    """
    from PIL import Image

    content = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        if image.mode == "P":
            return png
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()
