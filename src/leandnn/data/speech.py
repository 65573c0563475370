"""Speech in memory and batches made of it: spoken digit strings (prepared), or any LibriSpeech-like folder.

An utterance is a run of log-mel frames (see speech_features) and its text. What a batch holds depends on
(seed, epoch, step) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leandnn import paths
from leandnn.data.prepared import DATASETS, Dataset, layout, read_header
from leandnn.data.speech_features import MELS
from leandnn.errors import LeandnnError
from leandnn.paths import relative

ALPHABET = "_ 'abcdefghijklmnopqrstuvwxyz"  # DeepSpeech2's; index 0 is CTC's blank, never in a text
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = 7  # digits of an utterance
NO_DIGIT = 255


@dataclass(frozen=True)
class Digits(Dataset):
    """The prepared digit strings: frames lie end to end, in room for `capacity` frames an utterance (mean)."""

    capacity: int = 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Per split: frames uint8 (N capacity, 40), zeros after the last; per utterance its number of frames
        (two bytes, the lower first), digits (255 after the last) and speaker."""
        shapes: dict[str, tuple[int, ...]] = {}
        for split, count in (("train", self.train), ("test", self.test)):
            shapes[f"{split}_features"] = (count * self.capacity, MELS)
            shapes[f"{split}_frames"] = (count, 2)
            shapes[f"{split}_digits"] = (count, LONGEST)
            shapes[f"{split}_speakers"] = (count,)
        return shapes


DIGITS = Digits(
    name="digits",
    classes=len(ALPHABET),
    train=4000,
    test=500,
    capacity=165,
    # Made here, not fetched: no archive.
    archive="",
    url="",
    size=0,
    md5="",
    train_members=(),
    test_members=(),
    labels={},
)
DATASETS.setdefault(DIGITS.name, DIGITS)  # `prepared.verify` and `prepared.digest` know it from here on


@dataclass(frozen=True, eq=False)
class Utterances:
    """`features` is uint8 (sum of frames, 40), end to end; `frames` int64 (N,); both lie on the CPU.

    `texts` are in lower case, of ALPHABET's characters without the blank; `speakers` are names.
    """

    features: Tensor
    frames: Tensor
    texts: tuple[str, ...]
    speakers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


def encode(text: str) -> list[int]:
    """A text's places in ALPHABET. LeandnnError names a character that is not in it."""
    places = [ALPHABET.find(character, 1) for character in text]
    if -1 in places:
        raise LeandnnError(f"{text!r} holds {text[places.index(-1)]!r}, expected a to z, ' and spaces")
    return places


def load(split: str = "train", *, count: int | None = None, prepared: Path = paths.PREPARED) -> Utterances:
    """A split ("train" or "test") of the prepared digit strings, or its first `count` utterances.

    No speaker and no voice variant is in both splits; the speakers of a split take turns. LeandnnError
    for an unknown split, a `count` out of range, and a file that is missing or whose size, header, shapes,
    frames or digits are wrong; only `prepared.verify` reads the frames for damage.
    """
    if split not in ("train", "test"):
        raise LeandnnError(f"there is no split {split!r}, only 'train' and 'test'")
    path = prepared / f"{DIGITS.name}.safetensors"
    start, _ = read_header(path, DIGITS)

    def read(name: str, rows: int | None = None) -> npt.NDArray[np.uint8]:
        shape, begin, end = layout(DIGITS)[f"{split}_{name}"]
        if rows is not None:
            shape, end = [rows, *shape[1:]], begin + (end - begin) // shape[0] * rows
        return np.fromfile(path, np.uint8, end - begin, offset=start + begin).reshape(shape)

    total = layout(DIGITS)[f"{split}_frames"][0][0]
    if count is not None and not 1 <= count <= total:
        raise LeandnnError(f"{count} utterances of {split} were asked for, expected 1 to {total}")
    count = count or total
    frames = read("frames")[:count].astype(np.int64) @ np.array([1, 256])
    digits, speakers = read("digits")[:count], read("speakers")[:count]
    room = layout(DIGITS)[f"{split}_features"][0][0]
    if frames.min() < 1 or frames.sum() > room or ((digits > 9) & (digits != NO_DIGIT)).any():
        raise LeandnnError(
            f"{relative(path)} is damaged: {split} has frames or digits out of range: "
            f"run `leandnn data fetch {DIGITS.name}`"
        )
    texts = tuple(" ".join(WORDS[d] for d in row if d != NO_DIGIT) for row in digits)
    features = torch.from_numpy(read("features", int(frames.sum())))
    return Utterances(features, torch.from_numpy(frames), texts, tuple(f"voice {s}" for s in speakers))


# --- batches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Batch:
    """Utterances of one step, zero-padded to the longest.

    - features: float32 (B, T, 40), each utterance with mean 0 and deviation 1 over its frames and bands.
    - frames: int64 (B,), on the CPU.
    - texts: as in Utterances.
    """

    features: Tensor
    frames: Tensor
    texts: tuple[str, ...]


