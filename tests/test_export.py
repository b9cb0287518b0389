"""`colorlib export`: the ONNX file paints as the network does, at any size and temperature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from exporting import WEIGHTS
from torch.nn import functional as F

from colorlib import color, export, notebooks
from colorlib.batch import cli

lesson = notebooks.load("07_together")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.xdist_group("web")  # what was exported serves its page's tests too


def run(*words: object):
    return CliRunner().invoke(cli.main, ["export", *map(str, words)])


@pytest.fixture
def weights(exported):
    return exported.parents[1] / WEIGHTS


@pytest.mark.parametrize(("size", "temperature"), [((64, 96), 1.0), ((160, 64), 0.3)])
def test_what_another_program_paints_is_what_colorize_paints(weights, exported, size, temperature):
    smooth = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(size[0])) * 100
    lightness = F.interpolate(smooth, size, mode="bilinear")
    level = lightness / 50 - 1
    given = {"lightness": level.numpy(), "temperature": np.array(temperature, np.float32)}
    (lines,) = onnxruntime.InferenceSession(str(exported)).run(None, given)
    lines = F.interpolate(torch.from_numpy(lines), size, mode="bilinear")
    theirs = color.from_network(level, lines[:, :2] * level + lines[:, 2:])
    ours = lesson.colorize(lesson.load_model(weights), lightness, 999, temperature)
    assert (theirs - ours).abs().max() < 2e-3
    assert (ours - ours.mean(1, keepdim=True)).abs().max() > 0.02  # there is colour to compare


def test_what_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch, weights):
    done = run("--with", "03", "-o", tmp_path / "a.onnx")
    assert done.exit_code == 2 and "no network to take along" in done.output
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_package"))
    done = run("-o", tmp_path / "a.onnx", "--weights", weights)
    assert done.exit_code == 2 and "no_such_package: not here" in done.output
    assert not (tmp_path / "a.onnx").exists()


def test_a_file_that_paints_otherwise_is_named(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(torch.onnx, "export", lambda _, given, file, **told: file.write_bytes(b""))
    monkeypatch.setattr(export, "gap", lambda *_: 0.1)
    done = run("-o", tmp_path / "a.onnx", "--weights", weights)
    assert done.exit_code == 2 and "do not use it" in done.output
