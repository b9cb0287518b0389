"""A sweep on a cluster: real schedulers, workers and kernels on this machine, some killed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import tiny
from click.testing import CliRunner

from colorlib import files, machine
from colorlib.batch import cli, cluster
from colorlib.batch import run as runner

pytest.importorskip("distributed")

FARM, PLACE = pytest.mark.xdist_group("farm"), "reports/seeds/laptop/01_good/default"
PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"
WORK = """
import os, time
here, once = Path(os.environ["COLORLIB_ROOT"]), Path(report_dir, "a.checkpoint.safetensors")
with open(here / "attempts", "a") as stream:
    stream.write(f"{seed}\\n")
print("threads", os.environ.get("COLORLIB_THREADS"), os.environ.get("OMP_NUM_THREADS"))
print("trim", os.environ.get("MALLOC_TRIM_THRESHOLD_"), "resumed" if once.exists() else "anew")
if seed in (1, 4) and not once.exists():
    once.write_text(str(os.getpid()))  # and now this waits for its end
    time.sleep(100)
[0][2 * (seed == 2)]
"""
CLEAN = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "COLORLIB_THREADS")}


def wait_for(what, seconds=90):
    """Return what() as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def start(root: Path, *words: str, **options) -> subprocess.Popen:
    package = str(Path(files.__file__).parents[1])
    environ = {**CLEAN, "PYTHONPATH": package, "COLORLIB_ROOT": str(root)}
    return subprocess.Popen([sys.executable, "-m", *words], env=environ, cwd=root, **options)


def project(root: Path) -> Path:
    tiny.write(root, "01_good", "# Good", PARAMETERS, 'MAIN_ROW = "ours"', tiny.RECORD, WORK)
    return root


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """Give a project, the address of a scheduler, its process, and the workers' own project."""
    near, far = (project(tmp_path_factory.mktemp(name).resolve()) for name in ("near", "far"))
    told, dask = far / "scheduler.json", "distributed.cli.dask_"
    quiet = ("--no-dashboard", "--scheduler-file", str(told))
    log = {"stdout": (far / "log").open("w"), "stderr": subprocess.STDOUT}
    scheduler = start(far, f"{dask}scheduler", "--host", "127.0.0.1", "--port", "0", *quiet, **log)
    wait_for(told.exists)
    started = [start(far, f"{dask}worker", "--nthreads", "1", *quiet, **log) for _ in "12"]
    wait_for(lambda: (far / "log").read_text().count("Registered to") == 2)
    yield near, files.read_json(told)["address"], scheduler, far
    for process in (scheduler, *started):
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            each.kill()
        process.wait()


def waiting(root: Path, seed: int) -> psutil.Process | None:
    """Return the kernel of a seed that waits for its end."""
    for file in root.glob(f"{PLACE}/.seed-{seed}.*/a.checkpoint.*"):
        return psutil.Process(int(file.read_text())) if file.read_text() else None


def table(text: str) -> dict[str, tuple[str, str]]:
    """Read state and note of each run from what was shown."""
    rows = re.findall(r"(?m)^01_good default/seed-(\d)  (\w+) +[\d.]+ s(?: +(.*))?$", text)
    return {seed: (state, note) for seed, state, note in rows}


@pytest.fixture(scope="module")
def swept(farm):
    """Run three seeds: one is good, one loses its worker in the middle, one is wrong."""
    near, address, _, far = farm
    sweep = start(near, "colorlib", "run", "01", "--seeds", "0-2", "--cluster", address, **PIPES)
    kernel = wait_for(lambda: waiting(far, 1))
    child, worker = kernel.parents()[:2]
    assert "colorlib.batch.cluster" in child.cmdline()  # a process of its own
    worker.kill()
    said, log = sweep.communicate(timeout=200)
    assert not psutil.wait_procs([kernel, child], timeout=10)[1]
    return sweep.returncode, said, log


@pytest.mark.slow
@FARM
def test_a_killed_worker_costs_a_restart_and_a_wrong_notebook_none(farm, swept):
    code, said, log = swept
    states = {seed: state for seed, (state, _) in table(said).items()}
    assert states == {"0": "finished", "1": "finished", "2": "failed"}, said + log
    assert table(said)["2"][1] == "in 'Good': IndexError: list index out of range"
    assert sorted((farm[3] / "attempts").read_text().split()) == ["0", "1", "1", "2"]
    assert code == 1 and "Traceback" not in said + log
    assert re.search(r"(?m)^01_good +default +2 of 3 +1\.50 ± 0\.00 +9\.00 ± 0\.00$", said)


