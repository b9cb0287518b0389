"""The batch runner: whole reports or none, resumed, skipped, told about, without the machine."""

import base64
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny
from PIL import Image

import colorlib
from colorlib import files, machine
from colorlib.batch import run as runner
from colorlib.batch import stamps
from colorlib.batch.plan import Expectation, RunError, plan
from colorlib.batch.report import neutral_places, scrub, shrink

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"
PICTURE = io.BytesIO()
Image.new("RGB", (8, 8), "green").save(PICTURE, "PNG")
RECORD = f"""
import json
from pathlib import Path
metrics = {json.dumps(tiny.METRICS)!r}.replace("smoke", profile)
Path(report_dir, "metrics.json").write_text(metrics)
run = {{"date": "2025-01-02T03:04:05+00:00", "place": report_dir}}
run["parameters"] = {{"report_dir": report_dir}}
Path(report_dir, "run.json").write_text(json.dumps(run))
"""
GOOD = """
import os, sys, tempfile
print(report_dir, os.getcwd(), Path.home(), tempfile.gettempdir(), sys.prefix)
print(os.environ.get("COLORLIB_THREADS"), rate, studies)
Path(report_dir, "first.checkpoint.safetensors").write_text("a checkpoint")
"""
SHOWN = f"""
import base64
from IPython.display import display
data = {{"image/png": {json.dumps(base64.b64encode(PICTURE.getvalue()).decode())}}}
display(data, raw=True, metadata={{"image/png": {{"alt": "one", "file": "figures/a.png"}}}})
display(data, raw=True, metadata={{"image/png": {{"alt": "two"}}}})
Path(report_dir, "figures").mkdir()
size = Path(report_dir, "figures", "a.png").write_bytes(base64.b64decode(data["image/png"]))
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
    time.sleep(60)
"""


