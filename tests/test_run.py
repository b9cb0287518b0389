"""The batch runner: whole reports or none, resumed, skipped, told about, without the machine."""

import base64
import io
import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import RECORD, play, printed, use

from colorlib import machine
from colorlib.batch import run as runner
from colorlib.batch import stamps
from colorlib.batch.plan import Expectation, plan
from colorlib.batch.report import neutral_places, scrub, shrink

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"
PICTURE = io.BytesIO()
Image.new("RGB", (8, 8), "green").save(PICTURE, "PNG")
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


def test_it_is_said_when_a_committed_report_will_be_replaced(project):
    assert runner.run(["01"])[0].good
    tiny.commit(project)
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
    assert last == "01_good: finished 1 ways on the same 12 pictures"


def test_what_is_left_of_a_run_is_foretold_where_it_was_measured(project):
    each = runner.Run(plan(["01"])[0][0], Expectation(120, "as on 2025-01-02"), "running")
    each.began = time.monotonic() - 30
    assert each.progress() == "01_good: starting, 30 s, about 1 min 30 s left"
    each.expected = Expectation(120, "a guess", measured=False)
    assert each.progress() == "01_good: starting, 30 s"
