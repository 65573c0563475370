"""Nothing is lost: kills at random moments, full disks, read-only folders, odd clocks, damaged stores.

LEANDNN_KILLS says how often each command is killed (2 by default, 100 in `make nightly`), LEANDNN_SEED which
moments are drawn. Every kill count is printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from tests.permissions import OBEYED

from leandnn import files, paths
from leandnn.cli import doctor
from leandnn.errors import LeandnnError
from leandnn.params import read_yaml
from leandnn.report import notebooks, style, summary
from leandnn.studies import pipeline as studies_pipeline
from leandnn.studies import records, runs
from leandnn.train import checkpoint

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
KILLS = int(os.environ.get("LEANDNN_KILLS", "2"))
SEED = os.environ.get("LEANDNN_SEED", "22")  # kills in the middle
BUDGET = {"epochs": 2, "train_examples": 256, "test_examples": 20, "seeds": [0]}
RUNS = ("bf16-s0", "fp32-s0")
TRAIN = ("train", "bf16-vision")
STUDIES = ("studies", "run", "bf16-vision", "--minutes", "5")
BUSY = re.compile(r"by another process \(PID (\d+)\)")


def small(root: Path) -> Path:
    """Give every profile of `root` the tiny budget; the fixture of the other tests leaves params.yaml whole."""
    profile = {"threads": 1, "seeds": [0], "studies": {"bf16": {"vision": BUDGET}}}
    pipeline = {"profile": "laptop", "laptop": profile, "smoke": profile}
    (root / "studies").mkdir(exist_ok=True)
    for name, content in (("params.yaml", pipeline), ("studies/desk.yaml", profile)):
        (root / name).write_text(json.dumps(content))  # JSON is YAML
    return root


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A root without data, for what does not train."""
    for name in ("dvc.yaml", "claims.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    return small(tmp_path)


@pytest.fixture
def moved(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same root for code that runs inside the test process."""
    for name, place in (("ROOT", "."), ("BUILD", "build"), ("NOTEBOOKS", "notebooks"), ("RUNS", "runs")):
        monkeypatch.setattr(paths, name, (bare / place).resolve())
    return bare


def environment(root: Path) -> dict[str, str]:
    """For programs that work in `root`, and a DVC that remembers nothing from outside it."""
    return {
        **os.environ,
        "LEANDNN_ROOT": str(root),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}-dvc-state"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=180, check=False
    )


def must(root: Path, *command: str) -> str:
    answer = run(root, *command)
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


def leandnn(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "leandnn", *arguments]


def digests(root: Path) -> dict[str, str]:
    """Run name to digest of the trained weights, from the comparison's folder."""
    found = (root / "runs" / "bf16" / "vision").glob("*/metrics.json")
    return {path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in found}


@dataclass(frozen=True)
class Unbroken:
    """What a run that nobody disturbs ends with, and the seconds it takes."""

    root: Path
    digests: dict[str, str]
    seconds: float


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, cifar_file: Path) -> Unbroken:
    root = tmp_path_factory.mktemp("unbroken")
    for name in ("dvc.yaml", "claims.yaml"):
        shutil.copy(REPOSITORY / name, root)
    (root / "data" / "prepared").mkdir(parents=True)
    (root / "data" / "prepared" / "cifar10.safetensors").symlink_to(cifar_file)
    begun = time.monotonic()
    must(small(root), *leandnn(*TRAIN))
    found = Unbroken(root, digests(root), time.monotonic() - begun)
    assert set(found.digests) == set(RUNS)
    return found


# --- kills -----------------------------------------------------------------------------------------------


@dataclass
class Torture:
    """Starts a command again and again, kills it at random moments, and has each completed run checked.

    - seconds: the latest moment of a kill, about the time an unbroken run takes.
    - whole_group: for each kill, whether everything the command started dies with it.
    - forget: removes what a completed run made, so that the next one begins from nothing.
    - before: called before each start.
    """

    name: str
    root: Path
    command: list[str]
    seconds: float
    whole_group: Callable[[int], bool]
    check: Callable[[], None]
    forget: Callable[[], None]
    before: Callable[[], object] = lambda: None
    kills: int = 0
    resumes: int = 0
    completed: int = 0
    waits: int = 0
    groups: list[int] = field(default_factory=list)

    def run(self) -> str:
        moments = random.Random(f"{SEED} {self.name}")
        try:
            while self.kills < KILLS:
                if self.once(moments.uniform(0, self.seconds)):
                    self.forget()
            deadline = time.monotonic() + 120
            while not self.once(None):
                assert time.monotonic() < deadline
        finally:
            for group in self.groups:
                try:
                    os.killpg(group, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        return (
            f"{self.name} survived {self.kills} kills: {self.resumes} resumed, {self.completed} completed, "
            f"{self.waits} waited for an orphan, {len(leftovers(self.root))} partial files left "
            f"(moments drawn from seed {SEED})"
        )

    def once(self, moment: float | None) -> bool:
        """One start; whether the command has completed (it was not killed, nor refused for an orphan)."""
        self.before()
        resumes = bool(list((self.root / "build" / "checkpoints").rglob("*-s0-*.*")))
        self.resumes += resumes
        # One each: an orphan goes on writing to its own.
        log = self.root.parent / f"{self.root.name}-{len(self.groups)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                self.command,
                cwd=self.root,
                env=environment(self.root),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.groups.append(process.pid)
        begun = time.monotonic()
        try:
            code = process.wait(moment if moment is not None else 120)
        except subprocess.TimeoutExpired:
            assert moment is not None, log.read_text()
            if self.whole_group(self.kills):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            self.kills += 1
            return False
        said = log.read_text()
        if code != 0:
            # Only for this may it fail: what the killed one had started is still at it.
            orphan = BUSY.search(said)
            assert orphan, said
            self.waits += 1
            if psutil.pid_exists(int(orphan[1])):
                psutil.wait_procs([psutil.Process(int(orphan[1]))], timeout=60)
            return False
        self.completed += 1
        if not resumes:  # on a busy machine the first estimate may be far too long
            self.seconds = min(self.seconds, time.monotonic() - begun)
        self.check()
        return True


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if ".partial" in path.name]


def erase(*targets: Path) -> None:
    for path in targets:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_training_killed_at_random_moments_ends_as_if_unbroken(
    repository: Path, unbroken: Unbroken, capsys: pytest.CaptureFixture[str]
):
    small(repository)

    def check() -> None:
        assert digests(repository) == unbroken.digests
        assert not [p for p in leftovers(repository) if "checkpoints" not in p.parts]

    torture = Torture(
        "leandnn train",
        repository,
        leandnn(*TRAIN),
        unbroken.seconds,
        whole_group=lambda kill: kill % 2 == 0,  # else the workers have to see for themselves
        check=check,
        forget=lambda: erase(*(repository / name for name in ("build", "runs", "reference"))),
    )
    line = torture.run()
    with capsys.disabled():
        print(f"\n{line}")


def test_a_study_killed_at_random_has_each_run_once_as_unbroken(
    repository: Path, unbroken: Unbroken, capsys: pytest.CaptureFixture[str]
):
    small(repository)

    def check() -> None:
        (path,) = (repository / "reference").glob("*/bf16-vision.json")
        document, problems = records.read(path)
        assert problems == []
        found = {records.name(r).removeprefix("desk/"): r["weights_sha256"] for r in document["runs"]}
        assert found == unbroken.digests
        assert path.read_text().count('"weights_sha256"') == len(RUNS)
        assert not [p for p in leftovers(repository) if "checkpoints" not in p.parts]

    torture = Torture(
        "leandnn studies run",
        repository,
        leandnn(*STUDIES),
        unbroken.seconds,
        whole_group=lambda kill: kill % 2 == 0,
        check=check,
        forget=lambda: erase(*(repository / name for name in ("build", "reference"))),
    )
    line = torture.run()
    with capsys.disabled():
        print(f"\n{line}")


def pipeline(root: Path, stages: dict[str, Any]) -> Path:
    """Make `root` a DVC repository with these stages, everything committed, as a fresh clone has it."""
    (root / ".dvc").mkdir()
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, root)
    (root / "tools").mkdir()
    shutil.copy(REPOSITORY / "tools" / "repro", root / "tools")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    must(root, "git", "init", "--quiet")
    commit(root)
    return root


