"""Two runs at once, foreign folders, read-only places, clocks, nonsense in the environment."""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from photos import fill
from tiny import finish, task_of
from torch import nn
from toy import Toy

from colorlib import machine, pictures, training
from colorlib.batch import cli, stamps
from colorlib.batch import run as runner
from colorlib.batch.plan import RunError
from colorlib.datasets import DatasetError, load

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mine", "mine holds thesis.tex, which is no part of a report"),
        ("link", "link is a link or a file, not a folder"),
        ("file", "file is a link or a file, not a folder"),
    ],
)
def test_a_folder_of_one_s_own_is_refused(project, place, words):
    finish(task_of(report_dir="mine"), **{"of the notebook.txt": ""})
    (project / "mine/.ipynb_checkpoints").mkdir()  # who reads a report in Jupyter leaves this
    stamps.refuse_foreign(task_of(report_dir="mine"))
    (project / "mine/thesis.tex").write_text("years of work")
    (project / "link").symlink_to("mine")
    (project / "file").write_text("a file")
    with pytest.raises(RunError, match=f"{words}; choose another place with -p report_dir"):
        stamps.refuse_foreign(task_of(report_dir=place))


@pytest.mark.parametrize("told_by", [stamps.STAMP, "metrics.json", "run.json"])
def test_a_report_of_another_notebook_or_profile_is_refused(project, told_by):
    tiny.write(project, "02_other", "# Other", PARAMETERS)
    tiny.keep(project / "far" / told_by, {"notebook": "02_other", "profile": "laptop"})
    stamps.refuse_foreign(task_of("02", report_dir="far"))
    for task in (task_of("01", report_dir="far"), task_of("02", "paper", report_dir="far")):
        with pytest.raises(RunError, match="far is for 02_other at laptop; choose another"):
            stamps.refuse_foreign(task)


def test_another_notebook_s_report_is_never_replaced(project, monkeypatch):
    tiny.write(project, "02_other", "# Other", PARAMETERS)
    assert runner.run(["02"])[0].good
    theirs = project / "reports/laptop/02_other"
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("it ran"))
    for options in ({"force": True}, {"dry_run": True}):
        [refused] = runner.run(["01"], parameters={"report_dir": str(theirs)}, **options)
        assert refused.state == "refused" and "is for 02_other at laptop" in refused.note
    assert runner.run(["02"])[0].state == "skipped"


def as_nobody(work: Callable[[], str]) -> str:
    """Do the work in a child whom permissions bind, also where the tests run as root."""
    reads, writes = os.pipe()
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            if os.getuid() == 0:
                os.setuid(65534)
            try:
                said = work()
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with open(reads, encoding="utf-8") as stream:
        return stream.read()


@pytest.fixture
def locked(project, monkeypatch) -> Iterator[Path]:
    """The project, which its user may read only, and a folder `own` that takes files."""
    for parent in project.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # its own folders are closed to others
            parent.chmod(0o755)
    if not all(parent.stat().st_mode & 1 for parent in project.parents):
        pytest.skip("nobody can read where the tests write")
    (project / "own").mkdir()  # a run imports what nobody, later, may not be able to read
    assert runner.run(["01"], parameters={"report_dir": "own/first"})[0].good
    fill(project / "photos", 3)
    closed = [project, *(path for path in project.rglob("*") if path.is_dir())]
    for path in closed:
        path.chmod(0o555)
    (project / "own").chmod(0o777)
    (project / "photos" / "000.png").chmod(0)
    monkeypatch.setenv("HOME", str(project / "own"))
    yield project
    for path in closed:
        path.chmod(0o755)


def test_a_read_only_checkout_is_said_and_a_run_elsewhere_works(locked):
    def run(**given: str) -> str:
        return "{0.state}: {0.note}".format(runner.run(["01"], parameters=given)[0])

    said = as_nobody(run)
    assert said.startswith("refused: ") and "\n" not in said
    assert "Permission denied" in said and "-p report_dir" in said
    assert as_nobody(lambda: run(report_dir="own/report")).startswith("finished")
    assert not (locked / "reports").exists()


