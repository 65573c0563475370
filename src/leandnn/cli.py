"""The command line: `leandnn doctor | data | train | bench | notebook | claims | summary`.

Nothing heavy is imported before a command needs it. A LeandnnError is printed as one sentence with exit
status 1; Ctrl-C says what to do next and exits with 130.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn import __version__, paths
from leandnn.errors import LeandnnError

if TYPE_CHECKING:
    from leandnn.params import Params, TrainBudget
    from leandnn.train.study import Comparison

WINGS = ("bf16",)  # papers with a study.py


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="leandnn", description="A reproducible companion to five papers on making deep nets cheap."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser(
        "doctor", help="check this machine; each failure with the command that mends it"
    )
    add.set_defaults(run=_doctor)

    add = commands.add_parser("data", help="fetch or verify data sets")
    add.add_argument("action", choices=("fetch", "verify"))
    add.add_argument("name", help="cifar10 or cifar100")
    add.set_defaults(run=_data)

    add = commands.add_parser("train", help="train the runs of one comparison, resuming what was begun")
    add.add_argument("paper", help=f"one of {', '.join(WINGS)}")
    add.add_argument("comparison", help="e.g. vision")
    add.add_argument(
        "--profile", help="budget from params.yaml: smoke, laptop, desk, paper (default: active)"
    )
    for name, kind, text in (
        ("epochs", int, "passes over the training images"),
        ("train_images", int, "training images, the first of each class"),
        ("test_images", int, "test images, likewise"),
    ):
        add.add_argument(f"--{name.replace('_', '-')}", f"--{name}", dest=name, type=kind, help=text)
    add.add_argument("--seeds", type=int, nargs="+", help="one pair of runs each")
    add.add_argument("--threads", type=int, help="torch threads per run (part of a run's identity)")
    add.add_argument("--workers", type=int, help="runs at once (default: as many as the cores hold)")
    add.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    add.add_argument("--out", type=Path, help="folder to write (default: runs/PAPER/COMPARISON)")
    add.add_argument("--fresh", action="store_true", help="forget earlier checkpoints and results first")
    add.add_argument("--run", dest="only", help=argparse.SUPPRESS)  # a worker's part
    add.add_argument("--key", help=argparse.SUPPRESS)
    add.set_defaults(run=_train)

    add = commands.add_parser("bench", help="measure speed against peers")
    add.add_argument("name", help="e.g. train-step")
    add.add_argument("--quick", action="store_true", help="fewer repeats: under 40 seconds")
    add.add_argument("--json", type=Path, dest="file", help="write the rows to this file")
    add.add_argument(
        "--reference", action="store_true", help="write them to reference/<machine>/bench-NAME.json"
    )
    add.set_defaults(run=_bench)

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
    add.add_argument("--write", action="store_true", help="fill the generated blocks of README.md")
    add.set_defaults(run=_claims)

    add = commands.add_parser("summary", help="write reports/: results, gallery, figures, executed notebooks")
    add.set_defaults(run=_summary)
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
        print("leandnn: stopped; run the same command again to go on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has left
        sys.stderr.close()
        return 141


def _doctor(arguments: argparse.Namespace) -> int:
    from leandnn import doctor

    return doctor.main()


def _data(arguments: argparse.Namespace) -> int:
    from leandnn.data import sources

    if arguments.name not in sources.DATASETS:
        raise LeandnnError(
            f"data set {arguments.name!r} is unknown, expected one of {', '.join(sources.DATASETS)}"
        )
    if arguments.action == "fetch":
        sources.fetch(arguments.name)
    else:
        sources.verify(arguments.name, paths.PREPARED)
        print(f"{arguments.name} is whole")
    return 0


def find_comparison(paper: str, name: str) -> Comparison:
    """The comparison `name` of a wing; LeandnnError names what there is."""
    if paper not in WINGS:
        raise LeandnnError(f"paper {paper!r} is unknown, expected one of {', '.join(WINGS)}")
    comparisons = importlib.import_module(f"leandnn.{paper}.study").COMPARISONS
    if name not in comparisons:
        raise LeandnnError(
            f"comparison {name!r} of {paper} is unknown, expected one of {', '.join(comparisons)}"
        )
    comparison: Comparison = comparisons[name]
    return comparison


def _budget(arguments: argparse.Namespace, params: Params) -> TrainBudget:
    """The profile's budget with what the command line says instead, checked like params.yaml itself."""
    from leandnn.params import TrainBudget, parse

    profile = params.profile(arguments.profile)
    budget: TrainBudget = getattr(getattr(profile, arguments.paper), arguments.comparison)
    names = [f.name for f in fields(TrainBudget)]
    said = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    data = {f: getattr(replace(budget), f) for f in names} | said
    return parse(TrainBudget, data | {"seeds": list(data["seeds"])}, "leandnn train")


def _train(arguments: argparse.Namespace) -> int:
    comparison = find_comparison(arguments.paper, arguments.comparison)
    from leandnn import params as parameters
    from leandnn.data import sources
    from leandnn.train import runner, workers

    params = parameters.load()
    budget = _budget(arguments, params)
    threads = params.profile(arguments.profile).threads if arguments.threads is None else arguments.threads
    for name, value in (("threads", threads), ("workers", arguments.workers)):
        if value is not None and not 1 <= value <= 1024:
            raise LeandnnError(f"leandnn train.{name} is {value}, expected a value in [1, 1024]")
    if arguments.only is not None:
        workers.die_with_parent()
        run = next(run for run in comparison.runs(budget) if run.name == arguments.only)
        runner.train_one(run, arguments.key, threads, arguments.device, _throttled(workers.report))
        return 0

    def command(run: Any, key: str) -> list[str]:
        spent = [f"--{k}={v}" for k, v in run.spent().items()]
        return [
            sys.executable, "-m", "leandnn", "train", arguments.paper, arguments.comparison,
            "--run", run.name, "--key", key, "--seeds", str(run.seed), "--threads", str(threads),
            "--device", arguments.device, *spent,
        ]  # fmt: skip

    out = runner.train_comparison(
        comparison,
        budget,
        threads=threads,
        device=arguments.device,
        workers=arguments.workers,
        out=arguments.out,
        fresh=arguments.fresh,
        data_digests={name: sources.digest(name) for name in comparison.data},
        worker_command=command,
    )
    print(
        f"{arguments.paper}/{arguments.comparison}: {len(comparison.runs(budget))} runs in {paths.relative(out)}"
    )
    return 0


def _throttled(report: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
    """At most five reports a second, but every new text."""
    last_time, last_text = 0.0, ""

    def send(done: int, total: int, text: str) -> None:
        nonlocal last_time, last_text
        if text != last_text or time.monotonic() - last_time > 0.2:
            report(done, total, text)
            last_time, last_text = time.monotonic(), text

    return send


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
    from leandnn.report import claims, render

    results = claims.compute(paths.ROOT)
    if arguments.write:
        from leandnn.report import readme

        readme.write(results)
    if arguments.json:
        print(json.dumps(claims.as_json(results), indent=2, allow_nan=False))
    else:
        print(render.text(results), end="")
    return 0


def _summary(arguments: argparse.Namespace) -> int:
    from leandnn.report import summary

    summary.write()
    return 0