def commit(root: Path) -> None:
    must(root, "git", "add", "--all")
    must(root, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "t")


def demo_notebook(root: Path, source: str = "print(1)", *, parameters: str = "") -> Path:
    cells = [nbformat.v4.new_code_cell(source)]
    if parameters:
        cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    for at, cell in enumerate(cells):
        cell["id"] = f"cell-{at}"
    path = root / "notebooks" / "demo.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(notebooks.to_text(notebooks.strip(nbformat.v4.new_notebook(cells=cells))))
    return path


def obey_the_doctor(root: Path, *checks: str) -> list[str]:
    """Run the command that `leandnn doctor` names for each failure, until there is none; the failures' lines."""
    failed: list[str] = []
    for _ in range(len(checks) + 1):
        answer = run(root, *leandnn("doctor", *checks))
        lines = answer.stdout.splitlines()
        found = [i for i, line in enumerate(lines) if line.startswith("[FAIL]")]
        assert (answer.returncode == 0) == (found == []), answer.stdout + answer.stderr
        if not found:
            return failed
        for i in found:
            failed.append(lines[i])
            must(
                root,
                "bash",
                "-c",
                lines[i + 1].partition("mend it with: ")[2].replace("make repro", "tools/repro"),
            )
    raise AssertionError(failed)


