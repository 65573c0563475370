"""Debian packages as a source of data: fetched by apt-get itself, read without installing or running anything."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from leandnn.data.availability import Absent, Unavailable, file_digest, present
from leandnn.errors import LeandnnError
from leandnn.files import unwritable
from leandnn.paths import relative

APT_SECONDS = 300.0
_MAGIC, _HEADER = b"!<arch>\n", 60  # of an ar archive, and of each of its members


@dataclass(frozen=True)
class DebianPackage:
    """A package for all architectures: its name and version, size in bytes and SHA-256 of its file."""

    name: str
    version: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """E.g. "sword-text-web_426.0-1_all.deb", as apt-get names it."""
        return f"{self.name}_{self.version}_all.deb"


def apt_download(packages: Iterable[DebianPackage], raw: Path, name: str, say: Callable[[str], None]) -> Path:
    """Fetch what is missing of the packages into `raw`, and return `raw`; `name` is the data set's.

    LeandnnError for a package that is there but altered. Unavailable where there is no apt-get, its archive
    lacks the version, or what it delivers has another digest.
    """
    for package in packages:
        target = raw / package.file
        try:
            present(target, "sha256", package.sha256, package.size, name)
        except Absent:
            _download(package, target, say)
    return raw


def _download(package: DebianPackage, target: Path, say: Callable[[str], None]) -> None:
    what = f"apt-get download {package.name}={package.version}"
    apt = shutil.which("apt-get")
    if apt is None:
        raise Unavailable(f"{what} needs apt-get, which is not on the PATH")
    say(f"asking apt-get for {package.name} {package.version} ({package.size / 1e6:.0f} MB)")
    folder = target.with_name(f"{package.file}.{os.getpid()}.partial")
    command = [apt, "download", "--quiet=2", f"{package.name}={package.version}"]
    try:
        folder.mkdir(parents=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_SECONDS)
        if done.returncode != 0:
            lines = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")]
            raise Unavailable(
                f"{what} ended with status {done.returncode} ({', '.join(lines[:2])}); `apt-get update` "
                "makes known what there is"
            )
        fetched = folder / package.file
        if not fetched.exists():
            raise Unavailable(f"{what} delivered no {package.file}")
        with fetched.open("rb") as stream:
            found = file_digest(stream, "sha256")
        if found != package.sha256:
            raise Unavailable(
                f"{what} delivered {fetched.stat().st_size} bytes with SHA-256 {found}, expected "
                f"{package.size} bytes with {package.sha256}"
            )
        fetched.replace(target)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} took more than {APT_SECONDS:.0f} s") from None
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Contents of the named files ("usr/share/…") of a package, which is not extracted.

    LeandnnError for a file that is no Debian package, is compressed by what Python's tarfile cannot read, or
    lacks one of the names.
    """
    body = _data_tar(path)
    wanted, found = set(names), dict[str, bytes]()
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in wanted and member.isfile() and (stream := archive.extractfile(member)):
                    found[name] = stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise LeandnnError(f"{relative(path)} holds no readable data.tar ({error})") from error
    if missing := sorted(wanted - found.keys()):
        raise LeandnnError(f"{relative(path)} lacks {len(missing)} files: {', '.join(missing)}")
    return found


def _data_tar(path: Path) -> bytes:
    """The member data.tar.* of the ar archive that a package is (see deb(5))."""
    data, at = path.read_bytes(), len(_MAGIC)
    if data[:at] != _MAGIC:
        raise LeandnnError(f"{relative(path)} is no Debian package: it starts with {data[:at]!r}")
    while at + _HEADER <= len(data):
        header = data[at : at + _HEADER]
        size, at = header[48:58].strip(), at + _HEADER
        if not size.isdigit():
            break
        if header[:16].startswith(b"data.tar"):
            return data[at : at + int(size)]
        at += int(size) + int(size) % 2  # members start at even places
    raise LeandnnError(f"{relative(path)} is no Debian package: it holds no data.tar")
