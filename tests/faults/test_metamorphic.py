"""What must hold whatever a network has learned: sides, lightness, batches, threads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from colorlib import color, notebooks

# small; sides are multiples of 32, for padding goes to one side; of 01, a kernel with a middle
NETWORKS = {
    "01": lambda paper: paper.PatchwisePair(
        paper.Recipe(width=6, image_size=32, kernels=(11, 5, 3, 1))
    ),
    "02": lambda paper: paper.Generator(paper.Recipe(width=4, image_size=64)),
    "03": lambda paper: paper.build_generator(paper.Recipe(width=4, image_size=32)),
    "03 resnet": lambda paper: paper.build_generator(
        paper.Recipe(generator="resnet", image_size=32)
    ),
    "04": lambda paper: paper.Pyramid(paper.Recipe(width=4), [(15, 15), (20, 20)]),
    "05": lambda paper: paper.build_model(
        paper.Recipe(width=4, noise_channels=4, sigma=0.0, image_size=32)
    ),
}
# 02 cuts pieces, 04 sees no picture, 05's odd kernels of stride 2 have no middle
SIDELESS = ("01", "03", "03 resnet")


@pytest.fixture(params=NETWORKS, scope="module")
def painter(request):
    """A notebook and a network of it, of lively weights, in eval."""
    paper = notebooks.load(request.param.split()[0])
    torch.manual_seed(0)
    model = NETWORKS[request.param](paper).eval()
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.3)
    return request.param, paper, model


def greys(count: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """L* of smooth pictures with unlike sides."""
    coarse = torch.rand(count, 1, 5, 7, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 100


def agree(one: torch.Tensor, other: torch.Tensor, most: float = 2e-3) -> bool:
    """Are both the same colours, and colours at all?"""
    assert (one - one.mean(-3, keepdim=True)).abs().max() > 0.01, "all grey"
    return one.shape == other.shape and bool((one - other).abs().max() < most)


@pytest.mark.parametrize("painter", SIDELESS, indirect=True)
def test_a_flipped_picture_is_painted_as_the_flipped_painting(painter):
    name, paper, model = painter
    grey, mirrored = greys(2), copy.deepcopy(model)
    if name == "01":  # 03 looks at both sides itself; of 01 the network that sees the other
        for parameter in mirrored.parameters():
            parameter.data = parameter.data.flip(-1) if parameter.dim() == 4 else parameter.data
    flipped = paper.colorize(mirrored, grey.flip(-1))
    assert agree(paper.colorize(model, grey), flipped.flip(-1))
    assert not agree(paper.colorize(model, grey), flipped)


def test_a_picture_of_half_the_lightness_keeps_its_size_and_lightness(painter):
    _, paper, model = painter
    for height, width in ((64, 96), (37, 61)):
        grey = greys(1, height, width)
        for lightness in (grey, grey / 2):
            painted = paper.colorize(model, lightness)
            assert painted.shape == (1, 3, height, width)
            assert (color.rgb_to_lab(painted)[:, :1] - lightness).abs().max() < 0.05


def test_batches_of_one_and_of_eight_agree(painter):
    _, paper, model = painter
    grey = greys(8)
    alone = torch.cat([paper.colorize(model, one) for one in grey.split(1)])
    assert agree(paper.colorize(model, grey), alone)


def test_one_thread_and_two_agree(painter):
    _, paper, model = painter
    try:
        painted = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            painted.append(paper.colorize(model, greys(2)))
    finally:
        torch.set_num_threads(1)
    assert agree(*painted)
