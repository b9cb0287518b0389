"""`colorlib colorize` on good, odd and bad photos, with small notebooks of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

from colorlib import color, colorize, notebooks, training
from colorlib.batch import cli

PAINTER = """%%define
import torch
from torch import nn
from colorlib import color, training

MAIN_ROW = "painter"

def load_model(path, device="cpu"):
    model = nn.Conv2d(1, 2, training.read_info(path)["build"]["size"], padding="same")
    training.load_weights(path, model)
    return model.to(device).eval()

@torch.inference_mode()
def colorize(model, grey_pictures, side=0):
    return color.from_network(grey_pictures / 50 - 1, torch.tanh(model(grey_pictures / 50 - 1)))
"""
DRAWS = """%%define
def paints_versions(model):
    return model.bias.abs().max() > 0

def colorize(model, grey_pictures, draws=1, seed=0):
    noise = 0.3 * torch.randn(1, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    ab = torch.tanh(model(grey_pictures / 50 - 1) + noise).detach()
    return color.from_network(grey_pictures / 50 - 1, ab)
"""
FITS = """%%define
FIT_TAKES = "a moment"
CALLS = []

def fit_reference(reference, here, side=0):
    CALLS.append(side)
    return color.to_network(color.as_batch(reference[None]))[1].mean((2, 3), keepdim=True)

def colorize(model, grey_pictures, side=0):
    ab = model.expand(-1, -1, *grey_pictures.shape[-2:])
    return color.from_network(grey_pictures / 50 - 1, ab)
"""
ANEW = """%%define
def fit_reference(reference, here, lightness):
    assert lightness.min() >= 0 and lightness.max() <= 100
    CALLS.append(tuple(lightness.shape))
    return color.to_network(color.as_batch(reference[None]))[1].mean((2, 3), keepdim=True)
"""
NAME = "03_paints"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path / "project"))
    known = {NAME: [], "05_draws": [DRAWS], "02_fits": [FITS], "04_fits_anew": [FITS, ANEW]}
    for name, cells in known.items():
        tiny.write(tmp_path / "project", name, PAINTER, *cells)
    tiny.write(tmp_path / "project", "07_speed", "%%define\nMAIN_ROW = 'none'")
    return tmp_path / "project"


def save(file: Path, info: dict | None = None, value: float = 0.2, notebook: str = NAME) -> Path:
    """Write weights that paint every picture in one way."""
    model = torch.nn.Conv2d(1, 2, 1)
    torch.nn.init.constant_(model.weight, value)
    torch.nn.init.constant_(model.bias, value)
    about = {"notebook": notebook, "row": "painter", "build": {"size": 1}, "data": "flowers"}
    training.save_weights(file, model, about if info is None else about | info)
    return file


@pytest.fixture
def weights(tmp_path):
    return save(tmp_path / "painter.safetensors")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def run(out: Path, *photos: object, paints: str = "03", **options: object) -> Result:
    """Colour photos into a folder; options as on the command line, True for a flag."""
    words = [*map(str, photos), "-o", str(out), "--with", paints]
    for key, value in options.items():
        words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return CliRunner().invoke(cli.main, ["colorize", *words])


def photo(path: Path, size=(60, 40), mode="RGB", **options) -> Path:
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).convert(mode).save(path, **options)
    return path


def slope(path: Path) -> np.ndarray:
    smooth = np.linspace(30, 220, 120)[None, :, None] + np.zeros((90, 120, 3))
    Image.fromarray(smooth.astype(np.uint8)).save(path)
    return smooth.astype(np.uint8)


def lightness_gap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of L*; 0.6 is a level of 8 bits."""
    return (color.lightness_of(one) - color.lightness_of(other)).abs().max()


def refusal(done: Result, words: str) -> None:
    assert done.exit_code == 2 and words in done.output, done.output
    assert len(done.output.strip().splitlines()) == 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_photo_keeps_size_and_lightness(tmp_path, out, weights):
    rgb = slope(tmp_path / "slope.png")
    done = run(out, tmp_path / "slope.png", weights=weights)
    assert done.exit_code == 0 and "weights trained on flowers" in done.output
    painted = np.array(Image.open(out / "slope.png"))
    assert painted.shape == rgb.shape and lightness_gap(painted, rgb) < 0.6
    assert np.abs(painted.astype(int) - rgb).max() > 2  # and it did paint


def test_alpha_profile_and_orientation_come_along(tmp_path, out, weights):
    alpha = (np.arange(600) % 256).astype(np.uint8).reshape(20, 30)
    profile = bytes(16) + b"RGB " + bytes(180)
    pixels = np.dstack([np.full((20, 30, 3), 90, np.uint8), alpha])
    Image.fromarray(pixels).save(tmp_path / "alpha.png", icc_profile=profile)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    done = run(out, tmp_path / "alpha.png", photo(tmp_path / "a.jpg", exif=exif), weights=weights)
    assert done.exit_code == 0, done.output
    written = Image.open(out / "alpha.png")
    assert np.array_equal(np.asarray(written)[..., 3], alpha)
    assert written.info["icc_profile"] == profile and Image.open(out / "a.png").size == (40, 60)


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


def test_nothing_is_overwritten_without_the_word_and_an_original_never(tmp_path, out, weights):
    sources = [photo(tmp_path / "in" / name) for name in ("x.jpg", "x.png", "x.jpg.png", "y.png")]
    before = [source.read_bytes() for source in sources]
    out.mkdir()
    (out / "y.png").write_bytes(b"mine")
    assert run(out, sources[-1], weights=weights).exit_code == 1
    assert (out / "y.png").read_bytes() == b"mine"
    assert run(out, sources[-1], weights=weights, overwrite=True).exit_code == 0
    assert Image.open(out / "y.png").size == (60, 40)
    done = run(tmp_path / "in", tmp_path / "in", weights=weights, overwrite=True)
    assert done.exit_code == 1 and "is itself a photo to colour" in done.output
    assert [source.read_bytes() for source in sources] == before


def test_photos_of_one_name_do_not_meet(tmp_path, out, weights):
    for place in ("x/a.png", "x/a.jpg", "y/a.png", "A.png.png"):
        photo(tmp_path / place)
    places = [tmp_path / place for place in ("x", "y", "A.png.png")]
    done = run(out, *places, weights=weights, jpeg=True)
    assert done.exit_code == 0 and "4 of 4 coloured" in done.output, done.output
    assert len({name.casefold() for name in names(out)}) == 4


def test_what_was_painted_is_not_painted_again(tmp_path, weights):
    photo(tmp_path / "in" / "a.png")
    for _ in range(2):
        done = run(tmp_path / "in" / "out", tmp_path / "in", weights=weights, overwrite=True)
        assert done.exit_code == 0 and "1 of 1 coloured" in done.output
        assert names(tmp_path / "in" / "out") == ["a.png"]


def test_too_little_memory_costs_one_photo(tmp_path, out, weights, monkeypatch):
    def paint(notebook, model, rgb, here, **options):
        if len(rgb) > 45:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return rgb

    monkeypatch.setattr(colorize, "colorize_picture", paint)
    photo(tmp_path / "big.png", size=(60, 50)), photo(tmp_path / "small.png")
    done = run(out, tmp_path / "*.png", weights=weights)
    assert done.exit_code == 1 and "too large" in done.output and names(out) == ["small.png"]


@pytest.mark.parametrize(
    ("info", "value", "words"),
    [
        ({"notebook": "05_draws"}, 0.2, f"weights of 05_draws, not of {NAME}"),
        ({"notebook": None}, 0.2, f"not of {NAME}"),
        ({"build": {"size": "wide"}}, 0.2, "fits no network"),
        ({"build": [1]}, 0.2, "fits no network"),
        ({"build": {"size": 3}}, 0.2, "weights of another network"),
        ({}, float("nan"), "no numbers"),
        (None, 0.0, "no weights; fetch"),
    ],
)
def test_weights_that_cannot_paint_are_refused_in_one_line(tmp_path, out, info, value, words):
    file = save(tmp_path / "w.safetensors", info, value)
    if info is None:
        file.write_bytes(b"\x80\x04pickle")
    done = run(out, photo(tmp_path / "a.png"), weights=file)
    refusal(done, words)
    assert "w.safetensors" in done.output and not out.exists()


def test_the_best_run_that_has_the_row_paints(project, monkeypatch):
    monkeypatch.setattr(colorize, "MODELS", project / "models")
    with pytest.raises(colorize.ColorizeError, match=f"run {NAME}"):
        colorize.find_weights(NAME, "painter", insist=False)
    files = [save(project / "models" / NAME / "other.safetensors")]
    with pytest.raises(colorize.ColorizeError, match="there is other"):
        colorize.find_weights(NAME, "painter")  # asked for by name
    for profile in ("smoke", "local", "laptop", "overnight", "paper"):  # the better the later
        best = colorize.find_weights(NAME, "painter", insist=False)
        assert best == files[-1]
        file = save(project / "reports" / profile / NAME / "weights" / "painter.safetensors")
        files += [file] if profile != "smoke" else []  # smoke trains nothing worth using
    assert colorize.find_weights(NAME, "painter") == files[-1]


def test_weights_of_one_picture_paint_it_at_any_size_and_no_other(tmp_path, out):
    grey = color.lightness_of(slope(tmp_path / "own.png"))
    target = {"target": colorize.thumbnail(grey), "data": "one slope"}
    own = Image.open(tmp_path / "own.png")
    own.resize((61, 47), Image.Resampling.BICUBIC).save(tmp_path / "small.jpg", quality=60)
    ImageOps.mirror(own).save(tmp_path / "mirrored.png")
    done = run(out, tmp_path / "*.*g", weights=save(tmp_path / "w.safetensors", target))
    assert done.exit_code == 1 and names(out) == ["own.png", "small.png"]
    (line,) = [line for line in done.output.splitlines() if "not coloured" in line]
    assert "mirrored.png" in line and "one picture, one slope" in line


@pytest.fixture
def red(tmp_path):
    Image.new("RGB", (20, 10), (200, 60, 60)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def calls(name: str) -> list:
    return notebooks.load(name).CALLS


def test_a_reference_is_learned_once_and_painted_on_every_photo(tmp_path, out, red):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name, mode="L")
    done = run(out, tmp_path / "in", reference=red, side=48, paints="02")
    assert done.exit_code == 0, done.output
    assert calls("02") == [48] and "learns the colours of red.png once: a moment" in done.output
    painted = np.asarray(Image.open(out / "b.png"))
    a, b = color.to_network(color.as_batch(painted[None]))[1].mean((0, 2, 3)).tolist()
    assert a > 0.1 and b > 0.02  # reddish


def test_a_notebook_that_asks_for_the_photo_learns_for_each_anew(tmp_path, out, red):
    for size in ((30, 20), (50, 40)):
        photo(tmp_path / f"{size[0]}.png", size=size)
    done = run(out, tmp_path / "?0.png", reference=red, paints="04")
    assert done.exit_code == 0 and "for each photo" in done.output, done.output
    assert calls("04") == [(1, 1, 20, 30), (1, 1, 40, 50)]


def test_nothing_is_learned_when_there_is_nothing_to_paint(tmp_path, out, red):
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    done = run(out, photo(tmp_path / "a.png"), tmp_path / "lost.png", reference=red, paints="02")
    assert done.exit_code == 1 and "0 of 2 coloured" in done.output
    assert calls("02") == [] and (out / "a.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("paints", "options", "words"),
    [
        ("02", {}, "--reference PICTURE"),
        ("02", {"reference": "red.png", "weights": "w.safetensors"}, "leave --reference out"),
        ("02", {"reference": "lost.png"}, "lost.png: cannot be read"),
        ("02", {"reference": "bad.png"}, "bad.png: is not a picture"),
        ("03", {"reference": "red.png"}, "takes no reference"),
        ("03", {"draws": 2}, "leave --draws out"),
        ("05", {"side": 9}, "leave --side out"),
        ("03", {"temperature": 2}, "leave --temperature out"),
        ("05", {"draws": 2, "weights": "mute.safetensors"}, "no noise"),
        ("07", {}, "choose another --with"),
        ("09", {}, "unknown notebook '09'"),
    ],
)
def test_what_a_notebook_does_not_offer_is_refused(
    tmp_path, out, red, monkeypatch, paints, options, words
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mute.safetensors", value=0.0, notebook="05_draws")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    refusal(run(out, photo(tmp_path / "a.png"), **options, paints=paints), words)
    assert not out.exists() and calls("02") == []


def test_draws_write_versions_that_differ_in_colour_only(tmp_path, out):
    file = save(tmp_path / "w.safetensors", notebook="05_draws")
    rgb = slope(tmp_path / "a.png")
    photo(tmp_path / "a-1.png")  # a name that a version of the other one might take
    (tmp_path / "bad.png").write_bytes(b"no picture")
    sources = [tmp_path / name for name in ("a.png", "a-1.png", "bad.png")]
    for folder in ("one", "two"):
        done = run(out / folder, *sources, weights=file, draws=3, paints="05")
        assert done.exit_code == 1 and "6 of 7 coloured" in done.output, done.output  # bad: once
    found = [f"{stem}-{k}.png" for stem in ("a", "a-1") for k in (1, 2, 3)]
    assert names(out / "one") == sorted(found)
    versions = [np.array(Image.open(out / "one" / name)) for name in found[:3]]
    assert len({version.tobytes() for version in versions}) == 3
    for version, name in zip(versions, found, strict=False):
        assert lightness_gap(version, rgb) < 0.6
        assert np.array_equal(version, np.array(Image.open(out / "two" / name)))
    assert run(out / "three", sources[0], weights=file, paints="05").exit_code == 0
    assert names(out / "three") == ["a.png"]  # one version keeps the name
