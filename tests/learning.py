"""Whether a network can learn: it must overfit one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from colorlib import training


def overfits(
    step: Callable, batch: Any, *modules: nn.Module, key="l1", below: float = 0.02, most: int = 400
) -> float:
    """Train on one batch until the loss `key` is small, in at most so many steps; return it."""
    assert [training.norms_that_sleep(module) for module in modules] == [[]] * len(modules)
    for index in range(most):
        loss = torch.as_tensor(step(batch, index)[key]).item()
        if loss < below:
            break
    return loss
