"""Runs notebooks by papermill and makes them byte-stable; strips them for the pipeline.

An executed notebook depends on nothing but its source and its inputs: no times, no random cell ids, no
machine names, so two forced runs give equal bytes.
"""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import unwritable, write_text
from leandnn.report.style import in_few_colours

INJECTED = "injected-parameters"
# What an output may be; a reader's browser runs nothing for these. Of HTML that holds for a data frame alone, whose
# cells pandas escapes: what other libraries show in HTML may bring scripts along.
SHOWN = ("text/plain", "text/markdown", "text/html", "image/png")
DATA_FRAME = "<div>\n<style scoped>\n    .dataframe "


def _read(path: Path) -> Any:
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}") from error
    except (
        Exception
    ) as error:  # nbformat converts before it validates, and breaks in many ways on foreign JSON
        reason = (str(error).splitlines() or ["empty"])[0]
        raise LeandnnError(f"{paths.relative(path)} is not a notebook: {reason}") from error
    return notebook


def _clean_metadata(notebook: Any) -> None:
    """Drop what differs between machines and runs; keep tags and cell ids."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if INJECTED in tags:
            cell.id = INJECTED  # papermill draws a random one


def strip(notebook: Any) -> Any:
    """The notebook without outputs, execution counts and editor metadata (in place, and returned)."""
    _clean_metadata(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def to_text(notebook: Any) -> str:
    """The file's content: as nbformat writes it, with a final newline."""
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def strip_file(source: Path, target: Path) -> None:
    """Write `source` without outputs to `target`, so that opening a notebook never re-runs its report."""
    write_text(target, to_text(strip(_read(source))))


def normalise(notebook: Any) -> Any:
    """An executed notebook made a function of its inputs, with outputs of SHOWN only (in place, and returned)."""
    _clean_metadata(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else None
            if "data" in output:
                output.data, output.metadata = nbformat.from_dict([_small(_shown(output.data)), {}])
    return notebook


def _shown(data: dict[str, Any]) -> dict[str, Any]:
    """The forms of one output that may be shown; a sentence in their place where none is."""
    kept = {
        mime: value
        for mime, value in data.items()
        if mime in SHOWN and (mime != "text/html" or value.startswith(DATA_FRAME))
    }
    if data and not kept:
        kept["text/plain"] = f"(an output of type {next(iter(data))} was left out: it may run something)"
    return kept


def _small(data: Any) -> Any:
    """An output's data with its picture in few colours, as figures.save writes them."""
    if "image/png" in data:
        try:
            png = in_few_colours(base64.b64decode(data["image/png"]))
        except (OSError, ValueError):  # no picture
            return data
        return {**data, "image/png": base64.b64encode(png).decode()}
    return data


def _is_ours(folder: Path, notebook: str) -> bool:
    """Whether a folder is empty or an earlier output of this notebook."""
    return (folder / notebook).is_file() or not any(folder.iterdir())


def _failed_cell(notebook: Any) -> str:
    """The id of the cell that raised (papermill's index counts without the banners it adds)."""
    return next(
        (
            str(cell.id)
            for cell in notebook.cells
            if any(o.output_type == "error" for o in cell.get("outputs", []))
        ),
        "unknown",
    )


def execute(source: Path, target: Path, *, timeout: int = 600) -> Path:
    """Run a notebook into the folder `target`: `<name>.ipynb` and whatever it saves to its `out_dir`.

    - source: the notebook; it runs with the working directory notebooks/.
    - target: emptied first. If its `parameters` cell has runs_dir or out_dir, both are injected as paths
      relative to notebooks/, so that no absolute path gets into the output.
    - timeout: seconds that one cell may take.

    While it runs, the notebook is `<target>.partial.ipynb`; it stays there if a cell fails, and the
    LeandnnError names the cell. Nothing else is left of a notebook that did not come to its end.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _read(source)
    partial = target.with_name(f"{source.stem}.partial.ipynb")  # beside what a killed run left behind
    if target.exists() and (
        not target.is_dir()
        or target.resolve() in source.resolve().parents
        or not (partial.exists() or _is_ours(target, source.name))
    ):
        raise LeandnnError(
            f"{paths.relative(target)} exists, expected nothing or an earlier report of {source.name}, since it is "
            "emptied first"
        )
    shutil.rmtree(target, ignore_errors=True)
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(target)}: {error.strerror}") from error
    known = papermill.inspect_notebook(str(source))
    offered = {"runs_dir": paths.RUNS, "out_dir": target, "reference_dir": paths.REFERENCE}
    parameters = {
        name: Path(os.path.relpath(path, paths.NOTEBOOKS)).as_posix()
        for name, path in offered.items()
        if name in known
    }
    failed = False
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters,
            kernel_name="python3",
            cwd=str(paths.NOTEBOOKS),
            execution_timeout=timeout,
            record_timing=False,
            coalesce_streams=True,
            progress_bar=False,
            # What goes wrong in a cell comes back as its output; the kernel's own log would repeat it.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
        write_text(target / source.name, to_text(normalise(_read(partial))))
    except PapermillExecutionError as error:
        failed = True
        raise LeandnnError(
            f"{source.name} failed in cell {_failed_cell(_read(partial))!r} with {error.ename}: {error.evalue}; "
            f"its state is in {paths.relative(partial)}"
        ) from error
    except OSError as error:
        raise unwritable(target, error) from error
    except LeandnnError:
        raise
    except Exception as error:  # a time-out, a kernel that died: papermill passes on what the client raised
        lines = [line for line in str(error).splitlines() if line.strip(" -")]
        reason = lines[0] if lines else "no reason given"
        raise LeandnnError(f"{source.name} did not finish ({type(error).__name__}: {reason})") from error
    finally:
        if not (target / source.name).exists():
            shutil.rmtree(target, ignore_errors=True)
        if not failed:
            partial.unlink(missing_ok=True)
    return target / source.name
