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


def two_regions(left: tuple, right: tuple, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Paint the left half with one colour and the right half with another; uint8 RGB."""
    picture = np.empty((*size, 3), np.uint8)
    picture[:, : size[1] // 2], picture[:, size[1] // 2 :] = left, right
    return picture


def photo(step: int = 8) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[::step, ::step])


def random_picture(seed: int = 0, size: tuple[int, int] = (12, 17)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def distance(ab: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(ab - other, axis=-1)


# Welsh


def test_welsh_gives_each_lightness_the_colour_of_its_like():
    """Two flat halves; the target is wider, turned round, its lightness shifted and squeezed."""
    reference = two_regions(RED, BLUE)
    red, blue = lab_of(reference)[0, [0, -1]]
    lightness = np.full((16, 40), 30.0)
    lightness[:, :20] = 50  # blue is the lighter one
    assert blue[0] > red[0]
    ab = classics.welsh(reference, lightness)
    assert distance(ab[:, :17], blue[1:]).max() < 0.01
    assert distance(ab[:, 23:], red[1:]).max() < 0.01


def test_welsh_tells_textures_of_one_mean_lightness_apart():
    """A smooth and a checked half, equal in mean: only the deviation nearby can tell them."""
    checks = np.indices((24, 48)).sum(0) % 2
    grey = np.where(checks, 160, 80)
    reference = np.stack((grey, grey, grey), -1).astype(np.uint8)
    reference[:, :24] = (150, 110, 110)
    lightness = lab_of(reference)[..., 0]
    # the checks' lightness spans that of the smooth half, so that lightness alone would not do
    assert lightness[:, 24:].min() < lightness[0, 0] < lightness[:, 24:].max()
    ab = classics.welsh(reference, lightness)
    assert distance(ab[:, :20], lab_of(reference)[0, 0, 1:]).max() < 0.01
    assert distance(ab[:, 28:], 0).max() < 0.01


def test_welsh_with_every_pixel_as_sample_finds_each_pixel_itself():
    reference = photo(16)
    lab = lab_of(reference)
    ab = classics.welsh(reference, lab[..., 0], samples=lab[..., 0].size)
    assert np.quantile(distance(ab, lab[..., 1:]), 0.98) < 0.01  # the rest have a twin


def test_welsh_is_right_where_lightness_tells_the_colour():
    """A ramp from dark red to light yellow, coloured by itself: 200 samples are dense enough."""
    ramp = np.linspace(0, 1, 64)[None, :, None]
    reference = np.round((1 - ramp) * (60, 0, 0) + ramp * (255, 240, 120)).astype(np.uint8)
    reference = reference.repeat(48, 0)
    lab = lab_of(reference)
    error = distance(classics.welsh(reference, lab[..., 0]), lab[..., 1:]).mean()
    assert error < 0.1 * distance(lab[..., 1:], 0).mean()


def test_welsh_agrees_with_a_plain_search():
    reference, lightness = random_picture(1), lab_of(random_picture(2, (9, 11)))[..., 0]
    lab = lab_of(reference)
    light = lab[..., 0]
    light = (light - light.mean()) / light.std() * lightness.std() + lightness.mean()

    def features(picture: np.ndarray) -> np.ndarray:
        mirrored = np.pad(picture, 2, mode="symmetric")
        height, width = picture.shape
        return np.array(
            [
                (picture[y, x], mirrored[y : y + 5, x : x + 5].std())
                for y in range(height)
                for x in range(width)
            ]
        )

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
    assert ab.shape == (*lightness.shape, 2)
    assert ab.dtype == np.float32
    colours = lab_of(reference)[..., 1:].reshape(-1, 2)
    nearest = distance(ab.reshape(-1, 1, 2), colours[None]).min(1)
    assert nearest.max() < 1e-2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (40, 60), (300, 200)])
@pytest.mark.parametrize("samples", [1, 7, 200])
def test_the_jittered_grid_has_about_the_samples_all_over_the_picture(size, samples):
    rows, columns = classics._jittered_grid(size, samples, np.random.default_rng(0))
    assert rows.min() >= 0 <= columns.min()
    assert rows.max() < size[0]
    assert columns.max() < size[1]
    # cells of a pixel and a half may share one
    assert len(set(zip(rows, columns, strict=True))) >= 0.9 * len(rows)
    assert abs(rows.mean() - (size[0] - 1) / 2) <= size[0] / 2 / min(size[0], len(rows) ** 0.5)
    assert abs(columns.mean() - (size[1] - 1) / 2) <= size[1] / 2 / min(size[1], len(rows) ** 0.5)
    assert min(samples, size[0] * size[1]) * 0.5 <= len(rows) <= max(samples * 1.5, 1)


def test_welsh_repeats_with_its_seed():
    reference, lightness = photo(), lab_of(photo())[..., 0]
    one, same, other = (classics.welsh(reference, lightness, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


# Reinhard


def plain_opponents(rgb: np.ndarray) -> np.ndarray:
    """Return l, alpha, beta of (N, 3) sRGB in [0, 1], channel by channel as the paper prints."""
    red, green, blue = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92).T
    long = np.log10(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log10(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log10(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    return np.stack(
        (
            (long + middle + short) / np.sqrt(3),
            (long + middle - 2 * short) / np.sqrt(6),
            (long - middle) / np.sqrt(2),
        )
    )


def test_reinhard_gives_every_pixel_the_mean_alpha_and_beta_of_the_reference():
    reference = np.clip(photo(), 20, 235)
    wanted = plain_opponents(reference.reshape(-1, 3) / 255).mean(1)
    lightness = np.linspace(20, 60, 12).reshape(3, 4)  # this tint stays inside sRGB here
    ab = classics.reinhard(reference, lightness)
    rgb = skimage.color.lab2rgb(np.concatenate((lightness[..., None], ab), -1))
    assert 0 < rgb.min() < rgb.max() < 1
    _, alpha, beta = plain_opponents(rgb.reshape(-1, 3))
    np.testing.assert_allclose(alpha, wanted[1], atol=1e-4)
    np.testing.assert_allclose(beta, wanted[2], atol=1e-4)


def test_reinhard_returns_the_colour_of_a_flat_reference():
    reference = np.full((3, 5, 3), RED, np.uint8)
    lab = lab_of(reference)
    ab = classics.reinhard(reference, np.full((2, 2), lab[0, 0, 0]))
    np.testing.assert_allclose(ab, np.broadcast_to(lab[0, 0, 1:], ab.shape), atol=0.05)


@settings(max_examples=30)
@given(SMALL.flatmap(lambda size: arrays(np.uint8, (*size, 3))), st.floats(0, 100))
def test_reinhard_is_finite_and_one_colour_per_lightness(reference, level):
    ab = classics.reinhard(reference, np.full((2, 3), level))
    assert ab.dtype == np.float32
    assert np.isfinite(ab).all()
    assert (ab == ab[0, 0]).all()


def test_reinhard_of_a_grey_reference_is_grey():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.abs(classics.reinhard(grey, np.linspace(0, 100, 20)[None])).max() < 0.1


# Levin


def flat_regions(levels: list, colours: list, side: int = 24) -> tuple[np.ndarray, ...]:
    """Return lightness, ab and a mask of one hint in the middle of each region of a grid."""
    level, ab = np.array(levels, float), np.array(colours, np.float32)
    down, across = side // level.shape[0], side // level.shape[1]
    lightness, ab = (v.repeat(down, 0).repeat(across, 1) for v in (level, ab))
    mask = np.zeros(lightness.shape, bool)
    mask[down // 2 :: down, across // 2 :: across] = True
    return lightness, ab, mask


def test_levin_fills_each_half_with_the_colour_of_its_hint():
    lightness, ab, mask = flat_regions([[30, 70]], [[(60, 40), (-40, -30)]])
    assert mask.sum() == 2
    filled = classics.levin(lightness, np.where(mask[..., None], ab, np.nan), mask)
    assert filled.dtype == np.float32
    assert distance(filled, ab).max() < 2  # the two colours are 122 apart


def test_levin_gives_each_of_four_regions_its_own_colour():
    """Where the four meet, colour leaks; all else is nearest to the hint of its region."""
    colours = [[(60, 40), (-40, 30)], [(10, -50), (-5, 5)]]
    lightness, ab, mask = flat_regions([[20, 45], [70, 95]], colours)
    filled = classics.levin(lightness, ab, mask)
    choices = np.reshape(colours, (4, 2))
    nearest = distance(filled[:, :, None], choices).argmin(-1)
    assert (choices[nearest] == ab).all(-1).mean() > 0.99
    assert distance(filled, ab).mean() < 6


def plain_levin(lightness, hints, mask, window=3) -> np.ndarray:
    """Write each pixel's equation down in a dense matrix, one by one."""
    height, width = lightness.shape
    matrix, right = np.eye(lightness.size), np.zeros((lightness.size, 2))
    reach = window // 2
    for y, x in np.ndindex(height, width):
        row = y * width + x
        if mask[y, x]:
            right[row] = hints[y, x]
            continue
        near = [
            (v, u)
            for v in range(max(0, y - reach), min(height, y + reach + 1))
            for u in range(max(0, x - reach), min(width, x + reach + 1))
        ]
        variance = max(np.var([lightness[place] for place in near]), 0.02)
        near.remove((y, x))
        alike = [
            np.exp(-((lightness[y, x] - lightness[place]) ** 2) / (0.6 * variance))
            for place in near
        ]
        for (v, u), weight in zip(near, alike, strict=True):
            matrix[row, v * width + u] -= weight / sum(alike)
    return np.linalg.solve(matrix, right).reshape(height, width, 2)


@pytest.mark.parametrize("size", [(1, 2), (1, 8), (8, 1), (2, 2), (6, 7)])
@pytest.mark.parametrize("window", [3, 5])
def test_levin_agrees_with_a_dense_solve(size, window):
    draw = np.random.default_rng(size)
    lightness, hints = draw.uniform(0, 100, size), draw.uniform(-90, 90, (*size, 2))
    mask = draw.random(size) < 0.2
    mask[0, 0] = True
    expected = plain_levin(lightness, hints, mask, window)
    np.testing.assert_allclose(classics.levin(lightness, hints, mask, window), expected, atol=1e-3)


@settings(max_examples=40)
@given(st.data())
def test_levin_keeps_hints_and_stays_between_them(data):
    size = data.draw(SMALL)
    lightness = data.draw(arrays(np.float32, size, elements=st.floats(0, 100, width=32)))
    hints = data.draw(arrays(np.float32, (*size, 2), elements=st.floats(-100, 100, width=32)))
    mask = data.draw(arrays(bool, size))
    mask[data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))] = True
    ab = classics.levin(lightness, hints, mask)
    np.testing.assert_array_equal(ab[mask], hints[mask])
    given_colours = hints[mask]
    assert (ab >= given_colours.min(0) - 1e-3).all()
    assert (ab <= given_colours.max(0) + 1e-3).all()


