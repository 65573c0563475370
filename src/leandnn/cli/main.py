"""The command line; `leandnn --help` lists the commands.

Nothing heavy is imported before a command needs it. A LeandnnError is printed as one sentence with exit
status 1; Ctrl-C says what to do next and exits with 130.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from leandnn import __version__, paths
from leandnn.cli import huffman, studies
from leandnn.errors import LeandnnError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="leandnn", description="A reproducible companion to five papers on making deep nets cheap."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser(
        "doctor", help="check this machine; each failure with the command that mends it"
    )
    add.add_argument("checks", nargs="*", metavar="CHECK", help="only these, e.g. store cache (default: all)")
    add.set_defaults(run=_doctor)

    add = commands.add_parser("data", help="fetch or verify data sets")
    add.add_argument("action", choices=("fetch", "verify"))
    add.add_argument("name", help="cifar10, cifar100, clicks, digits or text")
    add.set_defaults(run=_data)

    studies.add(commands)

    add = commands.add_parser("bench", help="measure speed against peers")
    add.add_argument("name", help="e.g. train-step")
    add.add_argument("--quick", action="store_true", help="fewer repeats and cases, to see that it works")
    add.add_argument("--json", type=Path, dest="file", help="write the rows to this file")
    add.add_argument(
        "--reference", action="store_true", help="write them to reference/<machine>/bench-NAME.json"
    )
    add.set_defaults(run=_bench)

    huffman.add(commands)

    add = commands.add_parser("notebook", help="run one notebook, or strip it of outputs")
    add.add_argument("action", choices=("run", "strip"))
    add.add_argument("source", type=Path, help="the .ipynb file")
    add.add_argument(
        "target", type=Path, help="folder of the executed notebook and its figures, or stripped file"
    )
    add.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    add.set_defaults(run=_notebook)

    add = commands.add_parser("claims", help="the papers' claims and what was measured of them")
    add.add_argument("--json", action="store_true", help="print them as JSON")
    add.set_defaults(run=_claims)

    add = commands.add_parser("site", help="build the site: claims, gallery, notebooks, API, as static HTML")
    add.add_argument("--open", action="store_true", help="open it in the browser")
    add.set_defaults(run=_site)

    add = commands.add_parser("summary", help="write reports/: results, gallery, figures, executed notebooks")
    add.set_defaults(run=_summary)

    add = commands.add_parser(
        "write", help="make all that is generated anew: notebooks/, reports/, README.md"
    )
    add.set_defaults(run=_write)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except LeandnnError as error:
        print(f"leandnn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = "the same command again"
        if getattr(arguments, "fresh", False):
            again += ", without --fresh,"
        print(f"leandnn: stopped; run {again} to go on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has left
        sys.stderr.close()
        return 141
    except OSError as error:  # what no command foresaw: a full disk, a folder that may not be read
        where = f" ({error.filename})" if error.filename else ""
        print(f"leandnn: {error.strerror or error}{where}", file=sys.stderr)
        return 1


def _doctor(arguments: argparse.Namespace) -> int:
    from leandnn.cli import doctor

    return doctor.main(arguments.checks)


def _data(arguments: argparse.Namespace) -> int:
    from leandnn.data import sources, speech, speech_synthesis
    from leandnn.data.prepared import DATASETS, verify

    if arguments.name not in DATASETS:
        raise LeandnnError(f"data set {arguments.name!r} is unknown, expected one of {', '.join(DATASETS)}")
    if arguments.action == "fetch" and arguments.name == speech.DIGITS.name:
        speech_synthesis.fetch()
    elif arguments.action == "fetch":
        sources.fetch(arguments.name)
    else:
        verify(arguments.name, paths.PREPARED)
        print(f"{arguments.name} is whole")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from leandnn import bench

    bench.run(arguments.name, quick=arguments.quick, file=arguments.file, reference=arguments.reference)
    return 0


def _notebook(arguments: argparse.Namespace) -> int:
    from leandnn.report import notebooks

    if arguments.action == "strip":
        notebooks.strip_file(arguments.source, arguments.target)
    else:
        notebooks.execute(arguments.source, arguments.target, timeout=arguments.timeout)
    return 0


def _claims(arguments: argparse.Namespace) -> int:
    from leandnn.claims import measured, verdicts
    from leandnn.report import render

    found = measured.read(paths.ROOT)
    results = verdicts.compute(paths.ROOT, found)
    for problem in found.problems:
        print(f"leandnn: warning: {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(verdicts.as_json(results), indent=2, allow_nan=False))
    else:
        print(render.text(results), end="")
    return 0


def _summary(arguments: argparse.Namespace) -> int:
    from leandnn.report import summary

    summary.write()
    return 0


def _write(arguments: argparse.Namespace) -> int:
    from leandnn.cli import write

    return write.main()


def _site(arguments: argparse.Namespace) -> int:
    from leandnn.report.site import build

    index = build.build() / "index.html"
    print(index)
    if arguments.open:
        import webbrowser

        webbrowser.open(index.as_uri())
    return 0
