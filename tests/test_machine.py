"""The torchvision guard in fresh interpreters, and the rules of `prepare`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from colorlib import machine

ROOT = Path(__file__).parents[1]


def run_python(source: str) -> str:
    """Run source in a fresh interpreter that finds colorlib; return what it prints."""
    pipes = {"capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, **pipes)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_fastai_and_torchvision_import_after_colorlib():
    source = """
import colorlib
import torchvision.models, torchvision.transforms, torchvision.datasets, torch
import fastai.vision.models.unet
net = torchvision.models.resnet18(weights=None).eval()
print(tuple(net(torch.zeros(1, 3, 32, 32)).shape), colorlib.__version__)
"""
    assert run_python(source) == "(1, 1000) 0.1.0"


def test_guard_stands_in_when_the_compiled_operators_do_not_load():
    source = """
import torch
def refuse(path):
    raise OSError("libcudart.so: cannot open shared object file")
torch.ops.load_library = refuse
from colorlib import machine
import torchvision.models
print(machine.guard_torchvision(), machine.guard_torchvision())
print(torch.ops.torchvision.nms.default._schema == torch.ops.torchvision.qnms.default._schema)
"""
    # a second library of that name would be refused; the schemas differ by name only
    assert run_python(source).split("\n") == ["True True", "False"]


def test_guard_does_nothing_beside_a_matching_build():
    source = """
import torch
schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
loaded = []
def load(path):
    if not loaded:
        loaded.append(torch.library.Library("torchvision", "DEF"))
        loaded[0].define("nms" + schema)
        loaded[0].define("qnms" + schema)
torch.ops.load_library = load
import colorlib, sys
from colorlib import machine
print(machine.guard_torchvision(), len(loaded))
print([name for name in sys.modules if name.startswith("torchvision")])
"""
    # the extension is loaded once, and torchvision itself is not imported
    assert run_python(source).split("\n") == ["False 1", "[]"]


def test_prepare_repeats_random_numbers():
    def draw(seed: int) -> tuple[float, float, float]:
        machine.prepare("cpu", seed=seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw(7) == draw(7)
    assert all(a != b for a, b in zip(draw(7), draw(8), strict=True))


def test_precision_is_a_rule(monkeypatch):
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    assert machine.prepare("cpu", "auto", "unet").autocast_dtype is torch.bfloat16
    assert machine.prepare("cpu", "auto", "small").autocast_dtype is None
    assert machine.prepare("cpu", "fp32", "unet").autocast_dtype is None
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: False)
    assert machine.prepare("cpu", "auto", "unet").autocast_dtype is None
    assert machine.prepare("cpu", "bf16", "small").autocast_dtype is torch.bfloat16


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    assert [machine.prepare(d, threads=1).device.type for d in ("cuda:1", "cuda")] == ["cuda"] * 2
    assert chosen == [torch.device("cuda:1")]


def test_single_precision_is_whole_where_it_is_asked_for():
    for precision in ("auto", "fp32"):
        machine.prepare("cpu", precision, threads=1)
        allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        assert allowed == (precision == "auto",) * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "toaster"}, "must be auto, cpu, cuda or cuda:0"),
        ({"device": "mps"}, "must be auto, cpu, cuda or cuda:0"),
        ({"precision": "fp8"}, "must be one of auto, fp32, bf16"),
        ({"model": "giant"}, "must be one of unet, small"),
    ],
)
def test_bad_choices_are_one_line(arguments, words):
    with pytest.raises(machine.MachineError, match=words) as error:
        machine.prepare(**arguments)
    assert "\n" not in str(error.value)


def test_place_move_and_autocast():
    prepared = machine.prepare("cpu", "bf16", "unet", threads=1)
    assert prepared.threads == torch.get_num_threads() == 1
    net = prepared.place(torch.nn.Conv2d(3, 4, 3))
    pictures = prepared.move(torch.zeros(2, 3, 8, 8))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert prepared.move(torch.zeros(3)).shape == (3,)
    with prepared.autocast():
        assert net(pictures).dtype is torch.bfloat16
    plain = machine.prepare("cpu", "fp32", "small", threads=1)
    with plain.autocast():
        assert plain.place(torch.nn.Conv2d(3, 4, 3))(plain.move(pictures)).dtype is torch.float32


def test_threads_are_asked_for_or_the_cores_of_this_process(monkeypatch):
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
    assert machine.prepare("cpu").threads == min(machine.physical_cores(), machine.MOST_THREADS)
    monkeypatch.setenv("COLORLIB_THREADS", "two")
    with pytest.raises(machine.MachineError, match="COLORLIB_THREADS=two: must be a whole number"):
        machine.prepare("cpu")
    monkeypatch.setenv("COLORLIB_THREADS", "1")
    assert machine.prepare("cpu").threads == torch.get_num_threads() == 1


def test_description_is_json_without_paths_and_names_a_gpu_where_it_is_used(monkeypatch):
    assert str(Path.home()) not in json.dumps(machine.describe())
    assert machine.describe()["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"H200 {device}")
    assert machine.describe(torch.device("cpu"))["gpu"] is None
    assert machine.describe(torch.device("cuda:1"))["gpu"] == "H200 cuda:1"


def test_peak_memory_grows_with_use():
    before = machine.peak_memory()["host"]
    block = np.ones(2**26, dtype=np.uint8) * 3  # 64 MiB, touched
    assert 10 < before <= machine.peak_memory()["host"]
    assert machine.peak_memory()["host"] >= block.nbytes / 2**20


def test_stopwatch_measures_its_block():
    began = time.perf_counter()
    with machine.Stopwatch() as watch:
        time.sleep(0.05)
    assert 0.05 <= watch.seconds <= time.perf_counter() - began
