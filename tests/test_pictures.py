"""Every kind of readable picture is converted, every bad one ends in one clear line."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from colorlib import files, pictures
from colorlib.pictures import PictureError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that JPEG and resizing leave nearly as it is, with unlike corners."""
    down, across = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    channels = (60 + 150 * across, 60 + 150 * down, 200 - 120 * across * down)
    return np.stack(channels, axis=2).astype(np.uint8)


def png(depth: int, kind: int, rows: np.ndarray) -> bytes:
    """Encode a PNG that Pillow cannot write: 16-bit colour."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, kind, 0, 0, 0)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what can be read -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_pictures_come_back_exactly(tmp_path, suffix):
    rgb = noise(9, 13)
    Image.fromarray(rgb).save(tmp_path / f"a{suffix}")
    found = pictures.read(tmp_path / f"a{suffix}")
    assert np.array_equal(found.rgb, rgb)
    assert found.alpha is None and found.icc is None


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(smooth(24, 32)).convert(mode)
    image.save(tmp_path / "a.tif")
    found = pictures.read_rgb(tmp_path / "a.tif")
    assert found.shape == (24, 32, 3) and found.dtype == np.uint8
    assert np.array_equal(found, np.array(image.convert("RGB")))


def test_cmyk_jpeg_is_read_without_its_profile(tmp_path):
    # the profile describes four inks: it would be wrong for the RGB numbers
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"CMYK"
    Image.fromarray(smooth(24, 32)).convert("CMYK").save(
        tmp_path / "a.jpg", quality=95, icc_profile=bytes(profile)
    )
    found = pictures.read(tmp_path / "a.jpg")
    assert np.abs(found.rgb.astype(int) - smooth(24, 32)).mean() < 4
    assert found.icc is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_keeps_its_range(tmp_path, suffix):
    deep = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    found = pictures.read_rgb(tmp_path / f"a{suffix}")
    assert found[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert np.array_equal(found[..., 0], found[..., 2])


def test_16_bit_rgb_and_rgba_png(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, 4)).astype(">u2")
    (tmp_path / "rgb.png").write_bytes(png(16, 2, deep[..., :3]))
    (tmp_path / "rgba.png").write_bytes(png(16, 6, deep))
    assert np.array_equal(pictures.read_rgb(tmp_path / "rgb.png"), deep[..., :3] >> 8)
    found = pictures.read(tmp_path / "rgba.png")
    assert np.array_equal(found.rgb, deep[..., :3] >> 8)
    assert np.array_equal(found.alpha, deep[..., 3] >> 8)


def test_alpha_is_kept_for_rgba_la_and_palette(tmp_path):
    rgb, alpha = noise(6, 8), noise(6, 8, 1)[..., 0]
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "rgba.png")
    found = pictures.read(tmp_path / "rgba.png")
    assert np.array_equal(found.rgb, rgb) and np.array_equal(found.alpha, alpha)

    Image.fromarray(np.dstack([rgb[..., 0], alpha])).save(tmp_path / "la.png")
    found = pictures.read(tmp_path / "la.png")
    assert np.array_equal(found.rgb, rgb[..., [0, 0, 0]]) and np.array_equal(found.alpha, alpha)

    palette = Image.fromarray(smooth(6, 8)).quantize(4)
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "clear.png", transparency=0)
    assert pictures.read(tmp_path / "opaque.png").alpha is None
    assert np.array_equal(
        pictures.read(tmp_path / "clear.png").alpha, np.where(np.array(palette) == 0, 0, 255)
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_turned_upright(tmp_path, suffix, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = smooth(24, 40)
    image = Image.fromarray(upright)
    if orientation in undo:
        image = image.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"a{suffix}"
    image.save(path, exif=exif, quality=95)
    assert np.abs(pictures.read_rgb(path).astype(int) - upright).mean() < 5
    resized, shape = pictures.read_resized(path, 8, "squash")
    assert shape == (24, 40)
    assert np.abs(resized.astype(int) - pictures.resize(upright, 8, "squash")).mean() < 5


def test_broken_exif_does_not_spoil_a_picture(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(smooth(16, 16)).save(stream, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert pictures.read_rgb(tmp_path / "a.jpg").shape == (16, 16, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    first = Image.new("RGB", (10, 6), (200, 30, 40))
    rest = [Image.new("RGB", (10, 6), (0, 0, 250))] * 2
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=rest)
    found = pictures.read_rgb(tmp_path / f"a{suffix}").astype(int)
    assert found.shape == (6, 10, 3)
    assert np.abs(found - [200, 30, 40]).max() < 12


def test_wrong_suffix_but_readable(tmp_path):
    Image.fromarray(noise(5, 5)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(pictures.read_rgb(tmp_path / "a.jpg"), noise(5, 5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_one_pixel_wide(tmp_path, shape):
    Image.fromarray(noise(*shape)).save(tmp_path / "a.png")
    assert np.array_equal(pictures.read_rgb(tmp_path / "a.png"), noise(*shape))
    for fit in ("crop", "squash"):
        assert pictures.read_resized(tmp_path / "a.png", 8, fit)[0].shape == (8, 8, 3)


def test_thirty_megapixels(tmp_path):
    Image.new("RGB", (6000, 5000), (10, 200, 30)).save(tmp_path / "a.jpg")
    assert pictures.read(tmp_path / "a.jpg").rgb.shape == (5000, 6000, 3)
    small, shape = pictures.read_resized(tmp_path / "a.jpg", 64)
    assert shape == (5000, 6000)
    assert np.abs(small.astype(int) - [10, 200, 30]).max() < 4


def test_reduced_decoding_does_not_change_the_picture(tmp_path):
    photo = np.kron(smooth(64, 80), np.ones((10, 10, 1), np.uint8))
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    quick, _ = pictures.read_resized(tmp_path / "a.jpg", 32)
    exact = pictures.resize(pictures.read_rgb(tmp_path / "a.jpg"), 32)
    assert np.abs(quick.astype(int) - exact).max() <= 3


# --- what cannot be read ----------------------------------------------------------------------


def test_missing_folder_empty_and_no_picture(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    for name, words in {
        "missing.jpg": "no such file",
        "folder.png": "is a folder",
        "empty.jpg": "0 bytes",
        "text.png": "not a picture",
    }.items():
        with pytest.raises(PictureError, match=words) as error:
            pictures.read(tmp_path / name)
        assert str(tmp_path / name) in one_line(error)
        with pytest.raises(PictureError, match=words):
            pictures.read_resized(tmp_path / name, 8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 0.7))
def test_truncated_anywhere(tmp_path_factory, suffix, share):
    path = tmp_path_factory.mktemp("cut") / f"a{suffix}"
    Image.fromarray(noise(40, 40)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PictureError) as error:
        pictures.read(path)
    assert str(path) in one_line(error)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".jpg", ".png", ".webp", ".tif", ".gif"]))
def test_scrambled_bytes_give_a_picture_or_a_picture_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("noise") / f"a{suffix}"
    Image.fromarray(smooth(16, 16)).save(path)
    scrambled = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        scrambled[data.draw(st.integers(0, len(scrambled) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(scrambled)
    try:
        found = pictures.read(path).rgb
    except PictureError as error:
        assert str(path) in str(error)
    else:
        assert found.dtype == np.uint8 and found.shape[2] == 3


def test_no_permission(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # the tests may run as root, whom none refuses
    with pytest.raises(PictureError, match=r"a\.png: may not be read; change its permissions"):
        pictures.read(tmp_path / "a.png")


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_decompression_bomb(tmp_path, side):
    header = png(8, 2, np.zeros((1, 1, 3), np.uint8))
    sized = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = header[:12] + b"IHDR" + sized + struct.pack(">I", zlib.crc32(b"IHDR" + sized))
    (tmp_path / "bomb.png").write_bytes(bomb + header[33:])
    with pytest.raises(PictureError, match="more than 120 megapixels; make it smaller") as error:
        pictures.read(tmp_path / "bomb.png")
    assert "bomb.png" in one_line(error)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_kinds_that_are_not_read_say_so(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match="save it as 8-bit RGB"):
        pictures.read(tmp_path / "a.tif")


# --- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff"])
def test_written_losslessly_with_alpha_and_profile(tmp_path, suffix):
    rgb, alpha = noise(7, 9), noise(7, 9, 1)[..., 1]
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures.write(tmp_path / f"a{suffix}", rgb, alpha=alpha, icc=icc)
    found = pictures.read(tmp_path / f"a{suffix}")
    assert np.array_equal(found.rgb, rgb)
    assert np.array_equal(found.alpha, alpha)
    assert found.icc == icc


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_written_with_little_loss(tmp_path, suffix):
    rgb, alpha = smooth(40, 60), np.full((40, 60), 255, np.uint8)
    alpha[:10] = 0
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures.write(tmp_path / f"a{suffix}", rgb, alpha=alpha, icc=icc, quality=95)
    found = pictures.read(tmp_path / f"a{suffix}")
    assert np.abs(found.rgb[12:].astype(int) - rgb[12:]).mean() < 3
    assert found.icc == icc
    if suffix == ".webp":
        assert np.array_equal(found.alpha, alpha)
    else:
        assert found.alpha is None


def test_jpeg_keeps_full_colour_resolution(tmp_path):
    pictures.write(tmp_path / "a.jpg", smooth(16, 16))
    with Image.open(tmp_path / "a.jpg") as image:
        assert {(part[1], part[2]) for part in image.layer} == {(1, 1)}


def test_write_makes_the_folder_and_replaces(tmp_path):
    path = tmp_path / "new" / "a.png"
    pictures.write(path, noise(4, 4))
    pictures.write(path, noise(4, 4, 1))
    assert np.array_equal(pictures.read_rgb(path), noise(4, 4, 1))
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a", "a.gif", "a.txt"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(PictureError, match=r"can be written: \.jpg"):
        pictures.write(tmp_path / name, noise(4, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "may not be written"), (errno.EIO, "Input")],
)
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, code, words):
    pictures.write(tmp_path / "a.png", noise(4, 4))
    before = (tmp_path / "a.png").read_bytes()

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PictureError, match=words) as error:
        pictures.write(tmp_path / "a.png", noise(4, 4, 1))
    assert str(tmp_path / "a.png") in one_line(error)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_write_below_a_file_or_onto_a_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(PictureError, match="meets a file or folder"):
            pictures.write(path, noise(4, 4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize(("name", "width"), [("a.webp", 20_000), ("a.jpg", 70_000)])
def test_too_large_for_the_format(tmp_path, name, width):
    with pytest.raises(PictureError, match=r"cannot be written as (WEBP|JPEG).*use \.png"):
        pictures.write(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_write_and_resize_refuse_what_is_no_picture(tmp_path, wrong):
    with pytest.raises(ValueError, match="rgb must be uint8"):
        pictures.write(tmp_path / "a.png", wrong)
    with pytest.raises(ValueError, match="rgb must be uint8"):
        pictures.resize(wrong, 4)
    with pytest.raises(ValueError, match="alpha must be uint8"):
        pictures.write(tmp_path / "a.png", noise(4, 4), alpha=np.zeros((4, 5), np.uint8))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_any_picture_survives_write_and_read(tmp_path_factory, height, width, seed):
    path = tmp_path_factory.mktemp("round") / "a.png"
    pictures.write(path, noise(height, width, seed))
    assert np.array_equal(pictures.read_rgb(path), noise(height, width, seed))


# --- resizing and finding ---------------------------------------------------------------------


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


def test_crop_is_the_middle_and_squash_is_all():
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 255
    assert (pictures.resize(picture, 20, "crop") == 255).all()
    squashed = pictures.resize(picture, 20, "squash")
    assert squashed[10, 2].max() < 10 and squashed[10, 10].min() > 245
    assert np.array_equal(pictures.resize(picture, (20, 60), "crop"), picture)
    assert pictures.resize(picture, (10, 40), "crop").shape == (10, 40, 3)
    assert pictures.resize(picture, (10, 40), "keep").shape == (13, 40, 3)


def test_resize_refuses_nonsense():
    with pytest.raises(ValueError, match="fit must be"):
        pictures.resize(noise(4, 4), 4, "fill")
    with pytest.raises(ValueError, match="at least 1"):
        pictures.resize(noise(4, 4), 0)
    with pytest.raises(ValueError, match="too large"):
        pictures.resize(np.zeros((1, 30_000, 3), np.uint8), 256, "keep")


def test_find_file_folder_and_glob(tmp_path, monkeypatch):
    for name in (
        "b.JPG",
        "a.png",
        "in/c.webp",
        ".hidden.png",
        "._a.png",
        "note.txt",
        "x.png/d.tif",
    ):
        files.write_atomic(tmp_path / name, b"x")
    found = [path.relative_to(tmp_path).as_posix() for path in pictures.find(tmp_path)]
    assert found == ["a.png", "b.JPG", "in/c.webp", "x.png/d.tif"]
    assert pictures.find(tmp_path / "note.txt") == [tmp_path / "note.txt"]
    assert pictures.find(str(tmp_path / "*.png")) == [tmp_path / "a.png"]
    assert pictures.find(str(tmp_path / "**" / "*.webp")) == [tmp_path / "in" / "c.webp"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pictures.find("~/a.png") == [tmp_path / "a.png"]


def test_find_takes_names_literally_before_patterns(tmp_path):
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert pictures.find(tmp_path / "a[1].png") == [tmp_path / "a[1].png"]


def test_find_says_what_is_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    for where, words in {"empty": "holds no picture", "no*": "no file has", "x": "no such"}.items():
        with pytest.raises(PictureError, match=words) as error:
            pictures.find(tmp_path / where)
        assert str(tmp_path / where) in one_line(error)


def test_to_jpeg_is_smaller_and_looks_the_same():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(200, 200, 3)), 0), 1)
    rgb = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    jpeg = pictures.to_jpeg(stream.getvalue())
    again = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert len(jpeg) < 0.15 * len(stream.getvalue())
    assert again.shape == rgb.shape and np.abs(again.astype(int) - rgb).mean() < 4.5


def test_a_jpeg_in_full_colour_keeps_small_coloured_things():
    rgb = np.full((64, 64, 3), 128, np.uint8)
    rgb[::8, ::8] = (255, 200, 0)  # single yellow pixels
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    off = {}
    for full in (True, False):
        jpeg = pictures.to_jpeg(stream.getvalue(), quality=85, full_colour=full)
        again = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
        off[full] = np.abs(again - rgb)[::8, ::8].mean()
    assert off[True] < 0.5 * off[False]
