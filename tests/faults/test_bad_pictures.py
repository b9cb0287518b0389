"""Pictures and folders of every kind: used, or refused in one line that names the file."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from painting import lightness_gap, names, photo, run, save, slope, write_notebooks
from photos import SRGB, UNDO, distance, fill, noise, one_line, png, smooth
from PIL import Image

from colorlib import colorize, pictures
from colorlib.datasets import DatasetError, load
from colorlib.pictures import PictureError

pytestmark = pytest.mark.usefixtures("painters")


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


@pytest.mark.parametrize("examples", [60, pytest.param(3000, marks=pytest.mark.long)])
def test_damaged_bytes_give_a_picture_or_a_line(tmp_path_factory, tally, examples):
    suffixes = st.sampled_from([".jpg", ".png", ".webp", ".tif", ".gif"])
    fuzz = given(data=st.data(), suffix=suffixes)(lambda **drawn: fuzzed(folder, tally, **drawn))
    folder = tmp_path_factory.mktemp("damaged")
    settings(max_examples=examples, deadline=10_000)(fuzz)()


def fuzzed(folder, tally, data, suffix):
    path = folder / f"a{suffix}"
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
        tally["refused"] += 1
    else:
        tally["used"] += 1
        assert not cut and found.dtype == np.uint8 and found.shape[2] == 3


def test_no_permission(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # the tests may run as root, whom none refuses
    with pytest.raises(PictureError, match=r"a\.png: cannot be read \(Permission denied\)"):
        pictures.read_rgb(tmp_path / "a.png")


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


def test_bad_files_are_skipped_with_one_line_each(tmp_path, data_root):
    folder = fill(tmp_path / "mine", 6)
    (folder / "empty.jpg").touch()
    (folder / "in").mkdir()
    (folder / "in" / "text.png").write_text("not a picture")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:300])
    (folder / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for _ in range(2):  # read, then from the cache
        found = load(str(folder), 8)
        assert len(found) == 6
        bad = ["cut.png", "empty.jpg", "in/text.png", "lost.png"]
        assert [line.split(":")[0] for line in found.skipped] == [f"mine/{file}" for file in bad]
        assert not any(str(tmp_path) in line or "\n" in line for line in found.skipped)


def test_folders_without_a_readable_picture(tmp_path, data_root):
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="holds no picture"):
        load(str(tmp_path / "none"), 8)
    (tmp_path / "none" / "a.jpg").touch()
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"readable picture \(1 bad: none/a\.jpg: is empty"):
            load(str(tmp_path / "none"), 8)


def test_bad_files_are_reported_and_the_rest_go_on(tmp_path, out, weights):
    photo(tmp_path / "in" / "good.png")
    photo(tmp_path / "in" / "tiny.png", size=(1, 1))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    done = run(out, tmp_path / "in", tmp_path / "missing.png", weights=weights)
    assert done.exit_code == 1 and names(out) == ["good.png", "tiny.png"]
    for bad in ("broken.jpg", "missing.png", "pipe.png"):
        assert done.output.count(f"{bad}: ") == 1
    assert "2 of 5 coloured" in done.output


def test_too_little_memory_costs_one_photo(tmp_path, out, weights, monkeypatch):
    def paint(notebook, model, rgb, here, **options):
        if len(rgb) > 45:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return rgb

    monkeypatch.setattr(colorize, "colorize_picture", paint)
    photo(tmp_path / "big.png", size=(60, 50)), photo(tmp_path / "small.png")
    done = run(out, tmp_path / "*.png", weights=weights)
    assert done.exit_code == 1 and "too large" in done.output and names(out) == ["small.png"]


KINDS = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".gif": "GIF"}


def encoded(kind: str, mode: str = "RGB", size: tuple = (24, 16), **options) -> bytes:
    Image.fromarray(noise(size[1], size[0])).convert(mode).save(
        made := io.BytesIO(), kind, **options
    )
    return made.getvalue()


def zoo() -> dict[str, bytes]:
    """Return files by name; what begins with "good" must be used, with "bad" refused."""
    found = {}
    for suffix, kind in KINDS.items():
        whole = encoded(kind)
        found |= {f"good {kind}{other}": whole for other in KINDS}  # under every suffix
        found |= {f"bad cut {n}{suffix}": whole[: len(whole) * n // 100] for n in (1, 10, 50, 80)}
        found |= {f"bad empty{suffix}": b"", f"bad zeros{suffix}": bytes(5000)}
        found |= {f"bad head{suffix}": whole[:16] + bytes(500), f"some tail{suffix}": whole + whole}
        frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
        if kind != "JPEG":
            stream = io.BytesIO()
            frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
            found[f"good film{suffix}"] = stream.getvalue()
    modes = {"JPEG": "L CMYK YCbCr", "PNG": "1 L LA P RGBA I;16", "TIFF": "1 P CMYK LA I;16 I"}
    for kind, names_of in modes.items():
        for mode in names_of.split():
            made = Image.fromarray(noise(16, 24)).convert("L" if mode[0] == "I" else mode)
            made = made.convert("I").convert(mode) if mode[0] == "I" else made
            made.save(stream := io.BytesIO(), kind)
            found[f"good {kind} {mode.replace(';', '')}.png"] = stream.getvalue()
    for words, size in {"dot": (1, 1), "tall": (1, 4000), "wide": (4000, 1)}.items():
        found |= {f"good {words} {kind}.png": encoded(kind, size=size) for kind in ("PNG", "JPEG")}
    lie = np.zeros((1, 1, 3), np.uint8)
    found |= {f"bad bomb {n}.png": png(8, 2, lie, (n, n)) for n in (12_000, 40_000, 2**31 - 1)}
    found |= {"bad lie.png": png(8, 2, lie, (900, 900)), "bad none.png": png(8, 2, lie, (0, 9))}
    others = {"html": b"<html><script>alert(1)</script>", "zip": b"PK\3\4" + bytes(99)}
    others |= {"pdf": b"%PDF-1.7\n", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    others |= {"eps": encoded("EPS"), "elf": b"\x7fELF" + bytes(99), "json": b"{}", "text": b"x"}
    found |= {f"bad {kind}.jpg": content for kind, content in others.items()}
    fine = encoded("PNG")
    odd = ["line\nbreak", "tab\t", "\x1b[31mred", "blüte 花 🌷", "<script>", "a'b\"c", "%s {0}"]
    found |= {f"good {name}.png": fine for name in [*odd, "n" * 190, "..", "-o", " "]}
    found |= {f"bad {name}.png": b"x" for name in [*odd, "n" * 190]}
    return found


class Hang(BaseException):
    """Ten seconds have passed on one picture."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> tuple[Result, list[str], list[str]]:
    """What the command line says of the files of the zoo, and what it painted."""
    place = tmp_path_factory.mktemp("zoo")

    def hang(*_):
        raise Hang

    with pytest.MonkeyPatch.context() as patch:
        write_notebooks(place / "project", patch)
        (place / "in").mkdir()
        for name, data in zoo().items():
            (place / "in" / name).write_bytes(data)
        one = colorize.colorize_file

        def timed(*arguments):
            signal.alarm(10)
            try:
                one(*arguments)
            finally:
                signal.alarm(0)

        patch.setattr(colorize, "colorize_file", timed)
        before = signal.signal(signal.SIGALRM, hang)
        done = run(place / "out", place / "in", weights=save(place / "w.safetensors"))
        signal.signal(signal.SIGALRM, before)
    told = [line for line in done.stderr.splitlines() if "weights trained" not in line]
    return done, told, names(place / "out")


