"""A small network of 07, exported once: by `make web` into its page where npm can, else alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch
from browsing import ROOT
from torch.nn import functional as F

from colorlib import color, datasets, notebooks, pictures, training

SIDE = 64  # what the network sees of the short side
WEIGHTS = "together.safetensors"


def save_weights(file: Path) -> None:
    """Save an untrained network whose norms know a photo: so its colours differ by place."""
    lesson = notebooks.load("07_together")
    torch.manual_seed(0)
    recipe = lesson.Recipe(image_size=SIDE)
    model = lesson.Painter(recipe).train()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    photo = pictures.resize(datasets.photo("scenes/akc_246"), (345, 230), "squash")
    with torch.no_grad():
        model(F.interpolate(color.lightness_of(photo) / 50 - 1, (192, 128)))
    torch.nn.init.normal_(model.answer.weight, std=0.3)
    model.daring[1:] = 0.7
    about = {"notebook": lesson.NAME, "row": lesson.MAIN_ROW, "data": "noise"}
    training.save_weights(file, model, about | {"build": lesson.asdict(recipe)})


def export(folder: Path) -> Path:
    """Return the exported network, `web/model.onnx`; the weights lie in the folder above it."""
    weights, page = folder / WEIGHTS, folder / "web"
    save_weights(weights)
    if shutil.which("npm"):
        built = [f"bin={Path(sys.executable).parent}", f"WEB={page}", f"WEIGHTS={weights}"]
        done = run("make", "--old-file=.venv/.ready", "web", *built)
        if not done.returncode:
            return page / "model.onnx"
        assert not [*ROOT.glob("build/onnxruntime-web-*.tgz")], done.stderr
        shutil.rmtree(page)  # npm cannot fetch what the page needs
    words = ("export", "-o", str(page / "model.onnx"), "--weights", str(weights))
    done = run(sys.executable, "-m", "colorlib", *words)
    assert "differs by" in done.stdout, done.stderr
    return page / "model.onnx"


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
