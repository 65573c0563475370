"""Typed parameters: params.yaml read once, with the YAML 1.2 parser that DVC uses, unknown keys refused.

params.yaml holds budgets only (how many epochs, images, seeds); what a run *means* (net, learning rate,
rounding policy) stands in each wing's study.py. A profile's values reach the programs through dvc.yaml's
`cmd`, so a command line says all that a stage depends on.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from leandnn import paths
from leandnn.errors import LeandnnError

PROFILES = ("smoke", "laptop", "desk", "paper")
T = TypeVar("T")


def bounded(low: float, high: float) -> Any:
    """A dataclass field whose number (or each number of a tuple) must lie in [low, high]."""
    return field(metadata={"low": low, "high": high})


@dataclass(frozen=True)
class TrainBudget:
    """What a comparison of training runs may spend.

    - epochs: passes over the training examples.
    - train_examples, test_examples: images, utterances, sentence pairs or clicks, as the comparison has them.
    - seeds: one run of every arm each.
    """

    epochs: int = bounded(1, 1000)
    train_examples: int = bounded(10, 2_000_000)
    test_examples: int = bounded(10, 2_000_000)
    seeds: tuple[int, ...] = bounded(0, 2**31 - 1)


@dataclass(frozen=True)
class DistillationBudget(TrainBudget):
    """A budget with the terms of knowledge distillation (tasks/distillation.py).

    - temperature: T, by which the logits of teacher and student are divided. weight: of the teacher's part of the loss.
    """

    temperature: float = bounded(0.01, 1000)
    weight: float = bounded(0, 1)


@dataclass(frozen=True)
class Bf16:
    """Budgets of paper 1, one per comparison; None where a profile does not run it."""

    vision: TrainBudget | None = None
    speech: TrainBudget | None = None
    language: TrainBudget | None = None
    generative: TrainBudget | None = None
    super_resolution: TrainBudget | None = None
    recommendation: TrainBudget | None = None
    alexnet: TrainBudget | None = None
    transformer: TrainBudget | None = None
    deep_cross: TrainBudget | None = None
    contrasts: TrainBudget | None = None
    click_contrasts: TrainBudget | None = None


@dataclass(frozen=True)
class Blocksparse:
    """Budgets of the runs that papers 2 to 4 share."""

    baselines: TrainBudget | None = None
    sparsities: TrainBudget | None = None


@dataclass(frozen=True)
class Autosparse:
    """Budgets of paper 2."""

    methods: TrainBudget | None = None
    others: TrainBudget | None = None
    methods_90: TrainBudget | None = None
    topk: TrainBudget | None = None
    mobilenet: TrainBudget | None = None
    mobilenet_90: TrainBudget | None = None
    bottleneck: TrainBudget | None = None
    bottleneck_90: TrainBudget | None = None
    variants: TrainBudget | None = None
    requested: TrainBudget | None = None
    resnet50: TrainBudget | None = None


@dataclass(frozen=True)
class Rbgp:
    """Budgets of paper 3."""

    patterns: TrainBudget | None = None
    sparsities: TrainBudget | None = None
    wide_resnet: TrainBudget | None = None
    connectivity: TrainBudget | None = None
    connectivity_93: TrainBudget | None = None
    distillation: DistillationBudget | None = None
    vgg19: TrainBudget | None = None
    wrn40_4: TrainBudget | None = None


@dataclass(frozen=True)
class Hbsnn:
    """Budgets of paper 4."""

    patterns: TrainBudget | None = None
    sparsities: TrainBudget | None = None
    division: TrainBudget | None = None
    sizes: TrainBudget | None = None
    selection: TrainBudget | None = None


@dataclass(frozen=True)
class Huffman:
    """Budgets of paper 5."""

    compression: TrainBudget | None = None


@dataclass(frozen=True)
class FeaturesBudget:
    """What the classifier may spend in whose features generated images are judged; see tasks/image_judge.py."""

    epochs: int = bounded(1, 1000)
    train_examples: int = bounded(10, 2_000_000)
    test_examples: int = bounded(10, 2_000_000)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One scale: threads per run, and each wing's budgets."""

    threads: int = bounded(1, 1024)
    features: FeaturesBudget | None = None
    bf16: Bf16 = Bf16()
    blocksparse: Blocksparse = Blocksparse()
    autosparse: Autosparse = Autosparse()
    rbgp: Rbgp = Rbgp()
    hbsnn: Hbsnn = Hbsnn()
    huffman: Huffman = Huffman()

    def budget(self, paper: str, comparison: str) -> TrainBudget | None:
        """The budget of a comparison, None if this profile does not run it."""
        found: TrainBudget | None = getattr(getattr(self, paper), comparison)
        return found


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    smoke: Profile
    laptop: Profile
    desk: Profile
    paper: Profile
    active: Profile

    @property
    def active_name(self) -> str:
        """The profile that `active` points to."""
        return next(name for name in PROFILES if getattr(self, name) == self.active)

    def profile(self, name: str | None) -> Profile:
        """The profile called `name` ("active" or None: the active one); LeandnnError if there is none."""
        if name in (None, "active"):
            return self.active
        if name not in PROFILES:
            raise LeandnnError(f"profile {name!r} is unknown, expected one of active, {', '.join(PROFILES)}")
        profile: Profile = getattr(self, name)
        return profile


