"""Colour conversions against scikit-image, their gradients, and the promise that L is kept."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from colorlib import color

CORNERS = torch.tensor(
    [[r, g, b] for r in (0, 0.001, 0.04045, 1) for g in (0, 0.5, 1) for b in (0, 1)],
    dtype=torch.float32,
)


def as_picture(colours: torch.Tensor) -> torch.Tensor:
    """Turn (N, 3) colours into a picture (1, 3, N, 1)."""
    return colours.T.reshape(1, 3, -1, 1)


def random_colours(count: int = 2000) -> torch.Tensor:
    drawn = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return torch.cat((CORNERS, drawn, drawn / 100))  # extremes, anything, nearly black


def by_skimage(function, picture: torch.Tensor) -> np.ndarray:
    return np.moveaxis(function(np.moveaxis(picture.double().numpy(), 1, -1)), -1, 1)


def test_conversions_agree_with_skimage():
    rgb = as_picture(random_colours())
    for ours, theirs, back, their_back in (
        (color.rgb_to_lab, skimage.color.rgb2lab, color.lab_to_rgb, skimage.color.lab2rgb),
        (color.rgb_to_yuv, skimage.color.rgb2yuv, color.yuv_to_rgb, skimage.color.yuv2rgb),
    ):
        there = ours(rgb)
        np.testing.assert_allclose(there, by_skimage(theirs, rgb), atol=1e-3)
        np.testing.assert_allclose(back(there), by_skimage(their_back, there), atol=1e-3)
        np.testing.assert_allclose(back(there), rgb, atol=1e-4)


def test_all_uint8_greys_a_colour_cube_and_nothing_survive_the_network_range():
    greys = torch.arange(256).repeat(3, 1).reshape(1, 3, 16, 16)
    steps = torch.arange(0, 256, 15)
    cube = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 18, -1)
    for rgb in (greys, cube, greys[:0], greys[..., :1, :1]):
        lightness, ab = color.to_network(rgb.to(torch.uint8))
        assert (lightness.abs() <= 1.0001).all() and (ab.abs() < 1).all()
        assert torch.equal(color.to_uint8(color.from_network(lightness, ab)), rgb)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float32, (1, 3, 3, 3), elements=st.floats(-1, 1, width=32)))
def test_from_network_keeps_lightness_whatever_ab(values):
    ends = torch.tensor([-1, -0.99, -0.5, 0, 0.9, 0.999, 1])
    extremes = as_picture(torch.cartesian_prod(torch.linspace(-1, 1, 51), ends, ends))
    for lab in (torch.from_numpy(values), extremes):
        lightness, ab = lab.split((1, 2), 1)
        rgb = color.from_network(lightness, ab)
        assert rgb.min() >= 0 and rgb.max() <= 1
        true = by_skimage(skimage.color.rgb2lab, rgb)[:, :1]
        assert (torch.from_numpy(true) - (lightness + 1) * 50).abs().max() < 0.01


def test_fit_gamut_keeps_what_fits_and_hue_of_the_rest():
    inside = color.rgb_to_lab(as_picture(random_colours()))
    assert torch.equal(color.fit_gamut(inside), inside)
    outside = torch.tensor([[50.0, 100.0, -100.0], [80.0, 10.0, 100.0]])
    fitted = color.fit_gamut(as_picture(outside))[0, :, :, 0].T
    assert torch.equal(fitted[:, 0], outside[:, 0])
    torch.testing.assert_close(fitted[:, 1] / fitted[:, 2], outside[:, 1] / outside[:, 2])
    chroma = fitted[:, 1:].norm(dim=1)
    assert (chroma < outside[:, 1:].norm(dim=1)).all()
    # as much chroma as fits: a hundredth more leaves sRGB
    more = fitted * torch.tensor([1.0, 1.01, 1.01])
    rgb = color.lab_to_rgb(as_picture(more))
    assert ((rgb < -1e-4) | (rgb > 1 + 1e-4)).any(1).all()


def test_gradients_are_finite_and_right():
    edges = as_picture(CORNERS).double()
    black_white_and_outside = as_picture(
        torch.tensor([[0.0, 0, 0], [100, 0, 0], [0, 110, -110], [53.2, 80.1, 67.2], [50, 0, -110]])
    )
    cases = [(f, edges) for f in (color.rgb_to_lab, color.rgb_to_yuv, color.rgb_to_grey)]
    for dtype in (torch.float32, torch.float64):
        lab = black_white_and_outside.to(dtype)
        cases += [(color.lab_to_rgb, lab), (color.fit_gamut, lab)]
    for function, picture in cases:
        picture = picture.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(picture).sum(), picture)
        assert gradient.isfinite().all() and gradient.any()
    smooth = as_picture(torch.tensor([[0.2, 0.6, 0.3], [0.9, 0.1, 0.5], [0.01, 0.02, 0.01]]))
    lab = color.rgb_to_lab(smooth.double())
    assert torch.autograd.gradcheck(color.rgb_to_lab, smooth.double().requires_grad_())
    assert torch.autograd.gradcheck(color.lab_to_rgb, lab.requires_grad_())


def test_normalise_and_back():
    lab = as_picture(torch.tensor([[0.0, -110.0, 110.0], [50.0, 0.0, 11.0], [100.0, 55.0, 0.0]]))
    lightness, ab = color.normalise(lab)
    assert lightness.shape == (1, 1, 3, 1) and lightness.flatten().tolist() == [-1, 0, 1]
    torch.testing.assert_close(ab[0, :, 1, 0], torch.tensor([0.0, 0.1]))
    shown = color.lab_to_rgb(color.fit_gamut(lab)).clamp(0, 1)
    torch.testing.assert_close(color.from_network(lightness, ab), shown)


def test_grey_is_rec_601():
    rgb, weights = as_picture(torch.eye(3)), torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(color.rgb_to_grey(rgb).flatten(), weights)
    assert color.rgb_to_grey(rgb[0]).shape == (1, 3, 1)


CONVERSIONS = (color.rgb_to_lab, color.rgb_to_yuv, color.yuv_to_rgb, color.lab_to_rgb)


@pytest.mark.parametrize("function", [*CONVERSIONS, color.fit_gamut])
def test_single_pictures_and_batches_agree(function):
    pictures = torch.rand(4, 3, 4, 5, dtype=torch.float64)
    pictures *= 100 if function in (color.lab_to_rgb, color.fit_gamut) else 1
    batch = function(pictures)
    assert batch.shape == pictures.shape
    for picture, expected in zip(pictures, batch, strict=True):
        torch.testing.assert_close(function(picture), expected)


def test_autocast_does_not_touch_colours():
    rgb = as_picture(random_colours())
    plain = color.rgb_to_lab(rgb)
    fitted = color.fit_gamut(plain * 1.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(color.rgb_to_lab(rgb), plain)
        assert torch.equal(color.fit_gamut(plain * 1.5), fitted)
        lightness, ab = color.normalise(plain)
        assert color.from_network(lightness, ab.bfloat16()).dtype is torch.float32


def test_pictures_go_to_a_batch_and_back():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    batch = color.as_batch(pictures)
    assert batch.shape == (2, 3, 5, 7) and batch.dtype == torch.uint8
    assert torch.equal(batch[1, 2], torch.from_numpy(pictures[1, ..., 2]))
    rgb = color.as_rgb(pictures)
    assert rgb.max() <= 1 and np.array_equal(color.to_pictures(rgb), pictures)
    assert np.array_equal(color.to_pictures(rgb[0]), pictures[0])
    batch[:] = 0
    assert pictures.any()  # a copy: a memory map may be read-only


def test_a_picture_loses_its_colour_and_gets_it_back():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    lab = color.rgb_to_lab(color.as_rgb(picture[None]))
    lightness, grey = color.lightness_of(picture), color.grey_of(picture)
    assert torch.equal(lightness, lab[:, :1])
    assert grey.shape == (5, 7, 3) and (np.ptp(grey, 2) <= 1).all()
    assert (color.lightness_of(grey) - lightness).abs().max() < 0.3
    again = color.with_lightness(lab[0, 1:].permute(1, 2, 0), lightness)
    assert np.abs(again.astype(int) - picture).max() <= 1
    assert np.array_equal(color.to_picture(color.as_rgb(picture[None])), picture)