def test_the_zoo_gets_a_line_or_a_painting_for_each_and_nothing_else(seen):
    done, told, painted = seen
    assert isinstance(done.exception, SystemExit), done.output
    assert all(line.startswith("not coloured: ") for line in told), told
    assert len(zoo()) == len(told) + len(painted) > 80


WORDS = {  # what is said of what is bad, by the second word of its name
    **{"cut": r"cannot be decoded \(.*\); fetch it|is not a picture that can be read; save it as"},
    **{"empty": r"is empty \(0 bytes\); fetch or export it again", "bomb": "more than 120 megap"},
    **dict.fromkeys(("head", "lie", "none"), r"cannot be decoded \(|is not a picture that can"),
}


@pytest.mark.parametrize("name", zoo(), ids=ascii)
def test_a_file_of_the_zoo_is_used_or_refused_in_one_line(seen, name, tally):
    _, told, painted = seen
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    about = [line for line in told if f"/in/{shown}: " in line]
    tally["refused" if about else "used"] += 1
    kind, word = name.split(" ")[:2]
    if kind != "some":
        assert len(about) == (kind == "bad"), about
    if about:
        words = WORDS.get(Path(word).stem, "is not a picture that can be read; save it as PNG")
        assert re.search(words, about[0]), about[0]
    else:
        assert [file for file in painted if file.startswith(Path(name).stem)]


@pytest.mark.parametrize("place", ["file.png/a.png", "file.png/*", "empty", "hidden", "x\ny", "[a"])
def test_a_folder_that_holds_nothing_to_paint(tmp_path, out, weights, place):
    (tmp_path / "file.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden" / ".thumbs").mkdir(parents=True)
    (tmp_path / "hidden" / ".thumbs" / "a.png").write_bytes(encoded("PNG"))
    done = run(out, tmp_path / place, weights=weights)
    assert done.exit_code == 1 and "0 of 1 coloured" in done.output
    (line,) = [line for line in done.stderr.splitlines() if "weights trained" not in line]
    assert line.startswith("not coloured: ") and repr(place)[1:-1] in line
    assert not out.exists()


def test_a_large_photo_is_painted_smaller_and_keeps_its_own_lightness(
    tmp_path, out, weights, monkeypatch
):
    rgb = slope(tmp_path / "a.png")
    assert run(out / "whole", tmp_path / "a.png", weights=weights).exit_code == 0
    monkeypatch.setattr(colorize, "MOST_PAINTED", 3000)
    assert run(out / "large", tmp_path / "a.png", weights=weights).exit_code == 0
    whole, large = (pictures.read_rgb(out / place / "a.png") for place in ("whole", "large"))
    assert large.shape == rgb.shape and lightness_gap(large, rgb) < 0.6
    assert 0 < distance(large, whole) < 2 < distance(large, rgb)


def test_what_a_decoder_warns_of_is_no_line_of_its_own(tmp_path):
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    code = f"from colorlib import pictures; pictures.read({str(tmp_path / 'a.jpg')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    code = code.replace("; ", "; import warnings; warnings.resetwarnings(); ")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Corrupt EXIF" in done.stderr


@pytest.mark.long
def test_thirty_megapixels_cost_less_than_a_gigabyte(tmp_path, out, weights):
    photo(tmp_path / "large.jpg", (6000, 5000))
    process = psutil.Process()
    before = process.memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    done = run(out, tmp_path / "large.jpg", weights=weights)
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert done.exit_code == 0 and int(peak) * 1024 - before < 2**30, int(peak) / 2**20
