"""A tiny training: everything that a run may change, and what stands in for pictures."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from colorlib import machine, training
from colorlib.training import Batches, History


class Stub:
    """As much of a PictureSet as training needs."""

    def __init__(self, count: int = 10, side: int = 8) -> None:
        generator = torch.Generator().manual_seed(1)
        shape = (count, 3, side, side)
        self.rgb = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.rgb)

    def spread(self, most: int) -> Stub:
        return self

    def tensor(self, indices=slice(None)) -> torch.Tensor:
        return self.rgb[indices]


class Toy:
    """A network with dropout, batch norm, an average and Adam, on channels_last, and its run."""

    def __init__(self, optimizer: str = "Adam", pause: float = 0.0) -> None:
        self.machine = machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3)]
        self.net = nn.Sequential(*layers, nn.Conv2d(4, 3, 3, padding=1))
        self.net = self.net.to(memory_format=torch.channels_last)
        self.average = training.EMA(self.net, decay=0.8)
        extra = {"momentum": 0.9} if optimizer == "SGD" else {}
        kind = getattr(torch.optim, optimizer)
        self.optimizer = kind(self.net.parameters(), lr=1e-2, **extra)
        self.pause = pause
        self.fail_at: int | None = None
        self.spoil_at: int | None = None
        self.poison: dict[int, float] = {}
        self.rates: list[float] = []
        self.after: list[bytes] = []

    def step(self, batch: torch.Tensor, index: int) -> dict[str, torch.Tensor]:
        if index == self.fail_at:
            raise RuntimeError("power cut")
        time.sleep(self.pause)
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        rgb = batch.float() / 255 + 0.01 * random.random() + 0.01 * np.random.rand()
        loss = (self.net(rgb) - rgb).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if index == self.spoil_at:
            self.net[0].weight.data[0] = math.nan
        report = {"l1": loss + self.poison.get(index, 0.0)}
        return report if index % 2 else {**report, "even": 2 * loss}

    def run(self, folder: Path | None = None, steps: int = 12, **options) -> History:
        options = {"name": "toy", "batches": Batches(Stub(), 4, seed=3), **options}
        parts = {"modules": {"net": self.net}, "optimizers": {"adam": self.optimizer}}
        parts["average"] = {"net": self.average}
        machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
        history = training.run(
            step=self.step, steps=steps, machine=self.machine, folder=folder, **parts, **options
        )
        self.after = self._state()
        return history

    def _state(self) -> list[bytes]:
        """Everything that a run may change, as bytes; strides too: channels_last stays so."""
        tensors = [*self.net.state_dict().values(), *self.average.state_dict().values()]
        for entries in self.optimizer.state_dict()["state"].values():
            tensors += [torch.as_tensor(entries[key]) for key in sorted(entries)]
        content = [tensor.contiguous().numpy().tobytes() for tensor in tensors]
        chance = [torch.rand(1).numpy().tobytes(), np.random.rand(1).tobytes()]
        strides = [tensor.stride() for tensor in tensors]
        return [*content, *chance, repr((random.random(), strides)).encode()]


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("toy.*.checkpoint.pth"))


def series(history: History) -> str:
    return repr((history.steps, sorted(history.losses.items())))  # repr: NaN equals NaN here


def network() -> nn.Module:
    first = nn.Linear(4, 4)
    net = nn.Sequential(first, nn.BatchNorm1d(4), nn.Linear(4, 4))
    net[2].weight = first.weight  # tied
    return net
