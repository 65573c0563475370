"""What an edit was, and whether a miniature can speak for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from leandnn.studies import edits
from leandnn.studies.reach import Sources

BEFORE = {
    "run": """
from leandnn.tools import mean
RATE = 0.5
def main(values, limit=3):
    total = 0
    for value in values:
        if value > limit and value:
            total += value * RATE
    return mean(total, len(values))
class Model:
    def step(self, x):
        y = x + 1
        return y
def use(model): return main([1]) + model.step(2) + Model().step(3)
""",
    "tools": "def mean(a, b):\n    return a / b\n",
}


def parts(root: Path, files: dict[str, str]) -> tuple[dict[str, str], Path]:
    package = root / "leandnn"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", **files}.items():
        (package / f"{name}.py").write_text(text)
    found = Sources(package).reached(["leandnn.run:use"])
    return {place: unit.digest for place, unit in found.items()}, package


def between(root: Path, after: dict[str, str]) -> edits.Edit:
    (old, old_package), (new, new_package) = parts(root / "old", BEFORE), parts(root / "new", after)
    return edits.between(old, new, old_package, new_package)


def edited(*changes: tuple[str, str], name: str = "run") -> dict[str, str]:
    text = BEFORE[name]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return {**BEFORE, name: text}


def test_an_edit_of_what_does_nothing_is_empty(tmp_path: Path):
    assert between(tmp_path, edited(("RATE = 0.5", "RATE = 0.5  # of what?"))) == edits.Edit("")


def test_a_moved_file_is_seen_by_the_imports_alone(tmp_path: Path):
    moved = {"run": BEFORE["run"].replace("leandnn.tools", "leandnn.means"), "means": BEFORE["tools"]}
    assert between(tmp_path, moved) == edits.Edit("")


def test_a_renamed_function_may_be_shown_in_miniature(tmp_path: Path):
    after = {
        "run": BEFORE["run"].replace("mean", "average"),
        "tools": BEFORE["tools"].replace("mean", "average"),
    }
    assert between(tmp_path, after) == edits.Edit("")


def test_a_renamed_method_may_be_shown_in_miniature(tmp_path: Path):
    assert between(tmp_path, edited(("step", "advance"))).reason == ""


def test_a_renamed_local_must_be_executed_on_both_sides(tmp_path: Path):
    found = between(tmp_path, edited(("total", "sum_")))
    assert found.reason == ""
    for side in (found.before, found.after):
        assert {file: sorted(lines) for file, lines in side.items()} == {"run.py": [5, 8, 9]}


def test_a_new_line_must_be_executed(tmp_path: Path):
    found = between(tmp_path, edited(("        y = x + 1\n        return y\n", "        return x + 1\n")))
    assert (found.reason, dict(found.before), dict(found.after)) == (
        "",
        {"run.py": [12, 13]},
        {"run.py": [12]},
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("RATE = 0.5", "RATE = 0.25", "the constant 0.5 is not there as often as before"),
        ("limit=3", "limit=4", "the constant 3 "),
        ("value * RATE", "value / RATE", "the operator Mult "),
        ("value > limit", "value >= limit", "the operator Gt "),
        ("value > limit and value", "value > limit or value", "the operator And "),
        ("if value > limit and value:", "if value > limit and value and limit:", ""),
        ("mean(total, len(values))", "mean(total, sum(values))", "a call of len "),
        ("model.step(2)", "model.step(x=2)", "the keyword x "),
        ("model.step(2)", "model.stop.step(2)", "the attribute stop "),
        ("value * RATE\n", "value * RATE\n            break\n", "a statement Break "),
        ("        y = x + 1\n", "        y = x + 1 if x else x\n", "a statement IfExp "),
    ],
)  # fmt: skip
def test_a_miniature_cannot_speak_for_what_it_may_not_see(tmp_path: Path, old: str, new: str, reason: str):
    found = between(tmp_path, edited((old, new)))
    assert found.reason.startswith(reason)


def test_a_condition_that_is_turned_must_be_executed(tmp_path: Path):
    found = between(tmp_path, edited(("if value > limit and value:", "if limit > value and value:")))
    assert (found.reason, dict(found.after)) == ("", {"run.py": [7]}), "executed, and compared bit by bit"


def test_compiled_code_is_not_seen_in_miniature(tmp_path: Path):
    place = "kernels/panels/cpu/sum.cpp for panels"
    found = edits.between({place: "a"}, {place: "b"}, tmp_path, tmp_path)
    assert found.reason == "kernels/panels/cpu/sum.cpp is compiled, and what it executes is not seen"
