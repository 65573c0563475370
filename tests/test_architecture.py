"""The house rules, read off the imports: arrows point down, wings know nothing of one another."""

from __future__ import annotations

import ast
from pathlib import Path

from leandnn import paths

PACKAGE = Path(paths.PACKAGE)
WINGS = {"bf16", "autosparse", "rbgp", "hbsnn", "huffman"}
# A room may import the rooms of lower levels, and its own.
LEVELS = [
    {"errors"},
    {"paths"},
    {"files"},
    {"params"},
    {"kernels"},
    {"machine"},
    {"data", "models"},
    {"train"},
    {"tasks"},
    {"studies"},
    {"dense"},
    {"blocksparse"},
    {"claims", *WINGS},
    {"bench"},
    {"report"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}


def imports(path: Path) -> set[str]:
    """Rooms of leandnn that a file imports, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{a.name}" if node.module == "leandnn" else str(node.module)
                for a in node.names
            ]
        found |= {name.split(".")[1] for name in names if name.startswith("leandnn.")}
    return found - {"__version__"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


IMPORTS = {path: imports(path) for path in FILES}


def test_every_module_has_a_place_in_the_house():
    assert {room(path) for path in FILES} <= LEVEL.keys()


def test_imports_point_down_only():
    offenders = [
        f"{path.relative_to(PACKAGE)} imports {other}, which lies no deeper"
        for path, found in IMPORTS.items()
        for other in sorted(found - {room(path)})
        if LEVEL[other] >= LEVEL[room(path)]
    ]
    assert offenders == []


def test_kernels_import_nothing_outside_kernels():
    offenders = {
        p.name: found for p, found in IMPORTS.items() if room(p) == "kernels" and found - {"kernels"}
    }
    assert offenders == {}


def test_only_kernels_touch_the_extension():
    words = ("kernels._native", "import _native")
    others = [path for path in FILES if room(path) != "kernels"]
    offenders = [str(path) for path in others if any(word in path.read_text() for word in words)]
    assert offenders == []


def test_batches_are_looped_over_in_the_loop_alone():
    # sites.py makes one step on a copy, to count what it rounds.
    users = [p for p in FILES if ".backward()" in p.read_text() and room(p) != "bench"]
    assert [p.name for p in users] == ["sites.py", "loop.py"]


def test_modules_are_short_enough_to_be_one_idea():
    lengths = {p.relative_to(PACKAGE).as_posix(): len(p.read_text().splitlines()) for p in FILES}
    assert {name: n for name, n in lengths.items() if n > 350} == {}


def test_names_of_tests_have_at_most_60_characters():
    trees = {path: ast.parse(path.read_text()) for path in Path(__file__).parent.rglob("*.py")}
    names = {
        path: [n.name for n in ast.walk(t) if isinstance(n, ast.FunctionDef)] for path, t in trees.items()
    }
    tests = {path: [name for name in own if name.startswith("test_")] for path, own in names.items()}
    assert [name for own in tests.values() for name in own if len(name) > 60] == []
    assert [path.name for path, own in tests.items() if path.name.startswith("test_") and not own] == []
