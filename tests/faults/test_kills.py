"""Killed at any moment: nothing half-made, nothing left behind, the same results in the end."""

from __future__ import annotations

import builtins
import contextlib
import io
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny
from tiny import RECORD, files_of, finish, hidden, leave, play, printed, task_of, use
from toy import Toy, series

from colorlib import files, notebooks, pictures, training
from colorlib.batch import run as runner
from colorlib.batch import stamps
from colorlib.batch.plan import RunError, plan

PATIENT = """
import os, time
from pathlib import Path
checkpoint = Path(report_dir, "checkpoints", "slow.checkpoint.safetensors")
print("resumed" if checkpoint.exists() else "anew")
if not checkpoint.exists():
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(str(os.getpid()))
    Path(report_dir, "half.png").write_text("half")
    time.sleep(60)
"""

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


def wait_for(what, seconds=60):
    """Return what() as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whom", "ending", "says"),
    [
        ("runner", signal.SIGKILL, ""),
        ("runner", signal.SIGINT, "interrupted\n"),
        ("kernel", signal.SIGKILL, "failed\n"),
    ],
)
def test_a_killed_run_leaves_no_kernel_and_is_continued(tmp_path, monkeypatch, whom, ending, says):
    package = str(Path(files.__file__).parents[1])
    root = use(tmp_path.resolve(), monkeypatch)
    tiny.write(root, "01_good", "# Slow", PARAMETERS, "## Training", RECORD, PATIENT)
    command = "from colorlib.batch.run import run; print(run(['01'])[0].state)"
    environ = {**os.environ, "PYTHONPATH": package}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    # tests that a shell started in the background ignore Ctrl-C, and so would their children
    heeds = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    command = [sys.executable, "-c", command]
    victim = subprocess.Popen(command, env=environ, preexec_fn=heeds, **pipes)
    reports = root / "reports/laptop"
    checkpoint = plan(["01"])[0][0].partial / "checkpoints/slow.checkpoint.safetensors"
    kernel = int(wait_for(lambda: checkpoint.exists() and checkpoint.read_text()))
    family = [psutil.Process(kernel), *psutil.Process(victim.pid).children(recursive=True)]
    refused = runner.run(["01"])[0]
    assert refused.state == "refused" and refused.note.startswith("another run is writing")
    os.kill(victim.pid if whom == "runner" else kernel, ending)
    said, _ = victim.communicate(timeout=30)
    assert said == says
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive and not (reports / "01_good").exists()
    again = runner.run(["01"])[0]
    assert again.state == "finished"
    assert printed(reports / "01_good") == "resumed\n"
    assert sorted(p.name for p in reports.iterdir()) == ["01_good"]
    assert not list(reports.rglob("*.checkpoint*"))


def test_a_typo_costs_no_checkpoint(project, monkeypatch):
    tiny.keep(project / "notebooks/params/limits.yml", {"01_good": {"rate": [0, 1]}})
    resumed = []

    def killed(each, environ):
        checkpoint = each.task.partial / "a.checkpoint.safetensors"
        resumed.append(checkpoint.exists())
        checkpoint.write_text("hours of work")
        raise RunError("killed")

    monkeypatch.setattr(runner, "execute", killed)
    runner.run(["01"], parameters={"seed": 1})
    for options in ({"dry_run": True}, {}):
        with pytest.raises(Exception, match=r"rate = -1\.0: must be at least 0"):
            runner.run(["01"], parameters={"rate": "-1"}, **options)
    runner.run(["01"], parameters={"seed": 2})  # another run, also killed
    runner.run(["01"], parameters={"seed": 1})
    runner.run(["01"], parameters={"seed": 2})
    assert resumed == [False, False, True, True]


def test_what_is_put_into_a_report_while_it_is_made_is_kept(project, monkeypatch):
    report = project / "reports/laptop/01_good"

    def execute(each, environ):
        play(each, environ)
        tiny.keep(report / "notes.txt", "seen")

    monkeypatch.setattr(runner, "execute", execute)
    [failed] = runner.run(["01"])
    assert failed.state == "failed" and "holds notes.txt" in failed.note
    (report / "notes.txt").rename(project / "notes.txt")
    assert runner.run(["01"])[0].state == "skipped"  # nothing was lost: the run is published
    assert (report / "index.html").exists()


def test_an_unfinished_record_is_no_report(project, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda *_: None)
    [failed] = runner.run(["01"])
    assert failed.state == "failed" and "there is no metrics.json" in failed.note


@pytest.mark.parametrize("unlucky", [2, 3])
def test_a_kernel_that_did_not_come_up_is_started_again(tmp_path, monkeypatch, unlucky):
    use(tmp_path.resolve(), monkeypatch)
    tiny.write(tmp_path, "01_good", "# Good", PARAMETERS)
    calls = []

    def execute(client, **_):
        calls.append(client)
        if len(calls) <= unlucky:
            raise RuntimeError(f"{runner.NO_KERNEL} to kernel_info")
        tiny.leave_report(plan(["01"])[0][0].partial, "01_good", "laptop")

    monkeypatch.setattr("papermill.clientwrap.PapermillNotebookClient.execute", execute)
    [each] = runner.run(["01"])
    assert each.state == ("finished" if unlucky < 3 else "failed")
    assert len(calls) == min(unlucky + 1, 3)


def test_a_killed_run_goes_on_also_with_mended_code(project):
    task = task_of()
    leave(task, "old", {"colorlib": "before"})
    for frame in ("net/001.png", "net-0-001.png"):  # of 02 and of 03
        tiny.keep(task.partial / "weights/frames" / frame, "painted while it trained")
    stamps.prepare(task, {"colorlib": "after"})
    assert files_of(task.partial) == [
        stamps.STAMP,
        "001.png",
        "a.checkpoint.safetensors",
        "net-0-001.png",
    ]


def test_checkpoints_are_gone_before_the_report_stands(project, monkeypatch):
    task = task_of()
    leave(task, "large")
    stamps.seal(task)
    monkeypatch.setattr(Path, "rename", lambda *_: 1 / 0)  # killed just before
    with pytest.raises(ZeroDivisionError):
        stamps.publish(task)
    assert files_of(task.partial) == [stamps.STAMP, "old.png"]


@pytest.mark.parametrize("killed_after", ["moving the old aside", "moving both"])
def test_a_swap_that_was_killed_is_finished(project, killed_after):
    task = finish(task_of(), which="old")
    task.report.rename(task.beside("old"))
    finish(task, which="new")
    task.beside("old").mkdir(exist_ok=True)
    if killed_after == "moving the old aside":
        task.report.rename(task.partial)
    stamps.recover(task)
    assert (task.report / "which").read_text() == "new"
    assert hidden(task.report.parent) == []


def test_an_old_report_returns_when_the_new_one_is_not_whole(project):
    task = finish(task_of(), which="old")
    task.report.rename(task.beside("old"))
    leave(task, "half")
    stamps.recover(task)
    assert (task.report / "which").read_text() == "old"
    assert hidden(task.report.parent) == [task.partial.name]


HOLD = """
import sys, time
from colorlib.batch import plan, stamps
with stamps.lock(plan.plan(["01"])[0][0]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_against_the_living_and_dies_with_its_process(project):
    task = task_of()
    path = {"PYTHONPATH": str(Path(files.__file__).parents[1]), "COLORLIB_ROOT": str(project)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=path)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match="another run is writing"), stamps.lock(task):
        pass
    holder.kill()
    holder.communicate()
    with stamps.lock(task):
        pass
    assert hidden(task.report.parent) == []