def use(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Work in a project whose colorlib has one module."""
    patch.setenv("COLORLIB_ROOT", str(root))
    patch.delenv("COLORLIB_DATA", raising=False)
    patch.setattr(colorlib, "__file__", str(root / "colorlib" / "__init__.py"))
    patch.chdir(root)
    return root


def printed(report: Path) -> str:
    """Return all that a report's notebook printed."""
    cells = json.loads((report / "notebook.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three notebooks run together: one good, one wrong, one whose kernel dies."""
    with pytest.MonkeyPatch.context() as patch:
        root = use(tmp_path_factory.mktemp("project").resolve(), patch)
        patch.setenv("COLORLIB_THREADS", "")
        patch.setattr(machine, "physical_cores", lambda: 6)
        tiny.write(root, "01_good", "# Good", PARAMETERS, 'MAIN_ROW = "ours"', RECORD, GOOD, SHOWN)
        tiny.write(root, "02_wrong", "# Wrong", PARAMETERS, "## Training", "[][1]")
        tiny.write(root, "03_dies", "# Dies", PARAMETERS, "## Model", "import os; os._exit(9)")
        (root / "notebooks/params/smoke").mkdir(parents=True)
        (root / "notebooks/params/smoke/01_good.yml").write_text("rate: 2.0e-3\nstudies: [a]\n")
        yield root, {each.task.name: each for each in runner.run(profile="smoke", jobs=2)}


def test_one_failure_does_not_stop_the_others(batch):
    _, runs = batch
    states = {name: each.state for name, each in runs.items()}
    assert states == {"01_good": "finished", "02_wrong": "failed", "03_dies": "failed"}
    assert "gain over grey +1.50 dB" in runs["01_good"].note
    assert runs["02_wrong"].note == "in 'Training': IndexError: list index out of range"
    assert runs["03_dies"].note.startswith("in 'Model': the kernel died (out of memory?)")


def test_a_finished_run_is_a_whole_report(batch):
    root, _ = batch
    report = root / "reports/smoke/01_good"
    whole = {"notebook.ipynb", "index.html", "metrics.json", "run.json", "figures", stamps.STAMP}
    assert {path.name for path in report.iterdir()} == whole
    assert json.loads((report / "metrics.json").read_text()) == tiny.METRICS
    run = json.loads((report / "run.json").read_text())
    assert run["wall_seconds"] > 0 and run["parameters"] == {"report_dir": ""}
    assert "3 0.002 ['a']" in printed(report)  # threads were divided, the profile's values hold
    left = {path.name for path in report.parent.iterdir()}
    assert {name.split(".")[1] for name in left - {"01_good"}} == {"02_wrong", "03_dies"}


def test_no_path_of_this_machine_stays(batch):
    root, _ = batch
    report = root / "reports/smoke/01_good"
    for name in ("notebook.ipynb", "index.html", "run.json", "metrics.json"):
        text = (report / name).read_text()
        for path in (str(root), f"{Path.home()}/", sys.prefix, ".partial"):
            assert path not in text, (name, path)
    assert printed(report).startswith("reports/smoke/01_good PROJECT ")
    notebook = json.loads((report / "notebook.ipynb").read_text())
    injected = [c for c in notebook["cells"] if "injected-parameters" in c["metadata"]["tags"]]
    source = "".join(injected[0]["source"])
    assert 'report_dir = ""' in source and 'profile = "smoke"' in source
    assert notebook["metadata"]["papermill"]["parameters"]["report_dir"] == ""
    assert "start_time" not in json.dumps(notebook)


def test_the_stored_notebook_keeps_a_jpeg_of_a_linked_figure(batch):
    notebook = json.loads((batch[0] / "reports/smoke/01_good/notebook.ipynb").read_text())
    linked, own = notebook["cells"][-1]["outputs"]
    assert base64.b64decode(linked["data"]["image/jpeg"])[:2] == b"\xff\xd8"
    assert linked["metadata"]["image/jpeg"] == {"alt": "one", "file": "figures/a.png"}
    assert set(own["data"]) == {"image/png"}


def test_unchanged_is_skipped_and_a_dry_run_says_what_to_expect(batch, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("it ran"))
    again = runner.run(["01"], "smoke")[0]
    assert (again.state, again.seconds) == ("skipped", 0)
    assert again.note == "unchanged; --force runs it again"
    known, new = runner.run(["01", "02"], "smoke", force=True, dry_run=True)
    assert (known.state, new.state) == ("would run", "would run")
    assert 0 < known.seconds < 120 and new.seconds == 30
    assert known.note == "forced (as on 2025-01-02)"
    assert new.note == "new (a guess, never run yet)"


def wait_for(what, seconds=60):
    """Return what() as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_no_kernel_and_is_continued(tmp_path, monkeypatch, ending):
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
    victim.send_signal(ending)
    said, _ = victim.communicate(timeout=30)
    assert said == ("interrupted\n" if ending == signal.SIGINT else "")
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive and not (reports / "01_good").exists()
    again = runner.run(["01"])[0]
    assert again.state == "finished"
    assert printed(reports / "01_good") == "resumed\n"
    assert sorted(p.name for p in reports.iterdir()) == ["01_good"]
    assert not list(reports.rglob("*.checkpoint*"))


def play(each, environ):
    """Stand in for a kernel: write what papermill and a notebook would."""
    tiny.leave_report(each.task.partial, each.task.name, each.task.profile)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One notebook whose execution is played."""
    root = use(tmp_path.resolve(), monkeypatch)
    tiny.write(root, "01_good", "# Good", PARAMETERS, "print(1)")
    monkeypatch.setattr(runner, "execute", play)
    return root


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


def test_another_notebook_s_report_is_never_replaced(project, monkeypatch):
    tiny.write(project, "02_other", "# Other", PARAMETERS)
    assert runner.run(["02"])[0].good
    theirs = project / "reports/laptop/02_other"
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("it ran"))
    for options in ({"force": True}, {"dry_run": True}):
        [refused] = runner.run(["01"], parameters={"report_dir": str(theirs)}, **options)
        assert refused.state == "refused" and "is for 02_other at laptop" in refused.note
    assert runner.run(["02"])[0].state == "skipped"


def test_it_is_said_when_a_committed_report_will_be_replaced(project, monkeypatch):
    assert runner.run(["01"])[0].good
    monkeypatch.setattr(stamps, "is_committed", lambda report: report.name == "01_good")
    assert runner.run(["01"], dry_run=True)[0].state == "skipped"
    [told] = runner.run(["01"], parameters={"seed": 3}, dry_run=True)
    assert told.note.startswith("parameters changed; replaces a committed report: git restore")
    [elsewhere] = runner.run(["01"], parameters={"report_dir": "mine"}, dry_run=True)
    assert elsewhere.note.startswith("new (")


def test_what_reads_others_runs_after_them(project, monkeypatch):
    ran = []
    monkeypatch.setattr(runner, "execute", lambda each, _: ran.append(each.task.name))
    tiny.write(project, "00_reads", "# Reads", PARAMETERS, reads=["01_good", "02_two"])
    tiny.write(project, "02_two", "# Two", PARAMETERS)
    runner.run(jobs=2)
    assert sorted(ran[:2]) == ["01_good", "02_two"] and ran[2:] == ["00_reads"]


def test_notebooks_side_by_side_share_the_threads(monkeypatch):
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    monkeypatch.setattr(machine, "physical_cores", lambda: 6)
    threads = [runner.environment(beside).get("COLORLIB_THREADS") for beside in (1, 2, 3, 9)]
    assert threads == [None, "3", "2", "1"]
    monkeypatch.setenv("COLORLIB_THREADS", "4")
    assert runner.environment(2)["COLORLIB_THREADS"] == "4"


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failing_run_keeps_the_report_before_it(project, monkeypatch, number):
    assert runner.run(["01"])[0].state == "finished"
    before = (project / "reports/laptop/01_good/index.html").read_text()

    def fail(each, environ):
        each.heading = "Training"
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr(runner, "execute", fail)
    [again] = runner.run(["01"], force=True)
    words = "the disk is full" if number == errno.ENOSPC else "choose another place with -p"
    assert again.state == "failed" and words in again.note and "\n" not in again.note
    assert again.note.startswith("in 'Training': ")
    assert (project / "reports/laptop/01_good/index.html").read_text() == before


def test_a_place_that_cannot_be_is_refused(project):
    (project / "file").write_text("")
    [refused] = runner.run(["01"], parameters={"report_dir": "file/below"})
    assert refused.state == "refused" and "-p report_dir" in refused.note


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


def test_figures_become_jpegs_only_where_a_report_is_too_large(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    figures = [tmp_path / "figures" / f"{name}.png" for name in ("large", "small")]
    figures[0].parent.mkdir()
    for file, rows in zip(figures, (100, 50), strict=True):
        Image.fromarray(noise[:rows]).save(file)
    notebook = tmp_path / "notebook.ipynb"
    tiny.keep(notebook, {"file": "figures/large.png", "other": "figures/small.png"})
    size = sum(path.stat().st_size for path in (*figures, notebook))
    shrink(tmp_path, size)
    assert all(figure.exists() for figure in figures)
    shrink(tmp_path, size - 1)
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["large.jpg", "small.png"]
    assert list(json.loads(notebook.read_text()).values()) == [
        "figures/large.jpg",
        "figures/small.png",
    ]


def test_scrub_knows_where_a_path_ends():
    places = {"/home/ann/here": "PROJECT", "/home/ann": "HOME", "/tmp": "TMP"}
    text = "/home/ann/here/a.py /home/anna /home/ann: /tmp/ipykernel_12/345.py my/tmp/x"
    assert scrub(text, places) == "PROJECT/a.py /home/anna HOME: cell my/tmp/x"
    kept = {"image/png": "/home/ann", "text/plain": ["/home/ann"]}
    assert scrub(kept, places) == {"image/png": "/home/ann", "text/plain": ["HOME"]}


def test_folders_named_by_parameters_lose_their_path(project, tmp_path_factory):
    photos = tmp_path_factory.mktemp("far") / "roses"
    photos.mkdir()
    (photos / "a.png").write_bytes(b"1")
    for given in (str(photos), f"{photos}/*.png", f"{os.path.relpath(photos)}/*.png"):
        [[task]] = plan(["01"], parameters={"data": given})
        shown = scrub(f"{given} {photos}/a.png", neutral_places(task))
        assert shown == f"roses{'/*.png' * ('*' in given)} roses/a.png"


def test_a_log_gets_lines_now_and_then(project, monkeypatch, capsys):
    def execute(each, environ):
        each.heading, each.cell = "Training", {"outputs": [{"data": {"text/plain": "step 2"}}]}
        time.sleep(0.6)
        play(each, environ)

    monkeypatch.setattr(runner, "EVERY", 0.0)
    monkeypatch.setattr(runner, "execute", execute)
    runner.run(["01"])
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first == "01_good: starts (new; about 3 min 0 s, a guess, never run yet)"
    assert re.fullmatch("01_good: Training, step 2, .* s", second)
    assert last == "01_good: finished 1 ways on the same pictures"


def test_what_is_left_of_a_run_is_foretold_where_it_was_measured(project):
    each = runner.Run(plan(["01"])[0][0], Expectation(120, "as on 2025-01-02"), "running")
    each.began = time.monotonic() - 30
    assert each.progress() == "01_good: starting, 30 s, about 1 min 30 s left"
    each.expected = Expectation(120, "a guess", measured=False)
    assert each.progress() == "01_good: starting, 30 s"
