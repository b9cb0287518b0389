"""Every notebook runs at smoke from any folder and prints the same again; so do larger profiles.

The parameter files of the overnight and paper profiles are executed at the sizes of smoke.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from colorlib import downloads, files, notebooks, record
from colorlib.batch import run as runner

PAPERMILL = [sys.executable, "-m", "papermill", "--no-progress-bar"]
SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
DATA = ("data", "pairs", "more_pairs", "pairs_data")  # smoke's are here, and few
FETCHED = ("auto", "imagenet", "file", *downloads.ARCHIVES)


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "COLORLIB_THREADS": "1", **extra}


def run_with_kernel(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """Run; once more where the kernel did not come up (its port was taken: nothing has run)."""
    for _ in range(3):
        done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
        if runner.NO_KERNEL not in done.stdout + done.stderr:
            break
    return done


def execute(name: str, out: Path, values: dict[str, Any]) -> subprocess.CompletedProcess:
    """Run a notebook from another folder, as a user of papermill would."""
    given = {**values, "report_dir": str(out / "report")}
    given |= {"resume": False} if "resume" in notebooks.parameters(name) else {}
    files.write_json(out / "values.yml", given)  # JSON is YAML
    command = [*PAPERMILL, str(notebooks.path(name)), str(out / "executed.ipynb")]
    return run_with_kernel([*command, "-f", str(out / "values.yml")], out)


def reduced(name: str, profile: str) -> dict[str, Any]:
    """Return a profile's values at the sizes of smoke, without what would have to be fetched."""
    own = {key: parameter.default for key, parameter in notebooks.parameters(name).items()}
    smoke = notebooks.profile_parameters(name, "smoke")
    if profile == "smoke":
        return {**own, **smoke}
    values = notebooks.profile_parameters(name, profile)
    for key, value in values.items():
        if value is True:  # asks for trainings of other notebooks, at their own sizes
            values[key] = own[key]
        elif key in smoke and _is_size(value):
            values[key] = smoke[key]
        elif key in DATA or (isinstance(value, str) and (value in FETCHED or "/" in value)):
            values[key] = smoke.get(key, own[key])
        elif _is_size(value) and isinstance(value, list):  # of seeds: no more than on a laptop
            values[key] = value[: len(own[key])]
    return {**own, **smoke, **values}


def _is_size(value: Any) -> bool:
    members = value if isinstance(value, list) else [value]
    return bool(members) and all(type(member) in (int, float) for member in members)


def with_rates(name: str) -> dict[str, Any]:
    """Return smoke's values, and the rates and weights that only a larger profile names."""
    values = notebooks.profile_parameters(name, "smoke")
    for profile in ("overnight", "paper"):
        larger = notebooks.profile_parameters(name, profile)
        values |= {k: v for k, v in larger.items() if k not in values and type(v) is float}
    return values


def larger() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the runs that try the options of larger profiles: one of a notebook where it can."""
    runs = {}
    for name in notebooks.names("all"):
        smoke, *both = (reduced(name, profile) for profile in ("smoke", "overnight", "paper"))
        overnight, paper = ({k: v for k, v in b.items() if v != smoke[k]} for b in both)
        merged = {**overnight, **paper}
        options = {key for key, value in merged.items() if not _is_size(value)}
        lost = {k for k, v in overnight.items() if v != merged[k] and k in options}
        if lost - {"profile", "studies"}:
            runs[f"{name} overnight"] = (name, {**smoke, **overnight})
        if options - {"profile", "studies", "study_pairs"}:  # else the run at smoke has tried it
            runs[f"{name} paper"] = (name, {**smoke, **merged})
    return runs


@pytest.fixture(scope="module", params=notebooks.names("all"))
def executed(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param.replace("/", "-"))
    done = execute(request.param, out, with_rates(request.param))
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, out


def test_a_smoke_run_leaves_a_valid_report(executed):
    name, out = executed
    metrics, run = record.read(out / "report")
    assert metrics["notebook"] == name and metrics["profile"] == "smoke"
    assert set(run["parameters"].get("studies", [])) <= metrics["studies"].keys()
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
    notebook = executed[1] / "executed.ipynb"
    nbval = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(SANITIZE)]
    alone = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(executed[1])]
    command = [sys.executable, "-m", "pytest", *nbval, *alone, str(notebook)]
    done = run_with_kernel(command, executed[1])
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "failed" not in done.stdout


@pytest.mark.parametrize("run", larger())
def test_the_parameter_files_of_larger_profiles_run(run, tmp_path):
    name, values = larger()[run]
    done = execute(name, tmp_path, values)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics, _ = record.read(tmp_path / "report")
    assert metrics["profile"] == values["profile"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("image_sise", "64"), "did you mean 'image_size'"),
        (("image_size", "big"), "must be int"),
        (("image_size", "0"), "must be at least"),
        (("precision", "fp23"), "did you mean 'fp32'"),
    ],
)
def test_the_runner_refuses_what_cannot_be_before_anything_runs(given, complaint):
    command = [sys.executable, "-m", "colorlib", "run", "03", "--profile", "smoke", "-p", *given]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_the_notebook_itself_refuses_an_impossible_value(tmp_path):
    done = execute("00_primer", tmp_path, {"precision": "fp23"})
    assert done.returncode != 0 and "did you mean 'fp32'" in done.stderr


TRAIN = """
import sys
import torch
from torch import nn
from colorlib import color, datasets, machine, training

folder, here = sys.argv[1], machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
pictures = datasets.load("flowers", 32, count=24, seed=5).train
net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
                    nn.Conv2d(8, 2, 3, padding=1))
adam, mean = torch.optim.Adam(net.parameters(), 1e-3), training.EMA(net)

def step(batch, index):
    grey, ab = color.to_network(batch)
    loss = (net(grey) - ab).abs().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"l1": loss}

history = training.run(
    "killed", step, batches=training.Batches(pictures, 8, seed=1), steps=150, modules={"net": net},
    optimizers={"adam": adam}, average={"net": mean}, machine=here, folder=folder,
    checkpoint_seconds=0.0,
)
training.save_weights(folder + "/final.safetensors", mean.module, {})
print(history.losses["l1"])
print("resumed at", history.resumed_at, file=sys.stderr)
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
    while not list((tmp_path / "b").glob("*.checkpoint*")) and victim.poll() is None:
        time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL  # it was still training
    assert not (tmp_path / "b" / "final.safetensors").exists()

    resumed = start_training(tmp_path / "b")
    losses_again, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    assert 0 < int(said.rsplit("resumed at", 1)[1]) < 150
    assert losses_again == losses
    final = [(tmp_path / run / "final.safetensors").read_bytes() for run in "ab"]
    assert final[0] == final[1]
