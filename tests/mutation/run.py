"""`tools/mutate [NAME…]`: makes each mistake of mutants.py in a copy of the working tree, and asks the tests it names.

The copy has an environment of its own, so that neither a test nor what it starts can import the package from anywhere
else, and the tests must pass there first. What is found is written after each mutant: a run that is killed goes on
where it was, as long as source and tests are the same. mutmut and cosmic-ray do not fit: they know no C++, and make
mutants of their own of every line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ninja
from tests.mutation.mutants import ROOT, Mutant, every

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import write_json
from leandnn.kernels import _native

FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s[]+)", re.MULTILINE)
IMPORTED = "import leandnn.files as f, leandnn.kernels._native as n; print(f.__file__, n.__file__, sep='|')"


class Copy:
    """The working tree once more, to be edited, built and tested by itself."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.root, self.python = root, root / ".venv" / "bin" / "python"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        for path in (*paths.RAW.iterdir(), *paths.PREPARED.iterdir()):
            if not (place := root / "data" / path.parent.name / path.name).exists():
                place.symlink_to(path)
        shutil.copy(str(_native.__file__), root / "src/leandnn/kernels")
        venv.create(root / ".venv", symlinks=True)
        own = [str(root / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
        next(root.glob(".venv/lib/*/site-packages")).joinpath("copy.pth").write_text("\n".join(own))
        for imported in self.run(["-c", IMPORTED], 600)[1].strip().split("|"):
            if not Path(imported).is_relative_to(root / "src"):
                raise LeandnnError(f"{imported} would be tested, expected the copy in {root}")

    def run(self, arguments: Sequence[str], seconds: float) -> tuple[int, str]:
        """(exit status, output) of its Python, which is killed with all that it started when time is up."""
        folders = [str(self.python.parent), ninja.BIN_DIR, *os.environ["PATH"].split(os.pathsep)]
        ours = os.pathsep.join(folder for folder in folders if Path(folder) != Path(sys.prefix, "bin"))
        # No cached bytecode: an edit within the second would be taken for what it was before.
        own = {"PATH": ours, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "LEANDNN"))}
        command = ["timeout", "--signal=KILL", str(seconds), str(self.python), *arguments]
        done = subprocess.run(command, cwd=self.root, env=inherited | own, capture_output=True, check=False)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def build(self) -> None:
        """Its C++, of which only what has changed is compiled again."""
        folder = self.root / "build" / "native"
        told = ["-DCMAKE_BUILD_TYPE=Release", "-G", "Ninja", f"-DPython_EXECUTABLE={self.python}"]
        told.append(f"-Dnanobind_DIR={self.run(['-m', 'nanobind', '--cmake_dir'], 60)[1].strip()}")
        for arguments in (["-S", ".", "-B", str(folder), *told], ["--build", str(folder)]):
            if (done := self.run(["-m", "cmake", *arguments], 3600))[0]:
                raise LeandnnError(f"the kernels do not build: {done[1].strip()}")
        shutil.copy(next(folder.glob("_native*.so")), self.root / "src/leandnn/kernels")

    def test(self, tests: Iterable[str], seconds: float) -> str:
        """The first test that fails, "" if none does; time that is up and a crash count as one."""
        # This profile of Hypothesis has no deadlines, and the same examples every time.
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
        status, output = self.run(["-m", "pytest", *options, *(f"tests/{name}" for name in tests)], seconds)
        if status < 0 or status > 128:
            return f"it ends with {signal.Signals(abs(status) % 128).name}"
        if status > 2:
            raise LeandnnError(f"pytest ends with status {status}: {output.strip()}")
        return next(iter(FAILED.findall(output)), "no test can be collected") if status else ""

    def judged(self, mutant: Mutant, seconds: float) -> str:
        """The test that kills a mutant, "" if none does; afterwards the copy is as it was."""
        path = self.root / "src/leandnn" / mutant.file
        before = path.read_text()
        if mutant.text not in before:
            raise LeandnnError(f"{mutant.file} has no {mutant.text!r}: mend the mutant {mutant.what!r}")
        build = self.build if path.suffix != ".py" else lambda: None
        if not (self.root / "build/native").exists():
            build()
        path.write_text(before.replace(mutant.text, mutant.other, 1))
        build()
        by = self.test(mutant.tests, seconds)
        path.write_text(before)
        build()
        return by


def mutate(mutants: Sequence[Mutant], file: Path) -> int:
    """Judge the mutants that `file` does not know yet; returns how many survive that are not known to."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    names = sorted(name for name in set(names) if (ROOT / name).is_file())
    asked = (name for name in names if re.match(r"src/|tests/(?!mutation/)|CMakeLists|pyproject", name))
    digest = hashlib.sha256(b"".join(f"{name}\0".encode() + (ROOT / name).read_bytes() for name in asked))
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if known.get("source and tests") != digest.hexdigest():
        known = {"source and tests": digest.hexdigest(), "seconds": {}, "mutants": {}}
    killed = survivors = 0
    with tempfile.TemporaryDirectory(prefix="leandnn-mutants-", ignore_cleanup_errors=True) as folder:
        copy = Copy(Path(folder) / "copy", names)
        for mutant in mutants:
            row = {"file": mutant.file, "text": mutant.text, "other": mutant.other, "tests": [*mutant.tests]}
            found = known["mutants"].get(mutant.what, {})
            if not row.items() <= found.items():
                for name in set(mutant.tests) - known["seconds"].keys():
                    start = time.monotonic()
                    if by := copy.test([name], 3600):
                        raise LeandnnError(f"{by} fails without any mutant")
                    known["seconds"][name] = round(time.monotonic() - start, 1)
                limit, start = 60 + 5 * sum(known["seconds"][name] for name in mutant.tests), time.monotonic()
                found = {**row, "killed by": copy.judged(mutant, limit)}
                found["seconds"] = round(time.monotonic() - start, 1)
                known["mutants"][mutant.what] = found
                kills = [bool(one["killed by"]) for one in known["mutants"].values()]
                write_json(file, {**known, "killed": sum(kills), "of": len(kills)})
            killed += bool(found["killed by"])
            survivors += not found["killed by"] and not mutant.survives
            word = "killed" if found["killed by"] else "as known" if mutant.survives else "SURVIVES"
            print(
                f"{word}  {mutant.what}: {found['killed by'] or mutant.survives or mutant.file}", flush=True
            )
    print(f"{killed} of {len(mutants)} mutants are killed; {survivors} survive that should not")
    return survivors


def main() -> int:
    """The command line; exit status 1 if a mutant survives that is not known to."""
    parser = argparse.ArgumentParser(prog="tools/mutate")
    parser.add_argument("names", nargs="*", help="parts of mutants' names or files; all mutants if none")
    parser.add_argument("--json", type=Path, default=paths.BUILD / "mutants.json", help="what is found")
    asked = parser.parse_args()
    chosen = [m for m in every() if not asked.names or any(n in m.what or n in m.file for n in asked.names)]
    try:
        return min(1, mutate(chosen, asked.json))
    except LeandnnError as error:
        print(f"mutate: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
