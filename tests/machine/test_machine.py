"""Threads, seeds, the torchvision mend, the machine card, the doctor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from leandnn.cli import doctor
from leandnn.errors import LeandnnError
from leandnn.machine import card as machine
from leandnn.machine import determinism, probe


def test_configure_sets_threads_and_makes_random_numbers_repeat():
    before = torch.get_num_threads()
    try:
        determinism.configure(seed=3, threads=1)
        first = torch.randn(4)
        assert torch.get_num_threads() == 1
        determinism.configure(seed=3, threads=1)
        assert torch.equal(torch.randn(4), first)
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_torchvision_can_be_imported_without_its_operators():
    code = (
        "from leandnn.machine.libraries import torchvision_operators as mend; print(mend()); "
        "import torchvision.transforms"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() in ("compiled", "schemas only")


def test_the_machine_card_holds_no_host_or_user_name():
    card = machine.read()
    assert re.fullmatch(r"[a-z0-9-]+", card["name"])
    assert card["cores"] >= 1
    assert card["versions"]["torch"] == torch.__version__
    keys = {
        "name",
        "cpu",
        "cpu_generation",
        "cores",
        "isa",
        "caches",
        "memory_gib",
        "gpus",
        "system",
        "versions",
    }
    assert set(card) == keys
    measured = probe.card()
    assert set(measured) == keys | {"fma_peak_gflops", "copy_gbytes"}
    assert 1 < measured["fma_peak_gflops"] < 1000
    assert 1 < measured["copy_gbytes"] < 1000


@pytest.mark.parametrize(
    ("model", "generation", "expected"),
    [
        ("AMD EPYC", ("25", "17"), "amd-epyc-f25m17-2c-avx512"),
        ("AMD EPYC", ("26", "2"), "amd-epyc-f26m2-2c-avx512"),
        ("Intel(R) Xeon(R) Processor", ("6", "207"), "intel-xeon-f6m207-2c-avx512"),
        ("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", ("6", "142"), "intel-core-i7-8550u-f6m142-2c-avx512"),
        ("Cortex Cortex-A72", (), "cortex-a72-2c-avx512"),
    ],
)
def test_two_cpus_are_two_machines(
    monkeypatch: pytest.MonkeyPatch, model: str, generation: tuple[str, ...], expected: str
):
    monkeypatch.setattr(machine, "cpu_model", lambda: model)
    monkeypatch.setattr(machine, "_generation", lambda: generation)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "instruction_sets", lambda: ["avx512f"])
    assert machine.name() == expected


@pytest.mark.slow
def test_the_doctor_has_a_line_a_part_and_a_mend_a_failure(monkeypatch: pytest.MonkeyPatch, capsys):
    names = [f.name for f in doctor.findings()]
    assert names == [
        "Python",
        "compiler",
        "torch",
        "torchvision",
        "kernels",
        "DVC",
        "rwlock",
        "dvc.lock",
        "store",
        "cache",
        "Jupyter kernel",
        "data",
        "disk",
        "GPU",
    ]
    monkeypatch.setattr(doctor, "FREE_GIB", 1e9)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    with pytest.raises(LeandnnError, match="no check 'memory', expected some of Python, compiler"):
        doctor.main(["disk", "memory"])
    assert doctor.main(["disk"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert doctor.main() == 1
    lines = capsys.readouterr().out.splitlines()
    failures = [i for i, line in enumerate(lines) if line.startswith("[FAIL]")]
    assert len(failures) >= 3
    assert all(lines[i + 1].strip().startswith("mend it with: ") for i in failures)


@pytest.mark.parametrize("command", ["claims", "params", "studies list", "doctor"])
def test_outside_of_a_clone_commands_say_that_they_need_one(command: str, tmp_path: Path):
    answer = subprocess.run(
        [sys.executable, "-m", "leandnn", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "LEANDNN_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "set LEANDNN_ROOT to its path" in answer.stdout + answer.stderr
    if command == "doctor":  # it has other things to look at
        assert answer.returncode == 0 and "DVC" not in answer.stdout
    else:
        assert answer.returncode == 1
        assert answer.stderr.count("\n") == 1 and "clone of the repository" in answer.stderr


def test_the_command_line_answers_without_loading_torch():
    code = (
        "import sys; from leandnn.cli.main import main; main(['claims']); assert 'torch' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