STRIP = {
    "cmd": "leandnn notebook strip notebooks/demo.ipynb build/notebooks/demo.ipynb",
    "deps": ["notebooks/demo.ipynb"],
    "outs": ["build/notebooks/demo.ipynb"],
}


SAID = """
import dataclasses
from leandnn import params
from leandnn.files import write_json
from leandnn.paths import ROOT
from leandnn.studies import digests, registry

comparison = registry.find("bf16-vision")
budget, seeds = comparison.budgeted(params.load())
write_json(ROOT / "digests" / "bf16-vision.json", {
    "study": comparison.study, "threads": 1, "budget": dataclasses.asdict(budget), "seeds": list(seeds),
    "arms": digests.of(comparison),
})
"""


def test_a_pipeline_whose_dvc_is_killed_ends_as_if_unbroken(
    repository: Path, unbroken: Unbroken, capsys: pytest.CaptureFixture[str]
):
    """Every other kill hits dvc alone, so that its child lives on beside the next dvc."""
    small(repository)
    demo_notebook(repository)
    text = json.dumps(read_yaml(REPOSITORY / "dvc.yaml")["stages"]["train-bf16"]["do"])
    train = json.loads(text.replace("${key}", "vision").replace("${item}", "cifar10"))
    must(repository, sys.executable, "-c", SAID)
    (digests_file,) = (dep for dep in train["deps"] if dep.startswith("build/digests/"))
    moved = digests_file.replace("build/", "")  # `forget` erases build/
    train = json.loads(json.dumps(train).replace(digests_file, moved))
    pipeline(repository, {"train-bf16-vision": train, "strip": STRIP})

    def check() -> None:
        assert digests(repository) == unbroken.digests
        assert (repository / "build/notebooks/demo.ipynb").is_file()
        assert run(repository, "dvc", "status", "-q").returncode == 0
        assert list(doctor.damaged_objects(repository / ".dvc" / "cache")) == []
        assert not [p for p in leftovers(repository) if "checkpoints" not in p.parts]

    def forget() -> None:
        erase(*(repository / name for name in ("build", "runs", "reference", "dvc.lock", ".dvc/cache")))

    torture = Torture(
        "dvc repro",
        repository,
        ["dvc", "repro", "--quiet"],
        unbroken.seconds + 3,
        whole_group=lambda kill: kill % 2 == 0,
        check=check,
        forget=forget,
        before=lambda: obey_the_doctor(repository, "rwlock", "dvc.lock"),  # a kill may tear them
    )
    line = torture.run()
    with capsys.disabled():
        print(f"\n{line}")


@pytest.fixture
def finished(unbroken: Unbroken, tmp_path: Path) -> Path:
    """A root whose runs are done."""
    root = tmp_path / "finished"
    shutil.copytree(unbroken.root, root, symlinks=True)
    return root


def test_what_a_kill_left_half_written_goes_with_the_next_run(finished: Path, unbroken: Unbroken):
    kept, redone = sorted((finished / "build" / "checkpoints").rglob("*.done.json"))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for target in (redone, redone.with_name(redone.name.replace(".done.json", ".ckpt"))):
        target.with_name(f"{target.name}.{dead.pid}.partial").write_bytes(b"half")
    redone.unlink()
    state = kept.with_name(kept.name.replace(".done.json", ".ckpt"))
    state.write_bytes(b"killed between storing the result and removing this")
    shutil.rmtree(finished / "runs")
    for name in ("vision.partial", "vision.old.partial"):
        (finished / "runs" / "bf16" / name / "fp32-s0").mkdir(parents=True)
    must(finished, *leandnn(*TRAIN))
    assert digests(finished) == unbroken.digests
    assert leftovers(finished) == []
    assert not state.exists()


