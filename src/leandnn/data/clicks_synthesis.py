"""A made-up click log whose true click probabilities are known, the same bits on every machine.

A row has integer features x_1 … x_13 and categories c_1 … c_26, drawn independently. Its log-odds are those
of a factorisation machine (Rendle 2010, doi 10.1109/ICDM.2010.127), all parameters fixed by the seed:

    z = b + Σ_j (s_j l_j + t_j |l_j - 4|) + Σ_f a_f[c_f] + Σ_{0 ≤ f < g ≤ 26} <u_f, u_g>
    l_j = log2(1 + x_j), linear between powers of two        u_f = U_f[c_f], u_0 = Σ_j (l_j - 2) v_j

and its label is 1 with probability 1 / (1 + exp(-z)). u has four components. The parameters are sums of eight uniform
bytes, nearly Gaussian, with standard deviation 0.204 (a), 0.102 (U) and 0.051 (s, t, v).

Why bit-identical: everything is integer arithmetic on raw words of Philox, which NumPy promises to keep. Effects
are multiples of 2^-12, z is cut to a multiple of 2^-8 in [-12, 12], and the probability is looked up in a table
of multiples of 2^-24 made with Python's integers. It is therefore exact in float32, and exactly what the label
was drawn with.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leandnn.data.prepared import DATASETS, Bytes, Dataset
from leandnn.errors import LeandnnError

INTEGERS, CATEGORIES = 13, 26
# Entries of the categorical features, 0 for a missing value included: a ladder from large to small, as the
# vocabularies of Criteo's log run from millions to three.
SIZES = (5000, 4000, 3000, 2300, 1700, 1300, 1000, 750, 550, 400, 300, 220, 160,
         115, 80, 57, 40, 29, 20, 15, 12, 9, 7, 6, 5, 4)  # fmt: skip

_RANK = 4  # components of a latent vector
_ONE = 1 << 12  # an effect of 1 in log-odds
_STEP = 1 << 4  # effects per entry of the table of probabilities
_CUT = 12 << 8  # entries on either side of log-odds 0
_BIAS = -4500  # sets the share of clicks to about a quarter, as in Criteo's log
_WORDS = INTEGERS + CATEGORIES // 2 + 1  # random 64-bit words per row
_BLOCK = 1 << 15

_I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Drawn rows: integers int16 (N, 13), -1 for missing; categories uint16 (N, 26), 0 for missing; labels
    uint8 (N,); probabilities float32 (N,), multiples of 2^-24.
    """  # fmt: skip

    integers: npt.NDArray[np.int16]
    categories: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


