"""One run on several processes, GPUs or machines, as `torchrun` starts them; and after a death, again.

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 8 --max-restarts 3 -m leandnn.autosparse.imagenet …           one machine
    torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 \\
        --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m …                                  on each of two

Every process holds the model and takes its share of the batches (DistributedDataParallel); the first alone writes
the checkpoint, which all read. When a process dies, torchrun ends the others and starts all of them again, and they
go on from the checkpoint. Several machines need a file system they share for it. Without the variable above,
restarted processes find the addresses of the dead in torchrun's store (pytorch issue 135712); so it is asked for.
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leandnn.errors import LeandnnError
from leandnn.train.task import Hook

WAIT = datetime.timedelta(minutes=10)  # for the other processes of a group, at most
_LOST = ("connection closed", "connection reset", "timed out", "timeout", "broken pipe", "peer")


@dataclass(frozen=True)
class World:
    """This process's number, how many there are, and its device ("cpu" or "cuda", this process's own GPU)."""

    rank: int
    size: int
    device: str


def rank() -> int:
    """This process's number in its group, as torchrun says it; 0 for a process by itself."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def group(device: str = "cpu") -> Iterator[World]:
    """The group that torchrun started this process in; without torchrun a world of one.

    - device: "cpu" (gloo) or "cuda" (nccl, a GPU per process).

    Raises LeandnnError for an environment that torchrun did not make or in which restarts cannot work, more
    processes than GPUs on a machine, and where another process of the group is lost.
    """
    if "RANK" not in os.environ:
        yield World(0, 1, device)
        return
    try:
        rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except (KeyError, ValueError) as error:
        raise LeandnnError(
            f"RANK is set, but {error} is missing or no number: start it with torchrun"
        ) from error
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get(
        "TORCHELASTIC_MAX_RESTARTS", "0"
    ) not in ("", "0"):
        raise LeandnnError(
            f"torchrun may restart this {os.environ['TORCHELASTIC_MAX_RESTARTS']} times, but shares its store, which "
            "breaks restarts: export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before it"
        )
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise LeandnnError(
                f"process {local} of this machine has no GPU, torch sees {torch.cuda.device_count()}: pass torchrun "
                "at most that many as --nproc-per-node"
            )
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=WAIT)
        yield World(rank, size, device)
    except RuntimeError as error:
        if any(word in str(error).lower() for word in _LOST):
            raise LeandnnError(
                f"process {rank} lost another one of its group ({str(error).splitlines()[0]}): torchrun starts all "
                "again if --max-restarts allows, else start it anew; both go on from the checkpoint"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Parallel(Hook):
    """Averages gradients over the group's processes; the last of a run's hooks, after all that change the model."""

    def __init__(self, world: World) -> None:
        self.world = world

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model in DistributedDataParallel; as it is in a world of one."""
        if self.world.size == 1:
            return model
        # 1×1 convolutions in channels-last order have strides that mean the same and are not; a copy each is cheap.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(model)


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over the group, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def merged(found: dict[str, str]) -> dict[str, str]:
    """The entries of every process's dictionary, in the order of their keys."""
    every: list[dict[str, str]] = [found]
    if dist.is_initialized():
        every = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(every, found)
    return dict(sorted(entry for part in every for entry in part.items()))


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's running statistics, so that all evaluate one model."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Go on when every process of the group has come here."""
    if dist.is_initialized():
        dist.barrier()
