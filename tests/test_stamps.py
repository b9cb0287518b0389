"""What stands on disk: whole, unchanged, one's own; swapped, set aside, locked."""

import pytest
import tiny
from tiny import changes, commit, files_of, finish, leave, task_of

from colorlib.batch import stamps

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


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


def test_other_parameters_touch_no_checkpoint_and_the_newest_few_are_kept(project):
    tasks = [task_of(seed=seed) for seed in range(2 + stamps.KEPT)]
    for task in tasks:
        leave(task, "unfinished")
    found = [files_of(task.partial) != [] for task in tasks]
    assert found == [False, False, *[True] * stamps.KEPT]
    assert tasks[-1].partial == task_of(seed=1 + stamps.KEPT).partial
    assert changes(finish(tasks[-1])) is None and files_of(tasks[-2].partial)


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
