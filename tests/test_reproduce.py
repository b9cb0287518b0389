"""The batch runner: whole runs or none, resumed, skipped, locked, scrubbed."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny
from PIL import Image

from colorlib import files, machine, notebooks, record, reproduce
from colorlib.reproduce import board, neutral, outlook, stamps, tasks, worker

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"
GOOD = f"""
import json, os, sys, tempfile
from pathlib import Path
print(report_dir, os.getcwd(), Path.home(), tempfile.gettempdir(), sys.prefix)
print(os.environ.get("COLORLIB_THREADS"), rate, studies)
Path(report_dir, "metrics.json").write_text({json.dumps(json.dumps(tiny.METRICS))})
run = {{"date": "2025-01-02T03:04:05+00:00", "place": report_dir, "memory_mib": {{"host": 512.0}}}}
Path(report_dir, "run.json").write_text(json.dumps(run))
Path(report_dir, "first.checkpoint.safetensors").write_text("a checkpoint")
"""
PATIENT = """
import os, time
from pathlib import Path
checkpoint = Path(report_dir, "checkpoints", "slow.checkpoint.safetensors")
print("resumed" if checkpoint.exists() else "anew")
if not checkpoint.exists():
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(str(os.getpid()))
    Path(report_dir, "half.png").write_text("half")
    time.sleep(30)
"""


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three notebooks run together: one good, one wrong, one whose kernel dies."""
    root = tmp_path_factory.mktemp("project").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORLIB_THREADS", "")
        patch.setattr(machine, "physical_cores", lambda: 6)
        patch.setenv("COLORLIB_ROOT", str(root))
        patch.chdir(root)
        patch.setattr(stamps, "_modules", lambda: [root / "module.py"])
        (root / "module.py").write_text("")
        tiny.write(root, "01_good", "# Good", PARAMETERS, 'MAIN_ROW = "ours"', GOOD)
        tiny.write(root, "02_wrong", "# Wrong", PARAMETERS, "## Training", "[][1]")
        tiny.write(root, "03_dies", "# Dies", PARAMETERS, "## Model", "import os; os._exit(9)")
        folder = root / "notebooks" / "params" / "smoke"
        folder.mkdir(parents=True)
        (folder / "01_good.yml").write_text("rate: 2.0e-3\nstudies: [a]\n")
        outcomes = reproduce.run(profile="smoke", jobs=2)
        yield root, {outcome.name: outcome for outcome in outcomes}


