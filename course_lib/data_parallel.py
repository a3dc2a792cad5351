"""One training by several processes, of one machine or of many: each reads its rows of every batch.

`torchrun` starts the processes, and `train.train` does what follows from it. The gradients are summed by one
`all_reduce` of one flat vector. PyTorch's DistributedDataParallel does the same in pieces, while the backward pass
still runs; that pays for models much larger than ours, and this can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

TIMEOUT = timedelta(minutes=10)  # how long a process waits for the others, and they for the measurements of the first


def under_torchrun() -> bool:
    """True in one of several processes that `torchrun` started."""
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model together: number `rank` of `world`, counted from 0."""

    rank: int = 0
    world: int = 1

    def rows(self, tokens: Tensor) -> Tensor:
        """The rows of a batch that this process reads, [batch, pos] -> [about batch / world, pos].

        Raises:
            ValueError: fewer rows than processes.
        """
        if len(tokens) < self.world:
            raise ValueError(f"a batch of {len(tokens)} cannot be split over {self.world} processes; use fewer")
        return tokens[self.rank :: self.world]

    def average(self, model: nn.Module, loss: Tensor, share: float) -> Tensor:
        """Replace this process's gradients by those of the whole batch, and return the loss of the whole batch.

        Args:
            model: after the backward pass of `loss`, a mean over the rows of this process.
            share: rows of this process over rows of the batch; the shares of all processes add up to 1.

        Raises:
            RuntimeError: another process does not answer.
        """
        if self.world == 1:
            return loss
        parts = [weight.grad for weight in model.parameters() if weight.grad is not None] + [loss]
        flat = parameters_to_vector(parts) * share
        with self._naming_the_others():
            dist.all_reduce(flat)
        vector_to_parameters(flat, parts)
        return loss.clone()  # not a view that keeps all gradients in memory

    def from_first(self, content: bytes | None) -> bytes:
        """What the process of rank 0 passes, in all processes.

        Raises:
            RuntimeError: another process does not answer.
        """
        box = [content]
        with self._naming_the_others():
            dist.broadcast_object_list(box)
        return box[0]

    @contextmanager
    def _naming_the_others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.world} got no answer: another one failed, was killed or hangs. "
                "Start the same command again; a run with a folder goes on from its newest checkpoint"
            ) from error


def join(device: torch.device) -> Processes:
    """Meet the other processes that `torchrun` started, once they have started too; without it a process is alone.

    They talk by gloo where the model is on a CPU, by NCCL on a GPU. A process group that the script has opened is used.
    """
    if not (under_torchrun() or (dist.is_available() and dist.is_initialized())):
        return Processes()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where NCCL puts what it sends
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return Processes(dist.get_rank(), dist.get_world_size())
