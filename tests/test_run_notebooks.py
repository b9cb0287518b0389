"""Every notebook runs at smoke from any folder, prints the same again, and survives kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from colorlib import files, notebooks, record
from colorlib.reproduce import worker

PAPERMILL = [sys.executable, "-m", "papermill", "--no-progress-bar"]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "COLORLIB_THREADS": "1", **extra}


def run_with_kernel(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """Run; once more where the kernel did not come up (its port was taken: nothing has run)."""
    for _ in range(3):
        done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
        if worker.NO_KERNEL not in done.stdout + done.stderr:
            break
    return done


def smoke(name: str, out: Path, *parameters: str) -> subprocess.CompletedProcess:
    """Run a notebook at smoke from another folder, as a user of papermill would."""
    profile = files.root() / "notebooks" / "params" / "smoke" / f"{name}.yml"
    given = ["-f", str(profile), "-p", "report_dir", str(out / "report"), *parameters]
    command = [*PAPERMILL, str(notebooks.path(name)), str(out / "executed.ipynb"), *given]
    return run_with_kernel(command, out)


@pytest.fixture(scope="module", params=notebooks.names())
def executed(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    done = smoke(request.param, out, "-p", "resume", "False")
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, out


def test_a_smoke_run_leaves_a_valid_report(executed):
    name, out = executed
    metrics, run = record.read(out / "report")
    record.check_metrics(metrics)
    assert metrics["notebook"] == name and metrics["profile"] == "smoke"
    assert set(metrics["studies"]) >= set(run["parameters"]["studies"])
    assert list((out / "report" / "figures").glob("*.png"))


def test_every_picture_has_alt_text_and_every_cell_ran(executed):
    cells = json.loads((executed[1] / "executed.ipynb").read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code)
    shown = [o for c in code for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert shown and all(o["metadata"]["image/png"]["alt"].strip() for o in shown)
    said = [o for c in code for o in c["outputs"] if o.get("name") == "stderr"]
    assert ["".join(o["text"]) for o in said] == []


def test_nbval_finds_the_same_outputs_again(executed):
    notebook, sanitize = (
        executed[1] / "executed.ipynb",
        Path(__file__).with_name("nbval_sanitize.cfg"),
    )
    nbval = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(sanitize)]
    alone = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(executed[1])]
    command = [sys.executable, "-m", "pytest", *nbval, *alone, str(notebook)]
    done = run_with_kernel(command, executed[1])
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "failed" not in done.stdout


@pytest.mark.parametrize(
    ("given", "complaint"),
    [(("image_sise", "64"), "did you mean 'image_size'"), (("image_size", "big"), "must be int")],
)
def test_the_runner_refuses_unknown_and_ill_typed_parameters(given, complaint):
    command = [sys.executable, "-m", "colorlib", "run", "03", "--profile", "smoke", "-p", *given]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_the_notebook_itself_refuses_an_impossible_value(tmp_path):
    done = smoke("03_cgan_flowers", tmp_path, "-p", "skips", "addded")
    assert done.returncode != 0 and "did you mean 'added'" in done.stderr


TRAIN = """
import functools, sys
import colorlib, torch
from colorlib import datasets, machine, notebooks, training

folder, steps = sys.argv[1], 150
paper = notebooks.load("03_cgan_flowers")
training.run = functools.partial(training.run, checkpoint_seconds=0.0)
here = machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
pictures = datasets.load("garden", 32, count=24, seed=5).train
recipe = paper.Recipe(width=8, critic_width=8, image_size=32)
budget = paper.Budget(40, steps, 4, 1e-3, 1e-3)
model, stages = paper.train("killed", recipe, budget, pictures, here, folder)
training.save_weights(folder + "/final.safetensors", model, {})
print([h.losses["l1"] for h in stages])
print("resumed at", [h.resumed_at for h in stages], file=sys.stderr)
"""


def start_training(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", TRAIN, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(), **pipes)


def test_killed_in_the_middle_and_resumed_ends_bit_identical(tmp_path):
    undisturbed = start_training(tmp_path / "a")
    losses, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said

    victim = start_training(tmp_path / "b")
    folder = tmp_path / "b"
    while not list(folder.glob("killed*both*.safetensors")) and victim.poll() is None:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL  # it was still training
    assert not (tmp_path / "b" / "final.safetensors").exists()

    resumed = start_training(tmp_path / "b")
    losses_again, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    at = said.rsplit("resumed at", 1)[1]
    assert "[40, " in at and "None" not in at
    assert losses_again == losses
    final = [(tmp_path / run / "final.safetensors").read_bytes() for run in "ab"]
    assert final[0] == final[1]
