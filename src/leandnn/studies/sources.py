"""The package's Python source as definitions and what each of them refers to: no code is imported or run.

A *unit* is one top-level statement of a module, or one method of a class. What a root reaches is found by names:
every name, attribute and import in a unit refers to units that bind it. Where a name could mean several things it
means all of them, so that what is reached is never too little:

- a method is reached where anything that is reached reads an attribute of its name, or has it as a text;
- all methods are, of a class with a base from outside the package (torch calls what it likes);
- a module that is imported runs: its statements that are no definitions, and functions under a decorator that may
  register them somewhere, are reached wherever the module is; but an operator ("leandnn::name") where something
  reads an attribute of its name or it is named itself, and what is registered with it (gradient, shapes) where it is;
- that something is an instance of a class, or not, reaches nothing: an instance comes from where the class is named
  otherwise;
- a module that is used as a value is reached whole.

What a unit *does* is its syntax tree without docstrings, annotations, and the wording of errors: see `meaning`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from leandnn import paths

PACKAGE = "leandnn"
# Decorators that register a function nowhere: it does something only where it is called.
PURE = frozenset((
    "cache", "cached_property", "classmethod", "compile", "contextmanager", "dataclass", "disable", "inference_mode",
    "jit", "lru_cache", "no_grad", "once_differentiable", "overload", "property", "runtime_checkable", "setter",
    "singledispatch", "staticmethod", "total_ordering", "wraps",
))  # fmt: skip
_SHAPING = ("ClassVar", "InitVar", "KW_ONLY")  # annotations that decide what a dataclass is


@dataclass(frozen=True)
class Unit:
    """One statement or method: its place ("leandnn.train.loop:train", "….loop:_Loop.step"), and what it does."""

    place: str
    digest: str
    refers: frozenset[tuple[str, ...]]  # (name, attribute, attribute …), from the module's scope
    imports: tuple[tuple[str, str, str], ...]  # made inside it: (local name, module, name or "")
    attributes: frozenset[str]  # every attribute that it reads, and texts that could name one


@dataclass
class Module:
    """A module's units by the names they bind, what runs when it is imported, and what it imports."""

    name: str
    units: dict[str, list[Unit]] = field(default_factory=dict)
    methods: dict[str, list[Unit]] = field(default_factory=dict)  # by class; those reached by name alone
    runs: list[Unit] = field(default_factory=list)
    operators: list[tuple[str, Unit]] = field(default_factory=list)  # (its name in torch.ops, the function)
    attached: dict[str, list[Unit]] = field(default_factory=dict)  # what is registered with a definition
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name → (module, name or "")


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
        imported = module.imports.get(first)
        if imported is not None and imported != (name, first):  # a package's own module, by its own __init__
            self.follow(*imported, rest)
        elif self.sources.module(f"{name}.{first}") is not None and first not in module.units:
            self.refer(f"{name}.{first}", rest)


def read(text: str, name: str, *, is_package: bool = False) -> Module:
    """The module that a source text is."""
    module = Module(name)
    for number, node in enumerate(ast.parse(text).body):
        if _is_for_types(node) or _is_text(node):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update({local: (origin, own) for local, origin, own in _imported(node)})
            continue
        names = list(binds(node))
        registered = list(_registrations(node))
        operators = [_operator(call) for call in registered]
        runs = not names or bool(registered) or isinstance(node, ast.If | ast.Try | ast.With | ast.For)
        own_methods: list[ast.stmt] = []
        if isinstance(node, ast.ClassDef) and not any(_is_foreign(base) for base in node.bases):
            own_methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not _is_special(n)]
            node.body = [n for n in node.body if n not in own_methods] or [ast.Pass()]
        unit = unit_of(node, f"{name}:{names[0] if names else f'statement {number}'}")
        if len(names) != 1 or names[0] in module.units or names[0] == "_":  # several of one name, or of none
            unit = replace(unit, place=f"{unit.place} at {unit.digest[:8]}")
        owners = {owner for call in registered if (owner := _root(call)) in module.units}
        if owners and len(owners) == len(registered):
            for owner in owners:
                module.attached.setdefault(owner, []).append(unit)
        elif operators and all(operators):
            module.operators += [(operator, unit) for operator in operators]
        elif runs:
            module.runs.append(unit)
        for bound in names:
            module.units.setdefault(bound, []).append(unit)
        for method in own_methods:
            assert isinstance(method, ast.FunctionDef)
            module.methods.setdefault(names[0], []).append(
                unit_of(method, f"{name}:{names[0]}.{method.name}")
            )
    return module