class World:
    """The parameters of the log from one seed: frequencies of the categories, and all effects.

    - seed: 0 or more. Splits of one seed share the parameters.

    Category ranks have weight 1 / rank^1.5 and are shuffled over the entries 1, 2, …, as a hash would. Every
    third feature is missing in an eighth of the rows, integer features likewise (missing counts as 0 there).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        stream = _stream(seed, 0)

        def gaussian(*shape: int) -> _I64:
            """Integers of mean 0 and standard deviation 209 (0.051 in log-odds)."""
            words = stream.random_raw(math.prod(shape)).astype("<u8").view(np.uint8)
            bytes_ = words.reshape(*shape, 8).astype(np.int64)
            values: _I64 = bytes_.sum(-1) - 1020
            return values

        self.slope, self.kink = gaussian(INTEGERS), gaussian(INTEGERS)
        self.lean = gaussian(INTEGERS, _RANK)
        self.effects = [4 * gaussian(size) for size in SIZES]
        self.vectors = [2 * gaussian(size, _RANK) for size in SIZES]
        self.bounds, self.entries = [], []
        for f, size in enumerate(SIZES):
            weights = [(1 << 60) // math.isqrt(k**3 << 32) for k in range(1, size)]
            total = sum(weights)
            missing = total // 7 if f % 3 == 2 else 0
            ends, end = [], missing
            for weight in weights:
                ends.append((end << 32) // (total + missing))
                end += weight
            self.bounds.append(np.array(ends, np.uint32))
            order = np.argsort(stream.random_raw(size - 1), kind="stable") + 1
            self.entries.append(np.concatenate([[0], order]).astype(np.uint16))
        # l_j has up to 4 to 13 bits, so that the features differ in range.
        self.longest = 4 + np.arange(INTEGERS) * 8 // (INTEGERS - 1)
        self.often_missing = np.where(np.arange(INTEGERS) % 3 == 2, 32, 0)  # of 256

    def draw(self, split: int, count: int) -> Iterator[tuple[slice, Rows]]:
        """The first `count` rows of a split, in blocks; row i does not depend on `count`."""
        stream = _stream(self.seed, 1 + split)
        for first in range(0, count, _BLOCK):
            rows = min(_BLOCK, count - first)
            words = stream.random_raw(rows * _WORDS).astype("<u8").reshape(rows, _WORDS)
            yield slice(first, first + rows), self._rows(words)

    def _rows(self, words: npt.NDArray[Any]) -> Rows:
        integers = self._integers(words[:, :INTEGERS])
        halves = np.ascontiguousarray(words[:, INTEGERS:-1]).view("<u4")
        columns = [
            entries[np.searchsorted(bounds, half, side="right")]
            for bounds, entries, half in zip(self.bounds, self.entries, halves.T, strict=True)
        ]
        categories = np.stack(columns, 1)
        probabilities = _table()[self._logits(integers, categories)]
        labels = (words[:, -1] >> np.uint64(40)) < probabilities.astype(np.uint64)
        exact = probabilities.astype(np.float32) * np.float32(2.0**-24)
        return Rows(integers.astype(np.int16), categories, labels.astype(np.uint8), exact)

    def _integers(self, words: npt.NDArray[Any]) -> _I64:
        """Counts spread over powers of two, the smaller more often; -1 where missing."""
        drawn = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 8).astype(np.int64)
        bits = np.minimum(drawn[:, :, 0], drawn[:, :, 1]) * (self.longest + 1) >> 8
        power = np.int64(1) << bits
        counts = power - 1 + ((drawn[:, :, 2] << 8 | drawn[:, :, 3]) & (power - 1))
        return np.where(drawn[:, :, 4] < self.often_missing, -1, counts)

    def _logits(self, integers: _I64, categories: npt.NDArray[np.uint16]) -> _I64:
        """Log-odds as places in the table of probabilities."""
        logs = _log2(np.maximum(integers, 0))
        total: _I64 = _BIAS + ((logs * self.slope + np.abs(logs - 1024) * self.kink) // 256).sum(1)
        # 27 vectors; the sum over their pairs is half of (square of the sum - sum of the squares).
        dense: _I64 = ((logs - 512) @ self.lean) // 256
        summed, squares = dense.copy(), (dense * dense).sum(1)
        for f in range(CATEGORIES):
            chosen = categories[:, f]
            vectors = self.vectors[f][chosen]
            total += self.effects[f][chosen]
            summed += vectors
            squares += (vectors * vectors).sum(1)
        total += ((summed * summed).sum(1) - squares) // (2 * _ONE)
        places: _I64 = np.clip(total // _STEP, -_CUT, _CUT) + _CUT
        return places


def _stream(seed: int, number: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence(seed, spawn_key=(number,)))


def _log2(counts: _I64) -> _I64:
    """256 log2(1 + count), linear between powers of two and rounded down; counts below 2^20."""
    above = counts + 1
    bits = np.zeros_like(above)
    for shift in (16, 8, 4, 2, 1):
        bits += np.where(above >> (bits + shift) > 0, shift, 0)
    logs: _I64 = (bits << 8) + (((above - (np.int64(1) << bits)) << 8) >> bits)
    return logs


def _table() -> _I64:
    """2^24 / (1 + exp(-k / 256)) for k = -12·256 … 12·256, rounded down for k ≥ 0 and mirrored below."""
    one = 1 << 96
    step, term, n = one, one, 0
    while term:  # exp(-1/256) as an alternating series
        n += 1
        term //= 256 * n
        step += term if n % 2 == 0 else -term
    upper, power = [], one
    for _ in range(_CUT + 1):
        upper.append((one << 24) // (one + power))
        power = power * step >> 96
    lower = [(1 << 24) - value for value in reversed(upper[1:])]
    return np.array(lower + upper, np.int64)


# --- the prepared file -----------------------------------------------------------------------------------

_TYPES = {"integers": "<i2", "categories": "<u2", "labels": "u1", "probabilities": "<f4"}
_COLUMNS = {"integers": (INTEGERS,), "categories": (CATEGORIES,), "labels": (), "probabilities": ()}
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ClickLog(Dataset):
    """A made-up log as a data set: `train` rows for six days and `test` rows for the seventh.

    The prepared file knows bytes alone: the last dimension of its tensors is the bytes of one number, least
    significant first (types as in Rows; labels are bytes already).
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in the prepared file, in file order; all are uint8."""
        shapes: dict[str, tuple[int, ...]] = {}
        for split, count in zip(SPLITS, (self.train, self.test), strict=True):
            for kind, dtype in _TYPES.items():
                width = np.dtype(dtype).itemsize
                shapes[f"{split}_{kind}"] = (count, *_COLUMNS[kind], *((width,) if width > 1 else ()))
        return shapes


def click_log(name: str, train: int, test: int, digests: Mapping[str, str] | None = None) -> ClickLog:
    """A made-up log of so many rows, with or without pinned digests. It has no archive to come from."""
    return ClickLog(
        name=name, classes=2, train=train, test=test, archive="", url="", size=0, md5="", train_members=(),
        test_members=(), labels={}, digests=digests or {},
    )  # fmt: skip


CLICKS = click_log(
    "clicks",
    600_000,
    100_000,
    {
        "train_integers": "281655d28354c9cadaeca722d6b7adeb3fb589de2b10c9d0a62ae07331d2ff7e",
        "train_categories": "6c704c72ad198e21fb0518449573c9ccb7a9cc87df47c5b498a0c8c00aaf1a24",
        "train_labels": "2180cb8f9ef5d76fd34362206e9aebcb08596c4cedb4f2f4a48dd7a5dda4f31c",
        "train_probabilities": "3455e3818e1da737675a4fbf2cbfc841a08efc95f8d20732bdd1b42aac2c798f",
        "test_integers": "28ac5bc027bfdbb36279b29976f7263f6d021b0e24a82d92b7382faa67152d9f",
        "test_categories": "378bc1932fcaf6de93f86e846b6f53098fc7f9e799819048413d255c9c20f4ca",
        "test_labels": "6a44a7c5049f277e880ff1de4d85a459af9d237cb296165f3c2bf3a7d6d49a03",
        "test_probabilities": "83f2130ff1d53d88ecbd7c9f3c26f05506bae7101f2ce58765d5693006b4ca33",
    },
)
DATASETS[CLICKS.name] = CLICKS


def arrays(world: World, split: str, count: int) -> dict[str, npt.NDArray[Any]]:
    """The first `count` rows of a split ("train" or "test"), by name, in the types of the prepared file."""
    found = {kind: np.empty((count, *_COLUMNS[kind]), dtype) for kind, dtype in _TYPES.items()}
    for block, rows in world.draw(SPLITS.index(split), count):
        for kind, array in found.items():
            array[block] = getattr(rows, kind)
    return found


def viewed(tensors: Mapping[str, Bytes], count: int) -> dict[str, npt.NDArray[Any]]:
    """Bytes of `count` rows of a prepared split, by kind, as numbers in shape: what `make` did, undone."""
    return {kind: tensors[kind].view(dtype).reshape(count, *_COLUMNS[kind]) for kind, dtype in _TYPES.items()}


def make(dataset: ClickLog = CLICKS) -> dict[str, Bytes]:
    """All tensors of the prepared file of a made-up log from seed 0, in a few seconds of one core.

    LeandnnError if they are not those that are pinned: a NumPy that draws or computes otherwise.
    """
    world = World(0)
    tensors: dict[str, Bytes] = {}
    for split, count in zip(SPLITS, (dataset.train, dataset.test), strict=True):
        for kind, array in arrays(world, split, count).items():
            name = f"{split}_{kind}"
            tensors[name] = array.view(np.uint8).reshape(dataset.shapes[name])
            found, expected = hashlib.sha256(tensors[name].data).hexdigest(), dataset.digests.get(name)
            if expected not in (None, found):
                raise LeandnnError(
                    f"{name} of {dataset.name} comes out with SHA-256 {found}, expected {expected}: NumPy "
                    f"{np.__version__} computes otherwise here, so install the one of requirements.lock"
                )
    return tensors
