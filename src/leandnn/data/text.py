"""Parallel text in memory and batches made of it: the prepared Bibles, or any two files (text_files.py).

What a batch holds depends on (seed, epoch, step) alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leandnn import paths
from leandnn.data.prepared import layout, read_header
from leandnn.data.text_source import SIDES, SPLITS, TEXT
from leandnn.data.text_vocabulary import BEGIN, END, PAD, Vocabulary
from leandnn.errors import LeandnnError
from leandnn.paths import relative


@dataclass(frozen=True, eq=False)
class Bitext:
    """Sentences in two languages, pair by pair, as numbers of a vocabulary's pieces.

    - source, target: int32 (sum of lengths,), end to end, without BEGIN and END; on the CPU.
    - source_lengths, target_lengths: int64 (N,), 1 or more.
    - vocabulary: of both languages.
    """

    source: Tensor
    target: Tensor
    source_lengths: Tensor
    target_lengths: Tensor
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.source_lengths)

    def chosen(self, rows: Tensor) -> Bitext:
        """The pairs with these numbers, int64 (n,), in this order."""
        sources, targets = self.sentences()
        return of_sentences([sources[i] for i in rows], [targets[i] for i in rows], self.vocabulary)

    def sentences(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Source and target sentences, sharing memory."""
        return self.source.split(self.source_lengths.tolist()), self.target.split(
            self.target_lengths.tolist()
        )

    def texts(self) -> tuple[list[str], list[str]]:
        """Source and target sentences as text."""
        sources, targets = self.sentences()
        decode = self.vocabulary.decode
        return [decode(s.tolist()) for s in sources], [decode(t.tolist()) for t in targets]


def of_sentences(sources: Sequence[Tensor], targets: Sequence[Tensor], vocabulary: Vocabulary) -> Bitext:
    """A Bitext of as many source as target sentences, int32 each.

    LeandnnError for none, for an empty sentence, and for different numbers of them.
    """
    if len(sources) != len(targets) or not sources:
        raise LeandnnError(
            f"there are {len(sources)} source and {len(targets)} target sentences, expected as many, and some"
        )
    lengths = [torch.tensor([len(sentence) for sentence in side]) for side in (sources, targets)]
    for at, (a, b) in enumerate(zip(*(side.tolist() for side in lengths), strict=True)):
        if not (a and b):
            raise LeandnnError(f"pair {at} has {a} source and {b} target tokens, expected at least 1 of each")
    return Bitext(torch.cat(list(sources)), torch.cat(list(targets)), lengths[0], lengths[1], vocabulary)


def load(
    split: str = "train",
    *,
    count: int | None = None,
    longest: int | None = None,
    prepared: Path = paths.PREPARED,
) -> Bitext:
    """A split ("train" or "test") of the prepared Bibles, Spanish to English.

    - longest: leaves out pairs with more tokens than that in either language; None for no limit.
    - count: takes the first pairs of what is left, which are a random sample.

    LeandnnError for an unknown split, a `count` or `longest` out of range, and a file that is missing or whose
    size, header, shapes, lengths or tokens are wrong; only `prepared.verify` reads it for damage.
    """
    if split not in SPLITS:
        raise LeandnnError(f"there is no split {split!r}, only 'train' and 'test'")
    path = prepared / f"{TEXT.name}.safetensors"
    start, _ = read_header(path, TEXT)

    def read(name: str) -> npt.NDArray[np.uint8]:
        shape, begin, end = layout(TEXT)[name]
        return np.fromfile(path, np.uint8, end - begin, offset=start + begin).reshape(shape)

    mend = f"run `leandnn data fetch {TEXT.name}`"
    try:
        vocabulary = Vocabulary(read("vocabulary").tobytes().decode().split("\n"))
    except (UnicodeDecodeError, LeandnnError) as error:
        raise LeandnnError(
            f"{relative(path)} is damaged: its vocabulary is none ({error}): {mend}"
        ) from error
    numbers = {
        name: torch.from_numpy(read(f"{split}_{name}").view("<u2").astype(np.int32).reshape(-1))
        for side in SIDES
        for name in (side, f"{side}_lengths")
    }
    for side in SIDES:
        tokens, lengths = numbers[side], numbers[f"{side}_lengths"]
        if (
            int(lengths.sum()) != len(tokens)
            or int(lengths.min()) < 1
            or int(tokens.max()) >= len(vocabulary)
        ):
            raise LeandnnError(f"{relative(path)} is damaged: {split}_{side} has impossible numbers: {mend}")
    whole = Bitext(
        numbers["source"],
        numbers["target"],
        numbers["source_lengths"].long(),
        numbers["target_lengths"].long(),
        vocabulary,
    )
    limit = math.inf if longest is None else longest
    rows = (torch.maximum(whole.source_lengths, whole.target_lengths) <= limit).nonzero().squeeze(1)
    count = len(rows) if count is None else count
    if not 1 <= count <= len(rows):
        raise LeandnnError(
            f"{count} pairs of text {split} with at most {longest} tokens were asked for, expected 1 to {len(rows)}"
        )
    return whole.chosen(rows[:count])


