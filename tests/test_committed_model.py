"""The small models that come with the code: in size, in words and in what they paint."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from colorlib import color, colorize, datasets, files, machine, notebooks, pictures, training
from colorlib.batch import cli

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LARGEST = 5_000_000  # bytes
FILES = sorted(colorize.MODELS.glob("*/*.safetensors"))
of_each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)


def score_rows(results: dict) -> list[str]:
    """Return the lines of the card's table: each score with its interval where it has one."""
    lines = []
    for row, s in results.items():
        gain, error = (s["ci95"][key] for key in ("gain_over_grey", "delta_e"))
        gain = f"{s['gain_over_grey']:+.2f} [{gain[0]:+.2f}, {gain[1]:+.2f}]"
        error = f"{s['delta_e']:.1f} [{error[0]:.1f}, {error[1]:.1f}]"
        shown = (row.replace("_", " "), f"{s['psnr']:.2f}", f"{s['ssim']:.3f}", gain, error)
        lines.append(f"| {' | '.join(shown)} | {s['cf_ratio']:.2f} |")
    return lines


@of_each
def test_a_model_is_small_and_loads_in_its_notebook(file):
    with safe_open(file, "pt") as stored:
        assert {stored.get_tensor(k).dtype for k in stored.keys() if "weight" in k} == {  # noqa: SIM118
            torch.float16
        }
    assert file.stat().st_size <= LARGEST
    name = file.parent.name
    model, _ = colorize.load_model(notebooks.load(name), name, file, machine.prepare("cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@of_each
def test_the_card_says_what_the_files_say(file):
    card = (file.parent / "README.md").read_text(encoding="utf-8")
    made = json.loads((file.parent / "scores.json").read_text(encoding="utf-8"))
    data, info = made["data"], training.read_info(file)
    assert [row for row in score_rows(made["results"]) if row not in card] == []
    assert f"{data['train']} photos" in card and str(data["train"]) in info["data"]
    assert f"{file.stat().st_size / 1e6:.1f} MB" in card and "worse than leaving them grey" in card
    credits = (file.parent / "credits.tsv").read_text(encoding="utf-8").splitlines()
    assert "CC BY 2.0" in credits[0] and all(len(line.split("\t")) == 3 for line in credits[1:])
    assert len(credits) - 1 > data["train"] + data["test"]  # and those to validate


def test_an_installed_copy_carries_it():
    project = tomllib.loads((files.root() / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["colorlib"]
    package = colorize.MODELS.parent
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    assert FILES and carried >= set(FILES)


def test_in_the_first_minute_it_paints_a_photo_and_says_what_that_is_worth(tmp_path, monkeypatch):
    monkeypatch.setattr(colorize, "PROFILES", ())  # as in a clone where nothing was run yet
    name = sorted((files.root() / "data" / "flowers").glob("*tulip*.jpg"))[0].stem
    photo = datasets.photo(f"flowers/{name}")
    Image.fromarray(photo).convert("L").save(tmp_path / "grey.png")
    words = ["colorize", str(tmp_path / "grey.png"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "small model" in line]
    assert "CC BY" in line and "colours are guesses" in line
    painted = pictures.read_rgb(tmp_path / "out" / "grey.png")
    assert painted.shape == photo.shape
    lab = color.rgb_to_lab(color.as_rgb(painted[None]))[0]
    light, dark = (lab[1:, part].mean(1).numpy() for part in (lab[0] > 60, lab[0] < 35))
    assert min(np.linalg.norm(light), np.linalg.norm(dark)) > 3  # neither is grey
    assert np.linalg.norm(light - dark) > 3  # nor do all things get one colour
