"""Where training runs: a device, alone or as one of several processes.

Several processes train one network: each takes its share of every batch, gradients are
summed over all of them, and batch norm's running statistics are averaged, so that all
hold the same network after every step. The processes are those that `torchrun` starts.

torch.distributed is used directly. Its DistributedDataParallel expects one forward pass
for each backward pass, while a robust objective takes several, in two modes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnc.errors import InvalidSetting

CPU = torch.device("cpu")
Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device, and which of how many processes this is."""

    device: torch.device = CPU
    rank: int = 0
    processes: int = 1

    @property
    def leads(self) -> bool:
        """This is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of a batch; parts differ in length by at most one."""
        return torch.tensor_split(rows, self.processes)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, the same bits in each."""
        if self.processes > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace every gradient by its sum over all processes; return the loss's sum.

        A process whose part of the batch is empty counts as zero.
        """
        if self.processes == 1:
            return loss
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self.sum(torch.cat([loss.reshape(1), *(g.reshape(-1) for g in gradients)]))
        total, *parts = torch.split(flat, [1, *(p.numel() for p in parameters)])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return total[0]

    @torch.no_grad()
    def average_statistics(self, network: nn.Module) -> None:
        """Replace batch norms' running statistics by their mean over all processes, in place."""
        buffers = [
            buffer
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        if self.processes == 1 or not buffers:
            return
        flat = self.sum(torch.cat([b.reshape(-1) for b in buffers])) / self.processes
        parts = torch.split(flat, [b.numel() for b in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))

    def from_leader(self, content: Content) -> Content:
        """Return what the leading process passes in, in every process."""
        if self.processes == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    @torch.no_grad()
    def synchronise(self, network: nn.Module) -> None:
        """Give every process the leader's parameters and buffers, in place."""
        if self.processes > 1:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.data, src=0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.processes > 1:
            dist.barrier()


def device(name: str) -> torch.device:
    """Return the device of that name; "auto" is a CUDA device if there is one, else the CPU.

    Raises:
        InvalidSetting: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise InvalidSetting(f"device {name!r} is unknown; take auto, cpu or cuda") from error
    if found.type not in ("cpu", "cuda"):
        raise InvalidSetting(f"device {name!r} is not supported; take auto, cpu or cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InvalidSetting(f"device {name!r}: torch finds no CUDA device; take --device cpu")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InvalidSetting(
            f"device {name!r}: torch finds {torch.cuda.device_count()} CUDA devices, "
            "counted from 0; take one of them"
        )
    return found


@contextmanager
def machine(name: str) -> Iterator[Machine]:
    """Yield the machine of this process, one of several if `torchrun` started it.

    Processes talk through gloo on CPUs and NCCL on GPUs, where each takes the GPU of its
    local rank. They share the run's directory: one machine, or a shared file system.

    Raises:
        InvalidSetting: there is no such device, or one GPU is named for several processes.
    """
    chosen = device(name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Machine(device=chosen)
        return
    if chosen.type == "cuda":
        if ":" in name:
            raise InvalidSetting(f"device {name!r} is one for all processes; take --device cuda")
        chosen = device(f"cuda:{os.environ['LOCAL_RANK']}")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", device_id=chosen)
    else:
        dist.init_process_group("gloo")
    try:
        yield Machine(device=chosen, rank=dist.get_rank(), processes=dist.get_world_size())
    finally:
        dist.destroy_process_group()
