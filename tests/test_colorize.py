"""`colorlib colorize` on good, odd and bad photos, with small notebooks of its own."""

from __future__ import annotations

import numpy as np
import pytest
from painting import (
    NAME,
    lightness_gap,
    names,
    photo,
    refusal,
    run,
    save,
    slope,
)
from PIL import Image

from colorlib import color, colorize, notebooks, training

pytestmark = pytest.mark.usefixtures("painters")


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


def test_the_best_run_that_has_the_row_paints(painters, monkeypatch):
    monkeypatch.setattr(colorize, "MODELS", painters / "models")
    with pytest.raises(colorize.ColorizeError, match=f"run {NAME}"):
        colorize.find_weights(NAME, "painter", insist=False)
    files = [save(painters / "models" / NAME / "other.safetensors")]
    with pytest.raises(colorize.ColorizeError, match="there is other"):
        colorize.find_weights(NAME, "painter")  # asked for by name
    for profile in ("smoke", "local", "laptop", "overnight", "paper"):  # the better the later
        best = colorize.find_weights(NAME, "painter", insist=False)
        assert best == files[-1]
        file = save(painters / "reports" / profile / NAME / "weights" / "painter.safetensors")
        # smoke trains nothing worth using, and a short run less than the committed model
        files += [file] if profile in ("overnight", "paper") else []
    assert colorize.find_weights(NAME, "painter") == files[-1]
    for short in ("overnight", "paper"):
        (painters / "reports" / short / NAME / "weights" / "painter.safetensors").unlink()
    laptop = painters / "reports" / "laptop" / NAME / "weights" / "painter.safetensors"
    assert colorize.find_weights(NAME, "painter") == laptop  # asked for by name


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


def test_a_reference_is_learned_the_long_way_when_asked(tmp_path, out, red):
    done = run(out, photo(tmp_path / "a.png", mode="L"), reference=red, paints="02", long=True)
    assert done.exit_code == 0, done.output
    assert calls("02") == ["long"]


def test_a_notebook_that_asks_for_the_photo_learns_for_each_anew(tmp_path, out, red):
    for size in ((30, 20), (50, 40)):
        photo(tmp_path / f"{size[0]}.png", size=size)
    done = run(out, tmp_path / "?0.png", reference=red, paints="04")
    assert done.exit_code == 0 and "for each photo" in done.output, done.output
    assert calls("04") == [(1, 1, 20, 30), (1, 1, 40, 50)]


def test_a_photo_that_cannot_be_learned_and_a_loop_of_links_cost_the_others_nothing(
    tmp_path, out, red, monkeypatch
):
    for size in ((30, 20), (50, 40)):
        photo(tmp_path / "in" / f"{size[0]}.png", size=size)
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    paint = notebooks.load("04").fit_reference

    def fit(reference, here, lightness):
        if lightness.shape[-1] == 30:
            raise training.NonFiniteLoss("the loss")
        return paint(reference, here, lightness)

    monkeypatch.setattr(notebooks.load("04"), "fit_reference", fit)
    done = run(out, tmp_path / "in", reference=red, paints="04")
    assert done.exit_code == 1 and "1 of 3 coloured" in done.output, done.output
    assert [file.name for file in out.iterdir()] == ["50.png"]


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
        ("02", {"weights": "w.safetensors", "long": True}, "leave --long out"),
        ("04", {"reference": "red.png", "long": True}, "leave --long out"),
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
