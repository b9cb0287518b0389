"""The garden: its pictures repeat, and their colours follow the law that it states."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.stats import binom, ks_2samp
from skimage.color import lab2rgb, rgb2lab

from colorlib import garden

LAW_DISTANCE = 6.0  # of mean ab from the law: haze, shading and the gamut take a little chroma
NAMES = garden.SPECIES


@pytest.fixture(scope="module")
def anemones() -> garden.Garden:
    return garden.render(300, 32, seed=11, kind=garden.TWO_COLOURED)


@pytest.fixture(scope="module")
def flowers() -> garden.Garden:
    return garden.render(64, 64, seed=1)


def inner_petals(pictures: garden.Garden, species: str) -> np.ndarray:
    """Return where petals are seen, less the pixels at their edges."""
    return np.stack([binary_erosion(mask) for mask in pictures.mask(species)])


def grey_floor(rgb: np.ndarray) -> float:
    """Return the mean PSNR of pictures without their ab."""
    lab = rgb2lab(rgb)
    lab[..., 1:] = 0
    error = ((lab2rgb(lab) - rgb / 255) ** 2).mean((1, 2, 3))
    return float((-10 * np.log10(error)).mean())


# ------------------------------------------------------------------------------ the law


@pytest.mark.parametrize("name", [*NAMES, "centre", "foliage", "soil", "sky", "water"])
def test_laws_are_distributions_of_colours_inside_srgb(name: str) -> None:
    law = garden.colour_law(name)
    assert sum(colour.probability for colour in law.colours) == pytest.approx(1)
    lab = np.array([colour.lab for colour in law.colours])
    back = rgb2lab(np.clip(lab2rgb(lab), 0, 1))
    assert np.abs(back - lab).max() < 1.0
    assert law.what and law.species == name


def test_mean_of_the_coin_is_duller_than_either_side() -> None:
    law = garden.colour_law(garden.TWO_COLOURED)
    chroma = [np.hypot(*colour.lab[1:]) for colour in law.colours]
    assert len({colour.lab[0] for colour in law.colours}) == 1
    assert all(45 <= value <= 60 for value in chroma)
    assert np.hypot(*law.mean_lab[1:]) < 0.75 * min(chroma)


@pytest.mark.parametrize("species", NAMES)
def test_petals_have_the_colours_of_their_law(species: str) -> None:
    pictures = garden.render(10, 96, seed=3, kind=species)
    mask, lab = inner_petals(pictures, species), rgb2lab(pictures.rgb)
    law = garden.colour_law(species)
    level = np.array([colour.lab[0] for colour in law.colours])
    for colour in law.colours:
        own = mask
        if law.by == "picture":
            own = mask & (np.array(pictures.colours) == colour.name)[:, None, None]
        elif law.by == "lightness":
            own = mask & ((lab[..., 0] > level.mean()) == (colour.lab[0] > level.mean()))
        assert own.sum() > 100, f"no {colour.name} {species} to look at"
        seen = lab[own].mean(0)
        assert np.linalg.norm(seen[1:] - colour.lab[1:]) < LAW_DISTANCE, (colour, seen)
        assert abs(seen[0] - colour.lab[0]) < 8, (colour, seen)


@pytest.mark.parametrize("thing", ["foliage", "soil", "sky", "cloud"])
def test_what_surrounds_the_flowers_has_the_colours_of_its_law(
    flowers: garden.Garden, thing: str
) -> None:
    lab = rgb2lab(flowers.rgb)[inner_petals(flowers, thing)]
    colours = sorted(colour.lab for colour in garden.colour_law(thing).colours)
    level, a, b = np.array(colours).T
    expected = np.stack([np.interp(lab[:, 0], level, a), np.interp(lab[:, 0], level, b)], 1)
    assert np.linalg.norm(lab[:, 1:].mean(0) - expected.mean(0)) < 4


# ------------------------------------------------------------------------------ the coin


def test_red_and_blue_are_equally_frequent(anemones: garden.Garden) -> None:
    assert set(anemones.colours) <= {"red", "blue", ""}
    red, tossed = anemones.colours.count("red"), len(anemones) - anemones.colours.count("")
    assert tossed > 290
    low, high = binom.interval(0.9999, tossed, 0.5)
    assert low <= red <= high


def test_lightness_does_not_betray_the_coin(anemones: garden.Garden) -> None:
    lightness, mask = rgb2lab(anemones.rgb)[..., 0], anemones.mask(garden.TWO_COLOURED)
    means = {
        name: [
            level[petal].mean()
            for level, petal, colour in zip(lightness, mask, anemones.colours, strict=True)
            if colour == name
        ]
        for name in ("red", "blue")
    }
    assert ks_2samp(means["red"], means["blue"]).pvalue > 1e-3
    assert abs(np.mean(means["red"]) - np.mean(means["blue"])) < 1.0


def test_the_other_side_of_the_coin_has_the_same_grey_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tossed = garden.render(6, 64, seed=5, kind=garden.TWO_COLOURED)
    coin, other = garden._coin, {"red": "blue", "blue": "red"}
    monkeypatch.setattr(garden, "_coin", lambda *key: other[coin(*key)])
    turned = garden.render(6, 64, seed=5, kind=garden.TWO_COLOURED)
    assert [other[name] for name in tossed.colours] == list(turned.colours)
    assert np.array_equal(tossed.labels, turned.labels)
    difference = rgb2lab(tossed.rgb) - rgb2lab(turned.rgb)
    assert np.abs(difference[..., 0]).max() < 1.0  # only the rounding to 8 bits
    petals = inner_petals(tossed, garden.TWO_COLOURED)
    assert np.abs(difference[petals][:, 2]).mean() > 40


def test_all_two_coloured_flowers_of_a_picture_are_alike(anemones: garden.Garden) -> None:
    b = rgb2lab(anemones.rgb)[..., 2]
    petals = inner_petals(anemones, garden.TWO_COLOURED)
    for index, colour in enumerate(anemones.colours[:80]):
        values = b[index][petals[index]]
        if len(values):
            assert ((values > 0) == (colour == "red")).mean() > 0.97


# ------------------------------------------------------------------------------ the pictures


@settings(deadline=None, max_examples=12)
@given(
    kind=st.sampled_from(garden.KINDS),
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    seed=st.integers(0, 2**40),
)
def test_every_kind_and_shape_renders_and_repeats(
    kind: str, height: int, width: int, seed: int
) -> None:
    pictures = garden.render(2, height, seed, kind, width)
    assert pictures.rgb.shape == (2, height, width, 3) and pictures.rgb.dtype == np.uint8
    assert pictures.labels.shape == (2, height, width) and pictures.labels.dtype == np.uint8
    assert pictures.labels.max() < len(pictures.legend)
    assert len(pictures) == len(pictures.colours) == 2
    again = garden.render(1, height, seed, kind, width)
    assert again.rgb.tobytes() == pictures.rgb[:1].tobytes()
    assert again.labels.tobytes() == pictures.labels[:1].tobytes()
    assert again.colours == pictures.colours[:1]
    assert pictures.rgb.std() > 4


def test_pictures_and_seeds_differ(flowers: garden.Garden) -> None:
    assert len({picture.tobytes() for picture in flowers.rgb}) == len(flowers)
    assert not np.array_equal(garden.render(1, 64, seed=2).rgb, flowers.rgb[:1])
    assert not np.array_equal(garden.render(1, 64, seed=1, kind="mixed").rgb, flowers.rgb[:1])


@pytest.mark.parametrize("size, width", [(8, None), (300, 200), (1024, 700), (40, 400)])
def test_extreme_sizes(size: int, width: int | None) -> None:
    for kind in ("flowers", "landscapes"):
        picture = garden.render(1, size, seed=4, kind=kind, width=width)
        assert picture.rgb.shape == (1, size, width or size, 3)


def test_a_picture_is_the_same_scene_at_every_size() -> None:
    small, large = (garden.render(4, size, seed=8, kind="landscapes").rgb for size in (32, 128))
    shrunk = large.reshape(4, 32, 4, 32, 4, 3).mean((2, 4))
    for one, other in zip(small, shrunk, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_every_species_is_met_and_colours_are_those_of_real_flower_pictures() -> None:
    pictures = garden.render(90, 64, seed=6)
    met = {pictures.legend[label] for label in np.unique(pictures.labels)}
    assert set(NAMES) <= met
    assert {"centre", "foliage", "soil", "sky", "cloud"} <= met
    with_coin = pictures.mask(garden.TWO_COLOURED).any((1, 2))
    assert [bool(colour) for colour in pictures.colours] == with_coin.tolist()
    assert 18 < grey_floor(pictures.rgb) < 24


def test_species_pictures_show_that_species_alone() -> None:
    for species in NAMES:
        pictures = garden.render(3, 64, seed=9, kind=species)
        others = [name for name in NAMES if name != species]
        assert pictures.mask(species).any((1, 2)).all()
        assert not any(pictures.mask(name).any() for name in others)


def test_landscapes_hold_no_flowers_and_mixed_holds_both() -> None:
    landscapes = garden.render(60, 32, seed=1, kind="landscapes")
    met = {landscapes.legend[label] for label in np.unique(landscapes.labels)}
    assert {"sky", "mountain", "water", "meadow", "sand", "field", "sun", "snow"} <= met
    assert not met & set(NAMES) and set(landscapes.colours) == {""}
    mixed = garden.render(40, 32, seed=1, kind="mixed")
    flowery = np.stack([mixed.mask(name) for name in NAMES]).any((0, 2, 3))
    assert 0.4 < flowery.mean() < 0.9


def test_pictures_are_drawn_fast() -> None:
    start = time.process_time()
    garden.render(64, 64, seed=123)
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    "arguments, word",
    [
        ({"count": 1, "size": 64, "kind": "cactus"}, "cactus"),
        ({"count": -1, "size": 64}, "-1"),
        ({"count": 1, "size": 4}, "from 8"),
        ({"count": 1, "size": 64, "width": 100_000}, "100000"),
    ],
)
def test_bad_wishes_end_in_one_line(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        garden.render(**arguments)
    assert "\n" not in str(caught.value)


def test_unknown_law_names_the_known() -> None:
    with pytest.raises(ValueError, match="no 'cactus'; it has: anemone"):
        garden.colour_law("cactus")
    with pytest.raises(ValueError, match="no 'cactus'; it has: anemone"):
        garden.render(1, 16).mask("cactus")


def test_nothing_is_rendered_when_nothing_is_asked() -> None:
    assert garden.render(0, 64).rgb.shape == (0, 64, 64, 3)