class Batches:
    """Batches of utterances of about equal length.

    The first epoch goes from short to long (DeepSpeech2's SortaGrad, arXiv 1512.02595, section 3.3). In the
    others, utterances are shuffled, those of sixteen batches are sorted by length, and the batches of all
    are shuffled. The utterances left over after the last whole batch sit the epoch out.

    - augment: in an epoch, every utterance's spectrum is moved by up to two bands up or down, as by a shorter or
      longer vocal tract (after Jaitly and Hinton 2013), and up to six bands side by side are set to its mean
      (SpecAugment's frequency masking, Park et al. 2019, arXiv 1904.08779). Training voices are few.
    """

    POOL = 16  # batches
    SHIFT, WIDEST = 2, 6  # bands

    def __init__(
        self,
        utterances: Utterances,
        batch_size: int,
        *,
        augment: bool = False,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 1 <= batch_size <= len(utterances):
            raise LeandnnError(
                f"the batch size is {batch_size}, expected 1 to {len(utterances)}, the number of utterances"
            )
        if seed < 0:
            raise LeandnnError(f"the seed is {seed}, expected 0 or more")
        self.utterances, self.batch_size, self.seed = utterances, batch_size, seed
        self.augment = augment
        self._device = torch.device(device)
        self._features = utterances.features.to(self._device)
        self._ends = utterances.frames.cumsum(0)
        # The sums of bytes and of their squares are whole numbers: the same on every machine.
        parts = utterances.features.split(utterances.frames.tolist())
        counts = (utterances.frames * MELS).double()
        sums = torch.stack([part.sum(dtype=torch.int64) for part in parts]).double()
        squares = torch.stack([part.to(torch.int32).square().sum(dtype=torch.int64) for part in parts])
        means = sums / counts
        deviations = (squares.double() / counts - means.square()).clamp_min(1.0).sqrt()
        self._means = means.float().to(self._device)
        self._scales = (1 / deviations).float().to(self._device)

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self.utterances) // self.batch_size

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """Batches `start` to the end of epoch `index` (from 0), the same whatever was drawn before."""
        if index < 0 or not 0 <= start <= len(self):
            raise LeandnnError(
                f"epoch {index}, step {start} is not in the data: an epoch has {len(self)} steps"
            )
        if not self.augment:
            return (self.batch(chosen) for chosen in self._plan(index)[start:])
        return self._augmented(index, start)

    def _augmented(self, index: int, start: int) -> Iterator[Batch]:
        generator = _generator(self.seed, index, 1)  # _plan draws from (seed, index)
        shape = len(self), self.batch_size, 1
        shifts = torch.randint(-self.SHIFT, self.SHIFT + 1, shape, generator=generator)
        widths = torch.randint(0, self.WIDEST + 1, shape, generator=generator)
        lowest = torch.randint(0, MELS, shape, generator=generator)
        bands = torch.arange(MELS)
        # The outermost bands are repeated where the spectrum moves away from an end.
        sources = (bands + shifts).clamp(0, MELS - 1)
        kept = (bands < lowest) | (bands >= lowest + widths)
        plan = self._plan(index)
        for step in range(start, len(self)):
            batch = self.batch(plan[step])
            source = sources[step, :, None].to(self._device).expand_as(batch.features)
            moved = batch.features.gather(2, source).mul_(kept[step, :, None].to(self._device))
            yield Batch(moved, batch.frames, batch.texts)

    def _plan(self, index: int) -> list[Tensor]:
        """The utterances of each batch of an epoch."""
        generator = _generator(self.seed, index)
        order = torch.randperm(len(self.utterances), generator=generator)[: len(self) * self.batch_size]
        pools = [order] if index == 0 else order.split(self.POOL * self.batch_size)
        ordered = [pool[self.utterances.frames[pool].argsort(stable=True)] for pool in pools]
        batches = torch.cat(ordered).split(self.batch_size)
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return list(batches) if index == 0 else [batches[i] for i in shuffled]

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """All utterances once, from short to long; the last batch may be smaller."""
        if batch_size < 1:
            raise LeandnnError(f"the batch size is {batch_size}, expected 1 or more")
        order = self.utterances.frames.argsort(stable=True)
        return (self.batch(chosen) for chosen in order.split(batch_size))

    def batch(self, chosen: Tensor | Sequence[int]) -> Batch:
        """The chosen utterances, by number. LeandnnError for none."""
        rows = torch.as_tensor(chosen)
        if not len(rows):
            raise LeandnnError("a batch of 0 utterances was asked for, expected at least 1")
        frames = self.utterances.frames[rows]
        longest = int(frames.max())
        within = torch.arange(longest)
        inside = (within < frames[:, None]).to(self._device)
        places = ((self._ends[rows] - frames)[:, None] + torch.minimum(within, frames[:, None] - 1)).view(-1)
        picked = self._features.index_select(0, places.to(self._device)).float().view(-1, longest, MELS)
        where = rows.to(self._device)
        picked = picked.sub_(self._means[where][:, None, None]).mul_(self._scales[where][:, None, None])
        texts = tuple(self.utterances.texts[i] for i in rows.tolist())
        return Batch(picked.mul_(inside[:, :, None]), frames, texts)


def _generator(seed: int, *place: int) -> torch.Generator:
    """A CPU generator that depends on all of its arguments."""
    mixed = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
