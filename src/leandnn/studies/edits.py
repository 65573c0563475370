"""What an edit changed between two states of the source, and whether a miniature can show that it changes no result.

A miniature trains an arm for a moment. It sees whatever lines it executes, but not a number that matters only at full
length (a schedule's last tenth, an interval of 100 steps). So it may speak for an edit only if every changed line is
executed, and the changed definitions have the same constants, operators and called names as before, each as often.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leandnn.studies import sources


@dataclass(frozen=True)
class Edit:
    """What differs of an arm.

    - reason: why a miniature cannot speak for it, "" if it can.
    - before, after: lines that must be executed, by file below the package, on the two sides.
    """

    reason: str
    before: Mapping[str, list[int]] = field(default_factory=dict)
    after: Mapping[str, list[int]] = field(default_factory=dict)


def between(old: Mapping[str, str], new: Mapping[str, str], old_package: Path, new_package: Path) -> Edit:
    """The edit that lies between two behaviours of an arm.

    - old, new: their parts, digest by place (digests.Behaviour.parts). old_package, new_package: their source.
    """
    gone = {place: digest for place, digest in old.items() if new.get(place) != digest}
    come = {place: digest for place, digest in new.items() if old.get(place) != digest}
    moved = Counter(gone.values()) & Counter(come.values())
    gone, come = _without(gone, moved), _without(come, moved)
    if compiled := sorted({place.split(" for ")[0] for place in (*gone, *come) if " for " in place}):
        return Edit(f"{compiled[0]} is compiled, and what it executes is not seen")
    trees = [
        {place: _tree(place, package) for place in places}
        for places, package in ((gone, old_package), (come, new_package))
    ]
    renamed = _renamed(*trees)
    for place in renamed.values():
        trees[1].pop(place)
    for place in renamed:
        trees[0].pop(place)
    names = {_name(old): _name(new) for old, new in renamed.items()}
    for tree in trees[0].values():
        _rename(tree, names)
    weights: list[Counter[str]] = [
        sum((_weights(tree) for tree in side.values()), Counter()) for side in trees
    ]
    if difference := [*(weights[0] - weights[1]), *(weights[1] - weights[0])]:
        return Edit(f"{difference[0]} is not there as often as before")
    statements = [Counter(text for tree in side.values() for text, _ in _lines(tree)) for side in trees]
    sides = [
        _changed(side, statements[0] - statements[1] if at == 0 else statements[1] - statements[0])
        for at, side in enumerate(trees)
    ]
    return Edit("", *sides)


def _name(place: str) -> str:
    return place.partition(":")[2].rpartition(".")[2].split(" at ")[0]


def _renamed(old: Mapping[str, ast.AST], new: Mapping[str, ast.AST]) -> dict[str, str]:
    """Definitions that are on the new side under another name, or in another place, and else as they were."""
    by_text = {_nameless(tree): place for place, tree in new.items()}
    found: dict[str, str] = {}
    for place, tree in old.items():
        other = by_text.get(_nameless(tree))
        if other is not None and other not in found.values():
            found[place] = other
    return found


def _nameless(tree: ast.AST) -> str:
    if not isinstance(tree, ast.FunctionDef | ast.ClassDef):
        return ast.dump(tree)
    name, tree.name = tree.name, ""
    text = ast.dump(tree)
    tree.name = name
    return text


def _rename(tree: ast.AST, names: Mapping[str, str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.Attribute):
            node.attr = names.get(node.attr, node.attr)


def _without(places: dict[str, str], moved: Counter[str]) -> dict[str, str]:
    """The places whose text did not just move elsewhere."""
    left, kept = Counter(moved), {}
    for place, digest in places.items():
        if left[digest]:
            left[digest] -= 1
        else:
            kept[place] = digest
    return kept


def _file(place: str) -> str:
    return "/".join(place.partition(":")[0].split(".")[1:])


def _tree(place: str, package: Path) -> ast.AST:
    """The syntax tree of a unit, with the line numbers of its file."""
    stem = package / _file(place)
    path = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    name = place.partition(":")[2].split(" at ")[0]
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    if name.startswith("statement "):
        found: ast.AST = body[int(name.removeprefix("statement "))]
    else:
        first, _, method = name.partition(".")
        found = next(node for node in body if first in set(sources.binds(node)))
        if isinstance(found, ast.ClassDef):
            own = [n for n in found.body if isinstance(n, ast.FunctionDef)]
            if method:
                found = next(n for n in own if n.name == method)
    sources.meaning(found)
    return found


def _weights(tree: ast.AST) -> Counter[str]:
    """What decides a result beside the flow of statements: constants, operators, names that are called or read."""
    found: Counter[str] = Counter()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            found[f"the constant {node.value!r}"] += 1
        elif isinstance(node, ast.operator | ast.unaryop | ast.boolop | ast.cmpop):
            found[f"the operator {type(node).__name__}"] += 1
        elif id(node) in called and isinstance(node, ast.Attribute | ast.Name):
            found[f"a call of {node.attr if isinstance(node, ast.Attribute) else node.id}"] += 1
        elif isinstance(node, ast.Attribute):
            found[f"the attribute {node.attr}"] += 1
        elif isinstance(node, ast.keyword):
            found[f"the keyword {node.arg}"] += 1
        elif isinstance(node, ast.Break | ast.Continue | ast.IfExp | ast.If | ast.While):
            found[f"a statement {type(node).__name__}"] += 1
    return found


def _lines(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every statement, a compound one without what is inside it, and its first line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Pass):
            parts = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
            yield f"{type(node).__name__}: {' '.join(ast.dump(part) for part in parts)}", node.lineno


def _changed(side: Mapping[str, ast.AST], only_here: Counter[str]) -> dict[str, list[int]]:
    """The lines, by file, of the statements that only this side has."""
    found: dict[str, list[int]] = {}
    left = Counter(only_here)
    for place, tree in side.items():
        for text, line in _lines(tree):
            if left[text]:
                left[text] -= 1
                found.setdefault(f"{_file(place)}.py", []).append(line)
    return found
