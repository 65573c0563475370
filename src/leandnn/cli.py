"""The command line: `leandnn doctor | data | params | train | reference | bench | notebook | claims | summary | site`.

Nothing heavy is imported before a command needs it. A LeandnnError is printed as one sentence with exit
status 1; Ctrl-C says what to do next and exits with 130.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from leandnn import __version__, paths
from leandnn.errors import LeandnnError

if TYPE_CHECKING:
    from leandnn.params import TrainBudget
    from leandnn.train.study import Comparison, Run

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

    add = commands.add_parser(
        "params", help="print all parameters as JSON, for machines without a YAML parser"
    )
    add.set_defaults(run=_params)

    add = commands.add_parser(
        "reference",
        help="run studies outside the pipeline, at desk or paper scale, into reference/<machine>/",
    )
    add.add_argument(
        "studies", nargs="+", metavar="STUDY", help="e.g. bf16-vision, bf16 (all of a paper), all"
    )
    add.add_argument("--profile", choices=("desk", "paper"), default="desk")
    add.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    add.add_argument("--minutes", type=float, default=60.0, help="wall time to fit into (default 60)")
    add.add_argument(
        "--workers", type=int, help="runs at once (default: as many as the cores hold; 1 on a GPU)"
    )
    add.add_argument("--params", type=Path, help="JSON from `leandnn params`, instead of params.yaml")
    add.set_defaults(run=_reference)

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

    add = commands.add_parser("site", help="build the site: claims, gallery, notebooks, API, as static HTML")
    add.add_argument("--open", action="store_true", help="open it in the browser")
    add.set_defaults(run=_site)

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
    except OSError as error:  # what no command foresaw: a full disk, a folder that may not be read
        where = f" ({error.filename})" if error.filename else ""
        print(f"leandnn: {error.strerror or error}{where}", file=sys.stderr)
        return 1


def _doctor(arguments: argparse.Namespace) -> int:
    from leandnn import doctor

    return doctor.main()


def _data(arguments: argparse.Namespace) -> int:
    from leandnn.data import sources
    from leandnn.data.prepared import DATASETS, verify

    if arguments.name not in DATASETS:
        raise LeandnnError(f"data set {arguments.name!r} is unknown, expected one of {', '.join(DATASETS)}")
    if arguments.action == "fetch":
        sources.fetch(arguments.name)
    else:
        verify(arguments.name, paths.PREPARED)
        print(f"{arguments.name} is whole")
    return 0


def _comparisons(paper: str) -> dict[str, Comparison]:
    comparisons: dict[str, Comparison] = importlib.import_module(f"leandnn.{paper}.study").COMPARISONS
    return comparisons


def find_comparison(paper: str, name: str) -> Comparison:
    """The comparison `name` of a wing; LeandnnError names what there is."""
    if paper not in WINGS:
        raise LeandnnError(f"paper {paper!r} is unknown, expected one of {', '.join(WINGS)}")
    comparisons = _comparisons(paper)
    if name not in comparisons:
        raise LeandnnError(
            f"comparison {name!r} of {paper} is unknown, expected one of {', '.join(comparisons)}"
        )
    return comparisons[name]


def _positive(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= 1024:
        raise LeandnnError(f"leandnn {name} is {value}, expected a value in [1, 1024]")


def _device(name: str) -> None:
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise LeandnnError(f"device is {name!r}, expected cpu, cuda or cuda:N")


def _budget(arguments: argparse.Namespace) -> tuple[TrainBudget, int]:
    """Budget and threads: the profile's, with what the command line says instead, checked like params.yaml.

    A worker's command line says all of it, so it needs no params.yaml (and no YAML parser).
    """
    from leandnn import params as parameters

    said = {f.name: getattr(arguments, f.name) for f in fields(parameters.TrainBudget)}
    if None in (*said.values(), arguments.threads):
        profile = parameters.load().profile(arguments.profile)
        budget = getattr(getattr(profile, arguments.paper), arguments.comparison)
        said = {name: getattr(budget, name) if value is None else value for name, value in said.items()}
    threads: int = profile.threads if arguments.threads is None else arguments.threads
    said["seeds"] = list(said["seeds"])
    return parameters.parse(parameters.TrainBudget, said, "leandnn train"), threads


def _is_active(arguments: argparse.Namespace, budget: TrainBudget, threads: int) -> bool:
    """Whether this is what the pipeline would run, so that its costs are worth keeping."""
    from leandnn import params as parameters

    active = parameters.load().active
    return threads == active.threads and budget == getattr(
        getattr(active, arguments.paper), arguments.comparison
    )


def _worker_command(
    paper: str, comparison: str, threads: int, device: str
) -> Callable[[Run, str], list[str]]:
    """Makes the command line that trains one run of a comparison."""

    def command(run: Run, key: str) -> list[str]:
        spent = [f"--{name}={value}" for name, value in run.spent().items()]
        return [
            sys.executable, "-m", "leandnn", "train", paper, comparison, "--run", run.name, "--key", key,
            "--seeds", str(run.seed), "--threads", str(threads), "--device", device, *spent,
        ]  # fmt: skip

    return command


def _train(arguments: argparse.Namespace) -> int:
    comparison = find_comparison(arguments.paper, arguments.comparison)
    from leandnn.data import prepared
    from leandnn.train import runner, workers

    budget, threads = _budget(arguments)
    _positive("train.threads", threads)
    _positive("train.workers", arguments.workers)
    _device(arguments.device)
    if arguments.only is not None:
        workers.die_with_parent()
        run = next(run for run in comparison.runs(budget) if run.name == arguments.only)
        runner.train_one(run, arguments.key, threads, arguments.device, _throttled(workers.report))
        return 0
    out = runner.train_comparison(
        comparison,
        budget,
        threads=threads,
        device=arguments.device,
        workers=arguments.workers,
        out=arguments.out,
        fresh=arguments.fresh,
        keep_costs=arguments.out is None
        and arguments.device == "cpu"
        and _is_active(arguments, budget, threads),
        data_digests={name: prepared.digest(name) for name in comparison.data},
        worker_command=_worker_command(arguments.paper, arguments.comparison, threads, arguments.device),
    )
    print(
        f"{arguments.paper}/{arguments.comparison}: {len(comparison.runs(budget))} runs in {paths.relative(out)}"
    )
    return 0


def _params(arguments: argparse.Namespace) -> int:
    from leandnn import params as parameters
    from leandnn.train import reference

    print(json.dumps({"params": asdict(parameters.load()), "commit": reference.commit()}, indent=2))
    return 0


def find_studies(names: Sequence[str]) -> list[Comparison]:
    """Comparisons by study name ("bf16-vision"), paper ("bf16") or "all"; LeandnnError names what there is."""
    known = {f"{wing}-{c}": (wing, c) for wing in WINGS for c in _comparisons(wing)}
    chosen: dict[str, tuple[str, str]] = {}
    for name in names:
        matching = {k: v for k, v in known.items() if name in (k, v[0], "all")}
        if not matching:
            raise LeandnnError(f"study {name!r} is unknown, expected all, {', '.join((*WINGS, *known))}")
        chosen |= matching
    return [find_comparison(*place) for place in chosen.values()]


def _reference(arguments: argparse.Namespace) -> int:
    comparisons = find_studies(arguments.studies)
    from leandnn import params as parameters
    from leandnn.train import reference

    _positive("reference.workers", arguments.workers)
    _device(arguments.device)
    if not 0 < arguments.minutes < 1e6:
        raise LeandnnError(f"leandnn reference.minutes is {arguments.minutes:g}, expected a value above 0")
    if arguments.params is None:
        profile, made_by = parameters.load().profile(arguments.profile), reference.commit()
    else:
        params, made_by = parameters.load_json(arguments.params)
        profile = params.profile(arguments.profile)

    def command(run: Run, key: str) -> list[str]:
        comparison = run.comparison
        return _worker_command(comparison.paper, comparison.name, profile.threads, arguments.device)(run, key)

    missing = reference.run_studies(
        comparisons,
        arguments.profile,
        profile,
        device=arguments.device,
        minutes=arguments.minutes,
        workers=arguments.workers,
        made_by=made_by,
        worker_command=command,
    )
    print(f"{missing} runs are still missing; the same command goes on" if missing else "nothing is missing")
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
    from leandnn.report import claims, evidence, render

    results = claims.compute(paths.ROOT)
    for problem in evidence.problems(paths.ROOT):
        print(f"leandnn: warning: {problem}", file=sys.stderr)
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


def _site(arguments: argparse.Namespace) -> int:
    from leandnn.report import site

    index = site.build() / "index.html"
    print(paths.relative(index))
    if arguments.open:
        import webbrowser

        webbrowser.open(index.as_uri())
    return 0