def printed(report: Path) -> str:
    """Return all that a report's notebook printed."""
    cells = json.loads((report / "notebook.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_one_failure_does_not_stop_the_others(batch):
    _, outcomes = batch
    states = {name: outcome.state for name, outcome in outcomes.items()}
    assert states == {
        "01_good": "finished",
        "02_wrong": "failed",
        "03_dies": "failed",
    }
    assert outcomes["02_wrong"].note == "in 'Training': IndexError: list index out of range"
    assert outcomes["03_dies"].note.startswith("in 'Model': the kernel died (out of memory?)")
    table = reproduce.table(list(outcomes.values()))
    assert "gain over grey +1.50 dB" in table
    assert "the paper 24.33 dB" in table
    assert "IndexError" in table
    assert "3 notebooks, 2 not done" in table


def test_a_finished_run_is_a_whole_report(batch):
    root, _ = batch
    report = root / "reports" / "smoke" / "01_good"
    names = {path.name for path in report.iterdir()}
    assert names == {"notebook.ipynb", "index.html", "metrics.json", "run.json", ".stamp.json"}
    assert json.loads((report / "metrics.json").read_text()) == tiny.METRICS
    assert json.loads((report / "run.json").read_text())["wall_seconds"] > 0
    assert "3 0.002 ['a']" in printed(report)  # threads were divided, the profile's values hold
    left = {path.name for path in report.parent.iterdir()}
    assert left == {"01_good", ".02_wrong.partial", ".03_dies.partial"}


def test_no_path_of_this_machine_stays(batch):
    root, _ = batch
    report = root / "reports" / "smoke" / "01_good"
    for name in ("notebook.ipynb", "index.html", "run.json", "metrics.json"):
        text = (report / name).read_text()
        for path in (str(root), str(Path.home()) + "/", sys.prefix, ".01_good.partial"):
            assert path not in text, (name, path)
    assert printed(report).startswith("reports/smoke/01_good PROJECT ")
    notebook = json.loads((report / "notebook.ipynb").read_text())
    injected = [c for c in notebook["cells"] if "injected-parameters" in c["metadata"]["tags"]]
    source = "".join(injected[0]["source"])
    assert 'report_dir = ""' in source and 'profile = "smoke"' in source
    assert notebook["metadata"]["papermill"]["parameters"]["report_dir"] == ""
    assert "start_time" not in json.dumps(notebook)


def test_unchanged_is_skipped_and_change_is_not(batch, monkeypatch):
    root, _ = batch

    def state(**more):
        task = reproduce.plan(["01"], "smoke", **more)[0]
        return stamps.changes(Path(task.report), stamps.stamp(task))

    monkeypatch.setattr(worker.Running, "execute", lambda _: pytest.fail("it ran"))
    again = reproduce.run(["01"], "smoke")[0]
    assert (again.state, again.seconds) == ("skipped", 0)
    assert "unchanged since" in again.note and "--force" in again.note
    assert state(parameters={"seed": "5"}) == "parameters changed"
    source = notebooks.path("01").read_text()
    notebooks.path("01").write_text(source.replace("MAIN_ROW", "# new\\nMAIN_ROW"))
    assert state() == "notebook changed"
    notebooks.path("01").write_text(source)
    assert state() is None
    (root / "module.py").write_text("changed")
    assert state() == "colorlib changed"
    (root / "module.py").write_text("")
    executed = root / "reports/smoke/01_good/notebook.ipynb"
    content = executed.read_text()
    executed.write_text(content + " ")
    assert state() == "the report was changed"
    executed.write_text(content)


def test_dry_run_says_what_to_expect(batch):
    known, new = reproduce.run(["01", "02"], "smoke", force=True, dry_run=True)
    assert (known.state, new.state) == ("would run", "would run")
    assert 0 < known.seconds < 60
    assert "forced; 0.5 GiB of memory" in known.note and "as on 2025-01-02" in known.note
    assert new.seconds == outlook.EXPECTED["smoke"][0]
    assert "a guess" in new.note


def test_status_tells_age_and_code(batch):
    rows = {row[0]: row for row in reproduce.status()}
    assert rows["01_good"][1:3] == ("smoke", "2025-01-02")
    assert rows["01_good"][3].endswith("days")
    assert rows["01_good"][4] == "current"


def test_status_is_about_the_code_alone(project, monkeypatch):
    (project / "here").mkdir()
    given = {"seed": 5, "data": "here"}
    assert reproduce.run(["01"], parameters=given)[0].state == "finished"
    params = project / "notebooks/params/laptop/01_good.yml"
    params.parent.mkdir(parents=True)
    params.write_text("seed: [")
    monkeypatch.chdir("/")
    assert reproduce.status()[0][4] == "current"
    tiny.write(project, "01_good", "# Good", PARAMETERS, "print(2)")
    assert reproduce.status()[0][4] == "older: notebook changed"
    notebooks.path("01").write_text("{")
    assert reproduce.status()[0][4] == "of unknown code"


def test_status_of_a_clone_asks_git(project, monkeypatch):
    report = project / "reports/laptop/01_good"
    report.mkdir(parents=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a notebook"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    commit = files.git(project, "rev-parse", "HEAD")
    for known, state in ((commit, "current"), ("none", "of unknown code")):
        files.write_json(report / "run.json", {"git": {"commit": known, "dirty": False}})
        assert reproduce.status()[0][4] == state
    files.write_json(report / "run.json", {"git": {"commit": commit, "dirty": False}})
    tiny.write(project, "01_good", "# Good", PARAMETERS, "print(2)")
    assert reproduce.status()[0][4] == "older: code changed since its commit"


def test_a_dry_run_without_a_date_says_so(project):
    report = project / "reports/laptop/01_good"
    files.write_json(report / "run.json", {"wall_seconds": 8})
    assert reproduce.run(dry_run=True)[0].note.endswith("(as on an earlier day)")
    files.write_json(report / stamps.STAMP, {"finished": "2025-01-02 03:04"})
    assert reproduce.run(dry_run=True)[0].note.endswith("(as on 2025-01-02)")


def wait_for(what, seconds=60):
    """Return what() as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_a_killed_run_leaves_no_report_and_no_kernel_and_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "_modules", list)
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(files.__file__).parents[1]))
    tiny.write(tmp_path, "01_slow", "# Slow", PARAMETERS, "## Training", PATIENT)
    command = "from colorlib.reproduce import run, stamps; stamps._modules = list; run(['01'])"
    runner = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL)
    reports = tmp_path / "reports" / "laptop"
    checkpoint = reports / ".01_slow.partial/checkpoints/slow.checkpoint.safetensors"
    kernel = int(wait_for(lambda: checkpoint.exists() and checkpoint.read_text()))
    family = [*psutil.Process(runner.pid).children(recursive=True), psutil.Process(kernel)]
    assert len(family) >= 2
    refused = reproduce.run(["01"])[0]
    assert refused.state == "refused"
    assert refused.note.startswith(f"another run (process {runner.pid}) is writing")
    runner.kill()
    runner.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert not (reports / "01_slow").exists()
    again = reproduce.run(["01"])[0]
    assert (again.state, again.note) == ("finished", "")
    assert printed(reports / "01_slow") == "resumed\n"
    assert sorted(p.name for p in reports.iterdir()) == ["01_slow"]
    names = {p.name for p in (reports / "01_slow").rglob("*") if p.is_file()}
    assert names == {"notebook.ipynb", "index.html", ".stamp.json"}


# --- without kernels: a stand-in writes what papermill would ------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One notebook whose execution is played."""
    root = tmp_path.resolve()
    monkeypatch.setenv("COLORLIB_ROOT", str(root))
    monkeypatch.chdir(root)
    tiny.write(root, "01_good", "# Good", PARAMETERS, "print(1)")

    def execute(running):
        content = tiny.notebook("# Good", "print(1)")
        (running.task.partial / "notebook.ipynb").write_text(json.dumps(content))

    monkeypatch.setattr(worker.Running, "execute", execute)
    monkeypatch.setattr(stamps, "_modules", list)
    return root


def test_nothing_starts_when_a_parameter_is_wrong(project, monkeypatch):
    monkeypatch.setattr(worker.Running, "execute", lambda _: pytest.fail("it ran"))
    tiny.write(project, "02_other", "# Other", PARAMETERS.replace("rate", "ratio"))
    with pytest.raises(notebooks.ParameterError) as caught:
        reproduce.run([], "smoke", {"rate": "fast", "sede": 3})
    lines = str(caught.value).splitlines()
    assert "01_good: rate = 'fast': must be float" in lines[0]
    assert "01_good: unknown parameter 'sede'; did you mean 'seed'?" in lines[1]
    assert "02_other: unknown parameter 'rate'; did you mean 'ratio'?" in lines[2]
    assert not (project / "reports").exists()
    with pytest.raises(notebooks.NotebookError, match="unknown profile 'big'; known: smoke"):
        reproduce.run([], "big")


def test_profile_files_are_checked_and_named(project):
    folder = project / "notebooks/params/evening"
    folder.mkdir(parents=True)
    for text, words in (
        ("rate: 1e-4", "YAML reads 1e-4 as text"),
        ("data: no", "quote it"),
        ("epochs: 3", "unknown parameter 'epochs'"),
        ("- seed", "must hold `name: value` lines"),
        ("seed: [", "while parsing"),
    ):
        (folder / "01_good.yml").write_text(text)
        with pytest.raises(notebooks.ParameterError, match=words) as caught:
            reproduce.plan(["01"], "evening")
        assert "evening/01_good.yml" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    (folder / "01_good.yml").write_text("seed: 4\nprofile: smoke")
    task = reproduce.plan(["01"], "evening", {"rate": "1e-3"})[0]
    assert task.parameters == {"seed": 4, "rate": 0.001, "profile": "evening"}
    assert reproduce.plan(["01"], "evening", {"seed": 5})[0].parameters["seed"] == 5
    assert reproduce.plan(["01"])[0].parameters == {"profile": "laptop"}


def test_the_notebook_that_reads_the_others_comes_last(project, monkeypatch):
    ran, play = [], worker.Running.execute

    def execute(running):
        ran.append(running.task.name)
        (running.task.partial / "metrics.json").write_text(json.dumps(tiny.METRICS))
        play(running)

    monkeypatch.setattr(worker.Running, "execute", execute)
    for name in ("02_two", "06_reads", "07_speed"):
        tiny.write(project, name, "# Title", PARAMETERS)
    assert all(outcome.good for outcome in reproduce.run(jobs=2))
    assert sorted(ran[:2]) == ["01_good", "02_two"] and ran[2:] == ["06_reads", "07_speed"]
    assert reproduce.run(["06"], dry_run=True)[0].state == "skipped"
    metrics = project / "reports/laptop/01_good/metrics.json"
    metrics.write_text(metrics.read_text().replace("21.0", "21.1"))
    assert reproduce.run(["06"], dry_run=True)[0].note.startswith("the reports it reads changed")
    assert reproduce.run(["07"], dry_run=True)[0].state == "skipped"


@pytest.mark.parametrize("kind", ["evening", "local"])
def test_weights_that_another_run_leaves_make_a_reading_notebook_run_again(project, kind):
    tiny.write(project, "06_reads", "# Title", PARAMETERS)
    assert reproduce.run(["06"])[0].good
    assert reproduce.run(["06"], dry_run=True)[0].state == "skipped"
    weights = project / "reports" / kind / "01_good" / "weights"
    weights.mkdir(parents=True)
    (weights / "net.safetensors").write_bytes(b"trained")
    assert reproduce.run(["06"], dry_run=True)[0].note.startswith("the reports it reads changed")


def test_notebooks_side_by_side_share_the_threads(project, monkeypatch):
    tiny.write(project, "02_two", "# Two", PARAMETERS)
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    monkeypatch.setattr(machine, "physical_cores", lambda: 6)
    assert {task.threads for task in reproduce.plan(jobs=2)} == {3}
    assert {task.threads for task in reproduce.plan(jobs=9)} == {3}  # two notebooks, two processes
    assert {task.threads for task in reproduce.plan(jobs=1)} == {0}
    for name in ("06_reads", "07_speed", "07_speed_again"):
        tiny.write(project, name, "# Title", PARAMETERS)
    assert [task.threads for task in reproduce.plan(jobs=2)] == [3, 3, 0, 0, 0]
    sizes, beside = [], reproduce._run_group
    monkeypatch.setattr(
        reproduce, "_run_group", lambda g, jobs, *more: sizes.append(jobs) or beside(g, jobs, *more)
    )
    reproduce.run(jobs=2)
    assert sizes == [2, 2, 1]
    for asked, threads in (("2", 2), ("", 6)):
        monkeypatch.setenv("COLORLIB_THREADS", asked)
        assert machine.prepare("cpu", threads=0).threads == threads
    monkeypatch.setenv("COLORLIB_THREADS", "two")
    with pytest.raises(machine.MachineError, match="COLORLIB_THREADS=two"):
        machine.prepare("cpu")


def test_report_dir_can_be_chosen(project):
    outcome = reproduce.run(["01"], "smoke", {"report_dir": "mine/first"})[0]
    assert outcome.state == "finished"
    assert (project / "mine" / "first" / "index.html").exists()
    assert not (project / "reports").exists()
    task = reproduce.plan(["01"], parameters={"report_dir": "mine/../other/."})[0]
    assert task.report == str(project / "other")


def test_a_folder_of_one_s_own_is_refused_and_kept(project, monkeypatch):
    mine = project / "mine"
    mine.mkdir()
    assert reproduce.run(["01"], parameters={"report_dir": "mine"})[0].state == "finished"
    (mine / ".ipynb_checkpoints").mkdir()  # who reads a report in Jupyter leaves this
    again = reproduce.run(["01"], parameters={"report_dir": "mine"}, force=True)[0]
    assert again.state == "finished"
    (mine / "thesis.tex").write_text("years of work")
    (project / "link").symlink_to("mine")
    (project / "file").write_text("a file")
    monkeypatch.setattr(worker.Running, "execute", lambda _: pytest.fail("it ran"))
    for place, words in (
        ("mine", "mine holds thesis.tex, which is no part of a report"),
        ("link", "link is a link or a file, not a folder"),
        ("file", "file is a link or a file, not a folder"),
    ):
        for options in ({"force": True}, {"dry_run": True}):
            outcome = reproduce.run(["01"], parameters={"report_dir": place}, **options)[0]
            assert outcome.state == "refused"
            assert words in outcome.note and "-p report_dir FOLDER" in outcome.note
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert (project / "link").is_symlink() and (project / "file").read_text() == "a file"


def test_what_is_put_into_a_report_while_it_is_made_is_kept(project, monkeypatch):
    report, play = project / "reports/laptop/01_good", worker.Running.execute

    def execute(running):
        play(running)
        (running.task.partial / "of the notebook.txt").write_text("")
        report.mkdir(parents=True, exist_ok=True)
        (report / "notes.txt").write_text("seen")

    monkeypatch.setattr(worker.Running, "execute", execute)
    outcome = reproduce.run(["01"])[0]
    assert outcome.state == "failed" and "holds notes.txt" in outcome.note
    (report / "notes.txt").rename(project / "notes.txt")
    assert reproduce.run(["01"])[0].state == "skipped"  # nothing was lost: the run is published
    assert (report / "of the notebook.txt").exists()
    monkeypatch.setattr(worker.Running, "execute", play)
    assert reproduce.run(["01"], force=True)[0].state == "finished"


def test_only_real_folders_are_emptied(project):
    keep = project / "keep"
    keep.mkdir()
    (keep / "a").write_text("a")
    for name in ("link", "file"):
        place = project / name
        place.symlink_to(keep) if name == "link" else place.write_text("")
        stamps._remove(place)
        assert not os.path.lexists(place)
    stamps._remove(project / "nothing")
    assert (keep / "a").exists()


def test_a_folder_of_data_is_part_of_the_stamp(project):
    photos = project / "photos_of_mine"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"1")
    given = {"data": "garden,photos_of_mine"}
    assert reproduce.run(["01"], parameters=given)[0].state == "finished"
    assert reproduce.run(["01"], parameters=given)[0].state == "skipped"
    (photos / "b.png").write_bytes(b"2")
    foretold = reproduce.run(["01"], parameters=given, dry_run=True)[0]
    assert foretold.note.startswith("data changed")


def test_photos_behind_a_pattern_are_part_of_the_stamp(project, monkeypatch):
    (project / "holiday").mkdir()
    parameters = PARAMETERS + 'photos: str = ""\nshow: list[str] = []\n'
    tiny.write(project, "01_good", "# Good", parameters, "print(1)")
    given = {"photos": "holiday/*.jpg", "show": "*"}
    assert reproduce.run(["01"], parameters=given)[0].state == "finished"
    (project / "holiday/a.png").write_bytes(b"1")
    (project / "what show is not about.txt").write_text("")
    assert reproduce.run(["01"], parameters=given)[0].state == "skipped"
    (project / "holiday/a.jpg").write_bytes(b"1")
    foretold = reproduce.run(["01"], parameters=given, dry_run=True)[0]
    assert foretold.note.startswith("data changed")
    assert reproduce.run(["01"], parameters=given)[0].state == "finished"
    assert reproduce.run(["01"], parameters=given)[0].state == "skipped"
    (project / "b[1].jpg").write_bytes(b"1")
    (project / "b1.jpg").write_bytes(b"1")
    task = reproduce.plan(["01"], parameters={"photos": "b[1].jpg"})[0]
    assert [row[0][0] for row in map(stamps._listing, tasks.named_paths(task).values())] == [
        str(project / "b[1].jpg")
    ]


def test_a_partial_run_of_other_code_is_not_continued(project):
    task = reproduce.plan(["01"])[0]
    stamps.prepare(task, {"notebook": "before"})
    (task.partial / "a.checkpoint.safetensors").write_text("old")
    (task.partial / "figures").mkdir()
    (task.partial / "figures/old.png").write_text("old")
    stamps.prepare(task, {"notebook": "before"})  # the same: the checkpoint stays, alone
    assert sorted(p.name for p in task.partial.iterdir()) == [
        ".stamp.json",
        "a.checkpoint.safetensors",
    ]
    stamps.prepare(task, {"notebook": "after"})
    assert [p.name for p in task.partial.iterdir()] == [".stamp.json"]


def test_a_failing_run_keeps_the_report_before_it(project, monkeypatch):
    assert reproduce.run(["01"])[0].state == "finished"
    before = (project / "reports/laptop/01_good/index.html").read_text()

    def fail(running):
        raise reproduce.RunError("in 'Training': NonFiniteLoss: loss is nan")

    monkeypatch.setattr(worker.Running, "execute", fail)
    again = reproduce.run(["01"], force=True)[0]
    assert (again.state, again.note) == ("failed", "in 'Training': NonFiniteLoss: loss is nan")
    assert (project / "reports/laptop/01_good/index.html").read_text() == before


def test_checkpoints_are_gone_before_the_report_stands(project, monkeypatch):
    report = project / "reports" / "laptop" / "01_good"
    partial = tasks.neighbour(report, "partial")
    (partial / "checkpoints").mkdir(parents=True)
    (partial / "checkpoints/a.checkpoint.safetensors").write_text("large")
    files.write_json(partial / stamps.STAMP, {"finished": "2025-01-01 00:00"})
    monkeypatch.setattr(stamps, "_remove", lambda _: 1 / 0)  # killed just after the rename
    with pytest.raises(ZeroDivisionError):
        stamps.publish(partial, report)
    assert [path.name for path in report.iterdir()] == [stamps.STAMP]


@pytest.mark.parametrize("killed_after", ["moving the old aside", "moving both"])
def test_a_swap_that_was_killed_is_finished(project, killed_after):
    report = project / "reports" / "laptop" / "01_good"
    old, partial = tasks.neighbour(report, "old"), tasks.neighbour(report, "partial")
    old.mkdir(parents=True)
    (old / "which").write_text("old")
    new = partial if killed_after == "moving the old aside" else report
    new.mkdir()
    (new / "which").write_text("new")
    files.write_json(new / stamps.STAMP, {"finished": "2025-01-01 00:00"})
    stamps.recover(report)
    assert (report / "which").read_text() == "new"
    assert [p.name for p in report.parent.iterdir()] == ["01_good"]


def test_an_old_report_returns_when_the_new_one_is_not_whole(project):
    report = project / "reports" / "laptop" / "01_good"
    old, partial = tasks.neighbour(report, "old"), tasks.neighbour(report, "partial")
    for folder, which in ((old, "old"), (partial, "half")):
        folder.mkdir(parents=True)
        (folder / "which").write_text(which)
    stamps.recover(report)
    assert (report / "which").read_text() == "old"
    assert partial.exists() and not old.exists()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_stale_locks_are_taken_over(project):
    report = project / "reports" / "laptop" / "01_good"
    file = tasks.neighbour(report, "lock")
    file.parent.mkdir(parents=True)
    reused = {"pid": os.getpid(), "started": psutil.Process().create_time() - 1000}
    for holder in ({"pid": dead_pid(), "started": 1.0}, reused):
        file.write_text(json.dumps(holder))
        with stamps.lock(report):
            assert json.loads(file.read_text())["pid"] == os.getpid()
            assert not file.stat().st_mode & 0o133
        assert not file.exists()
    file.write_text("")  # just being written, or left by a crash
    with pytest.raises(reproduce.RunError, match="just starting"), stamps.lock(report):
        pass
    os.utime(file, (0, 0))
    with stamps.lock(report):
        assert file.read_text()


def test_a_held_lock_refuses(project):
    report = project / "reports" / "laptop" / "01_good"
    with stamps.lock(report):
        outcome = reproduce.run(["01"])[0]
        assert outcome.state == "refused"
        assert f"another run (process {os.getpid()}) is writing" in outcome.note
    assert reproduce.run(["01"])[0].state == "finished"


def test_trouble_with_the_disk_is_one_line(project, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stamps, "prepare", full)
    outcome = reproduce.run(["01"])[0]
    assert outcome.state == "failed"
    assert "is full; free some space" in outcome.note
    (project / "file").write_text("")
    outcome = reproduce.run(["01"], parameters={"report_dir": "file/below"})[0]
    assert "cannot be written" in outcome.note and "-p report_dir" in outcome.note


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("NoSuchKernel", "No such kernel named python3", "pip install ipykernel"),
        ("OSError", "[Errno 28] No space left on device", "the disk is full"),
        ("OSError", "[Errno 30] Read-only file system: 'x'", "-p report_dir FOLDER"),
        ("PermissionError", "[Errno 13] Permission denied: 'x'", "-p report_dir FOLDER"),
        ("ValueError", "first\nsecond", "in 'Data': ValueError: first second"),
    ],
)
def test_known_trouble_says_the_mend(kind, text, words):
    line = worker.one_line({"kind": kind, "text": text}, "Data")
    assert words in line and "\n" not in line


