"""Batch sizes layer by layer: the most images a second that a memory and a latency allow.

Vooturi, Goyal, Choudhury, Sabharwal, Verma (arXiv 1711.00244) choose a batch size for each layer by dynamic programming
under a budget of memory. Their recurrence is not published in what we could read; this is ours (search.py), over
measured costs (costs.py), with a model of memory that is checked against the process's own (machine/memory.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.huffman import execute, search
from leandnn.huffman.chain import units
from leandnn.huffman.costs import BATCHES, Costs
from leandnn.huffman.decoders import Decoder
from leandnn.huffman.model import Compressed


@dataclass(frozen=True)
class BatchPlan:
    """Batch sizes of a model's units, and what costs say of them.

    - units, batches: names, and images that each unit takes at once.
    - seconds_per_image: of a long queue, copies into buffers between units included.
    - latency: seconds from when the first image of a period is taken to when the last result of the period is out. A
      period is the fewest images after which all units have run whole batches: the batch sizes' least common
      multiple. No image waits longer than that.
    - memory_nbytes: at the peak: coded weights, tables, workspace, activations, buffers between units, and what
      torch's operators allocate. Not in it: the code of python and torch, what oneDNN compiles at first use, and
      freed memory that malloc keeps (memory.return_freed has it keep little).
    - decoder: what the coded layers compute by.
    """

    units: tuple[str, ...]
    batches: tuple[int, ...]
    seconds_per_image: float
    latency: float
    memory_nbytes: int
    decoder: str = "fused"

    @property
    def images_per_second(self) -> float:
        """Predicted throughput."""
        return 1.0 / self.seconds_per_image

    def run(
        self, model: Compressed, images: Iterable[Tensor], decoder: Decoder | None = None
    ) -> Iterator[Tensor]:
        """Results of a queue of images, in order, each as soon as the schedule has it (execute.py).

        - model: the one that was planned for. images: float32, of one shape, (C, H, W) each; a batch is such a queue,
          too. Any number: what is left at the end runs in smaller batches.
        - decoder: how the coded layers compute; their own way if None.

        Raises LeandnnError for a model of other units and ValueError for an image of another shape or type.
        """
        chain = units(model, decoder)
        if tuple(unit.name for unit in chain) != self.units:
            raise LeandnnError(
                f"the plan is for units {', '.join(self.units)}, the model has "
                f"{', '.join(unit.name for unit in chain)}"
            )
        return execute.run(chain, self.batches, images)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BatchPlan:
        """The inverse; LeandnnError for other data."""
        try:
            plan = cls(**{**data, "units": tuple(data["units"]), "batches": tuple(data["batches"])})
            sizes = plan.batches
            if len(sizes) != len(plan.units) or any(type(n) is not int or n < 1 for n in sizes) or not sizes:
                raise ValueError(f"{len(plan.units)} units with batches {sizes}")
        except (KeyError, TypeError, ValueError) as error:
            raise LeandnnError(f"the file holds no plan: {type(error).__name__}: {error}") from error
        return plan


def plan(
    model: Compressed | None,
    *,
    memory: int | None = None,
    latency: float | None = None,
    batches: Sequence[int] | None = None,
    uniform: bool = False,
    costs: Costs | None = None,
    shape: Sequence[int] = (3, 224, 224),
    repeats: int = 5,
    decoder: Decoder | None = None,
) -> BatchPlan:
    """The plan of most images a second within a memory and a latency.

    - memory: bytes at the peak. latency: seconds; see BatchPlan. None: as much as it takes.
    - batches: sizes to choose from for each unit; if None those of costs, or costs.BATCHES.
    - uniform: one size for all units.
    - costs: of earlier measurement; the model may then be None. If None they are measured now, by shape (of one image),
      repeats and decoder (Costs.measure).

    Exact: no other choice of these sizes has, by these costs, fewer seconds an image within the budgets. Raises
    LeandnnError where nothing fits, saying the least that would, and ValueError for arguments out of range.
    """
    if memory is not None and memory <= 0:
        raise ValueError(f"memory is {memory} bytes, expected more than 0")
    if latency is not None and not latency > 0:
        raise ValueError(f"latency is {latency} s, expected more than 0")
    if costs is None:
        if model is None:
            raise ValueError("model and costs are None, expected one of them")
        costs = Costs.measure(model, shape, batches or BATCHES, repeats, decoder=decoder)
    elif batches is not None:
        costs = costs.only(batches)
    found = search.best(costs, memory, latency, uniform=uniform)
    if found is None:
        raise LeandnnError(search.refusal(costs, memory, latency, uniform=uniform))
    return _scored(found, costs)


def score(plan: BatchPlan, costs: Costs) -> BatchPlan:
    """The same batch sizes by other costs, for example of repeats that did not choose them.

    LeandnnError for other units, ValueError for a size that was not measured.
    """
    if plan.units != costs.units:
        raise LeandnnError(f"the plan is for units {plan.units}, the costs for {costs.units}")
    return _scored(plan.batches, costs)


def _scored(batches: Sequence[int], costs: Costs) -> BatchPlan:
    own = search.evaluate(batches, costs)
    return BatchPlan(
        costs.units, tuple(batches), own.seconds_per_image, own.latency, own.memory_nbytes, costs.decoder
    )
