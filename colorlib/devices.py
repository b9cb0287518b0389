"""One training in several processes, a device for each: every batch is shared among them.

Who starts them (the batch runner, or torchrun) tells each by the environment which one it is. Every
process computes the whole batch, which depends on its step only, and trains on its part; gradients
are averaged before an optimizer steps, so all of them keep the same weights.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class DevicesError(Exception):
    """Why a training cannot be shared; one line."""


class Team:
    """The processes of one training, seen from one of them."""

    def __init__(self, on_cpu: bool) -> None:
        try:
            from accelerate import PartialState, utils
        except ImportError:
            need = "several processes need accelerate: pip install colorlib[devices]"
            raise DevicesError(need) from None
        state, self.utils, self.on_cpu = PartialState(cpu=on_cpu), utils, on_cpu
        self.rank, self.count = state.process_index, state.num_processes

    def take(self, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> list[Any]:
        """Make ready what is trained; the hooks that are returned hold until removed."""
        norms = nn.modules.batchnorm._BatchNorm
        for key, module in modules.items():
            parts = [part for part in module.modules() if isinstance(part, norms)]
            if self.on_cpu and any(part.training for part in parts):
                what = "batch norm sees a part of each batch only, and can be shared on GPUs alone"
                raise DevicesError(f"'{key}': {what}; freeze it, or train in one process")
            if not self.on_cpu and nn.SyncBatchNorm.convert_sync_batchnorm(module) is not module:
                raise DevicesError(f"'{key}': a batch norm on its own; put it into a Sequential")
        return [each.register_step_pre_hook(self._average) for each in optimizers.values()]

    def agree(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the first process's state to all; from here on each has chance of its own."""
        [state] = self.utils.broadcast_object_list([state])
        if self.rank:  # not what the first one draws, nor what this one drew before
            torch.manual_seed(torch.initial_seed() + (self.rank << 32) + state["done"])
        return state

    def part(self, batch: Any) -> Any:
        """Return this process's part of a batch: of each of its tensors."""
        return self.utils.recursively_apply(self._part, batch)

    def _part(self, tensor: Tensor) -> Tensor:
        if len(tensor) % self.count:
            raise DevicesError(f"a batch of {len(tensor)} is not for {self.count} processes alike")
        return tensor.chunk(self.count)[self.rank]

    def mean(self, report: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return losses over the whole batch: each is a mean over its pictures."""
        return self.utils.reduce(report, "mean")

    def _average(self, optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        found = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        flat = self.utils.reduce(torch.cat([grad.reshape(-1) for grad in found]), "mean")
        for grad, new in zip(found, flat.split([grad.numel() for grad in found]), strict=True):
            grad.copy_(new.view_as(grad))


def join(device: torch.device) -> Team | None:
    """Return the processes that train with this one; None where it is alone."""
    return Team(device.type == "cpu") if int(os.environ.get("WORLD_SIZE") or 1) > 1 else None
