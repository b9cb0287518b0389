"""Every kind of readable picture is converted, every bad one ends in one clear line."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from colorlib import files, pictures
from colorlib.pictures import PictureError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Turn = Image.Transpose
UNDO = {
    **{2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE},
    **{6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270},
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that JPEG and resizing leave nearly as it is, with unlike corners."""
    down, across = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    channels = (60 + 150 * across, 60 + 150 * down, 200 - 120 * across * down)
    return np.stack(channels, axis=2).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.asarray(one).astype(int) - other).mean())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(depth: int, kind: int, rows: np.ndarray, size: tuple[int, int] = (0, 0)) -> bytes:
    """Encode a PNG that Pillow cannot write: 16-bit colour, or one that lies about its size."""
    width, height = size if any(size) else (rows.shape[1], rows.shape[0])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr", "L", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(smooth(24, 32)).convert(mode)
    image.save(tmp_path / "a.tif")
    found = pictures.read_rgb(tmp_path / "a.tif")
    assert found.dtype == np.uint8 and np.array_equal(found, np.array(image.convert("RGB")))


def test_16_bits_keep_their_range(tmp_path):
    grey = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    for file in (tmp_path / "grey.png", tmp_path / "grey.tif"):
        Image.fromarray(grey).save(file)
        assert pictures.read_rgb(file).tolist() == [[[level] * 3 for level in (0, 0, 1, 128, 255)]]
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, 4)).astype(">u2")
    (tmp_path / "rgb.png").write_bytes(png(16, 2, deep[..., :3]))
    (tmp_path / "rgba.png").write_bytes(png(16, 6, deep))
    assert np.array_equal(pictures.read_rgb(tmp_path / "rgb.png"), deep[..., :3] >> 8)
    assert np.array_equal(pictures.read_rgb(tmp_path / "rgba.png"), deep[..., :3] >> 8)


@pytest.mark.parametrize(("space", "more"), [(b"CMYK", 0), (b"RGB ", 2_000_000)])
def test_a_profile_that_does_not_fit_is_left_out(tmp_path, space, more):
    # of four inks: wrong for the RGB numbers; of megabytes: Pillow would refuse the PNG with it
    profile = SRGB[:16] + space + SRGB[20:] + bytes(more)
    image = Image.fromarray(smooth(24, 32)).convert(space.decode().strip())
    image.save(tmp_path / "a.jpg", quality=95, icc_profile=profile)
    found = pictures.read(tmp_path / "a.jpg")
    assert distance(found.rgb, smooth(24, 32)) < 4 and found.icc is None


def test_alpha_is_kept_for_rgba_la_and_palette(tmp_path):
    rgb, alpha = noise(6, 8), noise(6, 8, 1)[..., 0]
    for channels in ([0, 1, 2], [0]):
        pixels = np.dstack([rgb[..., channels], alpha])
        Image.fromarray(pixels).save(tmp_path / "a.png")
        found = pictures.read(tmp_path / "a.png")
        assert np.array_equal(found.alpha, alpha) and np.array_equal(found.rgb[..., 0], rgb[..., 0])
    palette = Image.fromarray(smooth(6, 8)).quantize(4)
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "clear.png", transparency=0)
    assert pictures.read(tmp_path / "opaque.png").alpha is None
    seen = np.where(np.array(palette) == 0, 0, 255)
    assert np.array_equal(pictures.read(tmp_path / "clear.png").alpha, seen)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_turned_upright(tmp_path, suffix, orientation):
    upright, path = smooth(24, 40), tmp_path / f"a{suffix}"
    image = Image.fromarray(upright)
    if orientation in UNDO:
        image = image.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x112] = orientation
    image.save(path, exif=exif, quality=95)
    assert distance(pictures.read_rgb(path), upright) < 5


