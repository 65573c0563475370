"""claims.yaml read into typed records: what each claim says and the rules it is judged by.

The file holds `papers` (key to title and arXiv number) and `claims`, a list. A claim's `rule` is one
mapping, or a list of them when several must hold together; a rule of a list may name its own `comparison`,
`metric` or `n`, else the claim's count. Rules name arms (`fp32`) of their comparison, or by path
(`bf16/vision/fp32`) an arm that another comparison made; with a `control_metric` of its own the control may be the
treatment's arm, at another stage of the same run. What the verdicts mean stands in claims.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leandnn.errors import LeandnnError
from leandnn.params import bounded, parse, read_yaml

NOT_PUBLISHED = "not published here"
SOURCE_TAG = re.compile(r"\[[PC](-figure)?: [^\]]+\]")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Paper:
    """A paper as the reader may look it up."""

    title: str
    arxiv: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What every rule has. After reading, `control` and `treatment` are paths: `paper/comparison/arm`.

    `better` is the direction of the metric ("higher" or "lower"), `confidence` 1 - alpha of each one-sided
    test, `n` the pairs needed for a verdict. `control_metric` is the control's metric, "" for the treatment's.
    """

    kind: str
    control: str
    treatment: str
    better: str
    confidence: float = bounded(0.55, 0.9999)
    comparison: str = ""
    metric: str = ""
    control_metric: str = ""
    n: int = field(default=0, metadata={"low": 2, "high": 10_000})


@dataclass(frozen=True, kw_only=True)
class Equivalence(Rule):
    """The treatment equals the control to within ±`margin`, absolute, in `unit`s of the metric."""

    margin: float = bounded(1e-9, 1e9)
    unit: str


@dataclass(frozen=True, kw_only=True)
class Difference(Rule):
    """The treatment is better by more than `at_least`, absolute, in `unit`s; `up_to`: the range's top."""

    at_least: float = bounded(0, 1e9)
    up_to: float | None = field(default=None, metadata={"low": 1e-9, "high": 1e9})
    unit: str


@dataclass(frozen=True, kw_only=True)
class Ratio(Rule):
    """The treatment is better by a factor of `at_least` or more; `up_to`: the top of the claimed range."""

    at_least: float = bounded(1e-9, 1e9)
    up_to: float | None = field(default=None, metadata={"low": 1e-9, "high": 1e9})


KINDS: dict[str, type[Rule]] = {"equivalence": Equivalence, "difference": Difference, "ratio": Ratio}


