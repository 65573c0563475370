"""Budgets: how much each study may spend, from params.yaml (the pipeline) and studies/<profile>.yaml (outside it).

What a run *means* (net, learning rate, rounding policy) stands in each wing's study.py. Files are read with the
YAML 1.2 parser that DVC uses, by which nothing in them can run code.

A profile: {threads, seeds, examples: {data set: {train_examples, test_examples}}, studies: {paper: {comparison:
budget}}}, where a budget is the epochs alone, or a mapping of what differs from the rest: {epochs, seeds, …}.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from leandnn import paths
from leandnn.errors import LeandnnError

PIPELINE = ("laptop", "smoke")  # in params.yaml; smoke runs laptop's studies, each for one epoch
OUTSIDE = ("desk", "paper")  # in studies/
PROFILES = (*PIPELINE, *OUTSIDE)
T = TypeVar("T")
B = TypeVar("B", bound="Budget")


def bounded(low: float, high: float) -> Any:
    """A dataclass field whose number (or each number of a tuple) must lie in [low, high]."""
    return field(metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Budget:
    """What a run may spend.

    - epochs: passes over the training examples.
    - train_examples, test_examples: images, utterances, sentence pairs or clicks, as the comparison has them.
    """

    epochs: int = bounded(1, 1000)
    train_examples: int = bounded(10, 2_000_000)
    test_examples: int = bounded(10, 2_000_000)


@dataclass(frozen=True)
class Profile:
    """One scale: threads of a run, seeds, examples of each data set, and the studies that it runs.

    - studies: paper → comparison → epochs, or a mapping with what differs; see `budget`.
    """

    threads: int = bounded(1, 1024)
    seeds: tuple[int, ...] = bounded(0, 2**31 - 1)
    examples: Mapping[str, Any] = field(default_factory=dict)
    studies: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = field(default=None, metadata={"low": 1, "high": 1000})
    name: str = ""

    def said(self, paper: str, comparison: str) -> dict[str, Any] | None:
        """What the profile says of a comparison, as a mapping; None where it does not run it."""
        own = self.studies.get(paper)
        found = own.get(comparison) if isinstance(own, Mapping) else None
        if found is None:
            return None
        said = dict(found) if isinstance(found, Mapping) else {"epochs": found}
        return said | ({} if self.epochs is None else {"epochs": self.epochs})

    def budget(
        self, place: tuple[str, str], kind: type[B], dataset: str, said: Mapping[str, Any] | None = None
    ) -> tuple[B, tuple[int, ...]] | None:
        """(budget, seeds) of a comparison; None where the profile does not run it and nothing else is said.

        - place: (paper, comparison). kind: the type of its budget. dataset: whose `examples` are meant.
        - said: what is to differ, e.g. {"epochs": 3, "seeds": [0, 1]}.

        LeandnnError, naming the key, for what the comparison's budget does not know or what is out of range.
        """
        own = self.said(*place)
        if own is None and not said:
            return None
        own = own or {}
        sizes = self.examples.get(dataset, {})
        if self.epochs is not None:  # every study for as long, on as little as the profile says
            own = {key: value for key, value in own.items() if key not in sizes}
        values = {"seeds": list(self.seeds), **sizes, **own, **(said or {})}
        where = f"{self.name}.studies.{'.'.join(place)}"
        seeds = parse(_Seeds, {"seeds": values.pop("seeds")}, where).seeds
        return parse(kind, values, where), seeds


@dataclass(frozen=True)
class _Examples:
    train_examples: int = bounded(10, 2_000_000)
    test_examples: int = bounded(10, 2_000_000)


@dataclass(frozen=True)
class _Seeds:
    seeds: tuple[int, ...] = bounded(0, 2**31 - 1)


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
    if origin is Mapping:
        if not isinstance(value, dict):
            raise LeandnnError(f"{where} is {_kind(value)}, expected a mapping")
        return value
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
        raise LeandnnError(
            f"cannot read {path}: {error.strerror}, expected a readable clone of the repository: run this inside of "
            "one, or set LEANDNN_ROOT to its path"
        ) from error
    except UnicodeDecodeError as error:
        raise LeandnnError(
            f"{paths.relative(path)} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "bad syntax"
        raise LeandnnError(f"{paths.relative(path)} is not valid YAML{line}: {problem}") from error


def load(profile: str | None = None, root: Path | None = None) -> Profile:
    """A profile by name; params.yaml's `profile` for None. LeandnnError names the first bad key."""
    root = root or paths.ROOT
    if profile not in (None, *PROFILES):
        raise LeandnnError(f"profile {profile!r} is unknown, expected one of {', '.join(PROFILES)}")
    if profile in OUTSIDE:
        path = root / "studies" / f"{profile}.yaml"
        return _profile(read_yaml(path), paths.relative(path), str(profile))
    return _of_pipeline(read_yaml(root / "params.yaml"), profile)


def _of_pipeline(data: Any, profile: str | None) -> Profile:
    expected = ("profile", *PIPELINE)
    if not isinstance(data, dict) or set(data) != set(expected):
        found = ", ".join(map(str, data)) if isinstance(data, dict) else _kind(data)
        raise LeandnnError(f"params.yaml holds {found}, expected {', '.join(expected)}")
    name = profile or data["profile"]
    if name not in PIPELINE:
        raise LeandnnError(f"params.yaml.profile is {name!r}, expected {' or '.join(PIPELINE)}")
    laptop = _profile(data["laptop"], "params.yaml.laptop", "laptop")
    if name == "laptop":
        return laptop
    small = _profile(data["smoke"], "params.yaml.smoke", "smoke")
    return dataclasses.replace(small, studies=laptop.studies)


def _profile(data: Any, where: str, name: str) -> Profile:
    found = parse(Profile, data, where)
    for dataset, sizes in found.examples.items():
        parse(_Examples, sizes, f"{where}.examples.{dataset}")
    for paper, own in found.studies.items():
        if not isinstance(own, Mapping):
            raise LeandnnError(f"{where}.studies.{paper} is {_kind(own)}, expected a mapping of comparisons")
        for comparison, budget in own.items():
            if not isinstance(budget, Mapping) and type(budget) is not int:
                raise LeandnnError(
                    f"{where}.studies.{paper}.{comparison} is {_kind(budget)}, expected epochs or a mapping"
                )
    return dataclasses.replace(found, name=name)


def as_json(root: Path | None = None) -> dict[str, Any]:
    """Every profile as plain data, for machines without a YAML parser; see from_json."""
    return {name: dataclasses.asdict(load(name, root)) for name in PROFILES}


def from_json(path: Path, profile: str) -> tuple[Profile, str]:
    """A profile of what `leandnn params` printed, checked alike, and the commit that it belongs to."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        data, commit = document["params"][profile], str(document["commit"])
        data = {key: value for key, value in data.items() if key != "name"}
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} holds no parameters ({error}), expected the output of `leandnn params`"
        ) from error
    return _profile(data, path.name, profile), commit
