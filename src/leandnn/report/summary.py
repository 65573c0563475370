"""`leandnn summary`: reports/, what people see without installing anything.

README.md has the scoreboard, and a page a paper has its claims, figures and benches; figures/ holds each figure and
the numbers that it draws; figures.json has the captions as data, metrics.json what the pipeline's runs found, for
`dvc metrics`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.claims.evidence import LAPTOP
from leandnn.errors import LeandnnError
from leandnn.files import must_be_replaceable, swap, write_json, write_text
from leandnn.report import costs, nets, pages, papers, scoreboard
from leandnn.report.papers import Drawn

LIMIT_MIB = 10  # all of reports/ is in git


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
        found = verdicts.compute(root)
        write_json(fresh / "metrics.json", _metrics(found))
        known = {page.notebook: page for page in pages.pages()}
        for own in drawn:
            if own.notebook in known:
                page = known[own.notebook]
                write_text(fresh / f"{page.name}.md", papers.page(page, own, found, root))
        write_text(fresh / "README.md", _index(drawn, known, found, root))
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
            for kind in ("svg", "png", *(["csv"] if figure["numbers"] else [])):
                shutil.copy(source / f"{figure['name']}.{kind}", fresh / "figures")
        drawn.append(Drawn(source.name, _title(notebook), found))
    return drawn


def _caption(path: Path) -> dict[str, str]:
    """A figure's name and caption, and the file of its numbers ("" for none); LeandnnError for a damaged file."""
    try:
        content = json.loads(path.read_text())
        numbers = path.with_suffix(".csv")
        found = {key: str(content[key]) for key in ("name", "caption")}
        return {**found, "numbers": numbers.name if numbers.exists() else ""}
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


def _index(
    drawn: Sequence[Drawn], known: Mapping[str, pages.Page], found: Sequence[verdicts.Result], root: Path
) -> str:
    machines = scoreboard.letters(found)
    lines = [
        "# What was found",
        "",
        "Generated by `leandnn summary`. A claim's name leads to its rule and evidence on its paper's page, which has",
        "the paper's figures and benches, too.",
        "",
        SCOREBOARD,
        scoreboard.table(found, machines, ""),
        "",
        scoreboard.legend(machines),
        END,
        "",
        "## Pages",
        "",
        *(f"- [{own.title}]({known[own.notebook].name}.md)" for own in drawn if own.notebook in known),
    ]
    for own in drawn:
        if own.notebook not in known:
            lines += ["", f"## {own.title}", "", f"Notebook [{own.notebook}](notebooks/{own.notebook}.ipynb)"]
            lines += papers.figures(own)
    lines += ["", "## Nets near convergence", "", nets.nets(root)]
    for table in costs.TABLES.values():
        lines += ["", f"## {table.title}", "", table.markdown(root)]
    return "\n".join(lines) + "\n"


SCOREBOARD, END = (
    "<!-- scoreboard -->",
    "<!-- end of the scoreboard -->",
)  # between them docs/index.md includes
