"""Nothing that is loaded can run code, write outside its folder or carry a secret.

What downloads and the official archives are checked for stands in tests/data/test_sources.py.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings, transient_settings

from leandnn import params, paths
from leandnn.claims import claimfile
from leandnn.cli import doctor
from leandnn.data import archives, cifar, sources
from leandnn.data.prepared import DATASETS
from leandnn.errors import LeandnnError
from leandnn.report import notebooks
from leandnn.train import checkpoint

ROOT = Path(__file__).parents[1]
CIFAR = DATASETS["cifar10"]
Run = Callable[..., subprocess.CompletedProcess[str]]


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.command = shlex.join(["touch", str(mark)])

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that exists once malicious code has run."""
    return tmp_path / "ran"


def test_the_malicious_pickle_runs_where_pickles_are_trusted(mark: Path):
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


def torch_bytes(value: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def numpy_bytes(mark: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Evil(mark)], dtype=object), allow_pickle=True)
    return stream.getvalue()


FORMS: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda mark: pickle.dumps(Evil(mark)),
    "old pickle": lambda mark: pickle.dumps({"model": Evil(mark)}, protocol=0),
    "torch": lambda mark: torch_bytes({"model": Evil(mark)}),
    "old torch": lambda mark: torch_bytes({"model": Evil(mark)}, _use_new_zipfile_serialization=False),
    "numpy": numpy_bytes,
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, before it refuses
@pytest.mark.parametrize("form", FORMS)
def test_a_malicious_checkpoint_of_right_digest_is_not_run(tmp_path: Path, mark: Path, form: str):
    payload = FORMS[form](mark)
    path = tmp_path / "run.ckpt"
    path.write_bytes(checkpoint.MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(LeandnnError, match=r"run\.ckpt is corrupt"):
        checkpoint.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
def test_malicious_prepared_data_is_refused_and_not_run(tmp_path: Path, mark: Path, form: str):
    (tmp_path / "cifar10.safetensors").write_bytes(FORMS[form](mark))
    for read in (cifar.load, lambda name, prepared: sources.verify(name, prepared)):
        with pytest.raises(LeandnnError, match="leandnn data fetch cifar10"):
            read("cifar10", prepared=tmp_path)
    assert not mark.exists()


def tarball(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return path


READERS = {
    "official": (archives.read_official, CIFAR.train_members[0]),
    "images": (archives.read_package, CIFAR.package.train_images[0] if CIFAR.package else ""),
    "labels": (archives.read_package, CIFAR.package.train_labels if CIFAR.package else ""),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_malicious_contents_of_an_archive_are_not_run(tmp_path: Path, mark: Path, reader: str, form: str):
    read, member = READERS[reader]
    path = tarball(tmp_path / "a.tgz", (member, FORMS[form](mark)))
    with pytest.raises(LeandnnError, match=re.escape(member)):
        read(path, CIFAR, lambda: None)
    assert not mark.exists()


@pytest.mark.parametrize("reader", READERS)
def test_an_archive_cannot_write_anywhere(tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch):
    read, member = READERS[reader]
    outside, inside = tmp_path / "outside", tmp_path / "inside" / "deep"
    outside.mkdir()
    inside.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    link = tarfile.TarInfo(member)
    link.type, link.linkname = tarfile.SYMTYPE, str(outside / "secret")
    hard = tarfile.TarInfo(member)
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../outside/secret"
    folder = tarfile.TarInfo("package")
    folder.type, folder.linkname = tarfile.SYMTYPE, str(outside)
    path = tarball(
        inside / "a.tgz",
        ("../escaped", b"x"),
        (f"../../outside/{Path(member).name}", b"x"),
        (str(outside / "absolute"), b"x"),
        (f"package/../../{member}", b"x"),
        (folder, b""),
        (link, b""),
        (hard, b""),
    )
    monkeypatch.chdir(inside)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LeandnnError, match="lacks"):
        read(path, CIFAR, lambda: None)
    assert sorted(tmp_path.rglob("*")) == before
    assert (outside / "secret").read_text() == "secret"


# --- YAML ------------------------------------------------------------------------------------------------

TAGS = [
    '!!python/object/apply:os.system ["touch {mark}"]',
    '!!python/object/new:os.system ["touch {mark}"]',
    '!!python/object/apply:subprocess.check_output [["touch", "{mark}"]]',
    "!!python/name:os.system",
    "!!python/module:os",
    '!custom {{command: "touch {mark}"}}',
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_a_yaml_file_is_refused_and_not_run(
    repository: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, tag: str
):
    text = tag.format(mark=mark)
    readers: dict[str, Callable[[Path], object]] = {
        "params.yaml": lambda path: params.load(root=path.parent),
        "claims.yaml": claimfile.read,
    }
    for name, read in readers.items():
        path = repository / name
        whole = path.read_text()
        path.write_text(f"evil: {text}\n{whole}")
        with pytest.raises(LeandnnError, match=rf"{name} is not valid YAML at line 1: could not determine"):
            read(path)
        path.write_text(whole)
    monkeypatch.setattr(paths, "ROOT", repository)
    (repository / "dvc.lock").write_text(f"schema: {text}\n")
    assert not doctor.findings(["dvc.lock"])[0].ok
    assert not mark.exists()


@pytest.mark.slow
def test_commands_and_dvc_itself_stop_at_a_tag(leandnn: Run, repository: Path, mark: Path):
    line = f"evil: {TAGS[0].format(mark=mark)}\n"
    whole = {name: (repository / name).read_text() for name in ("params.yaml", "claims.yaml", "dvc.yaml")}
    commands = {"params.yaml": ("train", "bf16-vision"), "claims.yaml": ("claims",)}
    for name, command in commands.items():
        (repository / name).write_text(line + whole[name])
        answer = leandnn(*command)
        assert answer.returncode == 1
        assert "Traceback" not in answer.stderr
        assert f"leandnn: {name} is not valid YAML" in answer.stderr.splitlines()[-1]
        (repository / name).write_text(whole[name])
    (repository / ".dvc").mkdir()
    (repository / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    dvc = [sys.executable, "-m", "dvc", "status"]
    for name in ("dvc.yaml", "params.yaml", "dvc.lock"):
        (repository / name).write_text(line + whole.get(name, ""))
        answer = subprocess.run(
            dvc,
            cwd=repository,
            env={**os.environ, "DVC_SITE_CACHE_DIR": str(repository / "state")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode != 0, answer.stdout
        (repository / name).write_text(whole.get(name, ""))
    assert not mark.exists()


# --- notebooks -------------------------------------------------------------------------------------------

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
SHOWN = [
    ("text/html", pd.DataFrame({"p < 0.05": ["1 & 2", "<script>alert(1)</script>"]})._repr_html_()),
    ("text/markdown", "| a | b |\n|---|---|\n| 1 < 2 | $x > 3$ |\n\n**bold** [link](https://arxiv.org)"),
    ("text/plain", "<script>alert(1)</script> is text here"),
    ("image/png", PIXEL),
]
ACTIVE = [
    ("application/javascript", "alert(1)"),
    ("application/vnd.unheard-of+json", {}),
    ("text/html", "<script>alert(1)</script>"),
    ("text/html", '<a href="javascript:alert(1)"><img src="x" onerror="alert(1)"></a>'),
    ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg" ><foreignObject/></svg>'),
]


def normalised(*data: tuple[str, object], kind: str = "display_data") -> list[dict[str, Any]]:
    """What the normaliser makes of one output for each of these bundles."""
    cell = nbformat.v4.new_code_cell("x")
    cell["id"] = "cell"
    cell.outputs = [
        nbformat.from_dict({"output_type": kind, "metadata": {}, "data": {mime: value, **extra}})
        for mime, value in data
        for extra in ({}, {"text/plain": "fallback"})
        if not (extra and mime == "text/plain")
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    result = notebooks.normalise(notebook)
    nbformat.validate(result)
    assert "widgets" not in result.metadata
    return [dict(output.data) for output in result.cells[0].outputs]


@pytest.mark.parametrize(("mime", "value"), ACTIVE, ids=lambda value: str(value)[:40])
def test_an_output_that_may_run_something_is_dropped(mime: str, value: object):
    alone, beside = normalised((mime, value))
    assert alone == {"text/plain": f"(an output of type {mime} was left out: it may run something)"}
    assert beside == {"text/plain": "fallback"}


@pytest.mark.parametrize(("mime", "value"), SHOWN, ids=lambda value: str(value)[:40])
def test_what_only_shows_something_is_kept_as_it_is(mime: str, value: str):
    assert normalised((mime, value))[0] == {mime: value}
    assert "<script" not in value or "html" not in mime, "pandas escapes its cells"


def test_published_notebooks_pass_the_normaliser_unchanged():
    published = sorted((ROOT / "reports" / "notebooks").glob("*.ipynb"))
    assert published
    for path in published:
        text = path.read_text()
        assert notebooks.to_text(notebooks.normalise(nbformat.reads(text, as_version=4))) == text, path.name


def test_normalising_and_stripping_run_nothing(tmp_path: Path, mark: Path):
    code = f"import os; os.system('touch {mark}')"
    cell = nbformat.v4.new_code_cell(code, outputs=[nbformat.v4.new_output("stream", text=code)])
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    notebooks.normalise(nbformat.read(path, as_version=4))
    notebooks.strip_file(path, tmp_path / "y.ipynb")
    assert not mark.exists()
    (stripped,) = nbformat.read(tmp_path / "y.ipynb", as_version=4).cells
    assert stripped.outputs == []


# --- our own source --------------------------------------------------------------------------------------

SOURCES = sorted((ROOT / "src").rglob("*.py"))
# The one class that reads pickles: whatever a file names leads to an inert stand-in.
RESTRICTED = ("archives.py", "_Unpickler")


def name_of(node: ast.expr) -> str:
    """`a.b.c` of a dotted name, else the last part."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree: ast.AST, file: str) -> list[str]:
    """Calls and imports that could run what a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = {f"{module}.{a.name}" if module else a.name for a in node.names} | {module or ""}
            for name in names:
                if name.split(".")[0] in {"yaml", "marshal", "shelve", "dill", "joblib", "cloudpickle"}:
                    found.append(f"imports {name}")
                if name in {"pickle.load", "pickle.loads", "os.system", "os.popen", "torch.load"}:
                    found.append(f"imports {name} by its last part")
        if isinstance(node, ast.ClassDef) and any(name_of(b).endswith("Unpickler") for b in node.bases):
            methods = {m.name for m in node.body if isinstance(m, ast.FunctionDef)}
            if (file, node.name) != RESTRICTED or "find_class" not in methods:
                found.append(f"defines the unpickler {node.name}")
        if not isinstance(node, ast.Call):
            continue
        name, given = name_of(node.func), {k.arg: k.value for k in node.keywords}

        def says(key: str, value: object, given: dict[str | None, ast.expr] = given) -> bool:
            return isinstance(given.get(key), ast.Constant) and given[key].value == value  # type: ignore[attr-defined]

        last = name.rpartition(".")[2]
        if name in {
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler",
        }:
            found.append(f"calls {name}")
        if name == "torch.load" and not says("weights_only", True):
            found.append("calls torch.load without weights_only=True")
        if name == "YAML" and not says("typ", "safe"):
            found.append("reads YAML with another loader than the safe one")
        if says("shell", True) or (last in {"run", "Popen"} and "shell" in given):
            found.append("runs a command through a shell")
        if "allow_pickle" in given and not says("allow_pickle", False):
            found.append("reads NumPy files with pickles")
        if last in {"extract", "extractall", "mktemp", "_create_unverified_context"}:
            found.append(f"calls {name}")
    return found


def test_no_source_file_can_run_what_it_reads():
    found = {path: dangers(ast.parse(path.read_text()), path.name) for path in SOURCES}
    assert {path.name: kinds for path, kinds in found.items() if kinds} == {}


def test_the_search_finds_what_it_is_for():
    lines = [
        "import pickle; pickle.loads(b'')", "from pickle import load", "pickle.Unpickler(f).load()",
        "class U(pickle.Unpickler): pass", "class _Unpickler(pickle.Unpickler): pass", "import yaml",
        "import yaml as y; y.load('x')", "eval('1')", "exec('1')", "import os; os.system('x')",
        "subprocess.run('x', shell=True)", "subprocess.run('x', shell=flag)", "torch.load(p)",
        "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)", "YAML()", "YAML(typ='unsafe')",
        "tarfile.open(p).extractall()",
    ]  # fmt: skip
    assert [code for code in lines if not dangers(ast.parse(code), "archives.py")] == []


WRITTEN = ("src", "tests", "notebooks", "docs", "tools", "studies", ".ci", ".github", ".dvc")


def secrets(files: list[Path]) -> list[str]:
    """What detect-secrets names in files; not by randomness, which every digest has."""
    with default_settings():
        known = [plugin.__name__ for plugin in get_mapping_from_secret_type_to_class().values()]
    with transient_settings({"plugins_used": [{"name": n} for n in known if "HighEntropy" not in n]}):
        return [
            f"{path.name}:{one.line_number}: {one.type}" for path in files for one in scan_file(str(path))
        ]


@pytest.mark.slow
def test_no_file_that_people_write_holds_a_secret():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("NOT CHECKED, secrets in the tree: this is no git checkout")
    names = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    written = [ROOT / name for name in names if len(name.parts) == 1 or name.parts[0] in WRITTEN]
    assert len(written) > 50
    assert secrets([path for path in written if path.is_file()]) == []
    unwanted = re.compile(r"(^|/)(\.env|\.netrc|\.pypirc|id_(rsa|ed25519)|credentials)$|\.(pem|p12|pfx|key)$")
    assert [name for name in names if unwanted.search(name.as_posix())] == []
    assert Path(".dvc/config.local") not in names


def test_a_key_in_a_file_would_be_found(tmp_path: Path):
    path = tmp_path / "x.py"
    path.write_text("KEY = 'AKIA" + "A1" * 8 + "'\n# -----BEGIN " + "RSA PRIVATE KEY-----\n")
    assert len(secrets([path])) == 2


@pytest.mark.slow
def test_no_pinned_package_has_a_known_vulnerability():
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("NOT CHECKED, known vulnerabilities: pip-audit is not installed here")
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--no-deps", "--disable-pip"]
    try:
        answer = subprocess.run(
            [*command, "-r", str(ROOT / "requirements.lock")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        packages = json.loads(answer.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        pytest.skip("NOT CHECKED, known vulnerabilities: pip-audit found no database within two minutes")
    assert {p["name"]: [v["id"] for v in p["vulns"]] for p in packages if p.get("vulns")} == {}