@pytest.mark.parametrize("unlucky", [0, 1, 2, 3])
def test_a_kernel_that_did_not_come_up_is_started_again(tmp_path, monkeypatch, unlucky):
    calls = []

    def execute(source, target, **_):
        calls.append(source)
        if len(calls) <= unlucky:
            raise RuntimeError(f"{worker.NO_KERNEL} to kernel_info")

    monkeypatch.setattr("papermill.execute_notebook", execute)
    task = tasks.Task("01_good", "laptop", {}, str(tmp_path / "01_good"), str(tmp_path))
    events = []
    if unlucky < 3:
        worker._execute(task, lambda **event: events.append(event))
    else:
        with pytest.raises(RuntimeError, match=worker.NO_KERNEL):
            worker._execute(task, lambda **event: events.append(event))
    assert len(calls) == min(unlucky + 1, 3)


def test_an_error_of_the_notebook_is_not_tried_again(tmp_path, monkeypatch):
    calls = []

    def execute(*_, **__):
        calls.append(1)
        raise RuntimeError("mine")

    monkeypatch.setattr("papermill.execute_notebook", execute)
    task = tasks.Task("01_good", "laptop", {}, str(tmp_path / "01_good"), str(tmp_path))
    with pytest.raises(RuntimeError, match="mine"):
        worker._execute(task, print)
    assert len(calls) == 1


