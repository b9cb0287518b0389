"""Small notebooks that paint, and the command line that calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from PIL import Image

from colorlib import color, training
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

def fit_reference(reference, here, side=0, long=False):
    CALLS.append("long" if long else side)
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


def write_notebooks(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write the notebooks into a project, and work there."""
    patch.setenv("COLORLIB_ROOT", str(root))
    known = {NAME: [], "05_draws": [DRAWS], "02_fits": [FITS], "04_fits_anew": [FITS, ANEW]}
    for name, cells in known.items():
        tiny.write(root, name, PAINTER, *cells)
    tiny.write(root, "07_speed", "%%define\nMAIN_ROW = 'none'")
    return root


def save(file: Path, info: dict | None = None, value: float = 0.2, notebook: str = NAME) -> Path:
    """Write weights that paint every picture in one way."""
    model = torch.nn.Conv2d(1, 2, 1)
    torch.nn.init.constant_(model.weight, value)
    torch.nn.init.constant_(model.bias, value)
    about = {"notebook": notebook, "row": "painter", "build": {"size": 1}, "data": "flowers"}
    training.save_weights(file, model, about if info is None else about | info)
    return file


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
