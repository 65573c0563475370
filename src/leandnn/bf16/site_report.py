"""The table of rounding sites: places, counts of what rounding did to the values there, and its text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from leandnn.bf16.policy import Rounding
from leandnn.kernels.rounding.format import format_of


class Place(NamedTuple):
    """Where values are rounded: pass, running module, function called, tensor, role and rounding."""

    stage: str
    module: str
    operation: str
    tensor: str
    role: str
    rounding: Rounding


class Tally:
    """Counts of a place, added up over the tensors that are rounded there."""

    def __init__(self) -> None:
        self.tensors = self.values = self.changed = 0
        self.overflows = self.zeros = self.subnormals = self.non_finite = self.normals = 0
        self.error_sum = self.error_max = 0.0
        self.lost: int | None = None

    def add(self, before: Tensor, after: Tensor, rounding: Rounding, lost: int | None) -> None:
        """Count one tensor; `before` and `after` are float32 of one shape."""
        fmt = format_of(rounding.format)
        finite, size = before.isfinite(), after.abs()
        beyond = after.isinf()
        if rounding.mode == "toward_zero":  # stops at the largest finite value
            beyond = before.abs().double() >= 2.0 ** (fmt.bias + 1)
        normal = finite & after.isfinite() & (size >= fmt.least_normal)
        error = ((after.double() - before.double()).abs() / before.double().abs())[normal]
        self.tensors += 1
        self.values += before.numel()
        self.changed += int((finite & (after != before)).sum())
        self.overflows += int((finite & beyond).sum())
        self.zeros += int((finite & (before != 0) & (after == 0)).sum())
        self.subnormals += int(((size > 0) & (size < fmt.least_normal)).sum())
        self.non_finite += int((~after.isfinite()).sum())
        self.normals += error.numel()
        self.error_sum += float(error.sum())
        self.error_max = max(self.error_max, float(error.max()) if error.numel() else 0.0)
        if lost is not None:
            self.lost = (self.lost or 0) + lost


@dataclass(frozen=True)
class Site:
    """One row: a place and what rounding did there in one step. A field left open by a sum is "".

    - stage: "forward", "backward" or "update".
    - module, operation: the module that was running and the function it called; for the update, the module
      and its parameter.
    - tensor: w and x go into a product, y comes out; dy comes back, dx and dw are the gradients it makes.
    - role, format, mode: of the policy.
    - tensors, values: how many were rounded.
    - changed: values that the format does not have.
    - overflows: finite values beyond the format's range: infinite now, or (toward zero) its largest value.
    - zeros: values other than 0 that became 0. subnormals: results below the smallest normal value.
    - non_finite: results that are infinite or NaN, whether by overflow or as they came.
    - mean_error, max_error: |rounded - value| / |value| where the result is a normal number (NaN: nowhere).
    - lost: of an update, numbers that the optimizer changed and rounding set back; None elsewhere.
    """

    stage: str
    module: str
    operation: str
    tensor: str
    role: str
    format: str
    mode: str
    tensors: int
    values: int
    changed: int
    overflows: int
    zeros: int
    subnormals: int
    non_finite: int
    mean_error: float
    max_error: float
    lost: int | None


_KEYS = ("stage", "module", "operation", "tensor", "role", "format", "mode")
_COUNTS = ("tensors", "values", "changed", "overflows", "zeros", "subnormals", "non_finite")


@dataclass(frozen=True)
class SiteReport:
    """The rows of rounding_sites, in the order in which the step first comes to them.

    - first_non_finite: the first place whose result held an infinity or NaN, None if there is none.
    """

    sites: tuple[Site, ...]
    first_non_finite: Site | None
    normals: tuple[int, ...]  # of each row: how many values its mean error is of

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    @classmethod
    def of(cls, tallies: Mapping[Place, Tally], first: Place | None) -> SiteReport:
        """The report of counted places, of which `first` was the first to hold an infinity or NaN."""
        sites = []
        for place, tally in tallies.items():
            fmt, mode = place.rounding
            counts = {name: getattr(tally, name) for name in _COUNTS}
            mean = tally.error_sum / tally.normals if tally.normals else math.nan
            largest = tally.error_max if tally.normals else math.nan
            text = fmt if isinstance(fmt, str) else f"e{fmt[0]}m{fmt[1]}"
            sites.append(
                Site(*place[:5], text, mode, **counts, mean_error=mean, max_error=largest, lost=tally.lost)
            )
        found = None if first is None else sites[list(tallies).index(first)]
        return cls(tuple(sites), found, tuple(tally.normals for tally in tallies.values()))

    def by(self, *fields: str) -> SiteReport:
        """The rows summed over all but these fields, e.g. by("stage", "role").

        Raises ValueError for a field that rows cannot be told apart by.
        """
        for field in fields:
            if field not in _KEYS:
                raise ValueError(f"field {field!r} is unknown, expected one of {', '.join(_KEYS)}")
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, site in enumerate(self.sites):
            groups.setdefault(tuple(getattr(site, f) for f in fields), []).append(i)
        sites, normals = [], []
        for rows in groups.values():
            own, counted = [self.sites[i] for i in rows], [self.normals[i] for i in rows]
            total = sum(counted)
            errors = [(s.mean_error * n, s.max_error) for s, n in zip(own, counted, strict=True) if n]
            lost = [s.lost for s in own if s.lost is not None]
            summed: dict[str, Any] = {
                **dict.fromkeys(set(_KEYS) - set(fields), ""),
                **{name: sum(getattr(s, name) for s in own) for name in _COUNTS},
                "mean_error": sum(e for e, _ in errors) / total if total else math.nan,
                "max_error": max(e for _, e in errors) if errors else math.nan,
                "lost": sum(lost) if lost else None,
            }
            sites.append(replace(own[0], **summed))
            normals.append(total)
        return SiteReport(tuple(sites), self.first_non_finite, tuple(normals))

    def worst(self, count: str) -> Site | None:
        """The row with the largest share of values that a count tells, e.g. "zeros" or "lost"; None if all have 0.

        Raises ValueError for a count that rows do not have.
        """
        if count not in (*_COUNTS[2:], "lost"):
            raise ValueError(f"count {count!r} is unknown, expected one of {', '.join(_COUNTS[2:])}, lost")

        def share(site: Site) -> float:
            return (getattr(site, count) or 0) / max(1, site.values)

        found = max(self.sites, key=share, default=None)
        return found if found is not None and share(found) else None

    def to_markdown(self) -> str:
        """The rows as a Markdown table; columns that are empty everywhere are left out."""
        columns: dict[str, list[str]] = {}
        for key in _KEYS:
            columns[key] = [getattr(site, key) for site in self.sites]
        for key in ("tensors", "values"):
            columns[key] = [f"{getattr(site, key):,}" for site in self.sites]
        columns["changed"] = [f"{site.changed / max(1, site.values):.1%}" for site in self.sites]
        names = {"overflows": "overflows", "zeros": "to zero", "subnormals": "subnormal"}
        for key, title in names.items():
            columns[title] = [f"{getattr(site, key):,}" for site in self.sites]
        for key, title in (("mean_error", "mean error"), ("max_error", "largest error")):
            values = [getattr(site, key) for site in self.sites]
            columns[title] = ["–" if math.isnan(v) else f"{v:.1e}" for v in values]
        columns["updates lost"] = ["" if site.lost is None else f"{site.lost:,}" for site in self.sites]
        kept = {title: cells for title, cells in columns.items() if any(cells)}
        width = len(kept)
        lines = [" | ".join(kept), " | ".join(["---"] * width)]
        lines += [" | ".join(row) for row in zip(*kept.values(), strict=True)]
        return "\n".join(f"| {line} |" for line in lines)

    _repr_markdown_ = to_markdown
