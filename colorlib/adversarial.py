"""What every adversarial notebook shares: the losses of critic and generator, WGAN-GP's penalty."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Score = Callable[[Tensor], Tensor]


class AdversarialLoss(NamedTuple):
    """An adversarial objective, as three penalties on a critic's raw scores (no sigmoid before).

    real, fake: the critic's for its scores of real and of generated pictures, each of weight
    `share`; fooling: the generator's for the critic's scores of its pictures.
    """

    real: Score
    fake: Score
    fooling: Score
    share: float

    def critic(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Return the critic's loss, a scalar to minimise; scores of any shape."""
        return self.share * (self.real(real_scores).mean() + self.fake(fake_scores).mean())

    def generator(self, fake_scores: Tensor) -> Tensor:
        """Return the generator's loss, a scalar to minimise; scores of any shape."""
        return self.fooling(fake_scores).mean()


def _softminus(scores: Tensor) -> Tensor:
    return F.softplus(-scores)  # -log sigmoid, the stable form of cross entropy on logits


def _from_one(scores: Tensor) -> Tensor:
    return (scores - 1).square()


_LOSSES = {
    # Goodfellow et al., with the generator's -log D; then log(1 - D), as the game is printed
    "gan": AdversarialLoss(_softminus, F.softplus, _softminus, 0.5),
    "gan_saturating": AdversarialLoss(_softminus, F.softplus, lambda s: -F.softplus(s), 0.5),
    # Mao et al.: squares; the generator's own 1/2 left out, as CycleGAN does
    "lsgan": AdversarialLoss(_from_one, torch.square, _from_one, 0.5),
    # Arjovsky et al.: the difference of the means, a distance; hence no half
    "wgan": AdversarialLoss(torch.neg, lambda s: s, torch.neg, 1.0),
}
# Layers that see everything or make pictures larger: the count below would be wrong
NOT_IN_A_STACK = (nn.Linear, nn.ConvTranspose2d, nn.Upsample, nn.AdaptiveAvgPool2d)


def loss(kind: str) -> AdversarialLoss:
    """Return an objective: gan (-log D), gan_saturating (log(1 - D)), lsgan or wgan."""
    return _LOSSES[kind]


def gradient_penalty(
    critic: Score,
    real: Tensor,
    fake: Tensor,
    weight: float = 10.0,
    per: Literal["picture", "place"] = "picture",
) -> Tensor:
    """Return WGAN-GP's penalty, weight * mean (|gradient| - 1)^2, a scalar.

    The gradient of the critic's score is taken per picture at a random point between its real and
    its generated version, (B, ...) each; not through batch norm, which mixes pictures. Its length
    is held to 1 `per` picture or, as SinGAN does for patch critics, per place, (B, C, H, W) over C.
    """
    share = torch.rand((len(real),) + (1,) * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = torch.lerp(fake.detach().to(real.dtype), real.detach(), share).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    parts = gradient.flatten(1) if per == "picture" else gradient
    # a bare norm has no derivative at 0; the small term moves the penalty by less than 1e-5
    return weight * ((parts.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


def receptive_field(module: nn.Module) -> int:
    """Return how many input pixels a side one output of a stack of convolutions sees.

    Counts Conv2d and pooling layers in their order of registration: so for plain stacks only.
    """
    field, stride = 1, 1
    for layer in module.modules():
        if isinstance(layer, NOT_IN_A_STACK):
            raise ValueError(f"receptive_field: {type(layer).__name__} is not for a plain stack")
        if isinstance(layer, (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)):
            shape = ("kernel_size", "stride", "dilation")  # each a number, or one for a direction
            kernel, step, dilation = (int(np.max(getattr(layer, name, 1))) for name in shape)
            field += dilation * (kernel - 1) * stride
            stride *= step
    return field
