"""What stands on disk: whole, unchanged, one's own; swapped, set aside, locked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import colorlib
from colorlib import files
from colorlib.batch import stamps
from colorlib.batch.plan import RunError, expectation, plan

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One notebook beside a colorlib of one module."""
    root = tmp_path.resolve()
    monkeypatch.setenv("COLORLIB_ROOT", str(root))
    monkeypatch.delenv("COLORLIB_DATA", raising=False)
    monkeypatch.setattr(colorlib, "__file__", str(root / "colorlib" / "__init__.py"))
    monkeypatch.chdir(root)
    (root / "colorlib" / "batch").mkdir(parents=True)
    (root / "colorlib" / "color.py").write_text("")
    tiny.write(root, "01_good", "# Good", PARAMETERS, "print(1)")
    return root


def task_of(name="01", profile="laptop", **given):
    return plan([name], profile, given)[0][0]


def finish(task, **contents):
    """Make the report of a task, of these files."""
    stamps.recover(task)
    stamps.prepare(task, stamps.stamp(task))
    for name, content in {"notebook.ipynb": "{}", "index.html": "<p>", **contents}.items():
        file = task.partial / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    stamps.seal(task)
    stamps.publish(task)
    return task


def changes(task):
    return stamps.changes(task.report, stamps.stamp(task))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_change_of_what_a_run_depends_on_is_named(project):
    task = task_of()
    assert changes(task) == "new"
    assert changes(finish(task)) is None
    assert changes(task_of(seed=5)) == "parameters changed"
    (project / "colorlib/color.py").write_text("changed")
    (project / "colorlib/batch/run.py").write_text("how it runs changes no result")
    assert changes(task) == "colorlib changed"
    tiny.write(project, "01_good", "# Good", PARAMETERS, "print(2)")
    assert changes(task) == "notebook and colorlib changed"


def test_studies_rest_on_their_lesson(project):
    tiny.write(project, "studies/01_good", "# Studies", PARAMETERS, "print(1)")
    task = finish(task_of("studies/01"))
    assert changes(task) is None
    tiny.write(project, "01_good", "# Good", PARAMETERS, "print(3)")
    assert changes(task) == "notebook changed"


@pytest.mark.parametrize("name", ["index.html", "metrics.json", "figures/a.png", "weights/a.bin"])
def test_a_part_of_a_report_that_is_lost_or_damaged_is_named(project, name):
    task = finish(task_of(), **{name: "whole"})
    (task.report / name).write_text("half")
    assert changes(task) == f"{name} was changed"
    (task.report / name).unlink()
    assert changes(task) == f"{name} is lost"


@pytest.mark.parametrize("old", [{}, [], {"finished": 1, "files": ["a"]}])
def test_a_report_without_a_stamp_is_made_again(project, old):
    task = finish(task_of())
    tiny.keep(task.report / stamps.STAMP, old)
    assert changes(task) == "not run by this checkout"


def test_folders_and_patterns_of_data_are_part_of_the_stamp(project):
    (project / "photos").mkdir()
    (project / "photos/a.jpg").write_bytes(b"1")
    folder, pattern = task_of(data="photos"), task_of(data="photos/*.jpg", report_dir="other")
    finish(folder), finish(pattern)
    (project / "photos/b.png").write_bytes(b"2")
    assert changes(folder) == "data changed" and changes(pattern) is None
    (project / "photos/b.jpg").write_bytes(b"2")
    assert changes(pattern) == "data changed"


@pytest.mark.parametrize("kind", ["overnight", "local"])
def test_reports_that_a_notebook_reads_are_part_of_its_stamp(project, kind):
    tiny.write(project, "06_reads", "# Reads", PARAMETERS, reads=["01_good"])
    reader = task_of("06")
    for name in ("weights/net.safetensors", "metrics.json"):
        assert changes(finish(reader)) is None
        tiny.keep(project / "reports" / kind / "01_good" / name, {})
        assert changes(reader) == "the reports it reads changed"


