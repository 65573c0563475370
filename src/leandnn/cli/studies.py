"""The commands that train: `leandnn train`, `features`, `studies`, `params`, `digests`, `prove`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn import params, paths
from leandnn.errors import LeandnnError
from leandnn.machine import card

if TYPE_CHECKING:
    from leandnn.studies.comparison import Comparison
    from leandnn.studies.runs import Run


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands' parsers."""
    one = commands.add_parser("train", help="train the runs of one study, resuming what was begun")
    one.add_argument("study", help="e.g. bf16-vision; or a file of build/digests/, which says all of it")
    one.add_argument("--profile", choices=params.PROFILES, help="its budget (default: params.yaml's profile)")
    _add_set(one)
    one.add_argument("--threads", type=int, help="torch threads per run (part of a run's identity)")
    one.add_argument("--workers", type=int, help="runs at once (default: as many as the cores hold)")
    one.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    one.add_argument("--out", type=Path, help="folder to write (default: runs/PAPER/COMPARISON)")
    one.add_argument("--fresh", action="store_true", help="forget earlier checkpoints and results first")
    one.set_defaults(run=train)

    one = commands.add_parser(
        "features", help="train the classifier in whose features generated images are judged"
    )
    one.set_defaults(run=features)

    group = commands.add_parser("studies", help="studies outside the pipeline, into reference/<machine>/")
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("list", help="every study, its arms, and its budget in each profile")
    one.set_defaults(run=listed)
    one = actions.add_parser("run", help="train what is missing, as far as time allows")
    one.add_argument(
        "studies", nargs="+", metavar="STUDY", help="e.g. bf16-vision, bf16 (all of a paper), all"
    )
    one.add_argument("--profile", choices=params.OUTSIDE, default="desk")
    _add_set(one)
    one.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    one.add_argument("--minutes", type=float, default=60.0, help="wall time to fit into (default 60)")
    one.add_argument(
        "--workers", type=int, help="runs at once (default: as many as the cores hold; 1 on a GPU)"
    )
    one.add_argument("--params", type=Path, help="JSON from `leandnn params`, instead of the YAML files")
    one.set_defaults(run=studies)

    one = commands.add_parser("params", help="print all budgets as JSON, for machines without a YAML parser")
    one.set_defaults(run=printed)

    one = commands.add_parser(
        "prove", help="show that edits changed no result, by training on both sides of them"
    )
    one.add_argument(
        "arms", nargs="*", metavar="ARM", help="e.g. bf16-vision/bf16, bf16-vision (default: all)"
    )
    one.add_argument("--base", help="the commit to compare with (default: found)")
    one.add_argument("--replay", action="store_true", help="train whole runs where a miniature cannot do")
    one.set_defaults(run=prove)

    one = commands.add_parser(
        "digests", help="write what each stage of the pipeline does into build/digests/"
    )
    one.set_defaults(run=digests)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="said",
        help="another value of the budget, e.g. epochs=3, seeds=0,1 or train_examples=2000; may be given again",
    )  # fmt: skip


def said(settings: Sequence[str]) -> dict[str, Any]:
    """The values of `--set`; LeandnnError for one that is no KEY=NUMBER (for seeds, numbers with commas)."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            numbers = [int(n) if re.fullmatch(r"[+-]?\d+", n.strip()) else float(n) for n in text.split(",")]
        except ValueError:
            numbers = []
        if not (key and equals and numbers) or (len(numbers) > 1 and key != "seeds"):
            raise LeandnnError(f"--set is {setting!r}, expected KEY=NUMBER, or seeds=NUMBER,NUMBER,…")
        found[key] = numbers if key == "seeds" else numbers[0]
    return found


def _positive(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= 1024:
        raise LeandnnError(f"--{name} is {value}, expected a value in [1, 1024]")


def _device(name: str) -> None:
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise LeandnnError(f"device is {name!r}, expected cpu, cuda or cuda:N")
    card.must_have(name)


def _of_file(path: Path) -> tuple[Comparison, list[Run]]:
    """The runs that a file of build/digests/ says; LeandnnError for another file."""
    from leandnn.studies import registry, runs

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        comparison = registry.find(document["study"])
        if set(document["arms"]) != set(comparison.arms):
            raise ValueError(f"its arms are {', '.join(document['arms'])}")
        budget = params.parse(comparison.budget, document["budget"], f"{path.name}.budget")
        seeds, threads, behaviours = document["seeds"], document["threads"], document["arms"]
    except OSError as error:
        raise LeandnnError(
            f"cannot read {paths.relative(path)}: {error.strerror}, run `leandnn digests`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} says no study ({error}), expected a file that `leandnn digests` wrote"
        ) from error
    made = runs.of(
        comparison,
        budget,
        seeds,
        threads=threads,
        device="cpu",
        behaviours=behaviours,
        inputs=runs.inputs(comparison),
    )
    return comparison, made


def _of_profile(arguments: argparse.Namespace) -> tuple[Comparison, list[Run]]:
    """The runs of a profile's budget, with what the command line says instead."""
    from leandnn.studies import digests as behaviour
    from leandnn.studies import registry, runs

    comparison = registry.find(arguments.study)
    profile = params.load(arguments.profile)
    found = comparison.budgeted(profile, said(arguments.said))
    if found is None:
        raise LeandnnError(
            f"{comparison.study} has no budget in the profile {profile.name}, expected another --profile, or its "
            "budget by --set epochs=N"
        )
    made = runs.of(
        comparison,
        *found,
        threads=arguments.threads or profile.threads,
        device=arguments.device,
        behaviours=behaviour.of(comparison),
        inputs=runs.inputs(comparison),
    )
    return comparison, made


