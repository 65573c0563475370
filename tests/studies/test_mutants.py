"""No edit that may change a result goes unnoticed, and none that cannot makes evidence stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.studies import mutants
from tests.studies.mutants import Mutant

from leandnn import paths
from leandnn.studies import digests, registry

pytestmark = pytest.mark.slow

SAMPLES = sorted({m.arm for m in (*mutants.MUTANTS, *mutants.VALUES, *mutants.NEUTRAL)})


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source, by itself."""
    root = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(paths.ROOT / "src", root / "src", ignore=ignore)
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, root)
    return root


@contextmanager
def edited(root: Path, mutant: Mutant) -> Iterator[None]:
    path = root / mutant.path
    before = path.read_text()
    assert mutant.text in before, f"{mutant.path} has no {mutant.text!r}: mend the mutant"
    path.write_text(before.replace(mutant.text, mutant.other, 1))
    try:
        yield
    finally:
        path.write_text(before)


def reader(root: Path) -> digests.Reader:
    return digests.Reader(root, root / "src" / "leandnn")


def digest(root: Path, arm: str) -> str:
    study, _, name = arm.partition("/")
    return reader(root).arm(registry.find(study), name).digest


@pytest.fixture(scope="module")
def before(copy: Path) -> dict[str, str]:
    own = reader(copy)
    return {arm: own.arm(registry.find(arm.split("/")[0]), arm.split("/")[1]).digest for arm in SAMPLES}


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: m.what)
def test_an_edit_of_what_runs_compute_is_noticed(mutant: Mutant, copy: Path, before: dict[str, str]):
    with edited(copy, mutant):
        assert digest(copy, mutant.arm) != before[mutant.arm]


@pytest.mark.parametrize("mutant", mutants.NEUTRAL, ids=lambda m: m.what)
def test_an_edit_that_computes_nothing_changes_none(mutant: Mutant, copy: Path, before: dict[str, str]):
    with edited(copy, mutant):
        assert digest(copy, mutant.arm) == before[mutant.arm]


@pytest.mark.parametrize("mutant", mutants.STAGES, ids=lambda m: m.what)
def test_an_edit_of_data_or_judge_is_noticed(mutant: Mutant, copy: Path):
    roots = digests.STAGES[mutant.arm]
    unedited = reader(copy).of(roots).digest
    with edited(copy, mutant):
        assert reader(copy).of(roots).digest != unedited


def test_an_edit_of_an_arms_values_is_noticed(copy: Path, before: dict[str, str]):
    """In one process each, since modules are imported for it."""
    code = (
        "import json, sys; from leandnn.studies import digests, registry; study, _, arm = sys.argv[1].partition('/'); "
        "print(json.dumps(digests.Reader().arm(registry.find(study), arm).digest))"
    )
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        **os.environ, "LEANDNN_ROOT": str(copy), "PYTHONPATH": os.pathsep.join([str(copy / "src"), *libraries]),
    }  # fmt: skip

    def asked(arm: str) -> str:
        command = [sys.executable, "-S", "-W", "ignore", "-c", code, arm]
        return str(
            json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
        )

    assert asked(mutants.VALUES[0].arm) == before[mutants.VALUES[0].arm]
    for mutant in mutants.VALUES:
        with edited(copy, mutant):
            assert asked(mutant.arm) != before[mutant.arm], mutant.what


def test_the_digests_are_those_of_the_working_tree(before: dict[str, str]):
    arm = mutants.MUTANTS[0].arm
    assert digest(paths.ROOT, arm) == before[arm]
