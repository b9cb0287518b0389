"""The three classics on cases with a known answer, beside plain independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from colorlib import classics

RED, BLUE = (200, 40, 30), (90, 120, 240)
SMALL = st.tuples(st.integers(1, 7), st.integers(1, 7))
ODD = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 7)]


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """Return Lab, (h, w, 3), of uint8 RGB by scikit-image."""
    return skimage.color.rgb2lab(np.asarray(rgb, np.uint8))


def test_welsh_gives_each_lightness_the_colour_of_its_like():
    """Two flat halves; the target is wider, turned round, its lightness shifted and squeezed."""
    reference = np.full((20, 30, 3), RED, np.uint8)
    reference[:, 15:] = BLUE
    red, blue = lab_of(reference)[0, [0, -1]]
    lightness = np.full((16, 40), 30.0)
    lightness[:, :20] = 50  # blue is the lighter one
    assert blue[0] > red[0]
    ab = classics.welsh(reference, lightness)
    assert distance(ab[:, :17], blue[1:]).max() < 0.01
    assert distance(ab[:, 23:], red[1:]).max() < 0.01


def photo(step: int = 8) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[::step, ::step])


def distance(ab: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(ab - other, axis=-1)


def test_welsh_agrees_with_a_plain_search():
    draw = np.random.default_rng(1)
    reference, target = (
        draw.integers(0, 256, (*size, 3), np.uint8) for size in ((12, 17), (9, 11))
    )
    lightness, lab = lab_of(target)[..., 0], lab_of(reference)
    light = lab[..., 0]
    light = (light - light.mean()) / light.std() * lightness.std() + lightness.mean()

    def features(picture: np.ndarray) -> np.ndarray:
        mirrored = np.pad(picture, 2, mode="symmetric")
        around = {(y, x): mirrored[y : y + 5, x : x + 5] for y, x in np.ndindex(picture.shape)}
        return np.array([(picture[place], near.std()) for place, near in around.items()])

    costs = np.abs(features(lightness)[:, None] - features(light)[None]).sum(-1)
    expected = lab.reshape(-1, 3)[costs.argmin(1), 1:].reshape(9, 11, 2)
    ab = classics.welsh(reference, lightness, samples=light.size)
    np.testing.assert_allclose(ab, expected, atol=2e-3)


@settings(max_examples=30)
@given(
    SMALL.flatmap(lambda size: arrays(np.uint8, (*size, 3))),
    SMALL.flatmap(lambda size: arrays(np.float32, size, elements=st.floats(0, 100, width=32))),
    st.integers(1, 60),
)
def test_welsh_uses_colours_of_the_reference_only(reference, lightness, samples):
    ab = classics.welsh(reference, lightness, samples=samples)
    assert ab.shape == (*lightness.shape, 2) and ab.dtype == np.float32
    colours = lab_of(reference)[..., 1:].reshape(-1, 2)
    assert distance(ab.reshape(-1, 1, 2), colours[None]).min(1).max() < 1e-2


def test_samples_of_welsh_lie_all_over_the_reference_and_repeat_with_their_seed():
    """Of a ramp from black to orange few samples are enough to be right everywhere."""
    reference, lightness = photo(), lab_of(photo())[..., 0]
    one, same, other = (classics.welsh(reference, lightness, 40, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    reference = np.stack((ramp, ramp // 2, 0 * ramp), -1)[None].repeat(5, 0)
    lab = lab_of(reference)
    found = classics.welsh(reference, lab[..., 0], samples=40)
    assert distance(found, lab[..., 1:]).mean() < 0.1 * distance(lab[..., 1:], 0).mean()


def plain_opponents(rgb: np.ndarray) -> np.ndarray:
    """Return l, alpha, beta of (N, 3) sRGB in [0, 1], channel by channel as the paper prints."""
    red, green, blue = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92).T
    long = np.log10(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log10(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log10(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    alpha = (long + middle - 2 * short) / np.sqrt(6)
    return np.stack(((long + middle + short) / np.sqrt(3), alpha, (long - middle) / np.sqrt(2)))


def test_reinhard_gives_every_pixel_the_mean_alpha_and_beta_of_the_reference():
    reference = np.clip(photo(), 20, 235)
    wanted = plain_opponents(reference.reshape(-1, 3) / 255).mean(1)
    lightness = np.linspace(20, 60, 12).reshape(3, 4)  # this tint stays inside sRGB here
    ab = classics.reinhard(reference, lightness)
    rgb = skimage.color.lab2rgb(np.concatenate((lightness[..., None], ab), -1))
    assert 0 < rgb.min() < rgb.max() < 1
    found = plain_opponents(rgb.reshape(-1, 3))
    np.testing.assert_allclose(found[1:].T, np.tile(wanted[1:], (12, 1)), atol=1e-4)


@settings(max_examples=30)
@given(SMALL.flatmap(lambda size: arrays(np.uint8, (*size, 3))), st.floats(0, 100))
def test_reinhard_is_finite_and_one_colour_per_lightness(reference, level):
    ab = classics.reinhard(reference, np.full((2, 3), level))
    assert ab.dtype == np.float32 and np.isfinite(ab).all() and (ab == ab[0, 0]).all()


def test_levin_fills_each_half_with_the_colour_of_its_hint():
    lightness, ab = np.full((24, 24), 30.0), np.full((24, 24, 2), (60, 40), np.float32)
    lightness[:, 12:], ab[:, 12:] = 70, (-40, -30)
    mask = np.zeros((24, 24), bool)
    mask[12, [6, 18]] = True
    filled = classics.levin(lightness, np.where(mask[..., None], ab, np.nan), mask)
    assert filled.dtype == np.float32
    assert distance(filled, ab).max() < 2  # the two colours are 122 apart


def plain_levin(lightness, hints, mask) -> np.ndarray:
    """Write each pixel's equation down in a dense matrix, one by one."""
    matrix, right = np.eye(lightness.size), np.zeros((lightness.size, 2))
    number = np.arange(lightness.size).reshape(lightness.shape)
    for y, x in np.ndindex(lightness.shape):
        row, reach = number[y, x], 1
        if mask[y, x]:
            right[row] = hints[y, x]
            continue
        near = (slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1))
        variance = max(lightness[near].var(), 0.02)
        alike = np.exp(-((lightness[y, x] - lightness[near]) ** 2) / (0.6 * variance))
        alike[number[near] == row] = 0
        matrix[row, number[near]] -= alike / alike.sum()
    return np.linalg.solve(matrix, right).reshape(hints.shape)


