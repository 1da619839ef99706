"""Several processes that train a network together: what they exchange, and the check that they stay in step."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robnet_zoo.core import environment
from robnet_zoo.errors import LeftError, OutOfStepError

WRAPPING = inspect.signature(DistributedDataParallel.__init__).parameters


@dataclass(frozen=True)
class World:
    """The processes of a run; by default only this process."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @property
    def first(self) -> bool:
        """Return whether this is the process that writes files and shows progress."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Return the device and the number of processes, as documents have it."""
        return f"{environment.device(self.device)}, {self.size} process{'es' if self.size > 1 else ''}"

    def share(self, batch: int) -> slice:
        """Return the part of a batch that this process works on."""
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Wrap a network so that its gradients are the mean over all processes."""
        if self.size == 1:
            return network
        own = [self.device] if self.device.type == "cuda" else None
        name = "forward_sync_buffers" if "forward_sync_buffers" in WRAPPING else "broadcast_buffers"  # in older torch
        exchanged: dict[str, Any] = {name: False}
        return DistributedDataParallel(network, device_ids=own, **exchanged)

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
        """Return the sum of each value over the processes."""
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
        """Return the tensors of all processes, which have the same shape: (...) -> (processes, ...)."""
        if self.size == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def agree(self, value: bool) -> bool:
        """Return the value of the first process."""
        if self.size == 1:
            return value
        answer = torch.tensor([float(value)], device=self.device)
        dist.broadcast(answer, 0)
        return bool(answer.item())

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.size > 1:
            dist.barrier()


def _checksum(tensor: Tensor) -> Tensor:
    """Return a 64-bit number that changes with any byte, and with the order of any two: (), int64."""
    words = tensor.detach().reshape(-1).view(torch.uint8).long()
    places = torch.arange(1, len(words) + 1, device=words.device) * 0x9E3779B97F4A7C1  # odd; products wrap around
    return (words * places).sum()


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, or work alone; on GPUs where there are any.

    Raises: LeftError when another process is gone.
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
        if not _is_of_a_transfer(error):
            raise
        here = f"process {dist.get_rank()} of {dist.get_world_size()}"
        raise LeftError(f"{here}: expected all processes, but another one has left; it says why") from error
    finally:
        if own:
            dist.destroy_process_group()


def _is_of_a_transfer(error: RuntimeError) -> bool:
    """Return whether an error comes from exchanging tensors; gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
