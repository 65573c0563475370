"""What an arm does, as a digest: it changes with anything that may change a result, and with nothing else.

Its parts: the value that the arm is (functions, classes, and the plain values that they are given); every definition
of the package that it reaches (reach.py) from there, from the loop and from what makes its metrics; and where it
reaches the compiled kernels of a room, their C++, headers, and how they are compiled (native.py). Comments,
docstrings, annotations, formatting, and what it does not reach are no part of it. Libraries and data are named beside
the digest, in the run.

`write` fills build/digests/, on which the stages of dvc.yaml depend instead of on files of source. Records say what
they are of by the digest of their arm (standing.py).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leandnn import params, paths
from leandnn.errors import LeandnnError
from leandnn.files import write_json
from leandnn.studies import native, proofs, registry, sources
from leandnn.studies.comparison import Comparison
from leandnn.studies.reach import Sources

TRAINED = ("leandnn.studies.outcome:train", "leandnn.train.loop:train")  # what every run goes through
# Stages that train nothing, by the file in build/digests that they depend on; PAGES: see _pages.
STAGES = {
    "data": ("leandnn.data.sources:fetch",),
    "data-digits": ("leandnn.data.speech_synthesis:fetch",),
    "features": ("leandnn.tasks.image_judge:train",),
    "strip": ("leandnn.report.notebooks:strip_file",),
    "summary": ("leandnn.report.summary:write", "PAGES"),
}


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What was reached, by place: the digest of each part, and of an arm the value that it is."""

    parts: Mapping[str, str]
    value: Any = None

    @property
    def digest(self) -> str:
        """Sixteen hex digits over all of it."""
        text = json.dumps([self.value, sorted(self.parts.items())], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Reader:
    """Reads the behaviours of one state of the source; what was parsed once is kept."""

    def __init__(self, root: Path = paths.ROOT, package: Path = paths.PACKAGE) -> None:
        self.root = root
        self.sources = Sources(package)

    def of(self, roots: Iterable[str], value: Any = None) -> Behaviour:
        """What these places of the package ("module:name") reach."""
        found = self.sources.reached(roots)
        parts = {place: unit.digest for place, unit in found.items()}
        rooms = {
            place.split(".")[2]
            for place, unit in found.items()
            if place.startswith("leandnn.kernels.") and place.count(".") > 2 and _is_native(unit)
        }
        for room in sorted(rooms):
            parts |= {f"kernels/{name} for {room}": text for name, text in self.native(room).items()}
        return Behaviour(parts, value)

    @functools.cache  # noqa: B019 - lives as long as one call of a command
    def native(self, room: str) -> dict[str, str]:
        """See native.digests."""
        return native.digests(self.root, room)

    def arm(self, comparison: Comparison, arm: str) -> Behaviour:
        """What an arm of a comparison does."""
        roots: set[str] = set(TRAINED)
        value = plain(comparison.arms[arm], roots)
        plain(comparison.budget, roots)
        return self.of(sorted(roots), value)

    def notebook(self, path: Path) -> Behaviour:
        """What a notebook's cells reach; the cells themselves are beside it."""
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            tree = ast.parse(
                "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
            )
        except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
            raise LeandnnError(f"{paths.relative(path)} is no notebook of Python cells: {error}") from error
        unit = sources.unit_of(tree, "notebook")
        roots = {"leandnn.report.notebooks:execute"}
        for local, module, name in unit.imports:
            if self.sources.module(module) is None:
                continue
            if name and self.sources.module(f"{module}.{name}") is not None:
                used = {chain[1] for chain in unit.refers if chain[0] == local and len(chain) > 1}
                roots |= {f"{module}.{name}:{attribute}" for attribute in used}
            else:
                roots.add(f"{module}:{name}" if name else module)
        return self.of(sorted(roots))


def _is_native(unit: sources.Unit) -> bool:
    return any(chain[0] in ("dispatch", "_native") for chain in unit.refers)


def plain(value: Any, roots: set[str]) -> Any:
    """A value as plain data; functions and classes by their places, which are added to `roots`.

    TypeError for what has no place or could hide state: lambdas, functions within functions, objects of other kinds.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, functools.partial):
        return {
            "call": plain(value.func, roots),
            "with": [plain(list(value.args), roots), plain(value.keywords, roots)],
        }
    if isinstance(value, tuple | list):
        return [plain(item, roots) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item, roots) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name), roots) for f in dataclasses.fields(value)}
        return {"is": plain(type(value), roots), **fields}
    name = getattr(value, "__qualname__", "")
    if not name or "<" in name or not callable(value):
        raise TypeError(
            f"an arm has {value!r}, expected plain values, functions and classes of a module, functools.partial or "
            "dataclasses of them"
        )
    place = f"{value.__module__}:{name}"
    if place.startswith("leandnn."):
        roots.add(place)
    return place


def of(comparison: Comparison, reader: Reader | None = None) -> dict[str, str]:
    """The digest of every arm, by name: of those proved equal, the first."""
    reader = reader or Reader()
    return {arm: proofs.canonical(reader.arm(comparison, arm).digest) for arm in comparison.arms}


@functools.cache
def today() -> Mapping[str, str]:
    """The digest of every arm of every study, by "<study>/<arm>", as the source is now.

    From build/digests/today.json where that is of the same source: computing them takes the wings, and torch.
    """
    source, path = source_digest(), paths.BUILD / "digests" / "today.json"
    try:
        known = json.loads(path.read_text())
        if known["source"] == source:
            return dict(known["arms"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {arm: behaviour.digest for arm, behaviour in behaviours().items()}


def behaviours(reader: Reader | None = None) -> dict[str, Behaviour]:
    """What every arm of every study does, by "<study>/<arm>"."""
    reader = reader or Reader()
    return {
        f"{comparison.study}/{arm}": reader.arm(comparison, arm)
        for comparison in registry.matching(["all"])
        for arm in comparison.arms
    }


def source_digest(
    root: Path = paths.ROOT,
    package: Path = paths.PACKAGE,
    suffixes: tuple[str, ...] = (".py", ".cpp", ".hpp", ".inc"),
) -> str:
    """SHA-256 over the bytes of everything that a digest is computed from; of the compiled part without ".py"."""
    found = hashlib.sha256()
    files = sorted(p for p in package.rglob("*") if p.suffix in suffixes)
    for path in (*files, root / "CMakeLists.txt", root / "pyproject.toml"):
        if path.is_file():
            found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def write(folder: Path | None = None) -> Path:
    """Write what each stage of the pipeline depends on, a file each; one that is not written any more goes.

    - of a study: {"study", "threads", "budget", "seeds", "arms": digest by arm}, for `leandnn train`;
    - of the rest: {"behaviour": digest}; of a notebook the digest of what its cells reach.
    - today.json: see `today`.
    """
    folder = folder or paths.BUILD / "digests"
    reader, profile = Reader(), params.load()
    written = set()

    def put(name: str, content: Mapping[str, Any]) -> None:
        written.add(f"{name}.json")
        path = folder / f"{name}.json"
        write_json(path, content)

    for paper, own in profile.studies.items():
        for name in own:
            if paper == "features":
                continue
            comparison = registry.find(f"{paper}-{name}")
            found = comparison.budgeted(profile)
            assert found is not None
            budget, seeds = found
            put(
                comparison.study,
                {
                    "study": comparison.study,
                    "threads": profile.threads,
                    "budget": dataclasses.asdict(budget),
                    "seeds": list(seeds),
                    "arms": of(comparison, reader),
                },
            )
    for name, roots in STAGES.items():
        places = [place for root in roots for place in (_pages() if root == "PAGES" else (root,))]
        content: dict[str, Any] = {"behaviour": proofs.canonical(reader.of(places).digest)}
        if name == "features":
            content |= {"budget": features_budget(profile), "threads": profile.threads}
        put(name, content)
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        put(path.stem, {"behaviour": proofs.canonical(reader.notebook(path).digest)})
    put(
        "today",
        {
            "source": source_digest(),
            "arms": {arm: behaviour.digest for arm, behaviour in behaviours(reader).items()},
        },
    )
    for path in folder.glob("*.json"):
        if path.name not in written:
            path.unlink()
    return folder


def _pages() -> list[str]:
    """Where the pages stand that report/pages.py finds by their folders, which no import names."""
    found = paths.PACKAGE.glob("report/*/__init__.py")
    return [f"leandnn.report.{p.parent.name}:PAGE" for p in sorted(found) if "PAGE =" in p.read_text()]


def features_budget(profile: params.Profile) -> dict[str, Any]:
    """What the classifier may spend in whose features generated images are judged (tasks/image_judge.py)."""
    said = profile.said("features", "cifar10")
    if said is None:
        raise LeandnnError(
            f"the profile {profile.name} has no budget for features.cifar10, expected its epochs"
        )
    budget = params.parse(
        params.Budget, profile.examples["cifar10"] | said, f"{profile.name}.studies.features.cifar10"
    )
    return dataclasses.asdict(budget)