def budget_type(paper: str, comparison: str) -> type[TrainBudget]:
    """The class of a comparison's budget."""
    wing = typing.get_type_hints(Profile)[paper]
    kinds = typing.get_args(typing.get_type_hints(wing)[comparison])
    found: type[TrainBudget] = next(kind for kind in kinds if kind is not type(None))
    return found


def _kind(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else f"{value!r} ({type(value).__name__})"


def parse(cls: type[T], data: Any, where: str) -> T:
    """Build the dataclass `cls` from plain data; `where` is the path of the key, for messages.

    Raises LeandnnError naming the key's path, what was found and what was expected.
    """
    if not isinstance(data, dict):
        raise LeandnnError(f"{where} is {_kind(data)}, expected a mapping")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise LeandnnError(f"{where}.{key} is unknown, expected one of {', '.join(fields)}")
    for name, f in fields.items():
        missing = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if missing and name not in data:
            raise LeandnnError(f"{where}.{name} is missing, expected {_describe(hints[name])}")
    values = {k: _value(hints[k], data[k], f"{where}.{k}", fields[k].metadata) for k in data}
    return cls(**values)


def _describe(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return "a mapping"
    if typing.get_origin(kind) is tuple:
        return f"a list of {_describe(typing.get_args(kind)[0])}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))


def _value(kind: Any, value: Any, where: str, limits: typing.Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(kind):
        return parse(typing.cast(type[Any], kind), value, where)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [k for k in typing.get_args(kind) if k is not type(None)]
        return None if value is None else _value(inner[0], value, where, limits)
    if origin is tuple:
        if not isinstance(value, list) or not value:
            raise LeandnnError(
                f"{where} is {_kind(value)}, expected {_describe(kind)} with at least one entry"
            )
        inner_kind = typing.get_args(kind)[0]
        entries = tuple(_value(inner_kind, v, f"{where}[{i}]", limits) for i, v in enumerate(value))
        if len(set(entries)) != len(entries):
            raise LeandnnError(f"{where} is {value!r}, expected no entry twice")
        return entries
    # bool is a subclass of int in Python, and `true` is no number of epochs.
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        right, value = True, float(value)
    if not right:
        raise LeandnnError(f"{where} is {_kind(value)}, expected {_describe(kind)}")
    if limits and not limits["low"] <= value <= limits["high"]:
        raise LeandnnError(f"{where} is {value}, expected a value in [{limits['low']:g}, {limits['high']:g}]")
    return value


def read_yaml(path: Path) -> Any:
    """Plain data of a YAML 1.2 file; no tags are resolved, so nothing in it can run code."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with path.open(encoding="utf-8") as stream:
            return YAML(typ="safe", pure=True).load(stream)
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LeandnnError(
            f"{paths.relative(path)} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "bad syntax"
        raise LeandnnError(f"{paths.relative(path)} is not valid YAML{line}: {problem}") from error


def load(path: Path | None = None) -> Params:
    """Read and check params.yaml; LeandnnError names the first bad key."""
    path = path or paths.PARAMS
    return _checked(read_yaml(path), path)


def load_json(path: Path) -> tuple[Params, str]:
    """What `leandnn params` printed: the parameters, checked alike, and the commit they belong to."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        data, commit = document["params"], str(document["commit"])
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} holds no parameters ({error}), expected the output of `leandnn params`"
        ) from error
    return _checked(data, path), commit


def _checked(data: Any, path: Path) -> Params:
    params = parse(Params, data, path.name)
    if params.active not in [getattr(params, name) for name in PROFILES]:
        raise LeandnnError(f"{path.name}.active equals no profile, expected an alias such as *laptop")
    return params