@pytest.mark.parametrize("lightness", [np.full((9, 13), 50.0), lab_of(photo(32))[..., 0]])
def test_levin_spreads_a_single_hint_everywhere(lightness):
    mask = np.zeros(lightness.shape, bool)
    mask[2, 3] = True
    hints = np.where(mask[..., None], np.float32((30, -20)), 0)
    ab = classics.levin(lightness, hints, mask)
    np.testing.assert_allclose(ab, np.broadcast_to((30, -20), ab.shape), atol=1e-3)


def test_levin_is_no_worse_with_more_hints_and_beats_grey_on_a_photo():
    lab = lab_of(photo(4))
    draw = np.random.default_rng(0).random(lab.shape[:2])
    few, many = (
        distance(classics.levin(lab[..., 0], lab[..., 1:], draw < part), lab[..., 1:]).mean()
        for part in (0.01, 0.1)
    )
    assert many < few < 0.5 * distance(lab[..., 1:], 0).mean()


# All


@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize("level", [0.0, 50.0, 100.0])
@pytest.mark.parametrize("other", ODD)
def test_tiny_and_flat_pictures_work(size, level, other):
    lightness, reference = np.full(size, level, np.float32), np.full((*other, 3), RED, np.uint8)
    lab = lab_of(reference)[0, 0]
    ab = classics.welsh(reference, lightness)
    np.testing.assert_allclose(ab, np.broadcast_to(lab[1:], ab.shape), atol=1e-2)
    assert np.isfinite(classics.reinhard(reference, lightness)).all()
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    hints = np.full((*size, 2), 7, np.float32)
    np.testing.assert_allclose(classics.levin(lightness, hints, mask), hints, atol=1e-4)


