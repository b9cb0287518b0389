"""Every kind of readable picture is converted, every bad one ends in one clear line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import SRGB, distance, smooth
from PIL import Image

from colorlib import files, pictures


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg"])
def test_what_is_written_comes_back_with_alpha_and_profile(tmp_path, suffix):
    rgb, alpha = smooth(40, 60), np.full((40, 60), 255, np.uint8)
    alpha[:10] = 0
    pictures.write(tmp_path / f"a{suffix}", rgb, alpha=alpha, icc=SRGB)
    found = pictures.read(tmp_path / f"a{suffix}")
    lossy = suffix == ".jpg"
    assert distance(found.rgb[12:], rgb[12:]) < (3 if lossy else 1e-9) and found.icc == SRGB
    if lossy:
        assert found.alpha is None
        with Image.open(tmp_path / f"a{suffix}") as image:  # colour at full resolution
            assert {(part[1], part[2]) for part in image.layer} == {(1, 1)}
    else:
        assert np.array_equal(found.alpha, alpha)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_write_and_resize_refuse_what_is_no_picture(tmp_path, wrong):
    with pytest.raises(ValueError, match="rgb must be uint8"):
        pictures.write(tmp_path / "a.png", wrong)
    with pytest.raises(ValueError, match="rgb must be uint8"):
        pictures.resize(wrong, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 255))
def test_resize_gives_the_size_and_keeps_a_plain_colour(height, width, size, level):
    plain = np.full((height, width, 3), level, np.uint8)
    for fit in ("crop", "squash"):
        found = pictures.resize(plain, size, fit)
        assert found.shape == (size, size, 3) and (found == level).all()
    kept = pictures.resize(plain, size, "keep")
    assert min(kept.shape[:2]) == size and (kept == level).all()
    assert abs(max(kept.shape[:2]) - size * max(height, width) / min(height, width)) <= 0.5


def test_the_transparent_grey_of_16_bits_is_one_grey_alone(tmp_path):
    grey = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    grey[:4] = 65535
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=65535)
    found = pictures.read(tmp_path / "a.png").alpha
    assert np.array_equal(found == 0, grey == 65535) and set(np.unique(found)) == {0, 255}


def test_crop_is_the_middle_squash_is_all_and_nonsense_is_refused():
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 255
    assert (pictures.resize(picture, 20, "crop") == 255).all()
    squashed = pictures.resize(picture, 20, "squash")
    assert squashed[10, 2].max() < 10 and squashed[10, 10].min() > 245
    assert np.array_equal(pictures.resize(picture, (20, 60), "crop"), picture)
    assert pictures.resize(picture, (10, 40), "keep").shape == (13, 40, 3)
    wide = np.zeros((1, 30_000, 3), np.uint8)
    for size, fit, words in ((4, "fill", "fit"), (0, "crop", "at least 1"), (256, "keep", "large")):
        with pytest.raises(ValueError, match=words):
            pictures.resize(wide, size, fit)


def test_find_file_folder_and_glob(tmp_path, monkeypatch):
    names = "b.JPG a.png in/c.webp .hidden.png ._a.png note.txt x.png/d.tif e[1].gif e1.gif"
    for name in names.split():
        files.write_atomic(tmp_path / name, b"x")
    found = [path.relative_to(tmp_path).as_posix() for path in pictures.find(tmp_path)]
    assert found == ["a.png", "b.JPG", "e1.gif", "e[1].gif", "in/c.webp", "x.png/d.tif"]
    assert pictures.find(tmp_path / "note.txt") == [tmp_path / "note.txt"]
    assert pictures.find(tmp_path / "e[1].gif") == [tmp_path / "e[1].gif"]  # a name, no pattern
    assert pictures.find(str(tmp_path / "*.png")) == [tmp_path / "a.png"]
    assert pictures.find(str(tmp_path / "**" / "*.webp")) == [tmp_path / "in" / "c.webp"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pictures.find("~/a.png") == [tmp_path / "a.png"]


def through_jpeg(rgb: np.ndarray, **options) -> tuple[float, np.ndarray]:
    """Return what share of a PNG's bytes the JPEG has, and what it shows."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    jpeg = pictures.to_jpeg(stream.getvalue(), **options)
    return len(jpeg) / len(stream.getvalue()), np.asarray(Image.open(io.BytesIO(jpeg)))


def test_a_jpeg_is_smaller_and_in_full_colour_keeps_small_coloured_things():
    walk = np.cumsum(np.cumsum(np.random.default_rng(0).normal(size=(200, 200, 3)), 0), 1)
    rgb = (255 * (walk - walk.min()) / np.ptp(walk)).astype(np.uint8)
    share, again = through_jpeg(rgb)
    assert share < 0.15 and again.shape == rgb.shape and distance(again, rgb) < 4.5
    rgb = np.full((64, 64, 3), 128, np.uint8)
    rgb[::8, ::8] = (255, 200, 0)  # single yellow pixels
    full, half = (through_jpeg(rgb, quality=85, full_colour=full)[1] for full in (True, False))
    assert distance(full[::8, ::8], rgb[::8, ::8]) < 0.5 * distance(half[::8, ::8], rgb[::8, ::8])


def test_pictures_to_show_are_read_by_name_and_the_rest_is_named(tmp_path, capsys):
    (tmp_path / "00.png").write_bytes(b"no picture")
    for number in range(3):
        pictures.write(tmp_path / f"{number}.png", np.full((4, 4, 3), number, np.uint8))
    found = pictures.read_some(pictures.find(tmp_path), most=3)
    assert [int(rgb[0, 0, 0]) for rgb in found.values()] == [0, 1]
    said = capsys.readouterr().out
    assert "the first 3 of 4" in said and said.count("left out: ") == 1 and "00.png" in said