@pytest.mark.parametrize("size", [(1, 2), (1, 8), (8, 1), (2, 2), (6, 7)])
def test_levin_agrees_with_a_dense_solve(size):
    draw = np.random.default_rng(size)
    lightness, hints = draw.uniform(0, 100, size), draw.uniform(-90, 90, (*size, 2))
    mask = draw.random(size) < 0.2
    mask[0, 0] = True
    expected = plain_levin(lightness, hints, mask)
    np.testing.assert_allclose(classics.levin(lightness, hints, mask), expected, atol=1e-3)


@settings(max_examples=40)
@given(st.data())
def test_levin_keeps_hints_and_stays_between_them(data):
    size = data.draw(SMALL)
    lightness = data.draw(arrays(np.float32, size, elements=st.floats(0, 100, width=32)))
    hints = data.draw(arrays(np.float32, (*size, 2), elements=st.floats(-100, 100, width=32)))
    mask = data.draw(arrays(bool, size).filter(np.any))
    ab = classics.levin(lightness, hints, mask)
    np.testing.assert_array_equal(ab[mask], hints[mask])
    low, high = hints[mask].min(0), hints[mask].max(0)
    assert (ab >= low - 1e-3).all() and (ab <= high + 1e-3).all()


@pytest.mark.parametrize("level", [0.0, 50.0, 100.0])
@pytest.mark.parametrize(("size", "other"), zip(ODD, ODD[1:] + ODD[:1], strict=True))
def test_tiny_and_flat_pictures_work(size, level, other):
    lightness, reference = np.full(size, level, np.float32), np.full((*other, 3), RED, np.uint8)
    ab = classics.welsh(reference, lightness)
    np.testing.assert_allclose(
        ab, np.broadcast_to(lab_of(reference)[0, 0, 1:], ab.shape), atol=1e-2
    )
    assert np.isfinite(classics.reinhard(reference, lightness)).all()
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    hints = np.full((*size, 2), 7, np.float32)
    np.testing.assert_allclose(classics.levin(lightness, hints, mask), hints, atol=1e-4)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    for colourless in (np.zeros((4, 4, 3), np.uint8), grey):
        assert np.abs(classics.welsh(colourless, lightness)).max() < 0.01
        assert np.abs(classics.reinhard(colourless, lightness)).max() < 0.2


LIGHT, REFERENCE = np.full((4, 5), 50.0), np.zeros((3, 3, 3), np.uint8)
HINTS, MASK = np.zeros((4, 5, 2), np.float32), np.eye(4, 5, dtype=bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classics.welsh(REFERENCE, LIGHT[None]), r"\(H, W\), is \(1, 4, 5\)"),
        (lambda: classics.reinhard(REFERENCE, LIGHT + 60), "L. in 0..100.*from 110 to 110"),
        (lambda: classics.levin(LIGHT * np.nan, HINTS, MASK), "L. in 0..100"),
        (lambda: classics.levin(LIGHT, HINTS, ~MASK & MASK), "give at least one hint"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("radius", [0, 2, 9])
def test_a_box_is_the_mean_filter_of_scipy(radius):
    picture = np.random.default_rng(0).random((2, 3, 7, 12))
    oracle = ndimage.uniform_filter(picture, (1, 1, *(2 * radius + 1,) * 2), mode="nearest")
    found = classics.box(torch.from_numpy(picture), radius)
    np.testing.assert_allclose(found.numpy(), oracle, atol=1e-12)


def test_guided_colour_ends_where_the_lightness_has_its_edge():
    large = torch.full((1, 1, 96, 96), -0.5)
    large[..., 50:] = 0.5  # not on a pixel of the small picture
    small = torch.nn.functional.interpolate(large, (32, 32), mode="bilinear", antialias=True)
    ab = torch.where(small > 0, 0.5, -0.5).repeat(1, 2, 1, 1)
    guided = classics.guided(ab, small, large)
    assert guided.shape == (1, 2, 96, 96)
    assert guided[..., 52:70].min() > 0.3 and guided[..., 30:48].max() < -0.3