def test_welsh_of_a_flat_target_takes_one_colour_of_the_reference():
    reference = photo()
    ab = classics.welsh(reference, np.full((4, 5), 50.0))
    assert (ab == ab[0, 0]).all()
    colours = lab_of(reference)[..., 1:].reshape(-1, 2)
    assert distance(ab[0, 0], colours).min() < 0.01


def test_black_is_no_trouble():
    black = np.zeros((4, 4, 3), np.uint8)
    lightness = np.linspace(0, 100, 9).reshape(3, 3)
    assert np.abs(classics.welsh(black, lightness)).max() < 0.01
    assert np.abs(classics.reinhard(black, lightness)).max() < 0.2


LIGHT, REFERENCE = np.full((4, 5), 50.0), np.zeros((3, 3, 3), np.uint8)
HINTS, MASK = np.zeros((4, 5, 2), np.float32), np.eye(4, 5, dtype=bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classics.welsh(REFERENCE, LIGHT[None]), r"lightness must be \(H, W\)"),
        (lambda: classics.reinhard(REFERENCE, LIGHT[:0]), r"lightness must be \(H, W\)"),
        (lambda: classics.levin(LIGHT + 60, HINTS, MASK), "L. in 0..100, spans 110 to 110"),
        (lambda: classics.levin(LIGHT * np.nan, HINTS, MASK), "L. in 0..100"),
        (lambda: classics.welsh(REFERENCE / 255, LIGHT), "uint8 RGB .*float64"),
        (lambda: classics.reinhard(REFERENCE[..., 0], LIGHT), "uint8 RGB"),
        (lambda: classics.reinhard(None, LIGHT), "uint8 RGB"),
        (lambda: classics.welsh(REFERENCE, LIGHT, samples=0), "at least 1"),
        (lambda: classics.welsh(REFERENCE, LIGHT, window=4), "odd and at least 1"),
        (lambda: classics.levin(LIGHT, HINTS, MASK, window=1), "odd and at least 3"),
        (lambda: classics.levin(LIGHT, HINTS[..., 0], MASK), r"shape \(4, 5, 2\)"),
        (lambda: classics.levin(LIGHT, HINTS, MASK[:3]), r"bool \(4, 5\), is bool \(3, 5\)"),
        (lambda: classics.levin(LIGHT, HINTS, MASK.astype(int)), "bool .*int64"),
        (lambda: classics.levin(LIGHT, HINTS, ~MASK & MASK), "give at least one hint"),
        (lambda: classics.levin(LIGHT, HINTS * np.nan, MASK), "nan or infinite"),
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