def test_pictures_without_permission_and_a_closed_cache(locked, monkeypatch):
    monkeypatch.setenv("COLORLIB_DATA", str(locked))

    def look() -> str:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = load("photos", 8)
        return "\n".join([f"{len(found)} read", *found.skipped, *(str(w.message) for w in told)])

    count, skipped, *told = as_nobody(look).splitlines()
    assert count == "2 read" and "cannot be read (Permission denied)" in skipped
    assert len(told) == 1 and "name another folder with COLORLIB_DATA" in told[0]
    said = as_nobody(lambda: pictures.read(locked / "photos" / "000.png"))
    assert said.startswith("PictureError: ") and "000.png: cannot be read" in said
    said = as_nobody(lambda: pictures.write(locked / "a.png", pictures.read_rgb("photos/001.png")))
    assert "a.png: cannot be written (Permission denied); choose another folder" in said
    said = as_nobody(lambda: training.save_weights(locked / "w.safetensors", nn.Linear(1, 1), {}))
    assert said.startswith("PermissionError: ") and "\n" not in said


def test_a_folder_that_nobody_may_open_is_said(locked):
    (locked / "photos").chmod(0)
    said = as_nobody(lambda: str(pictures.find(locked / "photos")))
    (locked / "photos").chmod(0o755)
    assert said.startswith("PictureError: ") and "photos: " in said


def test_a_clock_that_is_set_back_changes_nothing(project, monkeypatch, tmp_path):
    assert runner.run(["01"])[0].state == "finished"
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 10**6)
    assert runner.run(["01"])[0].state == "skipped"
    assert runner.run(["01"], force=True)[0].state == "finished"
    assert stamps.status()[0][0] == "01_good"
    whole, broken, resumed = Toy(), Toy(), Toy()
    broken.fail_at = 7
    with pytest.raises(RuntimeError):
        broken.run(tmp_path / "training", checkpoint_seconds=0)
    monkeypatch.setattr(time, "time", lambda: now() - 2 * 10**6)
    assert resumed.run(tmp_path / "training").seconds >= 0
    assert whole.run() and resumed.after == whole.after


def test_a_seat_of_a_dead_process_from_a_later_clock_takes_no_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SEATS", tmp_path)
    monkeypatch.delenv("COLORLIB_THREADS", raising=False)
    (tmp_path / "dead").touch()
    os.utime(tmp_path / "dead", (time.time() + 86400,) * 2)
    try:
        with machine.prepare("cpu", threads=4).shared() as look_around:
            look_around()
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "text", ["two", "-1", "1.5", "1e3", "²", " ", "0x2", "99999999999999999999", "1000000"]
)
def test_threads_that_are_no_number_are_refused(monkeypatch, text):
    monkeypatch.setenv("COLORLIB_THREADS", text)
    try:
        with pytest.raises(machine.MachineError, match=r"COLORLIB_THREADS=.*must be") as caught:
            machine.prepare("cpu")
        assert "\n" not in str(caught.value)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("text", ["/no/such/place", "/dev/null", "~", "x" * 300])
@pytest.mark.parametrize("key", ["COLORLIB_ROOT", "COLORLIB_DATA"])
def test_a_root_that_is_no_place_is_one_line(tmp_path, monkeypatch, key, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(key, text)
    told = CliRunner().invoke(cli.main, ["data"] if key == "COLORLIB_DATA" else ["run"])
    if key == "COLORLIB_ROOT" or len(text) > 255:
        assert told.exit_code == 2 and len(told.stderr.splitlines()) == 1
        assert re.match(r"colorlib: (unknown .* none in|.*File name too long)", told.stderr)
    else:
        assert told.exit_code == 0 and "flowers102" in told.stdout
        with pytest.raises(DatasetError, match="nowhere: no such set or folder") as caught:
            load("nowhere", 8)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
