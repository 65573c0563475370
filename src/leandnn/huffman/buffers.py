"""What lies between two units whose batch sizes differ.

The schedule (execute.py) always runs the last unit that has a whole batch, so that results leave early and little
waits. Between a unit of batch p and the next one of batch c there is then, in items:

- p = c: the result itself, handed on.
- p a multiple of c (falling): the result, of which the next unit gets one slice after another. It lives while that and
  later units run, and is used up before an earlier one runs again.
- c a multiple of p (rising): a buffer of c items that results are copied into. While the units before it run, all
  but the last p of them may be there (pages that nothing was written to take no memory); the next one takes it as its
  input.
- else: a buffer of c items and the part of a result that did not fit, which keeps all p items alive.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Held:
    """Items held between two units: while units before it run, as (and with) the next unit's input, while later ones
    run."""

    before: int
    at: int
    after: int


def held(p: int, c: int) -> Held:
    """What a boundary between batches of p and of c items holds, at most."""
    if p == c:
        return Held(0, c, 0)
    if p % c == 0:
        return Held(0, p, p)
    if c % p == 0:
        return Held(c - p, c, 0)
    return Held(max(p, c), p + c, p)


def copying(p: int, c: int) -> int:
    """Items held between two units while a result is copied: the result and the buffer that it fills."""
    return p + c if copies(p, c) else 0


def copies(p: int, c: int) -> bool:
    """Whether items are copied between batches of p and of c."""
    return p % c != 0


class Buffer:
    """Items on their way from one unit to the next, in order.

    - p, c: their batch sizes; fewer items than p may come, and fewer than c be taken.
    """

    def __init__(self, p: int, c: int) -> None:
        self.c, self.copies = c, copies(p, c)
        self.count = 0  # items that wait
        self._buffer: Tensor | None = None  # the first of them, copied together
        self._filled = 0
        self._rest: Tensor | None = None  # those behind them

    def put(self, items: Tensor) -> None:
        """Append items, of which none must be changed any more."""
        self.count += len(items)
        if self._rest is not None:
            self._copy_rest()
        self._rest = items
        if self.copies or self._buffer is not None:
            self._copy_rest()

    def take(self) -> Tensor:
        """The next c items, or all if there are fewer; at least one waits."""
        n = min(self.c, self.count)
        self.count -= n
        if self._buffer is not None:
            taken = self._buffer[:n]
            self._buffer, self._filled = None, 0
            return taken
        assert self._rest is not None
        taken = self._rest[:n] if n < len(self._rest) else self._rest
        self._rest = self._rest[n:] if n < len(self._rest) else None
        return taken

    def _copy_rest(self) -> None:
        """Into the buffer, as far as it reaches."""
        assert self._rest is not None
        if self._buffer is None:
            self._buffer = like(self._rest, self.c)
        n = min(self.c - self._filled, len(self._rest))
        self._buffer[self._filled : self._filled + n] = self._rest[:n]
        self._filled += n
        self._rest = self._rest[n:] if n < len(self._rest) else None


def like(items: Tensor, count: int) -> Tensor:
    """Room for items, feature by feature in memory where they are (as coded linear layers give and take them)."""
    if items.dim() == 2 and items.stride(0) == 1:
        return items.new_empty(items.shape[1], count).t()
    return items.new_empty(count, *items.shape[1:])
