"""`leandnn summary`: reports/, what people see without installing anything.

README.md is the gallery, RESULTS.md the claims with their evidence, COSTS.md prices and speed; figures.json has the
figures' captions as data, metrics.json what the pipeline's runs found, for `dvc metrics`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.claims.evidence import LAPTOP
from leandnn.errors import LeandnnError
from leandnn.files import must_be_replaceable, swap, write_json, write_text
from leandnn.report import costs, pages, results

LIMIT_MIB = 8  # all of reports/ is in git


@dataclass(frozen=True)
class Drawn:
    """The figures that a notebook drew: its file's name, its first heading, and a name and caption each."""

    notebook: str
    title: str
    figures: list[dict[str, str]]


def write(root: Path = paths.ROOT) -> Path:
    """Collect claims, figures and executed notebooks into reports/, swapped in at the end.

    Raises LeandnnError if a report is missing, the folder cannot be written or would pass LIMIT_MIB.
    """
    target, fresh, old = (root / name for name in ("reports", "reports.partial", "reports.old.partial"))
    must_be_replaceable(target)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        drawn = _copy_reports(root, fresh)
        write_json(fresh / "figures.json", [asdict(own) for own in drawn])
        write_text(fresh / "README.md", _gallery(drawn))
        found = verdicts.compute(root)
        write_text(fresh / "RESULTS.md", results.page(found))
        write_json(fresh / "metrics.json", _metrics(found))
        write_text(fresh / "COSTS.md", _costs(root))
        size = sum(f.stat().st_size for f in fresh.rglob("*") if f.is_file()) / (1 << 20)
        if size > LIMIT_MIB:
            raise LeandnnError(f"reports/ would have {size:.1f} MiB, expected at most {LIMIT_MIB}")
        swap(fresh, target, old)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(target)}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _copy_reports(root: Path, fresh: Path) -> list[Drawn]:
    """Copy notebooks and figures; returns what each notebook drew, in the notebooks' order."""
    drawn = []
    sources = sorted(path for path in (root / "build" / "reports").glob("*") if path.is_dir())
    if not sources:
        raise LeandnnError("build/reports holds no report, expected those of the report stages (dvc repro)")
    for kind in ("notebooks", "figures"):
        (fresh / kind).mkdir(parents=True)
    for source in sources:
        notebook = source / f"{source.name}.ipynb"
        if not notebook.exists():
            raise LeandnnError(f"{paths.relative(notebook)} is missing, run dvc repro")
        shutil.copy(notebook, fresh / "notebooks")
        found = [_caption(path) for path in sorted(source.glob("*.json"))]
        for figure in found:
            for kind in ("svg", "png"):
                shutil.copy(source / f"{figure['name']}.{kind}", fresh / "figures")
        drawn.append(Drawn(source.name, _title(notebook), found))
    return drawn


def _caption(path: Path) -> dict[str, str]:
    """A figure's name and caption; LeandnnError for a damaged file."""
    try:
        content = json.loads(path.read_text())
        return {key: str(content[key]) for key in ("name", "caption")}
    except (ValueError, KeyError, TypeError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} is no figure's caption ({error}), run dvc repro"
        ) from error


def _title(path: Path) -> str:
    """A notebook's first heading, as Markdown; its file's name where it has none; LeandnnError if unreadable."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    except (ValueError, KeyError, TypeError) as error:
        raise LeandnnError(f"{paths.relative(path)} is no notebook ({error}): run dvc repro") from error
    lines = (line for text in texts for line in text.splitlines())
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), path.stem)


def read_drawn(root: Path) -> list[Drawn]:
    """What `write` published; LeandnnError where it is missing or damaged, or names a file that is not there."""
    path = root / "reports" / "figures.json"
    try:
        drawn = [Drawn(**own) for own in json.loads(path.read_text(encoding="utf-8"))]
        needed = [f"figures/{figure['name']}.svg" for own in drawn for figure in own.figures]
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}, run dvc repro") from error
    except (ValueError, TypeError, KeyError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} is no list of figures ({error}), run dvc repro"
        ) from error
    for file in (*needed, *(f"notebooks/{own.notebook}.ipynb" for own in drawn)):
        if not (path.parent / file).is_file():
            raise LeandnnError(f"reports/{file} is missing, expected what figures.json names: run dvc repro")
    return drawn


def _metrics(found: Sequence[verdicts.Result]) -> dict[str, float]:
    """Claim → its effect at the scale of the pipeline, where that was measured."""
    laptop = {result.claim.id: result.verdicts[LAPTOP] for result in found if LAPTOP in result.verdicts}
    return {claim: own.estimate for claim, own in laptop.items() if own.estimate is not None}


def _gallery(drawn: Sequence[Drawn]) -> str:
    lines = [
        "# Gallery",
        "",
        "Generated by `leandnn summary` from the executed notebooks. See also the [results](RESULTS.md), and",
        "[costs and speed](COSTS.md).",
    ]
    for own in drawn:
        lines += ["", f"## {own.title}", "", f"Notebook [{own.notebook}](notebooks/{own.notebook}.ipynb)"]
        for figure in own.figures:
            name = figure["name"]
            lines += [
                "",
                f"![{name}](figures/{name}.png)",
                "",
                f"**{name}** ([SVG](figures/{name}.svg)). {figure['caption']}",
            ]
    return "\n".join(lines) + "\n"


def _costs(root: Path) -> str:
    lines = [
        "# Costs and speed",
        "",
        "Generated by `leandnn summary` from what the machines named here measured; each table comes from its",
        "machine's file in `reference/`.",
        "",
    ]
    for table in costs.TABLES.values():
        lines += [f"## {table.title}", "", table.markdown(root), ""]
    lines += [
        "## Speed",
        "",
        "Each by `leandnn bench`: warm-up, interleaved repeats, medians, correctness checked inside. Rows where a peer",
        "wins stay; `× peer` is the peer's time over ours, so below 1 the peer is faster.",
        "",
    ]
    for table in pages.speed().values():
        lines += [f"### {table.title}", "", table.markdown(root), ""]
    return "\n".join(lines)
