"""Several processes that train one network: what they share, and the check that they stay in step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robnet_zoo.core import environment
from robnet_zoo.errors import LeftError, OutOfStepError


@dataclass(frozen=True)
class World:
    """The processes of a run; by default this one alone."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """What they compute on, and how many they are."""
        return f"{environment.device(self.device)}, {self.size} process{'es' if self.size > 1 else ''}"

    def share(self, batch: int) -> slice:
        """The part of a batch that this process works on."""
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients will be the mean of all processes'."""
        if self.size == 1:
            return network
        own = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=own, broadcast_buffers=False)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in one transfer."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view(tensor.shape))

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return [float(value) for value in summed]

    def check_in_step(self, network: nn.Module) -> None:
        """Raise OutOfStepError unless parameters and buffers are, bit for bit, the same in all processes."""
        if self.size == 1:
            return
        sums = torch.stack([_checksum(value) for value in network.state_dict().values()])
        others = [torch.empty_like(sums) for _ in range(self.size)]
        dist.all_gather(others, sums)
        differing = [rank for rank, other in enumerate(others) if not torch.equal(other, others[0])]
        if differing:
            raise OutOfStepError(f"expected the same weights in all processes, got others in {differing} than in 0")

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape: (...) -> (processes, ...)."""
        if self.size == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def agree(self, value: bool) -> bool:
        """What the first process says."""
        if self.size == 1:
            return value
        said = torch.tensor([float(value)], device=self.device)
        dist.broadcast(said, 0)
        return bool(said.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def _checksum(tensor: Tensor) -> Tensor:
    """A number of 64 bits that any changed byte and any two exchanged ones change: (), int64."""
    words = tensor.detach().reshape(-1).view(torch.uint8).long()
    places = torch.arange(1, len(words) + 1, device=words.device) * 0x9E3779B97F4A7C1  # odd; products wrap around
    return (words * places).sum()


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun started this process in, or one of this process alone; on GPUs where there are any.

    Raises LeftError when another process has gone.
    """
    gpus = torch.cuda.device_count()
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(device=torch.device("cuda") if gpus else torch.device("cpu"))
        return
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    own = not dist.is_initialized()
    if own:
        dist.init_process_group("nccl" if gpus else "gloo", timeout=timedelta(hours=6))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if not _of_a_transfer(error):
            raise
        here = f"process {dist.get_rank()} of {dist.get_world_size()}"
        raise LeftError(f"{here}: expected all processes, but another one has left; it says why") from error
    finally:
        if own:
            dist.destroy_process_group()


def _of_a_transfer(error: RuntimeError) -> bool:
    """Whether it is of tensors on their way between processes; gloo has no class of errors of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
