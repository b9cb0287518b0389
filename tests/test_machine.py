"""The torchvision guard in fresh interpreters, and the rules of `prepare`."""

from __future__ import annotations

import dataclasses
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


def run_python(source: str) -> list[str]:
    """Run source in a fresh interpreter that finds colorlib; return the lines it prints."""
    pipes = {"capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, **pipes)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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
    assert run_python(source) == ["True True", "False"]


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
    assert run_python(source) == ["False 1", "[]"]


def test_prepare_repeats_random_numbers():
    def draw(seed: int) -> tuple[float, float, float]:
        machine.prepare("cpu", "fp32", seed=seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw(7) == draw(7)
    assert all(a != b for a, b in zip(draw(7), draw(8), strict=True))


@pytest.mark.parametrize(
    ("bfloat16", "precision", "model", "wanted"),
    [
        (True, "auto", "unet", torch.bfloat16),
        (True, "auto", "small", None),
        (True, "fp32", "unet", None),
        (False, "auto", "unet", None),
        (False, "bf16", "small", torch.bfloat16),
    ],
)
def test_precision_is_a_rule(monkeypatch, bfloat16, precision, model, wanted):
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: bfloat16)
    assert machine.prepare("cpu", precision, model, threads=1).autocast_dtype is wanted
    single = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert single == (precision != "fp32",) * 2


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    assert [machine.prepare(d, threads=1).device.type for d in ("cuda:1", "cuda")] == ["cuda"] * 2
    assert chosen == [torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "toaster"}, "must be auto, cpu, cuda or cuda:0"),
        ({"device": "mps"}, "must be auto, cpu, cuda or cuda:0"),
    ],
)
def test_bad_choices_are_one_line(arguments, words):
    with pytest.raises(machine.MachineError, match=words) as error:
        machine.prepare(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("precision", "model", "dtype"),
    [("bf16", "unet", torch.bfloat16), ("fp32", "small", torch.float32)],
)
def test_place_move_and_autocast(precision, model, dtype):
    prepared = machine.prepare("cpu", precision, model, threads=1)
    net = prepared.place(torch.nn.Conv2d(3, 4, 3))
    pictures = prepared.move(torch.zeros(2, 3, 8, 8))
    for tensor in (net.weight, pictures) if model == "unet" else ():
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert prepared.move(torch.zeros(3)).shape == (3,)
    with prepared.autocast():
        assert net(pictures).dtype is dtype


def test_threads_are_asked_for_or_the_cores_of_this_process(monkeypatch):
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    assert 1 <= machine.physical_cores() <= (os.cpu_count() or 1)
    assert machine.prepare("cpu").threads == min(machine.physical_cores(), machine.MOST_THREADS)
    monkeypatch.setenv("COLORLIB_THREADS", "1")
    assert machine.prepare("cpu").threads == torch.get_num_threads() == 1


def test_description_is_json_without_paths_and_names_a_gpu_where_it_is_used(monkeypatch):
    here = machine.prepare("cpu")
    found = machine.describe(here)
    assert str(Path.home()) not in json.dumps(found)
    assert found["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"H200 {device}")
    assert found["gpu"] is None and found["device"] == "cpu"
    gpu = dataclasses.replace(here, device=torch.device("cuda:1"))
    assert machine.describe(gpu)["gpu"] == "H200 cuda:1"


def test_a_training_ends_well_where_no_seat_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "seats").write_text("a file, no folder")
    monkeypatch.setattr(machine, "SEATS", tmp_path / "seats")
    with machine.prepare("cpu").shared() as look_around:
        look_around()


def test_memory_and_time_are_measured():
    before, began = machine.peak_memory()["host"], time.perf_counter()
    with machine.Stopwatch() as watch:
        time.sleep(0.05)
        block = np.ones(2**26, dtype=np.uint8) * 3  # 64 MiB, touched
    assert 0.05 <= watch.seconds <= time.perf_counter() - began
    assert 10 < before <= machine.peak_memory()["host"]
    assert machine.peak_memory()["host"] >= block.nbytes / 2**20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="as Linux tells it")
def test_a_process_does_not_count_the_memory_of_the_one_that_started_it():
    block = np.ones(2**30, dtype=np.uint8)  # 1 GiB, touched
    (told,) = run_python("from colorlib import machine; print(machine.peak_memory()['host'])")
    assert 10 < float(told) < block.nbytes / 2**20


def test_trainings_beside_each_other_share_the_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "SEATS", tmp_path / "seats")
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    here = machine.prepare("cpu", threads=4)

    def threads() -> int:
        with here.shared() as look_around:
            look_around()
            return torch.get_num_threads()

    assert threads() == 4
    other = tmp_path / "seats" / "other"
    other.touch()
    assert threads() == 2 and torch.get_num_threads() == 4
    monkeypatch.setenv("COLORLIB_THREADS", "4")  # chosen threads stay: only they repeat exactly
    assert threads() == 4
    monkeypatch.delenv("COLORLIB_THREADS")
    os.utime(other, (0, 0))  # left by a process that was killed
    assert threads() == 4 and list(other.parent.iterdir()) == [other]
    torch.set_num_threads(1)