def test_an_unfinished_record_is_no_report(project):
    tiny.write(project, "01_good", "# Good", PARAMETERS, "exit(); record.write(report_dir)")
    outcome = reproduce.run(["01"])[0]
    assert outcome.state == "failed"
    assert "there is no metrics.json" in outcome.note


def test_a_real_record_does_not_name_the_partial_place(project, monkeypatch):
    play = worker.Running.execute

    def execute(running):
        play(running)
        partial = running.task.partial
        record.write(
            partial,
            **tiny.METRICS,
            parameters={"seed": 1, "report_dir": str(partial)},
            seconds={"training": 1.0},
            machine=machine.prepare("cpu", "fp32", "small", seed=0, threads=1),
            weights_origin="trained here",
        )

    monkeypatch.setattr(worker.Running, "execute", execute)
    assert reproduce.run(["01"])[0].state == "finished"
    text = (project / "reports/laptop/01_good/run.json").read_text()
    assert json.loads(text)["parameters"] == {"seed": 1, "report_dir": ""}
    assert "partial" not in text


def test_figures_become_jpegs_only_where_a_report_is_too_large(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "row.safetensors").write_bytes(bytes(10**6))  # not committed
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    figures = {name: tmp_path / "figures" / f"{name}.png" for name in ("large", "small")}
    for file, rows in zip(figures.values(), (100, 50), strict=True):
        Image.fromarray(noise[:rows]).save(file)
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_text('{"file": "figures/large.png", "other": "figures/small.png"}')
    before = {path: path.read_bytes() for path in [*figures.values(), notebook]}
    neutral.fit_figures(tmp_path, 10**6)
    assert {path: path.read_bytes() for path in before} == before
    neutral.fit_figures(tmp_path, sum(map(len, before.values())))
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["large.jpg", "small.png"]
    assert json.loads(notebook.read_text()) == {
        "file": "figures/large.jpg",
        "other": "figures/small.png",
    }