def test_broken_exif_does_not_spoil_a_picture_of_a_cameras_size(tmp_path):
    image = Image.new("RGB", (4000, 3000), (10, 200, 30))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    found = pictures.read_rgb(tmp_path / "a.jpg")
    assert found.shape == (3000, 4000, 3) and distance(found, [10, 200, 30]) < 4


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    first = Image.new("RGB", (10, 6), (200, 30, 40))
    rest = [Image.new("RGB", (10, 6), (0, 0, 250))] * 2
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=rest)
    found = pictures.read_rgb(tmp_path / f"a{suffix}").astype(int)
    assert found.shape == (6, 10, 3) and np.abs(found - [200, 30, 40]).max() < 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_one_pixel_wide_and_under_a_wrong_suffix(tmp_path, shape):
    Image.fromarray(noise(*shape)).save(tmp_path / "a.jpg", "PNG")
    assert np.array_equal(pictures.read_rgb(tmp_path / "a.jpg"), noise(*shape))


def saved(mode: str, kind: str) -> Callable:
    return lambda place: Image.new(mode, (4, 4)).save(place, kind)


def bomb(side: int) -> Callable:
    return lambda place: place.write_bytes(png(8, 2, np.zeros((1, 1, 3), np.uint8), (side, side)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: None, "No such file or directory"),
        (Path.mkdir, "is a folder"),
        (Path.touch, "0 bytes"),
        (lambda place: place.write_text("not a picture"), "not a picture"),
        (os.mkfifo, "pipe or a device"),
        (lambda place: place.symlink_to("/dev/zero"), "pipe or a device"),
        (saved("RGB", "EPS"), "not a picture that can be read"),  # Ghostscript would run it
        (saved("F", "TIFF"), "of the kind .* save it as 8-bit RGB"),
        (saved("LAB", "TIFF"), "of the kind .* save it as 8-bit RGB"),
        (bomb(12_000), "more than 120 megapixels; make it smaller"),
        (bomb(40_000), "more than 120 megapixels; make it smaller"),
    ],
)
def test_what_is_no_picture_is_said_in_a_line(tmp_path, make, words):
    path = tmp_path / "a.jpg"
    make(path)
    with pytest.raises(PictureError, match=words) as error:
        pictures.read_rgb(path)
    assert str(path) in one_line(error)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".jpg", ".png", ".webp", ".tif", ".gif"]))
def test_damaged_bytes_give_a_picture_or_a_line(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    Image.fromarray(noise(40, 40)).save(path)
    content = bytearray(path.read_bytes())
    if cut := data.draw(st.booleans()):
        del content[int(len(content) * data.draw(st.floats(0, 0.7))) :]
    for _ in range(0 if cut else data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = pictures.read_rgb(path)
    except PictureError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert not cut and found.dtype == np.uint8 and found.shape[2] == 3


def test_no_permission(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # the tests may run as root, whom none refuses
    with pytest.raises(PictureError, match=r"a\.png: cannot be read \(Permission denied\)"):
        pictures.read_rgb(tmp_path / "a.png")


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
    ("code", "words"),
    [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"), (errno.EIO, "Input")],
)
def test_a_write_makes_the_folder_and_replaces_the_file_whole_or_not_at_all(
    tmp_path, monkeypatch, code, words
):
    path = tmp_path / "new" / f"{'n' * 250}.png"  # as long as a name may be
    pictures.write(path, noise(4, 4))
    pictures.write(path, noise(4, 4, 1))

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PictureError, match=words) as error:
        pictures.write(path, noise(4, 4))
    assert str(path) in one_line(error) and list(path.parent.iterdir()) == [path]
    assert np.array_equal(pictures.read_rgb(path), noise(4, 4, 1))


@pytest.mark.parametrize(
    ("name", "width", "words"),
    [
        ("file/a.png", 4, "cannot be written"),
        ("folder.png", 4, "Is a directory"),
        ("a.jpg", 70_000, "cannot be written .*; choose .* a smaller picture"),
        ("a.gif", 4, r"can be written: \.png \.jpg"),
        ("a", 4, r"can be written: \.png \.jpg"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, name, width, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match=words):
        pictures.write(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


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


@pytest.mark.parametrize(
    ("where", "words"),
    [("empty", "holds no picture"), ("no*", "no such"), ("x", "no such"), ("n" * 300, "no su")],
)
def test_find_says_what_is_missing(tmp_path, where, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match=words) as error:
        pictures.find(tmp_path / where)
    assert str(tmp_path / where) in one_line(error)
    with pytest.raises(PictureError, match="no such"):
        pictures.find("~nobody-of-this-name/x.jpg")


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