def leave(task, text, parts=None):
    """Leave a run killed in the middle."""
    stamps.prepare(task, parts or stamps.stamp(task))
    for name in ("checkpoints/a.checkpoint.safetensors", "figures/old.png"):
        file = task.partial / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def files_of(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_a_killed_run_goes_on_also_with_mended_code(project):
    task = task_of()
    leave(task, "old", {"colorlib": "before"})
    stamps.prepare(task, {"colorlib": "after"})
    assert files_of(task.partial) == [stamps.STAMP, "a.checkpoint.safetensors"]


def test_other_parameters_touch_no_checkpoint_and_the_newest_few_are_kept(project):
    tasks = [task_of(seed=seed) for seed in range(2 + stamps.KEPT)]
    for task in tasks:
        leave(task, "unfinished")
    found = [files_of(task.partial) != [] for task in tasks]
    assert found == [False, False, *[True] * stamps.KEPT]
    assert tasks[-1].partial == task_of(seed=1 + stamps.KEPT).partial
    assert changes(finish(tasks[-1])) is None and files_of(tasks[-2].partial)


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


def commit(project):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return files.git(project, "rev-parse", "HEAD")


def test_git_knows_which_reports_are_committed(project):
    report = finish(task_of()).report
    assert not stamps.is_committed(report)
    commit(project)
    assert stamps.is_committed(report) and not stamps.is_committed(project / "reports/none")


def test_status_asks_git_and_knows_the_local_ones(project):
    tiny.keep(project / "reports/local/01_good/run.json", {})
    report = project / "reports/laptop/01_good"
    report.mkdir(parents=True)
    now = commit(project)
    for git, state in (
        ({"commit": now, "dirty": False}, "current"),
        ({"commit": now[:7], "dirty": True}, "of code that was not committed"),
        ({"commit": "0" * 40, "dirty": False}, "of unknown code"),
        ({"commit": "none", "dirty": False}, "of unknown code"),
        ({"commit": now}, "current"),
    ):
        tiny.keep(report / "run.json", {"date": "2025-01-02T03", "git": git})
        laptop, local = stamps.status()
        assert laptop == ("01_good", "laptop", "2025-01-02", state)
        assert local == ("01_good", "local", "unknown", "your own")
    (project / "colorlib/batch/run.py").write_text("")
    assert stamps.status()[0][3] == "current"
    tiny.write(project, "01_good", "# Good", PARAMETERS, "print(2)")
    assert stamps.status()[0][3] == "older: code changed since its commit"


def test_a_hostile_commit_is_no_option_of_git(project):
    report, victim = project / "reports/laptop/01_good", project / "victim"
    report.mkdir(parents=True)
    commit(project)
    victim.write_text("precious")
    for evil in (f"--output={victim}", "-O/x", "HEAD", "HEAD\n", "abcdef", "a" * 41, "ABCDEF1"):
        tiny.keep(report / "run.json", {"git": {"commit": evil}})
        assert stamps.status()[0][3] == "of unknown code"
    assert victim.read_text() == "precious"


ODD = [None, True, 3, 1e400, "x", [], [1], {}, {"a": 1}, "2025-13-45"]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_odd_but_valid_json_leaves_status_standing(project, odd):
    report, keys = project / "reports/laptop/01_good", ("date", "git", "wall_seconds", "parts")
    forms = [odd, dict.fromkeys(keys, odd), {"git": {"commit": odd, "dirty": odd}}]
    for form in [*forms, {"finished": odd, "files": odd}, {"parts": {"notebook": odd}}]:
        for name in ("run.json", stamps.STAMP, "metrics.json"):
            tiny.keep(report / name, form)
        assert [row[3] for row in stamps.status()] == ["of unknown code"]
        assert changes(task_of()) and expectation(task_of()).seconds > 0
        stamps.refuse_foreign(task_of())