def test_scrub_knows_where_a_path_ends():
    places = {"/home/ann/here": "PROJECT", "/home/ann": "HOME", "/tmp": "TMP"}
    text = "/home/ann/here/a.py /home/anna /home/ann: /tmp/ipykernel_12/345.py my/tmp/x"
    assert neutral.scrub(text, places) == "PROJECT/a.py /home/anna HOME: cell my/tmp/x"
    kept = {"image/png": "/home/ann", "text/plain": ["/home/ann"]}
    assert neutral.scrub(kept, places) == {"image/png": "/home/ann", "text/plain": ["HOME"]}


def test_folders_named_by_parameters_lose_their_path(project, tmp_path_factory):
    photos = tmp_path_factory.mktemp("far") / "roses"
    photos.mkdir()
    task = reproduce.plan(["01"], parameters={"data": str(photos)})[0]
    places = neutral.neutral_places(task)
    assert neutral.scrub(f"{photos}/a.png", places) == "roses/a.png"
    (photos / "a.png").write_bytes(b"1")
    for folder in (str(photos), os.path.relpath(photos)):
        task = reproduce.plan(["01"], parameters={"data": f"{folder}/*.png"})[0]
        places = neutral.neutral_places(task)
        assert neutral.scrub(f"{folder}/*.png {photos}/a.png", places) == "roses/*.png roses/a.png"