def unit_of(node: ast.AST, place: str) -> Unit:
    """The unit that a syntax tree is; the tree keeps only what it does."""
    meaning(node)
    chains: set[tuple[str, ...]] = set()
    attributes: set[str] = set()
    imports: list[tuple[str, str, str]] = []
    inner = set(_only_tested(node))  # names that are not used as values of their own
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and id(child) not in inner:
            attributes.add(child.attr)
            parts, base = [child.attr], child.value
            while isinstance(base, ast.Attribute):
                parts.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name):
                chains.add((base.id, *reversed(parts)))
                inner.add(id(base))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            imports += _imported(child)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str) and child.value.isidentifier():
            attributes.add(child.value)
    chains |= {(n.id,) for n in ast.walk(node) if isinstance(n, ast.Name) and id(n) not in inner}
    # Of a chain's beginnings only the whole one is meant: `a.b.c` does not use `a` as a value.
    digest = hashlib.sha256(ast.dump(node).encode()).hexdigest()
    return Unit(place, digest, frozenset(chains), tuple(imports), frozenset(attributes))


def meaning(node: ast.AST) -> None:
    """Take from a syntax tree, in place, what does nothing: docstrings, annotations, the wording of errors."""
    for child in ast.walk(node):
        body = getattr(child, "body", None)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and isinstance(
            body, list
        ):
            child.body = [n for n in child.body if not _is_text(n)] or [ast.Pass()]
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child.returns = None
        elif isinstance(child, ast.arg):
            child.annotation = None
        elif isinstance(child, ast.AnnAssign):
            words = {n.id for n in ast.walk(child.annotation) if isinstance(n, ast.Name)}
            kept = sorted(words & set(_SHAPING))
            child.annotation = ast.Name(kept[0] if kept else "object", ast.Load())
        elif isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            # A run that ends well says nothing of it.
            child.exc.args = [ast.Constant("") if _is_wording(a) else a for a in child.exc.args]


def _is_wording(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or a text that stands for itself."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _is_special(node: ast.FunctionDef) -> bool:
    """A method that Python calls by itself, or whose name is not all that leads to it."""
    names = {n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for d in node.decorator_list
             for n in ast.walk(d)}  # fmt: skip
    return node.name.startswith("__") or bool(names - PURE - {"functools", "torch", ""})


def _is_foreign(base: ast.expr) -> bool:
    """Whether a base class may call methods that no unit names: anything but the package's own and plain ones."""
    text = ast.unparse(base).split("[")[0].rpartition(".")[2]
    return text not in {"object", "Protocol", "NamedTuple", "Generic", "Exception", "ValueError"} | OWN_BASES


# Bases of the package whose methods are called by name: by the loop and by what is in it.
OWN_BASES = frozenset({"Hook", "LeandnnError"})


def _registrations(node: ast.stmt) -> Iterator[ast.expr]:
    """What may register a definition somewhere: decorators other than PURE; of a bare call, the call."""
    if isinstance(node, ast.Expr):
        yield node.value
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        for decorator in node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name not in PURE:
                yield decorator


def _root(expression: ast.expr) -> str:
    """The name that a call or an attribute begins with, "" where it is none."""
    while isinstance(expression, ast.Call | ast.Attribute):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def _operator(call: ast.expr) -> str:
    """The name under which torch.ops has what `@…custom_op("leandnn::name")` registers, "" for another decorator."""
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
    return text.partition("::")[2]


def _only_tested(node: ast.AST) -> Iterator[int]:
    """The nodes that only ask for a class: the second argument of isinstance and issubclass, patterns of a match."""
    for child in ast.walk(node):
        classes: Sequence[ast.expr] = ()
        if isinstance(child, ast.Call) and getattr(child.func, "id", "") in ("isinstance", "issubclass"):
            classes = child.args[1:]
        elif isinstance(child, ast.MatchClass):
            classes = (child.cls,)
        for inner in classes:
            yield from (id(n) for n in ast.walk(inner))


def binds(node: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    seen = set()
    for child in ast.walk(node):
        found = []
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            found = [child.id]
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            found = [child.name]
        elif isinstance(child, ast.Import | ast.ImportFrom):
            found = [local for local, _, _ in _imported(child)]
        for name in found:
            if name not in seen:
                seen.add(name)
                yield name


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    """(local name, module, name or "") of what an import binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname or alias.name.split(".")[0], alias.name, "")
        return
    for alias in node.names:
        yield (alias.asname or alias.name, node.module or "", alias.name)
