"""What a place of the package reaches: the closure over names, attributes and imports (sources.py reads them).

Where a name could mean several things it means all of them, so that what is reached is never too little:

- a method is reached where anything that is reached reads an attribute of its name, or has it as a text;
- all methods are, of a class with a base from outside the package (torch calls what it likes);
- a module that is imported runs: its statements that are no definitions, and functions under a decorator that may
  register them somewhere, are reached wherever the module is; but an operator ("leandnn::name") where something
  reads an attribute of its name or it is named itself, and what is registered with it (gradient, shapes) where it is;
- that something is an instance of a class, or not, reaches nothing: an instance comes from where the class is named
  otherwise;
- a module that is used as a value is reached whole.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from leandnn import paths
from leandnn.studies.sources import Module, Unit, read

PACKAGE = "leandnn"


class Sources:
    """All modules below a folder that holds the package; read when first asked for."""

    def __init__(self, package: Path = paths.PACKAGE) -> None:
        self.package = package

    @functools.cache  # noqa: B019 - lives as long as one call of a command
    def module(self, name: str) -> Module | None:
        """The module of a dotted name, None for one from outside the package."""
        if name.split(".")[0] != PACKAGE:
            return None
        stem = self.package.joinpath(*name.split(".")[1:])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return read(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py")
        return None

    def reached(self, roots: Iterable[str]) -> dict[str, Unit]:
        """Every unit that the roots reach, by place.

        - roots: "module:name", "module:Class.method", or "module" for all of a module.
        """
        return _Search(self).run(roots)


class _Search:
    """What is reached so far, and what waits for an attribute of its name to be read."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.found: dict[str, Unit] = {}
        self.ran: set[str] = set()
        self.attributes: set[str] = set()
        self.waiting: dict[str, list[tuple[str, Unit]]] = {}
        self.todo: list[tuple[str, Unit]] = []

    def run(self, roots: Iterable[str]) -> dict[str, Unit]:
        for root in roots:
            module, _, name = root.partition(":")
            if self.sources.module(module) is None:
                raise ValueError(f"there is no module {module}, expected one of the package {PACKAGE}")
            self.refer(module, tuple(name.split(".")) if name else ())
        while self.todo:
            module, unit = self.todo.pop()
            own = {local: (origin, name) for local, origin, name in unit.imports}
            for _, origin, name in unit.imports:
                self.import_(origin, name)
            for chain in unit.refers:
                if chain[0] in own:
                    self.follow(*own[chain[0]], chain[1:])
                else:
                    self.refer(module, chain)
            for name in unit.attributes - self.attributes:
                self.attributes.add(name)
                for place in self.waiting.pop(name, ()):
                    self.reach(*place)
        return self.found

    def reach(self, module: str, unit: Unit) -> None:
        if unit.place in self.found:
            return
        self.found[unit.place] = unit
        self.todo.append((module, unit))
        own = self.sources.module(module)
        for further in own.attached.get(unit.place.rpartition(":")[2], ()) if own else ():
            self.reach(module, further)

    def await_(self, attribute: str, module: str, unit: Unit) -> None:
        """Reach a unit as soon as something reads an attribute of this name."""
        if attribute in self.attributes:
            self.reach(module, unit)
        else:
            self.waiting.setdefault(attribute, []).append((module, unit))

    def execute(self, name: str) -> None:
        """A module is imported, and its parents before it: what they run is reached."""
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            parent = ".".join(parts[:end])
            module = self.sources.module(parent)
            if module is None or parent in self.ran:
                continue
            self.ran.add(parent)
            for unit in module.runs:
                self.reach(parent, unit)
            for operator, unit in module.operators:
                self.await_(operator, parent, unit)
            for origin, imported in module.imports.values():
                self.import_(origin, imported)

    def import_(self, origin: str, name: str) -> None:
        if self.sources.module(origin) is not None:
            self.execute(origin)
            if name and self.sources.module(f"{origin}.{name}") is not None:
                self.execute(f"{origin}.{name}")

    def follow(self, origin: str, name: str, rest: tuple[str, ...]) -> None:
        """What `from origin import name` (`import origin` where name is "") gives, and attributes of it."""
        if self.sources.module(origin) is None:
            return
        if not name:  # `import leandnn.a.b` binds the first part of the name
            self.refer(PACKAGE, rest)
        else:
            self.refer(origin, (name, *rest))

    def refer(self, name: str, chain: tuple[str, ...]) -> None:
        """What `chain` means in the scope of the module `name`; all of the module where it is empty."""
        module = self.sources.module(name)
        if module is None:
            return
        self.execute(name)
        if not chain:
            for first in (*module.units, *module.imports):
                self.refer(name, (first,))
            return
        first, rest = chain[0], chain[1:]
        for unit in module.units.get(first, ()):
            self.reach(name, unit)
        for method in module.methods.get(first, ()):
            self.await_(method.place.rpartition(".")[2], name, method)
        if first in module.imports and module.imports[first] != (
            name,
            first,
        ):  # a package may import its own parts
            self.follow(*module.imports[first], rest)
        elif self.sources.module(f"{name}.{first}") is not None and first not in module.units:
            self.refer(f"{name}.{first}", rest)