@pytest.mark.slow
@FARM
def test_reports_come_home_as_if_they_were_made_here(farm, swept, monkeypatch):
    near, _, _, far = farm
    assert {path.name for path in (near / PLACE).iterdir()} == {"seed-0", "seed-1", "summary.json"}
    assert not (near / "attempts").exists()  # nothing was run here
    here, there = (files.read_json(root / PLACE / "seed-0/run.json", True) for root in (near, far))
    assert here == there
    share = max(1, machine.physical_cores() // 2)  # of two workers; and nothing of dask's own
    assert f"threads {share} None\ntrim None anew" in tiny.printed(near / PLACE / "seed-0")
    assert "resumed" in tiny.printed(near / PLACE / "seed-1")
    monkeypatch.setenv("COLORLIB_ROOT", str(near))
    again = runner.run(["01"], vary={"seed": ["0", "1"]})
    assert [each.state for each in again] == ["skipped", "skipped"]


@pytest.mark.slow
@FARM
def test_a_dead_scheduler_is_one_line_and_the_next_run_goes_on(farm, swept, monkeypatch):
    near, address, scheduler, far = farm
    sweep = start(near, "colorlib", "run", "01", "--seeds", "0,4", "--cluster", address, **PIPES)
    kernel = wait_for(lambda: waiting(far, 4))
    scheduler.kill()
    said, log = sweep.communicate(timeout=60)
    assert said == "" and sweep.returncode == 2
    *before, last = log.splitlines()
    assert last == (
        f"colorlib: the scheduler at {address} no longer answers, "
        "1 not whole; run again: what is whole is kept"
    )
    assert all(line.startswith("01_good default/seed-") for line in before), log
    assert not psutil.wait_procs([kernel], timeout=60)[1]
    monkeypatch.setenv("COLORLIB_ROOT", str(near))
    monkeypatch.setattr(cli.speed, "re_execute", lambda: None)
    partial = plan_of(near, 4)[0].partial  # the checkpoint is on the worker's machine: as if here
    partial.mkdir(parents=True)
    (partial / "a.checkpoint.safetensors").write_text("1")
    again = CliRunner().invoke(cli.main, ["run", "01", "--seeds", "0,4", "--cluster", "local:1"])
    assert again.exit_code == 0, again.output
    assert [state for state, _ in table(again.stdout).values()] == ["skipped", "finished"]
    assert "resumed" in tiny.printed(near / PLACE / "seed-4")
    assert (near / "attempts").read_text() == "4\n"


def plan_of(root: Path, seed: int):
    from colorlib.batch.plan import plan

    return plan(["01"], vary={"seed": [seed]})[0]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(project(tmp_path)))
    monkeypatch.setattr(cli.speed, "re_execute", lambda: None)
    return tmp_path


def run(*words: str):
    return CliRunner().invoke(cli.main, ["run", "01", *words])


@pytest.mark.parametrize("silent", [False, True])
def test_an_address_that_nobody_answers_is_a_line_within_ten_seconds(root, monkeypatch, silent):
    assert cluster.PATIENCE < 8
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not silent:
            server.close()
            server = socket.socket()
            server.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        results = []
        run_it = threading.Thread(
            target=lambda: results.append(run("--cluster", address)), daemon=True
        )
        run_it.start()
        run_it.join(3)
        server.close()
    assert results, "it waits still"
    [result] = results
    assert result.exit_code == 2 and result.stdout == ""
    said = f"colorlib: no scheduler answers at {address}; start one there: dask scheduler\n"
    assert result.stderr == said and not (root / "reports").exists()


@pytest.mark.parametrize("address", ["local:0", "local", "local:x", "here:1", "tcp://host"])
def test_what_is_no_address_is_refused(root, address):
    result = run("--cluster", address)
    said = f"colorlib: --cluster {address}: must be tcp://HOST:PORT or local:N\n"
    assert (result.exit_code, result.stderr) == (2, said)


def test_without_dask_it_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("--cluster", "local:1")
    said = "colorlib: --cluster needs dask: pip install colorlib[cluster]\n"
    assert (result.exit_code, result.stderr) == (2, said)


def test_a_worker_of_another_commit_refuses(root):
    [task] = plan_of(root, 0)
    order = {"task": {**task._asdict(), "report": "reports/a"}, "force": False, "beside": 1}
    order["parts"] = {"notebook": "another", "colorlib": "another", "parameters": "another"}
    command = [sys.executable, "-m", "colorlib.batch.cluster"]
    package = str(Path(files.__file__).parents[1])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": package}, **pipes)
    child.stdin.write(json.dumps(order) + "\n")
    child.stdin.flush()  # and stays open: the child ends with it
    outcome = json.loads(child.stdout.readline())
    child.communicate(timeout=30)
    assert outcome["state"] == "refused"
    words = "this worker has another notebook and colorlib and parameters; take the same commit"
    assert outcome["note"] == words and not (root / "reports/a").exists()
