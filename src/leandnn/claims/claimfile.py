"""claims.yaml read into typed values: what each claim says and the rules it is judged by.

The file holds `papers` (key to title and arXiv number) and `claims`, a list. A claim's `rule` is one
mapping, or a list of them when several must hold together; a rule of a list may name its own `comparison`,
`metric` or `n`, else the claim's count. Rules name arms (`fp32`) of their comparison, or by path
(`bf16/vision/fp32`) an arm that another comparison made; with a `control_metric` of its own the control may be the
treatment's arm, at another stage of the same run. How they are judged stands in judge.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from leandnn.claims.schema import Strict, validated
from leandnn.errors import LeandnnError
from leandnn.params import read_yaml

NOT_PUBLISHED = "not published here"
SOURCE_TAG = re.compile(r"\[[PC](-figure)?: [^\]]+\]")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def _sentence(text: str) -> str:
    if not text.strip():
        raise ValueError("a sentence")
    return text


def _sourced(text: str) -> str:
    if text != NOT_PUBLISHED and not SOURCE_TAG.search(text):
        raise ValueError(f"a value with its source such as [P: abstract], or {NOT_PUBLISHED!r}")
    return text


Sentence = Annotated[str, AfterValidator(_sentence)]
Count = Annotated[int, Field(ge=2, le=10_000)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]


class Paper(Strict):
    """A paper as the reader may look it up."""

    title: str
    arxiv: str


class Rule(Strict):
    """What every rule has. After reading, `control` and `treatment` are paths: `paper/comparison/arm`.

    `better` is the direction of the metric, `confidence` 1 - alpha of each one-sided test, `n` the pairs needed
    for a verdict. `control_metric` is the control's metric, "" for the treatment's.
    """

    kind: str
    control: str
    treatment: str
    better: Literal["higher", "lower"]
    confidence: Annotated[float, Field(ge=0.55, le=0.9999)]
    comparison: str = ""
    metric: str = ""
    control_metric: str = ""
    n: Count = 0


class Equivalence(Rule):
    """The treatment equals the control to within ±`margin`, absolute, in `unit`s of the metric."""

    margin: Positive
    unit: str


class Difference(Rule):
    """The treatment is better by more than `at_least`, absolute, in `unit`s; `up_to`: the range's top."""

    at_least: Annotated[float, Field(ge=0, le=1e9)]
    up_to: Positive | None = None
    unit: str


class Ratio(Rule):
    """The treatment is better by a factor of `at_least` or more; `up_to`: the top of the claimed range."""

    at_least: Positive
    up_to: Positive | None = None


KINDS: dict[str, type[Rule]] = {"equivalence": Equivalence, "difference": Difference, "ratio": Ratio}


class _File(Strict):
    """The whole of claims.yaml, its parts yet to be looked at."""

    papers: dict[str, Any]
    claims: list[Any]


class _Entry(Strict):
    """The keys of a claim in the file beside `rule`."""

    id: str
    paper: str
    statement: Sentence
    published: Annotated[str, AfterValidator(_sourced)]
    comparison: str
    metric: str
    net: Sentence
    n: Count
    reason: Sentence
    needs: str = ""
    caveat: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper in our words, what the paper's public pages state, and the rules to judge by.

    `paper` is its key and `source` the paper itself. `published` carries the tag of the page it was read
    on, or is exactly "not published here". `reason` says why these margins and this n. `net` is what the runs
    train and on what data; `needs` what the paper's claim needs and no run here has had ("" if nothing); `caveat`
    what is wrong with the evidence that there is ("" if nothing is known).
    """

    id: str
    paper: str
    source: Paper
    statement: str
    published: str
    reason: str
    rules: tuple[Rule, ...]
    net: str
    needs: str = ""
    caveat: str = ""


def read(path: Path) -> list[Claim]:
    """The claims of `path`, in the file's order.

    LeandnnError naming the key's path, what was found and what was expected: for unknown or missing keys,
    wrong types, numbers out of range, ids that repeat or do not start with their paper, a published value
    without its source; and for a folder without such a file.
    """
    where = path.name
    if not path.is_file():
        raise LeandnnError(
            f"there is no {where} in {path.parent}, expected a clone of the repository: run this inside of one, "
            "or set LEANDNN_ROOT to its path"
        )
    document = validated(_File, read_yaml(path), where)
    papers = {key: validated(Paper, value, f"{where}.papers.{key}") for key, value in document.papers.items()}
    claims: list[Claim] = []
    for position, item in enumerate(document.claims):
        claim = _claim(item, f"{where}.claims[{position}]", where, papers)
        if any(claim.id == other.id for other in claims):
            raise LeandnnError(
                f"{where}.claims[{position}].id is {claim.id!r} again, expected an id of its own"
            )
        claims.append(claim)
    return claims


def _claim(item: Any, place: str, where: str, papers: dict[str, Paper]) -> Claim:
    rule = None
    if isinstance(item, dict):
        # A person finds a claim by its id, so errors name that from here on.
        place = f"{where}.{item['id']}" if isinstance(item.get("id"), str) else place
        rule = item.get("rule")
        item = {key: value for key, value in item.items() if key != "rule"}
    entry = validated(_Entry, item, place)
    _check_choice(entry.paper, papers, f"{place}.paper")
    if not (entry.id.startswith(f"{entry.paper}-") and NAME.fullmatch(entry.id)):
        raise LeandnnError(
            f"{place}.id is {entry.id!r}, expected {entry.paper}-… in small letters and digits"
        )
    if rule is None or rule == []:
        found = "missing" if rule is None else "an empty list"
        raise LeandnnError(f"{place}.rule is {found}, expected a rule or a list of rules")
    if isinstance(rule, list):
        rules = tuple(_rule(one, f"{place}.rule[{i}]", entry) for i, one in enumerate(rule))
    else:
        rules = (_rule(rule, f"{place}.rule", entry),)
    return Claim(
        entry.id, entry.paper, papers[entry.paper], entry.statement, entry.published, entry.reason, rules,
        entry.net, entry.needs, entry.caveat,
    )  # fmt: skip


def _rule(data: Any, place: str, entry: _Entry) -> Rule:
    """One rule with the claim's comparison, metric and n where it names none, and arms as paths."""
    kind = data.get("kind") if isinstance(data, dict) else "ratio"
    _check_choice(kind, KINDS, f"{place}.kind")
    rule = validated(KINDS[str(kind)], data, place)
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
    control, treatment = arms
    return rule.model_copy(
        update={
            "control": control,
            "treatment": treatment,
            "comparison": comparison,
            "metric": metric,
            "n": rule.n or entry.n,
        }
    )


def _check_choice(value: Any, choices: Iterable[str], where: str) -> None:
    names = list(choices)
    if value not in names:
        raise LeandnnError(f"{where} is {value!r}, expected one of {', '.join(names)}")
