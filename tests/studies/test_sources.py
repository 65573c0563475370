"""What code reaches and does, read from small packages: what changes a result is seen, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from leandnn.studies.reach import Sources

# The root `leandnn.run:main` reaches one of everything.
PACKAGE = {
    "__init__.py": "",
    "run.py": '''
"""Runs."""
import functools
from typing import TYPE_CHECKING

import torch

from leandnn import rooms, shapes as forms
from leandnn.base import Hook
from leandnn.ops import scale as scaling
from leandnn.rooms import inner
if TYPE_CHECKING:
    from leandnn import never

LIMIT = 3
functions = {}


def main(x: int, rate: float = 0.5) -> float:
    """Trains."""
    # a comment
    if x > LIMIT:
        raise ValueError(f"x is {x}")
    from leandnn.late import helper
    return Model().step(x) * rate + inner.half(x) + rooms.double.twice(x) + forms.area(x) + helper(x)


class Model(Hook):
    size = 4

    @functools.cached_property
    def width(self) -> int:
        return self.size

    def step(self, x):
        return self.width + x + torch.ops.leandnn.scaled(x) + self.inherited(x)

    def unused(self):
        return 17


def unreached():
    return 23
''',
    "base.py": "class Hook:\n    def inherited(self, x):\n        return x + 1\n",
    "ops.py": '''
import torch

@torch.library.custom_op("leandnn::scaled", mutates_args=())
def scale(x):
    return x * 2

@scale.register_fake
def _(x):
    return x

@torch.library.custom_op("leandnn::other", mutates_args=())
def other(x):
    return x * 5
''',
    "shapes.py": "def area(x):\n    return x * x\n\ndef volume(x):\n    return x * x * x\n",
    "late.py": "OFFSET = 7\n\ndef helper(x):\n    return x + OFFSET\n",
    "never.py": "VALUE = 1\n",
    "rooms/__init__.py": "from leandnn.rooms import double\nCOUNT = 1\nprint(COUNT)\n",
    "rooms/inner.py": "def half(x):\n    return x / 2\n",
    "rooms/double.py": "def twice(x):\n    return x + x\n",
}  # fmt: skip
Digests = Callable[..., Mapping[str, str]]


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    """What `leandnn.run:main` reaches after an edit of one file, by place; None replaces nothing."""

    def read(
        name: str = "run.py", old: str = "", new: str = "", root: str = "leandnn.run:main"
    ) -> Mapping[str, str]:
        for file, text in PACKAGE.items():
            if file == name:
                assert old in text, f"{old!r} is not in {name}"
                text = text.replace(old, new, 1) if old else text
            path = tmp_path / "leandnn" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {place: unit.digest for place, unit in Sources(tmp_path / "leandnn").reached([root]).items()}

    return read


def test_what_is_reached_is_found_through_every_kind_of_name(digests: Digests):
    places = {place.removeprefix("leandnn.").split(" at ")[0] for place in digests()}
    assert {
        "run:main", "run:LIMIT", "run:Model", "run:Model.width", "run:Model.step", "base:Hook", "base:Hook.inherited",
        "ops:scale", "ops:_", "shapes:area", "late:helper", "late:OFFSET", "rooms.inner:half", "rooms.double:twice",
        "rooms:statement 2",
    } <= places  # fmt: skip
    assert not {
        "run:Model.unused", "run:unreached", "ops:other", "shapes:volume", "never:VALUE"
    } & places  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.py", "# a comment", "# another comment, and a line\n\n"),
        ("run.py", '"""Trains."""', '"""Trains differently."""'),
        ("run.py", '"""Runs."""', '"""Said otherwise."""'),
        ("run.py", "x: int, rate: float", "x: 'float', rate: object"),
        ("run.py", ") -> float:", "):"),
        ("run.py", "Model().step(x) * rate", "(\n        Model().step( x )*rate)"),
        ("run.py", 'f"x is {x}"', 'f"x = {x}, expected less"'),
        ("run.py", "from leandnn import never", "from leandnn.never import VALUE"),
        ("run.py", "return 23", "return 24"),
        ("run.py", "return 17", "return 18"),
        ("shapes.py", "x * x * x", "x ** 3"),
        ("ops.py", "x * 5", "x * 6"),
        ("never.py", "VALUE = 1", "VALUE = 2"),
    ],
)
def test_what_changes_no_result_changes_no_digest(digests: Digests, name: str, old: str, new: str):
    assert digests(name, old, new) == digests()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.py", "LIMIT = 3", "LIMIT = 4"),
        ("run.py", "x > LIMIT", "x >= LIMIT"),
        ("run.py", "rate: float = 0.5", "rate: float = 0.25"),
        ("run.py", "* rate +", "* rate -"),
        ("run.py", "size = 4", "size = 5"),
        ("run.py", "class Model(Hook)", "class Model(Hook, object)"),
        ("run.py", "functools.cached_property", "property"),
        ("run.py", "ValueError(f", "TypeError(f"),
        ("run.py", "return self.width + x", "return x + self.width"),
        ("base.py", "x + 1", "x + 2"),
        ("ops.py", "x * 2", "x * 3"),
        ("ops.py", "def _(x):\n    return x", "def _(x):\n    return x + 1"),
        ("ops.py", "mutates_args=()", "mutates_args=('x',)"),
        ("shapes.py", "return x * x\n", "return x * x * 1.5\n"),
        ("late.py", "OFFSET = 7", "OFFSET = 8"),
        ("rooms/inner.py", "x / 2", "x // 2"),
        ("rooms/double.py", "x + x", "2 * x"),
        ("rooms/__init__.py", "COUNT = 1", "COUNT = 2"),
        ("rooms/__init__.py", "print(COUNT)", "print(COUNT, 1)"),
    ],
)
def test_what_may_change_a_result_changes_a_digest(digests: Digests, name: str, old: str, new: str):
    assert digests(name, old, new) != digests()


def places(tmp_path: Path, root: str, **files: str) -> set[str]:
    """What a root reaches in a package of these files, without what modules run."""
    (tmp_path / "leandnn").mkdir()
    for name, text in {"__init__": "", **files}.items():
        (tmp_path / "leandnn" / f"{name}.py").write_text(text)
    return {place.removeprefix("leandnn.") for place in Sources(tmp_path / "leandnn").reached([root])}


def test_methods_are_reached_by_their_names_alone(tmp_path: Path):
    text = (
        "class A:\n    def go(self): return self.on()\n    def on(self): return 1\n    def off(self): return 2\n"
        "class B:\n    def on(self): return 3\n"
        "class C:\n    def on(self): return 4\n"
        "def main(made): return A(), B, made.go()\n"
    )
    found = places(tmp_path, "leandnn.a:main", a=text)
    assert found == {"a:main", "a:A", "a:A.go", "a:A.on", "a:B", "a:B.on"}, "C is never named"


def test_a_name_in_a_text_reaches_the_method(tmp_path: Path):
    text = "class A:\n    def go(self): return 1\n    def on(self): return 2\ndef main(): return getattr(A(), 'go')()\n"
    assert places(tmp_path, "leandnn.a:main", a=text) == {"a:main", "a:A", "a:A.go"}


def test_all_methods_count_of_a_class_that_torch_calls(tmp_path: Path):
    text = (
        "import torch\nclass A(torch.nn.Module):\n    def whatever(self): return 1\ndef main(): return A()\n"
    )
    one = Sources(tmp_path / "leandnn")
    assert places(tmp_path, "leandnn.a:main", a=text) == {"a:main", "a:A"}
    before = one.reached(["leandnn.a:main"])["leandnn.a:A"].digest
    (tmp_path / "leandnn" / "a.py").write_text(text.replace("return 1", "return 2"))
    assert Sources(tmp_path / "leandnn").reached(["leandnn.a:main"])["leandnn.a:A"].digest != before


def test_asking_for_a_class_does_not_reach_it(tmp_path: Path):
    text = "class A:\n    x = 1\nclass B:\n    x = 2\ndef main(made):\n    return isinstance(made, A) or B\n"
    assert places(tmp_path, "leandnn.a:main", a=text) == {"a:main", "a:B"}


def test_a_module_as_a_value_is_reached_whole(tmp_path: Path):
    found = places(
        tmp_path, "leandnn.a:main", a="from leandnn import b\ndef main(): return vars(b)\n",
        b="def one(): return 1\ndef two(): return 2\n",
    )  # fmt: skip
    assert found == {"a:main", "b:one", "b:two"}


def test_a_decorator_that_may_register_reaches_its_function(tmp_path: Path):
    text = "from leandnn.b import register\nKNOWN = {}\ndef main(): return KNOWN\n@register\ndef one(): return 1\n"
    found = places(tmp_path, "leandnn.a:main", a=text, b="def register(f): return f\ndef other(): return 2\n")
    assert found == {"a:main", "a:KNOWN", "a:one", "b:register"}


def test_a_module_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"^there is no module leandnn\.b, expected one of the package leandnn$"
    ):
        places(tmp_path, "leandnn.b:main", a="")
