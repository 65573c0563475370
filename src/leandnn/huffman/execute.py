"""Running a plan: a queue of images in, results in order out, each unit at its own batch size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from leandnn.huffman.buffers import Buffer
from leandnn.huffman.chain import Unit


def run(units: Sequence[Unit], batches: Sequence[int], images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Results of a queue of images, in order.

    - units: a model's (chain.py), with a batch size each.
    - images: float32 tensors of one shape (C, H, W); one is taken only when no unit has a whole batch.

    The last unit that has a whole batch always runs next. When the queue has ended, what is left runs in smaller
    batches, from the first unit on. Raises ValueError, naming it, for an image of another shape or type.
    """
    buffers = [Buffer(p, c) for p, c in zip((1, *batches[:-1]), batches, strict=True)]
    shape: torch.Size | None = None
    for number, image in enumerate(images):
        shape = image.shape if shape is None else shape
        if image.shape != shape or image.dtype != torch.float32 or not image.is_cpu:
            raise ValueError(
                f"image {number} is {image.dtype} {tuple(image.shape)} on {image.device}, expected torch.float32 "
                f"{tuple(shape)} on cpu"
            )
        buffers[0].put(image[None])
        while (ready := _last_whole(buffers)) is not None:
            yield from _step(units, buffers, ready)
    while any(buffer.count for buffer in buffers):
        ready = _last_whole(buffers)
        if ready is None:
            ready = next(number for number, buffer in enumerate(buffers) if buffer.count)
        yield from _step(units, buffers, ready)


def _last_whole(buffers: Sequence[Buffer]) -> int | None:
    """The last unit that has a whole batch."""
    return next((n for n in reversed(range(len(buffers))) if buffers[n].count >= buffers[n].c), None)


def _step(units: Sequence[Unit], buffers: Sequence[Buffer], number: int) -> Iterator[Tensor]:
    """Run a unit once; its results, if it is the last one."""
    with torch.no_grad():
        result = units[number].call(buffers[number].take())
        if number + 1 < len(buffers):
            buffers[number + 1].put(result)
            return
    yield from result.unbind(0)
