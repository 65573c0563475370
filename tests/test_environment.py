"""pyproject.toml, requirements.lock and environment.yml say the same, and setup acts on it."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from leandnn.params import read_yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = {
    Requirement(line).name.lower().replace("_", "-"): Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
}


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    texts = [
        *project["dependencies"],
        *(t for extra in project["optional-dependencies"].values() for t in extra),
    ]
    return [Requirement(text) for text in texts]


def test_every_requirement_is_locked_at_one_version_in_its_range():
    for requirement in requirements():
        locked = LOCK.get(requirement.name.lower())
        assert locked is not None, f"{requirement.name} is not in requirements.lock"
        (pin,) = locked.specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version, prereleases=True), (
            f"{locked} is outside {requirement}"
        )


def test_build_requirements_are_among_the_locked_build_extra():
    build = {Requirement(text).name for text in PROJECT["project"]["optional-dependencies"]["build"]}
    needed = {Requirement(text).name for text in PROJECT["build-system"]["requires"]}
    assert needed <= build


def test_the_lock_pins_torch_and_its_partner_without_cuda():
    assert str(LOCK["torch"].specifier) == "==2.13.0"
    assert str(LOCK["torchvision"].specifier) == "==0.28.0"
    # Triton brings no CUDA along; its interpreter runs the GPU kernels in the tests.
    assert not [name for name in LOCK if name.startswith(("nvidia", "cuda"))]


def test_this_environment_is_the_locked_one():
    for name, requirement in LOCK.items():
        installed = Version(importlib.metadata.version(name)).public
        assert requirement.specifier.contains(installed, prereleases=True), (
            f"{name} {installed}, locked {requirement}"
        )


def test_the_conda_environment_installs_the_lock_and_project():
    conda = read_yaml(ROOT / "environment.yml")
    plain = [d for d in conda["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in conda["dependencies"] if isinstance(d, dict))
    assert conda["channels"][0] == "conda-forge"
    assert f"python{PROJECT['project']['requires-python']}" in plain
    assert {"pip", "cxx-compiler", "nodejs"} <= set(plain)
    assert "-r requirements.lock" in pip
    extras = next(re.fullmatch(r"-e \.\[(.*)\]", line) for line in pip if line.startswith("-e"))
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_workflow_runs_the_same_entry_point_as_make():
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.search(r"make .* test", (ROOT / ".ci" / "run").read_text())


@pytest.mark.parametrize("place", ["plain", "with a space"])
def test_make_works_on_its_own_checkout_from_any_directory(tmp_path: Path, place: str):
    folder = tmp_path / place
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for command in (
        ["make", "-n", "-C", str(folder), "smoke"],
        ["make", "-n", "-f", str(folder / "Makefile"), "smoke"],
    ):
        answer = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
        assert f'cd "{folder}" && tools/setup' in answer.stdout
