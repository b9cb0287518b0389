"""Weights and checkpoints that cannot be used: one line, nothing changed, no code run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from painting import NAME, names, photo, refusal, run, save, slope
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import nn
from toy import Toy, checkpoints, network

from colorlib import color, colorize, training
from colorlib.training import WeightsError

pytestmark = pytest.mark.usefixtures("painters")


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


def respell(file: Path, key: str, value: torch.Tensor) -> None:
    """Put another tensor into a checkpoint."""
    state = torch.load(file, weights_only=True)
    state["modules"]["net"][key] = value
    torch.save(state, file)


@pytest.mark.parametrize(
    ("damage", "change", "words"),
    [
        (lambda file: file.write_bytes(b""), {}, "is damaged"),
        (lambda file: file.write_bytes(b"\x80\x04rubbish"), {}, "is damaged"),
        (lambda file: os.truncate(file, file.stat().st_size - 100), {}, "is damaged"),
        (lambda file: training.save_weights(file, Toy().net, {}), {}, "is damaged"),
        (lambda file: torch.save({"a": torch.ones(9)}, file), {}, "is damaged"),
        (lambda file: torch.save([1], file), {}, "is damaged"),
        (lambda file: file.write_bytes(pickle.dumps(Trap(), 2)), {}, "is damaged"),
        (lambda file: respell(file, "0.weight", torch.ones(1)), {}, "is damaged"),
        (lambda file: respell(file, "9.weight", torch.ones(1)), {}, "is damaged"),
        (Path.touch, {"steps": 8}, "is past step 8"),
        (Path.touch, {"resume": False}, "is not wanted"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_set_aside(
    tmp_path, monkeypatch, capfd, damage, change, words
):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    options = {"fingerprint": {"sizes": (1, 2), "path": Path("a"), 3: np.float32(0.5)}}
    expected = Toy().run(tmp_path, **options)
    assert Toy().run(tmp_path, **options).resumed_at == 12
    (checkpoint,) = checkpoints(tmp_path)
    damage(checkpoint)
    content = checkpoint.read_bytes()
    history = Toy().run(tmp_path, **options, **change)
    assert history.resumed_at is None
    assert history.losses["l1"] == expected.losses["l1"][: change.get("steps", 12)]
    assert f"toy: the checkpoint {words}; kept as" in capfd.readouterr().err
    (aside,) = tmp_path.glob("*.previous.pth")
    assert aside.read_bytes() == content and not (tmp_path / "sprung").exists()


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


def cut(file: Path) -> None:
    """Write weights and lose their end."""
    save = torch.save if file.suffix == ".pth" else save_file
    save({"a": torch.ones(99)}, file)
    os.truncate(file, file.stat().st_size // 2)


HUGE = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'


BAD_WEIGHTS = {
    "missing.safetensors": lambda file: None,
    "folder.safetensors": Path.mkdir,
    "empty.safetensors": Path.touch,
    "cut.safetensors": cut,
    "pickled.safetensors": lambda file: file.write_bytes(pickle.dumps({"a": 1})),
    "torch.safetensors": lambda file: torch.save(network().state_dict(), file),
    "keys.safetensors": lambda file: training.save_weights(file, network()[:1], {}),
    "shapes.safetensors": lambda file: training.save_weights(
        file, nn.Sequential(nn.Linear(9, 4), *network()[1:]), {}
    ),
    "endless.safetensors": lambda file: file.write_bytes(struct.pack("<Q", 2**62) + b"{"),
    "header.safetensors": lambda file: file.write_bytes(struct.pack("<Q", 99_999_999) + b"{"),
    "tensor.safetensors": lambda file: file.write_bytes(struct.pack("<Q", len(HUGE)) + HUGE),
    "missing.pth": lambda file: None,
    "cut.pth": cut,
    "list.pth": lambda file: torch.save([1], file),
    "trap.pth": lambda file: file.write_bytes(pickle.dumps(Trap(), 2)),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights_end_in_one_line_and_change_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    file, net = tmp_path / name, network()
    BAD_WEIGHTS[name](file)
    before = net[0].weight.clone()
    ways = [lambda: training.load_weights(file, net)]
    if not name.startswith(("keys", "shapes")):  # those can be read, by another network
        ways += [lambda: training.read_file(file), lambda: training.read_info(file)]
    for read in ways:
        with pytest.raises(WeightsError) as caught:
            read()
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(net[0].weight, before) and not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("metadata", [None, {"info": '{"row": "un'}, {"info": "[1]"}])
def test_weights_without_whole_info_are_named(tmp_path, metadata):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(WeightsError, match=r"a\.safetensors: weights without our info") as caught:
        training.read_info(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