def test_progress_joins_cells_and_training(project):
    task = reproduce.plan(["01"])[0]
    running = worker.Running(task, outlook.expectation(task))
    assert running.progress() == (0, "starting, 0 s")
    running.task.partial.mkdir(parents=True)
    running.began, running.cell, running.cells = time.monotonic() - 30, 3, 8
    running.heading = "Training"
    state = {"label": "unet", "done": 25, "total": 100, "seconds": 20.0}
    files.write_json(running.task.partial / worker.PROGRESS, state)
    fraction, words = running.progress()
    assert fraction == pytest.approx(2.25 / 8)
    assert words == "Training, cell 3/8, unet 25/100, 30 s, this training 1 min 0 s more"
    running.expected = outlook.Expectation(120.0, 0, 0, "as on 2025-01-02")
    assert running.progress()[1].endswith("about 1 min 30 s left")
    files.write_json(running.task.partial / worker.PROGRESS, {**state, "done": 100})
    assert running.progress()[0] == pytest.approx(3 / 8)
    running._hear(worker.EVENT + json.dumps({"cell": 4}))
    os.utime(running.task.partial / worker.PROGRESS, (1, 1))  # of an earlier cell
    assert "unet" not in running.progress()[1] and "cell 4/8" in running.progress()[1]


def test_a_log_gets_lines_now_and_then(project, monkeypatch, capsys):
    task = reproduce.plan(["01"])[0]
    expected = outlook.Expectation(200.0, 0, 0, "as on 2025-01-02")
    running = worker.Running(task, expected, cell=1, cells=2, heading="Data")
    shown = board.Board([running])
    running.began = time.monotonic()
    shown.start(running, "new")
    shown.draw()
    monkeypatch.setattr(shown, "EVERY", 0.0)
    shown.draw()
    shown.close()
    assert capsys.readouterr().err == (
        "01_good: starts (new; about 3 min 20 s, as on 2025-01-02)\n"
        "01_good: Data, cell 1/2, 0 s, about 3 min 20 s left\n"
    )


