"""What DVC keeps beside the pipeline, made sound before DVC reads it: `python -m leandnn.cli.store`.

DVC trusts an object by its name: a read-only one is never hashed again, so a damaged file of store/ or of the
cache would come back into runs/ and be called up to date. Here every small object is hashed. A damaged one is
moved to build/damaged/; git puts it back, or DVC, which sees it as missing, fetches or recomputes it. DVC also
writes two files in place, dvc.lock and .dvc/tmp/rwlock: killed while writing, it could not start again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing, write_text

LARGEST = 64 << 20  # bytes; the one larger object, the prepared data, is hashed by what reads it
UNVERIFIED = "unverified"  # in build/damaged/ from the first finding until a repro has ended well
_REST = re.compile(r"[0-9a-f]{30}(\.dir)?")


def check(folder: Path) -> list[Path]:
    """The objects below `folder` (a DVC remote or cache) of at most LARGEST bytes whose MD5 is not their name.

    An object is files/md5/<two digits>/<thirty digits>; a folder's listing ends in .dir and is hashed alike.
    One that cannot be read counts as damaged.
    """
    return [path for path in _objects(folder) if _is_damaged(path)]


def _objects(folder: Path) -> Iterator[Path]:
    for path in sorted((folder / "files" / "md5").glob("[0-9a-f][0-9a-f]/*")):
        if _REST.fullmatch(path.name):
            yield path


def _is_damaged(path: Path) -> bool:
    try:
        if path.stat().st_size > LARGEST:
            return False
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:  # another process took it away
        return False
    except OSError:
        return True
    return found != path.parent.name + path.name.removesuffix(".dir")


def set_aside(folder: Path) -> list[str]:
    """Move the damaged objects below `folder` to build/damaged/, and put back those that git has; a sentence each.

    LeandnnError if one cannot be moved.
    """
    aside = paths.BUILD / "damaged"
    sentences = []
    for path in check(folder):
        # First, so that a kill in between does not hide that files made from the object may be wrong too.
        write_text(aside / UNVERIFIED, "files in the workspace may come from damaged objects\n")
        target = aside / f"{folder.name}-{path.parent.name}{path.name}"
        try:
            target.unlink(missing_ok=True)
            shutil.move(path, target)
        except OSError as error:
            raise LeandnnError(
                f"{paths.relative(path)} is damaged (its MD5 is not its name) and cannot be moved away "
                f"({error.strerror or error}): delete it and run the command again"
            ) from error
        future = "git had it whole" if _put_back(path) else "it will be fetched or recomputed"
        sentences.append(
            f"{paths.relative(path)} is damaged (its MD5 is not its name) and was moved to "
            f"{paths.relative(target)}; {future}"
        )
    return sentences


def _put_back(path: Path) -> bool:
    """Whether git tracks the object, has it whole and has put it back."""
    if not _git(path.parent, "checkout", "--", path.name)[0]:
        return False
    if _is_damaged(path):  # the damage was committed
        path.unlink()
        return False
    return True


def _git(folder: Path, *arguments: str) -> tuple[bool, bytes]:
    """Whether git did this in `folder`, and what it printed; False without git or a repository."""
    try:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except OSError:
        return False, b""
    return answer.returncode == 0, answer.stdout


# --- files that DVC writes in place ----------------------------------------------------------------------


def mend_rwlock(root: Path) -> str | None:
    """Remove .dvc/tmp/rwlock if it is corrupt or left by killed processes; a sentence if so.

    LeandnnError if it is corrupt while a DVC process of this checkout lives.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.exists():
        return None
    with _guard(path.with_name("rwlock.lock")):
        problem, named = _rwlock_problem(path)
        if problem is None:
            return None
        living = living_dvc(root, named)
        if living and named:
            return None  # not left behind: in use
        if living:
            raise LeandnnError(
                f"{paths.relative(path)} {problem}, but DVC is at work in this checkout (PID "
                f"{', '.join(map(str, living))}): wait for it or stop it, and run the command again"
            )
        path.unlink()
    return f"{paths.relative(path)} {problem}, and no DVC is at work in this checkout: it was removed"


def _rwlock_problem(path: Path) -> tuple[str | None, set[int]]:
    """What is wrong with the file, if anything, and the PIDs that it names."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        writers = list(content.get("write", {}).values())
        readers = [reader for several in content.get("read", {}).values() for reader in several]
        named = {int(process["pid"]) for process in (*writers, *readers)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is corrupt (a killed DVC left it half-written)", set()
    # One that DVC finds dead it removes itself, but after a restart another program may have its number.
    return ("names processes that are gone" if named else None), named


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """DVC's own lock around the rwlock file, held for milliseconds: nobody is half-way through writing it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def living_dvc(root: Path, named: Collection[int] = ()) -> list[int]:
    """PIDs of the processes that work in `root` or below it and are DVC's, or among the `named`.

    One whose folder may not be read (another user's) counts as well.
    """
    import psutil

    root = root.resolve()
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = [Path(word).name for word in (process.info["cmdline"] or [])[:3]]
        if "dvc" not in words and process.pid not in named:
            continue
        try:
            if Path(process.cwd()).is_relative_to(root):
                found.append(process.pid)
        except psutil.AccessDenied:
            found.append(process.pid)
        except psutil.Error:  # it ended in between
            continue
    return found


def mend_dvc_lock(root: Path) -> str | None:
    """Put back the committed dvc.lock where a killed DVC left a half-written one; a sentence if so.

    Nothing is computed anew for it: what the file no longer says, DVC finds in its cache of runs.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = root / "dvc.lock"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = YAML(typ="safe", pure=True).load(content.decode())
    except (YAMLError, UnicodeDecodeError):
        document = None
    if isinstance(document, dict) and "schema" in document:
        return None
    if b"<<<<<<<" in content or living_dvc(root):  # a merge for a person to end; or it is just being written
        return None
    aside = paths.BUILD / "damaged" / "dvc.lock"
    with replacing(aside) as stream:
        stream.write(content)
    there_is, committed = _git(root, "show", "HEAD:./dvc.lock")
    if there_is:
        with replacing(path) as stream:
            stream.write(committed)
        done = "the committed one was put back"
    else:
        path.unlink()
        done = "it was removed"
    return (
        f"dvc.lock is corrupt (a killed DVC left it half-written): {done}, a copy is {paths.relative(aside)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Mend the checkout's lock files, then check the objects of the folders that are named."""
    parser = argparse.ArgumentParser(prog="python -m leandnn.cli.store", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="DVC remotes and caches, e.g. store .dvc/cache")
    folders: list[Path] = parser.parse_args(argv).folders
    try:
        for sentence in (mend_rwlock(paths.ROOT), mend_dvc_lock(paths.ROOT)):
            if sentence:
                print(f"mended: {sentence}", flush=True)
        for folder in folders:
            for sentence in set_aside(folder):
                print(f"mended: {sentence}", flush=True)
    except LeandnnError as error:
        print(f"leandnn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
