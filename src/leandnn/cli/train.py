"""The commands that train: `leandnn train`, `leandnn reference`, `leandnn params`."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.machine import card

if TYPE_CHECKING:
    from leandnn.params import TrainBudget
    from leandnn.studies.comparison import Comparison, Run

WINGS = ("bf16", "blocksparse", "autosparse", "rbgp", "hbsnn", "huffman")  # rooms with a study.py


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


def _positive(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= 1024:
        raise LeandnnError(f"--{name} is {value}, expected a value in [1, 1024]")


def _device(name: str) -> None:
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise LeandnnError(f"device is {name!r}, expected cpu, cuda or cuda:N")
    card.must_have(name)


def _budget(arguments: argparse.Namespace) -> tuple[TrainBudget, int]:
    """Budget and threads: the profile's, with what the command line says instead, checked like params.yaml.

    A worker's command line says all of it, so it needs no params.yaml (and no YAML parser).
    """
    from leandnn import params as parameters

    kind = parameters.budget_type(arguments.paper, arguments.comparison)
    said = {f.name: getattr(arguments, f.name) for f in fields(kind)}
    for name in ("temperature", "weight"):
        if name not in said and getattr(arguments, name) is not None:
            raise LeandnnError(
                f"--{name} is {getattr(arguments, name):g}, but {arguments.paper}/{arguments.comparison} distils "
                "nothing, expected rbgp/distillation"
            )
    if None in (*said.values(), arguments.threads):
        profile = parameters.load().profile(arguments.profile)
        budget = profile.budget(arguments.paper, arguments.comparison)
        if budget is None and None in said.values():
            raise LeandnnError(
                f"{arguments.paper}/{arguments.comparison} has no budget in the profile "
                f"{arguments.profile or 'active'}, expected another --profile, or all of "
                + " ".join(f"--{name.replace('_', '-')}" for name in said)
            )
        said = {name: getattr(budget, name) if value is None else value for name, value in said.items()}
    threads: int = profile.threads if arguments.threads is None else arguments.threads
    said["seeds"] = list(said["seeds"])
    return parameters.parse(kind, said, "leandnn train"), threads


def _is_active(arguments: argparse.Namespace, budget: TrainBudget, threads: int) -> bool:
    """Whether this is what the pipeline would run, so that its costs are worth keeping."""
    from leandnn import params as parameters

    active = parameters.load().active
    return threads == active.threads and budget == active.budget(arguments.paper, arguments.comparison)


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


def train(arguments: argparse.Namespace) -> int:
    """`leandnn train`: one comparison, or in a worker one run of it."""
    comparison = find_comparison(arguments.paper, arguments.comparison)
    from leandnn.studies import pipeline, pool

    budget, threads = _budget(arguments)
    _positive("threads", threads)
    _positive("workers", arguments.workers)
    _device(arguments.device)
    if arguments.only is not None:
        pool.die_with_parent()
        run = next(run for run in comparison.runs(budget) if run.name == arguments.only)
        pipeline.train_one(run, arguments.key, threads, arguments.device, _throttled(pool.report))
        return 0
    out = pipeline.train_comparison(
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
        data_digests=comparison.data_digests(),
        worker_command=_worker_command(arguments.paper, arguments.comparison, threads, arguments.device),
    )
    print(
        f"{arguments.paper}/{arguments.comparison}: {len(comparison.runs(budget))} runs in {paths.relative(out)}"
    )
    return 0


def features(arguments: argparse.Namespace) -> int:
    """`leandnn features`: the net of tasks/image_judge.py, by the active profile where nothing else is said."""
    from leandnn import params as parameters
    from leandnn.tasks import image_judge as classifier

    said = {f.name: getattr(arguments, f.name) for f in fields(parameters.FeaturesBudget)}
    if None in (*said.values(), arguments.threads):
        active = parameters.load().active
        if active.features is None:
            raise LeandnnError("the active profile has no budget for features, expected one in params.yaml")
        known = asdict(active.features)
        said = {name: known[name] if value is None else value for name, value in said.items()}
        arguments.threads = arguments.threads or active.threads
    _positive("threads", arguments.threads)
    budget = parameters.parse(parameters.FeaturesBudget, said, "leandnn features")
    accuracy = classifier.train(**asdict(budget), threads=arguments.threads)
    print(f"{paths.relative(classifier.FOLDER)}: a classifier of {100 * accuracy:.1f} % test accuracy")
    return 0


def params(arguments: argparse.Namespace) -> int:
    """`leandnn params`: what `leandnn reference --params` reads."""
    from leandnn import params as parameters
    from leandnn.studies.desk import commit

    print(json.dumps({"params": asdict(parameters.load()), "commit": commit()}, indent=2))
    return 0


def reference(arguments: argparse.Namespace) -> int:
    """`leandnn reference`: studies at desk or paper scale."""
    comparisons = find_studies(arguments.studies)
    from leandnn import params as parameters
    from leandnn.studies import desk as studies

    _positive("workers", arguments.workers)
    _device(arguments.device)
    if not 0 < arguments.minutes < 1e6:
        raise LeandnnError(f"--minutes is {arguments.minutes:g}, expected a value above 0")
    if arguments.params is None:
        profile, made_by = parameters.load().profile(arguments.profile), studies.commit()
    else:
        loaded, made_by = parameters.load_json(arguments.params)
        profile = loaded.profile(arguments.profile)

    def command(run: Run, key: str) -> list[str]:
        comparison = run.comparison
        return _worker_command(comparison.paper, comparison.name, profile.threads, arguments.device)(run, key)

    missing = studies.run_studies(
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