def train(arguments: argparse.Namespace) -> int:
    """`leandnn train`: all runs of a study."""
    from leandnn.studies import pipeline

    _positive("threads", arguments.threads)
    _positive("workers", arguments.workers)
    _device(arguments.device)
    if arguments.study.endswith(".json"):
        if arguments.said or arguments.profile or arguments.threads:
            raise LeandnnError(
                f"{arguments.study} says budget and threads, expected no --set, --profile or --threads"
            )
        comparison, runs = _of_file(Path(arguments.study))
    else:
        comparison, runs = _of_profile(arguments)
    out = pipeline.train(runs, workers=arguments.workers, out=arguments.out, fresh=arguments.fresh)
    print(f"{comparison.study}: {len(list(out.glob('*/metrics.json')))} runs in {paths.relative(out)}")
    return 0


def features(arguments: argparse.Namespace) -> int:
    """`leandnn features`: the net of tasks/image_judge.py, by the pipeline's profile."""
    from leandnn.studies.digests import features_budget
    from leandnn.tasks import image_judge

    profile = params.load()
    accuracy = image_judge.train(**features_budget(profile), threads=profile.threads)
    print(f"{paths.relative(image_judge.FOLDER)}: a classifier of {100 * accuracy:.1f} % test accuracy")
    return 0


def printed(arguments: argparse.Namespace) -> int:
    """`leandnn params`: what `leandnn studies run --params` reads."""
    from leandnn.studies.desk import commit

    print(json.dumps({"params": params.as_json(), "commit": commit()}, indent=2))
    return 0


def listed(arguments: argparse.Namespace) -> int:
    """`leandnn studies list`."""
    from leandnn.studies import registry

    profiles = [params.load(name) for name in params.PROFILES if name != "smoke"]
    for comparison in registry.matching(["all"]):
        print(f"{comparison.study}: {', '.join(comparison.arms)}")
        for profile in profiles:
            if (found := comparison.budgeted(profile)) is not None:
                print(f"    {profile.name}: {found[0].epochs} epochs, {len(found[1])} seeds")
    return 0


def studies(arguments: argparse.Namespace) -> int:
    """`leandnn studies run`."""
    from leandnn.studies import desk, registry

    comparisons = registry.matching(arguments.studies)
    _positive("workers", arguments.workers)
    _device(arguments.device)
    if not 0 < arguments.minutes < 1e6:
        raise LeandnnError(f"--minutes is {arguments.minutes:g}, expected a value above 0")
    if arguments.params is None:
        profile, made_by = params.load(arguments.profile), desk.commit()
    else:
        profile, made_by = params.from_json(arguments.params, arguments.profile)
    missing = desk.run_studies(
        comparisons,
        profile,
        device=arguments.device,
        minutes=arguments.minutes,
        workers=arguments.workers,
        made_by=made_by,
        said=said(arguments.said),
    )
    print(f"{missing} runs are still missing; the same command goes on" if missing else "nothing is missing")
    return 0


def digests(arguments: argparse.Namespace) -> int:
    """`leandnn digests`."""
    from leandnn.studies import digests as behaviour

    folder = behaviour.write()
    print(f"{len(list(folder.glob('*.json')))} files in {paths.relative(folder)}")
    return 0


def prove(arguments: argparse.Namespace) -> int:
    """`leandnn prove`; 1 where something stays different."""
    from leandnn.studies import prove as proving

    different = proving.prove(arguments.arms, base=arguments.base, replay=arguments.replay)
    if different:
        print(f"{different} arms are different: `dvc repro` or `leandnn studies run` trains them anew")
    return int(different > 0)