def test_what_runs_took_is_kept_through_a_kill(finished: Path):
    cost = finished / "build" / "costs.json"
    known = json.loads(cost.read_text())
    cost.unlink()
    shutil.rmtree(finished / "runs")
    assert "2 of 2 runs are already done" in must(finished, *leandnn(*TRAIN))
    assert json.loads(cost.read_text()) == known
    assert set(known) == {f"bf16-vision/{name}" for name in RUNS}


def test_a_killed_report_is_made_by_the_same_command_again(bare: Path):
    source = "import pathlib, time\npathlib.Path(out_dir, 'a.txt').write_text('a')\n"
    source += "time.sleep(0 if pathlib.Path('../go').exists() else 60)"
    path = demo_notebook(bare, source, parameters="out_dir = 'x'")
    target = bare / "build" / "reports" / "demo"
    command = leandnn("notebook", "run", str(path), str(target))
    process = subprocess.Popen(
        command, cwd=bare, env=environment(bare), stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (target / "a.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    kernels = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(kernels, timeout=20)[1] == [], "the kernel ends when its parent is gone"
    assert (target / "a.txt").exists()
    (bare / "go").touch()
    must(bare, *command)
    assert sorted(path.name for path in target.iterdir()) == ["a.txt", "demo.ipynb"]
    assert leftovers(bare) == []


ORPHAN = """
import os, queue, sys
from leandnn.studies.pool import Job, _start
worker = (
    "import time; time.sleep(1.5); from leandnn.studies.pool import die_with_parent as d; "
    "d(); open('trained', 'w')"
)
_start(Job("x", [sys.executable, "-c", worker]), 1, queue.Queue())
os._exit(0)
"""


def test_a_worker_orphaned_while_it_imports_does_not_train(bare: Path):
    must(bare, sys.executable, "-c", ORPHAN)
    deadline = time.monotonic() + 4
    while not (bare / "trained").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (bare / "trained").exists()


# --- full disks ------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """A small file system of its own that can be filled to the last block."""

    folder: Path

    def fill(self) -> None:
        handle = os.open(self.folder / "filler", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            while True:
                os.write(handle, bytes(4096))
        except OSError:
            os.close(handle)

    def free(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(moved: Path) -> Iterator[Disk]:
    """At build/, where every path of these tests lies."""
    folder = moved / "build"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED, a full disk: only root may mount one ({mounted.stderr.strip()})")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def no_space(action: Callable[[], object]) -> None:
    with pytest.raises(LeandnnError, match=r"^[^\n]*No space left on device[^\n]*$"):
        action()


def contents(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if name != "filler"}


def filled(disk: Disk, write: Callable[[int], object]) -> None:
    """`write(0)` on an empty disk, `write(1)` on a full one, which changes nothing, and again with space."""
    write(0)
    old = contents(disk.folder)
    disk.fill()
    no_space(lambda: write(1))
    assert contents(disk.folder) == old
    disk.free()
    write(1)
    assert contents(disk.folder) != old
    assert contents(disk.folder).keys() == old.keys()


def test_a_full_disk_leaves_the_old_checkpoint(disk: Disk):
    import torch

    path = disk.folder / "run.ckpt"
    filled(disk, lambda number: checkpoint.save(path, {"w": torch.full((100_000,), float(number))}))
    assert checkpoint.load(path)["w"][0] == 1


def test_a_full_disk_leaves_the_old_text_and_json(disk: Disk):
    filled(disk, lambda number: files.write_text(disk.folder / "a.txt", f"{number}" * 9000))
    disk.folder.joinpath("a.txt").unlink()
    filled(disk, lambda number: files.write_json(disk.folder / "a.json", [number] * 9000))


def test_a_full_disk_leaves_the_old_folder_of_runs(disk: Disk, moved: Path):
    made = [runs.Run("bf16-vision", arm, {}, 0) for arm in ("fp32", "bf16")]

    def write(number: int) -> None:
        row = {"epoch": 1.0, "number": number}
        results = [(run, {"metrics": {"number": number}, "history": [row] * 300}) for run in made]
        studies_pipeline._write_folder(disk.folder / "vision", {}, results)

    filled(disk, write)


def test_a_full_disk_leaves_the_old_figure(disk: Disk):
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    def write(number: int) -> None:
        figure, axes = pyplot.subplots()
        axes.plot([0, number])
        try:
            style.save(figure, "line", f"Line {number}.", disk.folder)
        finally:
            pyplot.close(figure)

    filled(disk, write)


def test_a_full_disk_leaves_no_half_report(disk: Disk, moved: Path):
    source = demo_notebook(moved, "print('x' * 9000)")
    target = disk.folder / "reports" / "demo"
    target.mkdir(parents=True)  # papermill must be the one that meets the full disk
    disk.fill()
    no_space(lambda: notebooks.execute(source, target, timeout=60))
    assert contents(disk.folder) == {}
    disk.free()
    notebooks.execute(source, target, timeout=60)
    assert list(contents(disk.folder)) == ["reports/demo/demo.ipynb"]


def test_a_full_disk_leaves_the_old_summary(disk: Disk, moved: Path):
    root = disk.folder / "root"
    report = root / "build" / "reports" / "demo"
    report.mkdir(parents=True)
    shutil.copy(REPOSITORY / "claims.yaml", root)

    def write(number: int) -> None:
        summary.write(root)

    (report / "demo.ipynb").write_text('{"cells": []}')
    write(0)
    old = contents(root / "reports")
    (report / "demo.ipynb").write_text('{"cells": [], "new": 1}')
    disk.fill()
    no_space(lambda: write(1))
    assert contents(root / "reports") == old
    assert not leftovers(root)
    disk.free()
    write(1)
    assert contents(root / "reports")["notebooks/demo.ipynb"] == b'{"cells": [], "new": 1}'


# --- folders that may not be written ---------------------------------------------------------------------


# (folder that is locked, what the sentence names, command)
LOCKED = {
    "summary, reports": ("reports", "reports", ("summary",)),
    "summary, root": (".", "reports", ("summary",)),
    "train, runs": ("runs", "runs/bf16", TRAIN),
    "train, its runs": ("runs/bf16/vision", "runs/bf16/vision", TRAIN),
    "train, build": ("build", "build/checkpoints", TRAIN),
    "studies, reference": ("reference", "reference/", STUDIES),
    "studies, build": ("build", "build/", STUDIES),
    "strip, build": (
        "build",
        "build/new",
        ("notebook", "strip", "notebooks/demo.ipynb", "build/new/d.ipynb"),
    ),
    "run, build": ("build", "build/new/demo", ("notebook", "run", "notebooks/demo.ipynb", "build/new/demo")),
    "fetch, prepared": ("data/prepared", "data/prepared", ("data", "fetch", "cifar100")),
}
READ_ONLY = """
import contextlib, io, json, shutil, sys, traceback
from pathlib import Path
from leandnn.cli.main import main

root, answers = Path.cwd(), []
for locked, command in json.loads(sys.argv[1]):
    lock = root / locked
    folders = [lock, *(p for p in lock.rglob("*") if p.is_dir())]
    before = {str(p): p.stat().st_mtime_ns for p in lock.rglob("*")}
    for folder in folders:
        folder.chmod(0o555)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(command)
        except BaseException:
            status = traceback.format_exc()
    for folder in folders:
        if folder.exists():
            folder.chmod(0o755)
    trained = [p for p in root.rglob("*") if p.suffix == ".ckpt" or p.name.endswith(".done.json")]
    left = [p for p in root.rglob("*") if ".partial" in p.name]
    answers.append({
        "status": status,
        "said": said.getvalue().splitlines(),
        "unchanged": {str(p): p.stat().st_mtime_ns for p in lock.rglob("*")} == before,
        "trained": [p.name for p in trained],
        "left": [p.name for p in left],
    })
    for path in trained:
        path.unlink(missing_ok=True)
    for path in left:  # for the next case
        for folder in (path, *path.rglob("*")):
            folder.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, cifar_file: Path) -> dict[str, dict[str, Any]]:
    """What each command said about the folder that was locked for it; root has to ask permission, too."""
    root = tmp_path_factory.mktemp("locked")
    for name in ("dvc.yaml", "claims.yaml"):
        shutil.copy(REPOSITORY / name, root)
    demo_notebook(small(root))
    run = {"paper": "bf16", "comparison": "vision", "arm": "old", "seed": 0, "budget": {}, "metrics": {}}
    for name, content in (
        ("build/reports/old/old.ipynb", "{}"),
        ("reports/old", "old"),
        ("reference/old", "old"),
        ("runs/bf16/vision/old-s0/metrics.json", json.dumps(run)),
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    data = root / "data" / "prepared"
    data.mkdir(parents=True)
    source = cifar_file.resolve()
    try:
        os.link(source, data / source.name)
    except OSError:
        shutil.copy(source, data)
    cases = json.dumps([(locked, command) for locked, _, command in LOCKED.values()])
    found = json.loads(must(root, sys.executable, "-c", OBEYED + READ_ONLY, cases))
    return dict(zip(LOCKED, found, strict=True))


@pytest.mark.parametrize("case", LOCKED)
def test_an_unwritable_folder_is_one_sentence_before_any_work(answers: dict[str, dict[str, Any]], case: str):
    _, named, _ = LOCKED[case]
    answer = answers[case]
    assert answer["status"] == 1, answer
    (sentence,) = answer["said"]
    assert sentence.startswith("leandnn: ")
    assert "Permission denied" in sentence
    assert named in sentence
    assert answer["unchanged"]
    assert answer["trained"] == [], "it should have been seen before training"
    assert answer["left"] == []


# --- what DVC leaves behind ------------------------------------------------------------------------------


def strip_pipeline(root: Path) -> Path:
    demo_notebook(root)
    return pipeline(root, {"strip": STRIP})


@pytest.mark.parametrize("torn", ["", '{"write": {"/x": {"pid": 1, "c', '{"read": {"/x": [1]}}', "\0\0"])
def test_a_torn_rwlock_ends_repro_with_the_command_that_mends_it(bare: Path, torn: str):
    strip_pipeline(bare)
    rwlock = bare / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir()
    rwlock.write_text(torn)
    assert run(bare, "dvc", "repro").returncode != 0, "DVC cannot start"
    answer = run(bare, "tools/repro")
    assert answer.returncode == 1
    assert "[FAIL] rwlock" in answer.stdout
    assert "mend it with: rm .dvc/tmp/rwlock" in answer.stdout
    assert len(obey_the_doctor(bare, "rwlock")) == 1
    must(bare, "tools/repro")
    assert (bare / "build/notebooks/demo.ipynb").is_file()
    assert run(bare, "dvc", "status", "-q").returncode == 0


def test_repro_gives_no_advice_on_staging_and_pushing(bare: Path):
    strip_pipeline(bare)
    assert "Use `dvc push`" in must(bare, "dvc", "repro", "--force")
    (bare / "build/notebooks/demo.ipynb").unlink()
    said = must(bare, "tools/repro")
    assert "strip" in said
    assert "dvc push" not in said and "git add" not in said and "autostage" not in said


@pytest.mark.parametrize("cut", [0, 3, 18, 20])
def test_a_torn_dvc_lock_ends_repro_with_its_mending_command(bare: Path, cut: int):
    strip_pipeline(bare)
    lock = bare / "dvc.lock"
    must(bare, "dvc", "repro", "--quiet")
    commit(bare)
    whole = lock.read_bytes()
    lock.write_bytes(whole[:cut])
    answer = run(bare, "tools/repro")
    assert answer.returncode == 1
    assert "[FAIL] dvc.lock" in answer.stdout
    assert "mend it with: git checkout -- dvc.lock" in answer.stdout
    assert len(obey_the_doctor(bare, "dvc.lock")) == 1
    assert lock.read_bytes() == whole
    assert "didn't change, skipping" in must(bare, "tools/repro")


def test_files_that_dvc_is_just_writing_are_not_taken_for_torn(moved: Path, monkeypatch: pytest.MonkeyPatch):
    path = moved / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    for after, ok in (("{}", True), ("{", False)):
        path.write_text("{")
        monkeypatch.setattr(doctor.time, "sleep", lambda seconds, after=after: path.write_text(after))
        (finding,) = doctor.findings(["rwlock"])
        assert finding.ok is ok
    path.unlink()
    assert all(finding.ok for finding in doctor.findings(["rwlock", "dvc.lock"]) if finding.name == "rwlock")


# --- clocks ----------------------------------------------------------------------------------------------


CLOCK = """
import time
from leandnn import params
from leandnn.studies import digests, pipeline, registry, runs, worker

real, offset = time.time, 0.0
time.time = lambda: real() + offset

def jump(done, total, text):
    global offset
    offset = -86400.0 if 2 * done >= total else 0.0

comparison = registry.find("bf16-vision")
made = runs.of(comparison, *comparison.budgeted(params.load()), threads=1, device="cpu",
               behaviours=digests.of(comparison), inputs=runs.inputs(comparison))
for run in made:
    worker.work(run, jump)
    assert offset == -86400.0
offset = -2 * 86400.0
pipeline.train(made)
"""


def test_a_clock_that_jumps_back_by_days_changes_no_bit(repository: Path, unbroken: Unbroken):
    """A day back in mid-training, forth again for the next run, two days back at the end."""
    small(repository)
    folder = repository / "build" / "checkpoints" / "bf16-vision"
    folder.mkdir(parents=True)
    others = [folder / f"{RUNS[1]}-0123456789ab.{kind}" for kind in ("ckpt", "done.json")]
    others.append(folder / f"{RUNS[1]}-0123456789ab.ckpt.{os.getpid()}.partial")  # a living process's
    for path in others:
        path.write_text("{}")
    said = must(repository, sys.executable, "-c", CLOCK)
    assert "2 of 2 runs are already done" in said
    assert digests(repository) == unbroken.digests
    assert all(path.exists() for path in others)


# --- shared and damaged stores ---------------------------------------------------------------------------


def folder_stage(name: str) -> dict[str, Any]:
    files = " && ".join(f"sed s/x/{name}{part}/ in.txt > runs/{name}/{part}.txt" for part in "pq")
    cmd = f"mkdir -p runs/{name} && {files} && echo made {name}"
    return {"cmd": cmd, "deps": ["in.txt"], "outs": [f"runs/{name}"]}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that makes five folders, pushed to store/ and committed; tests work in copies of it."""
    root = tmp_path_factory.mktemp("pushed") / "origin"
    root.mkdir()
    shutil.copy(REPOSITORY / "claims.yaml", root)
    (root / "in.txt").write_text("x marks the spot\n" * 20)
    pipeline(small(root), {name: folder_stage(name) for name in "abcde"})
    must(root, "dvc", "repro", "--quiet")
    must(root, "dvc", "push", "--quiet")
    commit(root)
    return root


def clone(source: Path, target: Path) -> Path:
    must(source, "git", "clone", "--quiet", str(source), str(target))
    return target


def test_two_clones_that_share_a_cache_end_with_the_same_files(pushed: Path, tmp_path: Path):
    clones = [clone(pushed, tmp_path / name) for name in ("one", "two")]
    for root in clones:
        shutil.rmtree(root / "store")
        (root / "dvc.lock").unlink()  # so that both have to make everything
        commit(root)
        with (root / ".dvc" / "config.local").open("w") as stream:
            stream.write(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    waiting = clones
    for _ in range(3):
        processes = [
            subprocess.Popen(
                ["tools/repro"], cwd=r, env=environment(r), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for r in waiting
        ]  # fmt: skip
        answers = [(process.communicate(timeout=120)[0], process.returncode) for process in processes]
        # DVC takes the unfinished file of another for a corrupt one and removes it; the other says so and stops.
        race = re.compile(r"No such file or directory: '\S*/cache/runs/\S+\.tmp'")
        assert [said for said, code in answers if code != 0 and not race.search(said)] == []
        waiting = [root for root, (_, code) in zip(waiting, answers, strict=True) if code != 0]
    assert waiting == []
    for root in clones:
        assert contents(root / "runs") == contents(pushed / "runs")
        assert run(root, "dvc", "status", "-q").returncode == 0
    assert list(doctor.damaged_objects(tmp_path / "cache")) == []
    assert not (clones[0] / ".dvc" / "cache" / "files").exists()


def object_of(root: Path, path: str) -> Path:
    """The object in `root` (store/ or a cache) of a file or folder that the lock file names."""
    lock = read_yaml(root.parent / "dvc.lock" if root.name == "store" else root.parents[1] / "dvc.lock")
    top, _, rest = path.partition(":")
    (md5,) = [o["md5"] for s in lock["stages"].values() for o in s["outs"] if o["path"] == top]
    if rest:
        listing = json.loads((root / "files/md5" / md5[:2] / md5[2:]).read_text())
        (md5,) = [entry["md5"] for entry in listing if entry["relpath"] == rest]
    found = root / "files" / "md5" / md5[:2] / md5[2:]
    assert hashlib.md5(found.read_bytes()).hexdigest() == md5.removesuffix(".dir")
    return found


def damage(path: Path, change: Callable[[bytes], bytes]) -> str:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))
    path.chmod(mode)
    return path.parent.name + path.name


def flip(data: bytes) -> bytes:
    return data[:9] + bytes([data[9] ^ 1]) + data[10:]


def test_a_damaged_store_ends_repro_with_its_mending_command(pushed: Path, tmp_path: Path):
    copy = clone(pushed, tmp_path / "copy")
    store = copy / "store"
    damage(object_of(store, "runs/a:p.txt"), flip)
    damage(object_of(store, "runs/b:q.txt"), lambda data: data[:5])
    damage(object_of(store, "runs/d"), lambda data: b"")
    object_of(store, "runs/c:p.txt").unlink()
    answer = run(copy, "tools/repro")
    assert answer.returncode == 1
    assert "[FAIL] store          4 of its objects are damaged or gone" in answer.stdout
    assert "mend it with: git checkout -- store" in answer.stdout
    assert not (copy / "runs").exists()
    assert len(obey_the_doctor(copy, "store")) == 1
    said = must(copy, "tools/repro")
    assert "\nmade " not in said, "all were restored"
    assert contents(copy / "runs") == contents(pushed / "runs")


def test_what_is_damaged_in_git_too_is_made_anew(pushed: Path, tmp_path: Path):
    copy = clone(pushed, tmp_path / "copy")
    store = copy / "store"
    damage(object_of(store, "runs/a:p.txt"), flip)
    damage(object_of(store, "runs/b:q.txt"), lambda data: data[:5])
    listing = object_of(store, "runs/c")
    damage(listing, lambda data: data.replace(b"p.txt", b"r.txt"))
    object_of(store, "runs/d:p.txt").unlink()
    commit(copy)
    for path in store.rglob("*"):  # as a push leaves them; DVC trusts a read-only object by its name
        if path.is_file():
            path.chmod(0o444)
    answer = run(copy, "tools/repro")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert [name for name in "abcde" if f"\nmade {name}\n" in answer.stdout] == list("abcd")
    assert "not everything could be restored from store/" in answer.stderr
    assert contents(copy / "runs") == contents(pushed / "runs")
    assert run(copy, "dvc", "status", "-q").returncode == 0
    assert list(doctor.damaged_objects(copy / ".dvc" / "cache")) == []


def test_the_doctor_finds_and_mends_damage_in_dvcs_cache(pushed: Path, tmp_path: Path):
    expected = contents(pushed / "runs")
    root = tmp_path / "copy"
    shutil.copytree(pushed, root)
    damage(object_of(root / ".dvc/cache", "runs/a:p.txt"), flip)
    damage(object_of(root / ".dvc/cache", "runs/b:p.txt"), flip)
    object_of(root / "store", "runs/b:p.txt").unlink()  # neither place has it whole
    commit(root)
    shutil.rmtree(root / "runs")
    must(root, "dvc", "checkout", "--quiet")
    assert contents(root / "runs") != expected
    assert run(root, "dvc", "status", "-q").returncode == 0, "DVC itself sees nothing"

    (failure,) = obey_the_doctor(root, "cache")
    assert failure.startswith("[FAIL] cache          2 objects are damaged")
    assert contents(root / "runs") == expected
    assert run(root, "dvc", "status", "-q").returncode == 0
    assert list(doctor.damaged_objects(root / ".dvc" / "cache")) == []


def test_repro_fails_with_a_failing_stage(bare: Path):
    pipeline(bare, {"bad": {"cmd": "exit 3", "deps": ["params.yaml"], "outs": ["runs/bad"]}})
    answer = run(bare, "tools/repro")
    assert answer.returncode != 0
    assert "Figures:" not in answer.stdout


def test_only_objects_are_hashed_and_listings_alike(tmp_path: Path):
    def put(data: bytes, suffix: str = "", content: bytes | None = None) -> Path:
        name = hashlib.md5(data).hexdigest() + suffix
        path = tmp_path / "files" / "md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if content is None else content)
        return path

    put(b"good")
    put(b"[]", ".dir")
    bad = sorted([put(b"one", content=b"onf"), put(b"[1]", ".dir", b"[")])
    put(b"x").with_name("a.tmp").write_bytes(b"of DVC's own")
    assert list(doctor.damaged_objects(tmp_path)) == bad
    assert list(doctor.damaged_objects(tmp_path / "nowhere")) == []