def test_the_bar_of_a_notebook_that_ends_meanwhile_stays_away(project, monkeypatch):
    task = reproduce.plan(["01"])[0]
    running = worker.Running(task, outlook.expectation(task), began=time.monotonic())
    shown = board.Board([running])
    shown.live = True

    def end():
        running.began = 0.0
        shown.end(reproduce.Outcome("01_good", "finished"))

    ending = threading.Thread(target=end)

    def progress():
        ending.start()
        ending.join(0.3)
        return 0.5, "half"

    monkeypatch.setattr(running, "progress", progress)
    shown.draw()
    ending.join()
    assert shown.bars == {}
    shown.draw()
    assert shown.bars == {}


def test_durations_are_words():
    assert [board.duration(s) for s in (0.4, 59.4, 59.6, 3599.6, 7500)] == [
        *("0 s", "59 s", "1 min 0 s", "1 h 0 min", "2 h 5 min"),
    ]


def test_the_stored_notebook_keeps_a_jpeg_of_a_linked_figure(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    linked = {
        "data": {"image/png": data},
        "metadata": {"image/png": {"alt": "a", "file": "figures/a.png"}},
    }
    own = {"data": {"image/png": data}, "metadata": {"image/png": {"alt": "b"}}}
    neutral._lighten(linked)
    neutral._lighten(own)
    assert base64.b64decode(linked["data"]["image/jpeg"])[:2] == b"\xff\xd8"
    assert linked["metadata"] == {"image/jpeg": {"alt": "a", "file": "figures/a.png"}}
    assert own["data"] == {"image/png": data}
