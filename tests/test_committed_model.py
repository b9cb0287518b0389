"""The small models that come with the code: in size, in words and in what they paint."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from colorlib import cli, color, colorizing, datasets, notebooks, pictures, training

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LARGEST = 5_000_000  # bytes
FILES = sorted(colorizing.MODELS.glob("*/*.safetensors"))


def card(file: Path) -> str:
    return (file.parent / "README.md").read_text(encoding="utf-8")


def metrics(file: Path) -> dict:
    return json.loads((file.parent / "scores.json").read_text(encoding="utf-8"))


def score_rows(made: dict) -> list[str]:
    """Return the lines of the card's table: each score with its interval where it has one."""
    lines = []
    for row, s in made["results"].items():
        gain, error = (s["ci95"][key] for key in ("gain_over_grey", "delta_e"))
        gain = f"{s['gain_over_grey']:+.2f} [{gain[0]:+.2f}, {gain[1]:+.2f}]"
        error = f"{s['delta_e']:.1f} [{error[0]:.1f}, {error[1]:.1f}]"
        shown = (row.replace("_", " "), f"{s['psnr']:.2f}", f"{s['ssim']:.3f}", gain, error)
        lines.append(f"| {' | '.join(shown)} | {s['cf_ratio']:.2f} |")
    return lines


@pytest.fixture
def fresh(monkeypatch):
    """As in a clone where nothing was run yet."""
    monkeypatch.setattr(colorizing, "PROFILES", ())


def test_there_is_a_model_for_the_default_notebook(fresh):
    name = notebooks.full_name("03")
    main = notebooks.load(name).MAIN_ROW
    assert colorizing.find_weights(name, main, insist=False) in FILES
    with pytest.raises(colorizing.ColorizeError, match="there is"):  # asked for, another row is not
        colorizing.find_weights(name, "resnet_l1")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_it_is_small_half_precise_and_loads_into_single(file):
    assert file.stat().st_size <= LARGEST
    info = training.read_info(file)
    assert info["notebook"] == file.parent.name and info["row"] == file.stem
    model = notebooks.load(info["notebook"]).load_model(file)
    with safe_open(file, "pt") as stream:
        stored = {stream.get_tensor(name).dtype for name, _ in model.named_parameters()}
    assert stored == {torch.float16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_card_says_what_the_files_say(file):
    text, made, info = card(file), metrics(file), training.read_info(file)
    assert [row for row in score_rows(made) if row not in text] == []
    assert f"{made['data']['train']} photos" in text and str(made["data"]["train"]) in info["data"]
    assert f"{file.stat().st_size / 1e6:.1f} MB" in text
    credits = (file.parent / "credits.tsv").read_text(encoding="utf-8").splitlines()
    assert "CC BY 2.0" in credits[0] and all(len(line.split("\t")) == 3 for line in credits[1:])
    assert len(credits) - 1 > made["data"]["train"] + made["data"]["test"]  # and those to validate


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_command_of_the_card_can_be_given(file):
    (command,) = re.findall(r"^python -m colorlib run (?:.*\\\n)*.*", card(file), re.M)
    words = shlex.split(command.replace("\\\n", " "))
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    known = notebooks.parameters(file.parent.name)
    values = {name: notebooks.from_text(known[name], text) for name, text in given.items()}
    notebooks.check_types(file.parent.name, values)
    build = training.read_info(file)["build"]
    assert (values["unet_width"], values["image_size"]) == (build["width"], build["image_size"])


def test_an_installed_copy_carries_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["colorlib"]
    package = colorizing.MODELS.parent
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    assert FILES and carried >= set(FILES)


def test_in_the_first_minute_it_paints_a_photo_and_says_what_that_is_worth(fresh, tmp_path):
    Image.fromarray(datasets.photo("flower")).convert("L").save(tmp_path / "grey.png")
    done = CliRunner().invoke(
        cli.main, ["colorize", str(tmp_path / "grey.png"), "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "small model" in line]
    assert "CC BY" in line and "colours are guesses" in line
    painted = pictures.read_rgb(tmp_path / "out" / "grey.png")
    assert painted.shape == datasets.photo("flower").shape
    blossom, leaves = (mean_ab(painted, part) for part in ((60, 100), (0, 35)))  # by lightness
    assert min(np.linalg.norm(blossom), np.linalg.norm(leaves)) > 3  # neither is grey
    assert np.linalg.norm(blossom - leaves) > 5  # nor do all things get one colour


def mean_ab(rgb: np.ndarray, lightness: tuple[int, int]) -> np.ndarray:
    lab = color.rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)[0]
    part = (lab[0] >= lightness[0]) & (lab[0] < lightness[1])
    return lab[1:, part].mean(1).numpy()


@pytest.mark.parametrize(("data", "committed_first"), [("garden", True), ("flowers", False)])
def test_it_comes_before_what_has_only_seen_drawings(tmp_path, monkeypatch, data, committed_first):
    name = "03_cgan_flowers"
    own = tmp_path / "reports/laptop" / name / "weights/unet_gan.safetensors"
    info = training.read_info(FILES[0]) | {"data": data}
    training.save_weights(own, torch.nn.Linear(1, 1), info)
    monkeypatch.setattr(colorizing.files, "root", lambda: tmp_path)
    assert (colorizing.find_weights(name, "unet_gan", insist=False) in FILES) == committed_first
    assert colorizing.find_weights(name, "unet_gan") == own  # who asks for a row gets the run's