@dataclass(frozen=True)
class Claim:
    """One claim of a paper in our words, what the paper's public pages state, and the rules to judge by.

    `paper` is its key and `source` the paper itself. `published` carries the tag of the page it was read
    on, or is exactly "not published here". `reason` says why these margins and this n.
    """

    id: str
    paper: str
    source: Paper
    statement: str
    published: str
    reason: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The keys of a claim in the file beside `rule`."""

    id: str
    paper: str
    statement: str
    published: str
    comparison: str
    metric: str
    n: int = bounded(2, 10_000)
    reason: str


def read(path: Path) -> list[Claim]:
    """The claims of `path`, in the file's order.

    LeandnnError naming the key's path, what was found and what was expected: for unknown or missing keys,
    wrong types, numbers out of range, ids that repeat or do not start with their paper, a published value
    without its source.
    """
    where = path.name
    document = _mapping(read_yaml(path), where)
    _check_keys(document, ("papers", "claims"), where)
    papers = {
        key: parse(Paper, value, f"{where}.papers.{key}")
        for key, value in _mapping(document["papers"], f"{where}.papers").items()
    }
    if not isinstance(document["claims"], list):
        raise LeandnnError(f"{where}.claims is a {type(document['claims']).__name__}, expected a list")
    claims: list[Claim] = []
    for position, item in enumerate(document["claims"]):
        claim = _claim(item, f"{where}.claims[{position}]", where, papers)
        if any(claim.id == other.id for other in claims):
            raise LeandnnError(
                f"{where}.claims[{position}].id is {claim.id!r} again, expected an id of its own"
            )
        claims.append(claim)
    return claims


def _claim(item: Any, place: str, where: str, papers: dict[str, Paper]) -> Claim:
    item = dict(_mapping(item, place))
    # A person finds a claim by its id, so errors name that from here on.
    if isinstance(item.get("id"), str):
        place = f"{where}.{item['id']}"
    rule = item.pop("rule", None)
    if rule is None:
        raise LeandnnError(f"{place}.rule is missing, expected a rule or a list of rules")
    entry = parse(_Entry, item, place)
    _check_choice(entry.paper, papers, f"{place}.paper")
    if not (entry.id.startswith(f"{entry.paper}-") and NAME.fullmatch(entry.id)):
        raise LeandnnError(
            f"{place}.id is {entry.id!r}, expected {entry.paper}-… in small letters and digits"
        )
    for key in ("statement", "reason"):
        if not getattr(entry, key).strip():
            raise LeandnnError(f"{place}.{key} is empty, expected a sentence")
    if entry.published != NOT_PUBLISHED and not SOURCE_TAG.search(entry.published):
        found = f"{place}.published is {entry.published!r}"
        raise LeandnnError(
            f"{found}, expected a value with its source such as [P: abstract], or {NOT_PUBLISHED!r}"
        )
    if isinstance(rule, list):
        if not rule:
            raise LeandnnError(f"{place}.rule is an empty list, expected at least one rule")
        rules = tuple(_rule(one, f"{place}.rule[{i}]", entry) for i, one in enumerate(rule))
    else:
        rules = (_rule(rule, f"{place}.rule", entry),)
    return Claim(
        entry.id, entry.paper, papers[entry.paper], entry.statement, entry.published, entry.reason, rules
    )


def _rule(data: Any, place: str, entry: _Entry) -> Rule:
    """One rule with the claim's comparison, metric and n where it names none, and arms as paths."""
    kind = _mapping(data, place).get("kind")
    _check_choice(kind, KINDS, f"{place}.kind")
    rule = parse(KINDS[str(kind)], data, place)
    _check_choice(rule.better, ("higher", "lower"), f"{place}.better")
    if isinstance(rule, Difference | Ratio) and rule.up_to is not None and not rule.up_to > rule.at_least:
        raise LeandnnError(f"{place}.up_to is {rule.up_to}, expected more than at_least, {rule.at_least}")
    comparison, metric = rule.comparison or entry.comparison, rule.metric or entry.metric
    arms = []
    for side in ("control", "treatment"):
        arm = getattr(rule, side)
        parts = arm.split("/") if "/" in arm else [entry.paper, comparison, arm]
        if len(parts) != 3 or not all(NAME.fullmatch(part) for part in parts):
            raise LeandnnError(
                f"{place}.{side} is {'/'.join(parts)!r}, expected an arm or paper/comparison/arm"
            )
        arms.append("/".join(parts))
    if rule.control_metric and metric.endswith("@*"):
        raise LeandnnError(
            f"{place}.control_metric is {rule.control_metric!r}, expected none for {metric}, which is many metrics"
        )
    if arms[0] == arms[1] and rule.control_metric in ("", metric):
        raise LeandnnError(
            f"{place}.treatment is {arms[1]!r}, expected another arm than the control, or another metric"
        )
    return dataclasses.replace(
        rule, control=arms[0], treatment=arms[1], comparison=comparison, metric=metric, n=rule.n or entry.n
    )


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise LeandnnError(f"{where} is a {type(data).__name__}, expected a mapping")
    return data


def _check_keys(data: dict[str, Any], expected: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in expected:
            raise LeandnnError(f"{where}.{key} is unknown, expected one of {', '.join(expected)}")
    for key in expected:
        if key not in data:
            raise LeandnnError(f"{where}.{key} is missing, expected {' and '.join(expected)}")


def _check_choice(value: Any, choices: Iterable[str], where: str) -> None:
    names = list(choices)
    if value not in names:
        raise LeandnnError(f"{where} is {value!r}, expected one of {', '.join(names)}")