TRAIN = """
import os, signal, sys
import torch
from torch import nn
from colorlib import color, datasets, machine, training

folder, here = sys.argv[1], machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
pictures = datasets.load("flowers", 32, count=24, seed=5).train
net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
                    nn.Conv2d(8, 2, 3, padding=1))
adam, mean = torch.optim.Adam(net.parameters(), 1e-3), training.EMA(net)

def step(batch, index):
    if str(index) == os.environ.get("DIE_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
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
    return subprocess.Popen(command, **pipes)


@pytest.mark.long  # in fresh processes; in forked ones, below, at any moment
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


CALLS = {os: ("fsync", "replace", "rmdir"), Path: ("rename", "unlink")}  # and opening to write
MOMENTS = [pytest.param(n, marks=pytest.mark.long if n > 2 else ()) for n in range(20)]


def calls_before_death(moment: int, work: Callable[[], object]) -> int:
    """Do the work in a child that is killed before that call; return how many calls it made."""
    made = mmap.mmap(-1, 4)  # shared with the child
    if not (child := os.fork()):

        def counted(real: Callable = lambda: None) -> Callable:
            def call(*arguments, **options):
                if (number := struct.unpack("i", made[:4])[0]) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                made[:4] = struct.pack("i", number + 1)
                return real(*arguments, **options)

            return call

        def opened(place, mode="r", *rest, real=open, **options):
            stream = real(place, mode, *rest, **options)
            counted()() if {*mode} & {*"wxa"} else None  # the file is there, and empty
            return stream

        builtins.open = io.open = opened
        for owner, names in CALLS.items():
            for name in names:
                setattr(owner, name, counted(getattr(owner, name)))
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == (0 if moment < 0 else signal.SIGKILL)
    return struct.unpack("i", made[:4])[0]


def seeded(number: int, count: int) -> int:
    """Return the moment of that number: in any order, none twice where there are enough."""
    order = random.Random(27).sample(range(count), count)
    return order[number % count]


@pytest.mark.parametrize("number", MOMENTS)
def test_a_training_killed_at_any_moment_ends_bit_identical(tmp_path, number):
    whole, again = Toy(), Toy()
    expected = whole.run()
    count = calls_before_death(-1, lambda: Toy().run(tmp_path / "a", checkpoint_seconds=0))
    moment = seeded(number, count)
    calls_before_death(moment, lambda: Toy().run(tmp_path / "b", checkpoint_seconds=0))
    history = again.run(tmp_path / "b")
    assert series(history) == series(expected) and again.after == whole.after
    steps = moment // 4  # a step opens, brings to the disk, renames, and tidies up
    assert (history.resumed_at or 0) in (steps, steps + 1)


def content(report: Path) -> dict[str, bytes]:
    """Return what a report says, but for when it was made and how long that took."""
    found = {p.relative_to(report).as_posix(): p for p in report.rglob("*") if p.is_file()}
    times = rb'"(seconds|resumed_at)": [^,}\s]+'
    return {
        name: re.sub(times, b"", path.read_bytes()) if path.suffix == ".json" else path.read_bytes()
        for name, path in found.items()
        if name not in (stamps.STAMP, "run.json")
    }


@pytest.mark.parametrize("number", MOMENTS)
def test_a_runner_killed_at_any_moment_leaves_a_whole_report_or_none(project, number):
    def run(seed: int) -> runner.Run:
        return runner.run(["01"], parameters={"seed": seed})[0]

    def seeds() -> list[int]:  # which run's report stands, whole
        task, every = task_of(), [stamps.stamp(task_of(seed=seed)) for seed in range(3)]
        return [seed for seed in range(3) if stamps.changes(task.report, every[seed]) is None]

    assert run(0).good
    count = calls_before_death(-1, lambda: run(1))
    assert run(1).state == "skipped" and seeds() == [1]  # by the child
    calls_before_death(seeded(number, count), lambda: run(2))
    report = task_of().report
    assert not report.exists() or seeds() in ([1], [2])
    assert run(2).good and seeds() == [2] and hidden(report.parent) == []
    expected = content(report)
    assert runner.run(["01"], parameters={"seed": 2}, force=True)[0].state == "finished"
    assert content(report) == expected


def test_what_is_renamed_was_synced_before(project, tmp_path, monkeypatch, renamed):
    def execute(each, environ):
        play(each, environ)
        tiny.keep(each.task.partial / "figures/own.png", "written by a notebook in its own way")

    monkeypatch.setattr(runner, "execute", execute)
    toy = Toy()
    toy.run(tmp_path / "training")
    training.save_weights(tmp_path / "w.safetensors", toy.net, {})
    pictures.write(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    for seed in (1, 2):
        assert runner.run(["01"], parameters={"seed": seed})[0].good
    assert {"w.safetensors", "a.png", "01_good", ".01_good.old"} <= renamed.keys()
    assert not any(renamed.values()), renamed


@pytest.mark.long
@pytest.mark.slow
def test_a_kernel_killed_at_three_moments_ends_bit_identical(tmp_path, monkeypatch):
    root = use(tmp_path.resolve(), monkeypatch)
    code = f"import sys\nsys.argv = ['', report_dir + '/checkpoints']\n{TRAIN}"
    tiny.write(root, "01_good", "# Good", PARAMETERS, "## Training", code, RECORD)
    weights = root / "reports/laptop/01_good/checkpoints/final.safetensors"
    assert runner.run(["01"])[0].state == "finished"
    expected = weights.read_bytes()
    for moment in random.Random(0).sample(range(1, 150), 3):
        monkeypatch.setenv("DIE_AT", str(moment))
        [died] = runner.run(["01"], force=True)
        assert died.note.startswith("in 'Training': the kernel died (out of memory?)")
        assert weights.read_bytes() == expected  # the report before it stands
        monkeypatch.delenv("DIE_AT")
        assert runner.run(["01"], force=True)[0].state == "finished"
        assert weights.read_bytes() == expected and hidden(weights.parents[2]) == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.names())
def test_a_lesson_killed_at_three_moments_ends_bit_identical(tmp_path, name):
    def start(place: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "colorlib", "run", name, "--profile", "smoke"]
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command += ["-p", "report_dir", str(tmp_path / place)]
        return subprocess.Popen(command, **options)

    began = time.monotonic()
    assert start("whole").wait() == 0
    seconds = time.monotonic() - began
    expected = content(tmp_path / "whole")
    chance = random.Random(name)
    for number in range(3):
        victim = start(f"{number}")
        time.sleep(seconds * chance.uniform(0.3, 0.9))
        family = (
            psutil.Process(victim.pid).children(recursive=True) if victim.poll() is None else []
        )
        victim.kill()
        victim.wait()
        assert psutil.wait_procs(family, timeout=20)[1] == []
        assert start(f"{number}").wait() == 0
        found = content(tmp_path / f"{number}")
        assert found.keys() == expected.keys()
        compared = [key for key in found if re.match(r"metrics|weights|figures", key)]
        assert " ".join(key for key in compared if found[key] != expected[key]) == ""
        assert hidden(tmp_path) == []
