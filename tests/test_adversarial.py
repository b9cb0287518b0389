"""Adversarial losses at known points, the gradient penalty by hand, receptive fields measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from colorlib import adversarial


def patch_critic() -> nn.Sequential:
    """Build C64-C128-C256-C512-1 of pix2pix with few channels; the field is the same."""
    widths = zip((3, 4, 4, 4, 4), (4, 4, 4, 4, 1), (2, 2, 2, 1, 1), strict=True)
    return nn.Sequential(*(nn.Conv2d(before, after, 4, by, 1) for before, after, by in widths))


def test_gan_is_binary_cross_entropy():
    real, fake = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64)
    loss, saturating = adversarial.loss("gan"), adversarial.loss("gan_saturating")
    entropy, ones = F.binary_cross_entropy_with_logits, torch.ones_like(real)
    halves = entropy(real, ones) + entropy(fake, 0 * ones)
    assert torch.isclose(loss.critic(real, fake), halves / 2)
    assert torch.isclose(loss.generator(fake), entropy(fake, ones))
    assert torch.isclose(saturating.generator(fake), (1 - fake.sigmoid()).log().mean())
    assert torch.equal(saturating.critic(real, fake), loss.critic(real, fake))


def test_lsgan_and_wgan_by_hand():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    for kind, critic, generator in (("lsgan", (2 + 2) / 2, 1), ("wgan", -2 + 1, -1)):
        loss = adversarial.loss(kind)
        assert loss.critic(real, fake).item() == pytest.approx(critic)
        assert loss.generator(fake).item() == pytest.approx(generator)


@pytest.mark.parametrize("kind", ["gan", "gan_saturating", "lsgan", "wgan"])
def test_generator_raises_its_scores_and_critic_separates(kind):
    loss = adversarial.loss(kind)
    scores = torch.tensor([0.2, -0.4], requires_grad=True)
    assert (torch.autograd.grad(loss.generator(scores), scores)[0] < 0).all()
    real, fake = (torch.zeros(3, requires_grad=True) for _ in range(2))
    for_real, for_fake = torch.autograd.grad(loss.critic(real, fake + 0.1), (real, fake))
    assert (for_real < 0).all() and (for_fake > 0).all()
    large = torch.tensor([-1e4, 1e4], requires_grad=True)
    total = loss.critic(large, large) + loss.generator(large)
    assert total.isfinite() and torch.autograd.grad(total, large)[0].isfinite().all()


def test_gradient_penalty_of_a_quadratic_critic():
    """Critic k |x|^2 / 2 has the gradient k x at x = fake + t (real - fake): 3 (|k x| - 1)^2."""
    real, fake = torch.randn(2, 6, 2, 3, 3, dtype=torch.float64)
    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(11)
    penalty = adversarial.gradient_penalty(
        lambda x: k * x.square().sum((1, 2, 3)) / 2, real, fake, weight=3.0
    )
    torch.manual_seed(11)
    between = fake + torch.rand(6, 1, 1, 1, dtype=torch.float64) * (real - fake)
    lengths = between.flatten(1).norm(dim=1)
    assert penalty.item() == pytest.approx(3 * (0.7 * lengths - 1).square().mean().item(), rel=1e-9)
    (gradient,) = torch.autograd.grad(penalty, k)
    by_hand = 3 * (2 * (0.7 * lengths - 1) * lengths).mean()
    assert gradient.item() == pytest.approx(by_hand.item(), rel=1e-9)


def test_gradient_penalty_of_a_tiny_patch_critic_place_by_place():
    """Score sum of v . tanh(W x) over places, float64: its gradient is W^T (v (1 - tanh^2))."""
    random = torch.Generator().manual_seed(4)
    mix, out = (torch.randn(*s, generator=random, dtype=torch.float64) for s in ((5, 3), (5,)))
    real, fake = torch.randn(2, 2, 3, 4, 6, generator=random, dtype=torch.float64)

    def critic(x):
        hidden = torch.einsum("hc,bcij->bhij", mix, x).tanh()
        return torch.einsum("h,bhij->bij", out, hidden).flatten(1)

    torch.manual_seed(11)
    penalty = adversarial.gradient_penalty(critic, real, fake, weight=2.0, per="place")
    torch.manual_seed(11)
    share = torch.rand(2, 1, 1, 1, dtype=torch.float64)
    points = (fake + share * (real - fake)).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    by_hand = 0.0
    for x in points:
        slope = mix.numpy().T @ (out.numpy() * (1 - np.tanh(mix.numpy() @ x) ** 2))
        by_hand += 2 * (np.sqrt((slope**2).sum()) - 1) ** 2 / len(points)
    assert penalty.item() == pytest.approx(by_hand, rel=1e-9)


def test_gradient_penalty_of_a_constant_critic_has_a_finite_derivative():
    level = torch.zeros(1, requires_grad=True)
    real, fake = torch.rand(2, 2, 3, 4, 4)
    fake.requires_grad_()
    penalty = adversarial.gradient_penalty(lambda x: level * x.sum((1, 2, 3)), real, fake)
    assert penalty.item() == pytest.approx(10, rel=1e-4)
    penalty.backward()
    assert level.grad.isfinite().all() and fake.grad is None, "it trains the critic only"


def measured_field(module: nn.Module, size: int) -> int:
    """Return the side of the input square that moves the middle output, by its gradient."""
    picture = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    output = module.double()(picture)
    output[0, 0, output.shape[2] // 2, output.shape[3] // 2].backward()
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[-1] - rows[0] + 1)


@pytest.mark.parametrize(
    ("module", "field", "size"),
    [
        (patch_critic(), 70, 160),
        (nn.Conv2d(3, 1, 7), 7, 16),
        (nn.Sequential(nn.Conv2d(3, 2, 3, dilation=2), nn.Conv2d(2, 1, 3, stride=2)), 7, 32),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.AvgPool2d(2), nn.Conv2d(2, 1, 3)), 8, 32),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.InstanceNorm2d(2).eval(), nn.ReLU()), 1, 8),
    ],
)
def test_receptive_field_is_the_measured_one(module, field, size):
    assert adversarial.receptive_field(module) == field
    if not any(isinstance(layer, nn.InstanceNorm2d) for layer in module.modules()):
        assert measured_field(module, size) == field


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(3, 3, 4), nn.Linear(4, 1)])
def test_receptive_field_refuses_what_it_cannot_count(layer):
    with pytest.raises(ValueError, match="receptive_field"):
        adversarial.receptive_field(nn.Sequential(nn.Conv2d(3, 3, 3), layer))
