"""`colorlib colorize` on good, odd and bad photos, with a small model of notebook 03."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps

from colorlib import cli, color, notebooks, training

NAME = "03_cgan_flowers"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    paper = notebooks.load(NAME)
    torch.manual_seed(0)
    recipe = paper.Recipe(width=4, image_size=32)
    info = {
        "notebook": NAME,
        "row": "unet_gan",
        "image_size": 32,
        "build": paper.asdict(recipe),
        "data": "garden",
    }
    file = tmp_path_factory.mktemp("weights") / "unet_gan.safetensors"
    training.save_weights(file, paper.build_generator(recipe), info)
    return file


def colorize(*arguments):
    return CliRunner().invoke(cli.main, ["colorize", *map(str, arguments), "--with", "03"])


def photo(path, size=(60, 40), mode="RGB", **save):
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).convert(mode).save(path, **save)
    return path


def lightness(rgb):
    return 50 * (1 + color.to_network(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None])[0])


def test_a_large_photo_keeps_size_and_lightness(tmp_path, weights):
    smooth = np.linspace(20, 230, 1500)[None, :] + np.linspace(-20, 20, 1000)[:, None]
    rgb = np.stack([smooth, smooth * 0.9, smooth * 0.8], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "big.png")
    done = colorize(tmp_path / "big.png", "--weights", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    painted = np.asarray(Image.open(tmp_path / "out" / "big.png"))
    assert painted.shape == rgb.shape
    assert (lightness(painted) - lightness(rgb)).abs().max() < 0.5  # half a level of 8 bits
    assert np.abs(painted.astype(int) - rgb).max() > 2  # and it did paint


def test_before_rounding_lightness_is_kept_to_a_hundredth(weights):
    paper = notebooks.load(NAME)
    grey = 100 * torch.rand(1, 1, 200, 301)
    painted = paper.colorize(paper.load_model(weights), grey)
    assert (color.rgb_to_lab(painted)[:, :1] - grey).abs().max() < 0.01


def test_alpha_profile_and_orientation_come_along(tmp_path, weights):
    rgba = np.dstack(
        [np.full((20, 30, 3), 90, np.uint8), np.arange(600, dtype=np.uint32).reshape(20, 30) % 256]
    ).astype(np.uint8)
    profile = bytearray(200)
    profile[16:20] = b"RGB "
    Image.fromarray(rgba).save(tmp_path / "alpha.png", icc_profile=bytes(profile))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    photo(tmp_path / "turned.jpg", exif=exif)
    done = colorize(
        tmp_path / "alpha.png",
        tmp_path / "turned.jpg",
        "--weights",
        weights,
        "-o",
        tmp_path / "out",
    )
    assert done.exit_code == 0, done.output
    alpha = Image.open(tmp_path / "out" / "alpha.png")
    assert np.array_equal(np.asarray(alpha)[..., 3], rgba[..., 3])
    assert alpha.info["icc_profile"] == bytes(profile)
    assert Image.open(tmp_path / "out" / "turned.png").size == (40, 60)


def test_a_bad_file_is_reported_and_the_rest_go_on(tmp_path, weights):
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "good.png")
    photo(folder / "tiny.png", size=(1, 1))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    done = colorize(folder, tmp_path / "missing.png", "--weights", weights, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.png", "tiny.png"]
    assert "broken.jpg" in done.output and "missing.png" in done.output
    assert "2 of 4 coloured" in done.output


def test_nothing_is_overwritten_without_the_word(tmp_path, weights):
    source, out = photo(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    assert colorize(source, "--weights", weights, "-o", out).exit_code == 1
    assert (out / "a.png").read_bytes() == b"mine"
    assert colorize(source, "--weights", weights, "-o", out, "--overwrite").exit_code == 0
    assert Image.open(out / "a.png").size == (60, 40)


def test_two_photos_of_one_name_do_not_meet(tmp_path, weights):
    photo(tmp_path / "a.png")
    photo(tmp_path / "a.jpg")
    done = colorize(
        tmp_path / "a.*", "--weights", weights, "-o", tmp_path / "out", "--jpeg", "--json"
    )
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg.jpg", "a.png.jpg"]
    outcomes = json.loads(done.stdout)
    assert all(o["written"] and not o["problem"] for o in outcomes)


def test_photos_of_one_name_from_two_folders_are_all_kept(tmp_path, weights):
    for folder in "xy":
        (tmp_path / folder).mkdir()
        photo(tmp_path / folder / "a.png")
    photo(tmp_path / "A.png.png")
    done = colorize(
        tmp_path / "x",
        tmp_path / "y",
        tmp_path / "A.png.png",
        "--weights",
        weights,
        "-o",
        tmp_path / "out",
    )
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_an_original_is_never_replaced(tmp_path, weights):
    source = photo(tmp_path / "a.png")
    before = source.read_bytes()
    done = colorize(source, "--weights", weights, "-o", tmp_path, "--overwrite")
    assert done.exit_code == 1 and "its own target" in done.output
    assert source.read_bytes() == before


def test_too_little_memory_costs_one_photo(tmp_path, weights, monkeypatch):
    from colorlib import colorizing

    def paint(notebook, model, rgb, here, **options):
        if len(rgb) > 45:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return rgb

    monkeypatch.setattr(colorizing, "colorize_picture", paint)
    photo(tmp_path / "big.png", size=(60, 50))
    photo(tmp_path / "small.png")
    done = colorize(tmp_path / "*.png", "--weights", weights, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "too large" in done.output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["small.png"]


@pytest.mark.parametrize("info", [{}, {"notebook": "05_colorgan", "build": {"depth": 3}}])
def test_weights_of_another_network_are_refused_in_one_line(tmp_path, info):
    training.save_weights(tmp_path / "w.safetensors", torch.nn.Linear(1, 1), info)
    done = colorize(
        photo(tmp_path / "a.png"), "--weights", tmp_path / "w.safetensors", "-o", tmp_path / "out"
    )
    assert done.exit_code == 2 and f"not of {NAME}" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_row_that_was_not_trained_names_those_that_were(tmp_path, monkeypatch):
    from colorlib import colorizing

    monkeypatch.setattr(colorizing.files, "root", lambda: tmp_path)
    folder = tmp_path / "reports" / "laptop" / NAME / "weights"
    folder.mkdir(parents=True)
    (folder / "unet_gan.safetensors").write_bytes(b"")
    with pytest.raises(colorizing.ColorizeError, match="there is unet_gan"):
        colorizing.find_weights(NAME, "resnet_l1")
    assert colorizing.find_weights(NAME, "unet_gan").parent == folder


def test_without_weights_it_says_what_to_run_first(tmp_path, monkeypatch):
    from colorlib import colorizing

    monkeypatch.setattr(colorizing.files, "root", lambda: tmp_path)
    with pytest.raises(colorizing.ColorizeError, match="run 01_patchwise_cnn"):
        colorizing.find_weights("01_patchwise_cnn", "patchwise", insist=False)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x08\0\0\0\0\0\0\0{}      "])
def test_bad_weights_end_in_one_line(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    done = colorize(
        photo(tmp_path / "a.png"), "--weights", tmp_path / "w.safetensors", "-o", tmp_path / "out"
    )
    assert done.exit_code == 2 and "w.safetensors" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_reference_is_refused_where_none_is_taken(tmp_path, weights):
    source = photo(tmp_path / "a.png")
    done = colorize(source, "--weights", weights, "--reference", source, "-o", tmp_path / "out")
    assert done.exit_code == 2 and "takes no reference" in done.output


# --- learning from a reference -----------------------------------------------------------------


class Tint(torch.nn.Module):
    """Paints one colour, that of the reference it was fitted to."""

    def __init__(self, ab):
        super().__init__()
        self.ab = ab


def mean_ab(rgb):
    return color.to_network(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None])[1].mean((2, 3))


def paint_tint(model, grey_pictures, side=0):
    ab = model.ab.view(1, 2, 1, 1).expand(-1, -1, *grey_pictures.shape[-2:])
    return color.from_network(grey_pictures / 50 - 1, ab)


@pytest.fixture
def fitting(monkeypatch):
    """A notebook that learns from a reference; counts how often, and what it was told."""
    from types import SimpleNamespace

    from colorlib import colorizing

    calls = []

    def fit_reference(reference, here, side=0):
        calls.append({"side": side})
        return Tint(mean_ab(reference))

    notebook = SimpleNamespace(
        MAIN_ROW="tint",
        FIT_TAKES="a moment",
        calls=calls,
        colorize=paint_tint,
        fit_reference=fit_reference,
    )
    monkeypatch.setattr(colorizing.notebooks, "load", lambda name: notebook)
    return notebook


def red_picture(path, size=(20, 10)):
    Image.new("RGB", size, (200, 60, 60)).save(path)
    return path


def test_a_reference_is_learned_once_and_painted_on_every_photo(tmp_path, fitting):
    reference = red_picture(tmp_path / "red.png")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name, mode="L")
    done = colorize(tmp_path / "in", "--reference", reference, "--side", 48, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert fitting.calls == [{"side": 48}]
    assert "learns the colours of red.png once: a moment" in done.output
    painted = np.asarray(Image.open(tmp_path / "out" / "b.png"))
    a, b = mean_ab(painted)[0].tolist()
    assert a > 0.1 and b > 0.02  # reddish


def test_a_notebook_that_asks_for_the_photo_learns_for_each_anew(tmp_path, fitting):
    seen = []

    def fit_reference(reference, here, lightness):
        seen.append(lightness)
        return Tint(mean_ab(reference))

    fitting.fit_reference = fit_reference
    for size in ((30, 20), (50, 40)):
        photo(tmp_path / f"{size[0]}.png", size=size)
    reference = red_picture(tmp_path / "red.jpg")
    done = colorize(tmp_path / "?0.png", "--reference", reference, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [tuple(x.shape) for x in seen] == [(1, 1, 20, 30), (1, 1, 40, 50)]
    assert all(x.min() >= 0 and 1 < x.max() <= 100 for x in seen)
    assert "for each photo" in done.output


def test_without_a_reference_it_says_what_is_missing(tmp_path, fitting):
    done = colorize(photo(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert done.exit_code == 2 and "--reference PICTURE" in done.output
    assert len(done.output.strip().splitlines()) == 1 and not fitting.calls


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_bad_reference_is_one_line_and_nothing_is_learned(tmp_path, fitting, content):
    if content is not None:
        (tmp_path / "r.png").write_bytes(content)
    source = photo(tmp_path / "a.png")
    done = colorize(source, "--reference", tmp_path / "r.png", "-o", tmp_path / "out")
    assert done.exit_code == 2 and "r.png" in done.output
    assert len(done.output.strip().splitlines()) == 1 and not fitting.calls


def test_nothing_is_learned_when_there_is_nothing_to_paint(tmp_path, fitting):
    reference, source = red_picture(tmp_path / "red.png"), photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    done = colorize(source, tmp_path / "lost.png", "--reference", reference, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "0 of 2 coloured" in done.output
    assert fitting.calls == [] and (tmp_path / "out" / "a.png").read_bytes() == b"mine"


def test_weights_and_a_reference_exclude_each_other(tmp_path, fitting):
    reference, source = red_picture(tmp_path / "red.png"), photo(tmp_path / "a.png")
    done = colorize(
        source, "--reference", reference, "--weights", "w.safetensors", "-o", tmp_path / "out"
    )
    assert done.exit_code == 2 and "leave --reference out" in done.output


@pytest.fixture(scope="module")
def noisy_weights(tmp_path_factory):
    paper = notebooks.load("05_colorgan")
    torch.manual_seed(0)
    recipe = paper.Recipe(width=4, noise_channels=4, feature_channels=32, sigma=20.0, image_size=32)
    info = {"notebook": "05_colorgan", "row": "colorgan", "build": paper.asdict(recipe)}
    file = tmp_path_factory.mktemp("noisy") / "colorgan.safetensors"
    training.save_weights(file, paper.build_model(recipe), info)
    return file


def draw(*arguments):
    return CliRunner().invoke(cli.main, ["colorize", *map(str, arguments), "--with", "05"])


def test_draws_write_versions_that_differ_in_colour_only(tmp_path, noisy_weights):
    smooth = np.linspace(60, 190, 60)[None, :, None] + np.zeros((40, 60, 3))
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.png")
    photo(tmp_path / "a-1.png")  # a name that a version of the other one might take
    for folder in ("one", "two"):
        done = draw(
            tmp_path / "a.png", tmp_path / "a-1.png", "--weights", noisy_weights,
            "-o", tmp_path / folder, "--draws", 3,
        )  # fmt: skip
        assert done.exit_code == 0 and "6 of 6 coloured" in done.output, done.output
    names = [f"{stem}-{k}.png" for stem in ("a", "a-1") for k in (1, 2, 3)]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(names)
    versions = [np.asarray(Image.open(tmp_path / "one" / name)) for name in names[:3]]
    assert len({version.tobytes() for version in versions}) == 3
    for version in versions:
        assert (lightness(version) - lightness(smooth.astype(np.uint8))).abs().max() < 0.6
    again = [np.asarray(Image.open(tmp_path / "two" / name)) for name in names[:3]]
    assert all(np.array_equal(a, b) for a, b in zip(versions, again, strict=True))


def test_without_draws_there_is_one_version_under_the_photos_name(tmp_path, noisy_weights):
    photo(tmp_path / "a.png")
    done = draw(tmp_path / "a.png", "--weights", noisy_weights, "-o", tmp_path / "out")
    assert done.exit_code == 0 and [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_bad_photo_is_reported_once_for_all_its_draws(tmp_path, noisy_weights):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    photo(tmp_path / "good.png")
    options = ("--weights", noisy_weights, "-o", tmp_path / "out", "--draws", 4)
    done = draw(tmp_path / "bad.png", tmp_path / "good.png", *options)
    assert done.exit_code == 1 and done.output.count("bad.png") == 1
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_draws_are_refused_where_nothing_is_drawn(tmp_path, weights):
    done = colorize(
        photo(tmp_path / "a.png"), "--weights", weights, "-o", tmp_path / "out", "--draws", 2
    )
    assert done.exit_code == 2 and "leave --draws out" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("still", [{"branch": False}, {"sigma": 0.0}])
def test_draws_of_a_model_without_noise_are_refused(tmp_path, still):
    paper = notebooks.load("05_colorgan")
    small = {"width": 4, "noise_channels": 4, "feature_channels": 32, "image_size": 32}
    recipe = paper.Recipe(**(small | still))
    info = {"notebook": "05_colorgan", "row": "still", "build": paper.asdict(recipe)}
    training.save_weights(tmp_path / "w.safetensors", paper.build_model(recipe), info)
    options = ("--weights", tmp_path / "w.safetensors", "-o", tmp_path / "out")
    source = photo(tmp_path / "a.png")
    done = draw(source, *options, "--draws", 2)
    assert done.exit_code == 2 and "no noise" in done.output and not (tmp_path / "out").exists()
    assert len(done.output.strip().splitlines()) == 1
    assert draw(source, *options).exit_code == 0  # one version is no trouble


# --- weights of one picture, and weights made smaller ------------------------------------------


@pytest.fixture
def own_weights(tmp_path, weights):
    """Return (file, picture): weights that say they paint this picture, smooth, and no other."""
    from colorlib import colorizing, machine

    smooth = np.linspace(30, 220, 120)[None, :, None] + np.zeros((90, 120, 3))
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "its own.png")
    grey = colorizing.lightness_of(smooth.astype(np.uint8), machine.prepare("cpu"))
    paper, info = notebooks.load(NAME), training.read_info(weights)
    info |= {"target": colorizing.thumbnail(grey), "data": "one slope"}
    training.save_weights(tmp_path / "w.safetensors", paper.load_model(weights), info)
    return tmp_path / "w.safetensors", tmp_path / "its own.png"


def test_weights_of_one_picture_paint_it_at_any_size_and_no_other(tmp_path, own_weights):
    file, own = own_weights
    small = Image.open(own).resize((61, 47), Image.Resampling.BICUBIC)
    small.save(tmp_path / "smaller.jpg", quality=60)
    ImageOps.mirror(Image.open(own)).save(tmp_path / "mirrored.png")
    done = colorize(
        own, tmp_path / "smaller.jpg", tmp_path / "mirrored.png", "--weights", file,
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 1 and "2 of 3 coloured" in done.output
    (line,) = [line for line in done.output.splitlines() if "not coloured" in line]
    assert "mirrored.png" in line and "one picture, one slope" in line
    assert not (tmp_path / "out" / "mirrored.png").exists()


def test_half_a_file_paints_the_same(tmp_path, weights):
    from colorlib import colorizing

    file = tmp_path / "half.safetensors"
    change = colorizing.halve(weights, file, "a word on the data")
    assert 0 < change < 1 and file.stat().st_size < 0.6 * weights.stat().st_size
    assert training.read_info(file)["data"] == "a word on the data"
    paper = notebooks.load(NAME)
    whole, halved = paper.load_model(weights), paper.load_model(file)
    assert {value.dtype for value in halved.state_dict().values()} == {torch.float32, torch.int64}
    grey = 100 * torch.rand(1, 1, 40, 50)
    gap = (paper.colorize(whole, grey) - paper.colorize(halved, grey)).abs().max()
    assert 0 < gap < 1 / 255


def test_a_model_that_float16_would_change_is_not_written(tmp_path, weights):
    from colorlib import colorizing

    paper, info = notebooks.load(NAME), training.read_info(weights)
    model = paper.load_model(weights)
    with torch.no_grad():
        model.decoder[-2][1].weight.fill_(1e5)  # infinite in float16
    training.save_weights(tmp_path / "w.safetensors", model, info)
    with pytest.raises(colorizing.ColorizeError, match="levels"):
        colorizing.halve(tmp_path / "w.safetensors", tmp_path / "half.safetensors", "x")
    assert not (tmp_path / "half.safetensors").exists()
