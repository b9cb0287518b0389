"""The model that comes with the code: in size, in words and in what it paints."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from colorlib import (
    color,
    colorize,
    datasets,
    files,
    machine,
    metrics,
    notebooks,
    pictures,
    training,
)
from colorlib.batch import cli

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LARGEST = 12_000_000  # bytes
NAME = "07_together"
FILE = colorize.MODELS / NAME / "together.safetensors"
CARD = (FILE.parent / "README.md").read_text(encoding="utf-8")
SCORES = json.loads((FILE.parent / "scores.json").read_text(encoding="utf-8"))


def score_row(name: str, s: dict) -> str:
    """Return a line of the card's table."""
    low, high = s["ci95"]["gain_over_grey"]
    gain = f"{s['gain_over_grey']:+.2f} [{low:+.2f}, {high:+.2f}]"
    errors = (f"{s[key]:.1f}" for key in ("delta_e", "delta_e_of_grey", "delta_e_of_mean"))
    return f"| {name} | {s['n']} | {gain} | {' | '.join(errors)} | {s['cf_ratio']:.2f} |"


@pytest.fixture(scope="module")
def model():
    return colorize.load_model(notebooks.load(NAME), NAME, FILE, machine.prepare("cpu"))[0]


def test_it_is_small_and_loads_in_its_notebook(model):
    with safe_open(FILE, "pt") as stored:
        assert {stored.get_tensor(k).dtype for k in stored.keys() if "weight" in k} == {  # noqa: SIM118
            torch.float16
        }
    assert FILE.stat().st_size <= LARGEST
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sorted(path.name for path in colorize.MODELS.iterdir()) == [NAME]  # one, the best


def test_the_card_says_what_the_files_say():
    rows = [score_row(name, s) for name, s in SCORES["sets"].items()]
    assert rows and [row for row in rows if row not in CARD] == []
    assert f"{SCORES['train']:,} photographs" in CARD
    assert training.read_info(FILE)["data"] == "flowers,scenes,things"
    assert f"{FILE.stat().st_size / 1e6:.1f} MB" in CARD


def test_on_every_set_its_means_are_better_than_no_colour():
    for name, s in SCORES["sets"].items():
        assert s["gain_over_grey"] > 0 and s["delta_e"] < s["delta_e_of_grey"], name


@pytest.mark.parametrize("kind", ["flowers", "scenes", "things"])
def test_what_the_card_says_is_what_it_paints(model, kind):
    lesson, here = notebooks.load(NAME), machine.prepare("cpu", "fp32")
    rgb = datasets.load(kind, 128).test.pictures
    painted = lesson.colorize_set(model, rgb, here)
    found = metrics.evaluate({"together": painted}, rgb, (0.0, 0.0)).rows["together"]
    told = SCORES["sets"][kind]
    assert found["n"] == told["n"]
    assert found["gain_over_grey"] == pytest.approx(told["gain_over_grey"], abs=0.05)
    assert found["delta_e"] == pytest.approx(told["delta_e"], abs=0.1)


def test_an_installed_copy_carries_it():
    project = tomllib.loads((files.root() / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["colorlib"]
    package = colorize.MODELS.parent
    assert FILE in {path for pattern in patterns for path in package.glob(pattern)}


def test_in_the_first_minute_it_paints_a_photo_and_says_what_that_is_worth(tmp_path, monkeypatch):
    monkeypatch.setattr(colorize, "PROFILES", ())  # as in a clone where nothing was run yet
    photo = datasets.photo("flowers/tff_tulip-130685245")
    Image.fromarray(photo).convert("L").save(tmp_path / "grey.png")
    words = ["colorize", str(tmp_path / "grey.png"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "small model" in line]
    assert "flowers,scenes,things" in line and "colours are guesses" in line
    painted = pictures.read_rgb(tmp_path / "out" / "grey.png")
    assert painted.shape == photo.shape
    lab = color.rgb_to_lab(color.as_rgb(painted[None]))[0]
    light, dark = (lab[1:, part].mean(1).numpy() for part in (lab[0] > 60, lab[0] < 35))
    assert min(np.linalg.norm(light), np.linalg.norm(dark)) > 3  # neither is grey
    assert np.linalg.norm(light - dark) > 3  # nor do all things get one colour