def unigram_loss(train: Bitext, test: Bitext) -> float:
    """Mean -log of the test target tokens' frequency in training, in nats per token, END included.

    The loss of the best translator that looks at no context. Each count is one more than found.
    """
    size = len(train.vocabulary)
    counts = torch.bincount(train.target.long(), minlength=size).double() + 1
    counts[END] += len(train)
    logs = torch.log(counts / counts.sum())
    total = logs[test.target.long()].sum() + logs[END] * len(test)
    return -float(total) / (len(test.target) + len(test))


# --- batches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs of one step, padded with PAD to the longest; all int64.

    - source: (B, S); lengths: (B,), of the source sentences.
    - inputs, targets: (B, T), the target after BEGIN, and before END.
    """

    source: Tensor
    lengths: Tensor
    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.lengths)


class Batches:
    """Batches of pairs of about equal length.

    In each epoch the pairs are shuffled, those of sixteen batches are sorted by length, and the batches of all
    are shuffled. The pairs left over after the last whole batch sit the epoch out.
    """

    POOL = 16  # batches

    def __init__(
        self, text: Bitext, batch_size: int, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        if not 1 <= batch_size <= len(text):
            raise LeandnnError(
                f"the batch size is {batch_size}, expected 1 to {len(text)}, the number of pairs"
            )
        if seed < 0:
            raise LeandnnError(f"the seed is {seed}, expected 0 or more")
        self.text, self.batch_size, self.seed = text, batch_size, seed
        self._device = torch.device(device)
        self._sources, self._targets = text.sentences()

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self.text) // self.batch_size

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """Batches `start` to the end of epoch `index` (from 0), the same whatever was drawn before."""
        if index < 0 or not 0 <= start <= len(self):
            raise LeandnnError(
                f"epoch {index}, step {start} is not in the data: an epoch has {len(self)} steps"
            )
        return (self.batch(rows) for rows in self._plan(index)[start:])

    def _plan(self, index: int) -> list[Tensor]:
        """The pairs of each batch of an epoch."""
        words = np.random.SeedSequence(self.seed, spawn_key=(index,)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0]))
        order = torch.randperm(len(self.text), generator=generator)[: len(self) * self.batch_size]
        pools = order.split(self.POOL * self.batch_size)
        batches = torch.cat([pool[self._by_length(pool)] for pool in pools]).split(self.batch_size)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _by_length(self, rows: Tensor) -> Tensor:
        """Order by the target's length, then by the source's."""
        sources, targets = self.text.source_lengths[rows], self.text.target_lengths[rows]
        return (targets * (int(self.text.source_lengths.max()) + 1) + sources).argsort(stable=True)

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """All pairs once, from short to long; the last batch may be smaller."""
        if batch_size < 1:
            raise LeandnnError(f"the batch size is {batch_size}, expected 1 or more")
        order = self._by_length(torch.arange(len(self.text)))
        return (self.batch(rows) for rows in order.split(batch_size))

    def batch(self, rows: Tensor | Sequence[int]) -> Batch:
        """The pairs with these numbers. LeandnnError for none."""
        chosen = torch.as_tensor(rows).tolist()
        if not chosen:
            raise LeandnnError("an empty batch was asked for, expected at least 1 pair")
        begin, end = torch.tensor([BEGIN]), torch.tensor([END])
        sources = [self._sources[i].long() for i in chosen]
        targets = [self._targets[i].long() for i in chosen]
        padded = [
            pad_sequence(side, batch_first=True, padding_value=PAD).to(self._device)
            for side in (
                sources,
                [torch.cat([begin, target]) for target in targets],
                [torch.cat([target, end]) for target in targets],
            )
        ]
        lengths = torch.tensor([len(source) for source in sources], device=self._device)
        return Batch(padded[0], lengths, padded[1], padded[2])
