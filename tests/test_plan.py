"""What would run: strict parameters, ranges and paths, the order, and what a run takes."""

import math

import pytest
import tiny

from colorlib import notebooks
from colorlib.batch.plan import expectation, named_paths, plan

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One lesson and its studies."""
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path.resolve()))
    monkeypatch.delenv("COLORLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path, "01_good", "# Good", PARAMETERS)
    tiny.write(tmp_path, "studies/01_good", "# Studies", PARAMETERS)
    return tmp_path.resolve()


def names(groups):
    return [[task.name for task in group] for group in groups]


def refusal(*given, **more):
    with pytest.raises(notebooks.NotebookError) as caught:
        plan(*given, **more)
    return str(caught.value).splitlines()


def test_values_come_from_the_command_the_profile_and_the_notebook_in_turn(project):
    folder = project / "notebooks/params/overnight"
    folder.mkdir(parents=True)
    (folder / "01_good.yml").write_text("seed: 4\nprofile: overnight")
    [[task]] = plan(["01"], "overnight", {"rate": "1e-3"})
    assert task.parameters == {"seed": 4, "rate": 0.001, "profile": "overnight"}
    assert plan(["01"], "overnight", {"seed": 5})[0][0].parameters["seed"] == 5
    assert plan(["01"])[0][0].parameters == {"profile": "laptop"}
    (folder / "01_good.yml").write_text("rate: 1e-4")
    assert "overnight/01_good.yml: rate = '1e-4'" in refusal(["01"], "overnight")[0]


def test_studies_run_where_they_are_asked_for(project):
    assert names(plan()) == [["01_good"]]
    assert names(plan(kind="studies")) == [["studies/01_good"]]
    assert names(plan(["01"], kind="studies")) == [["studies/01_good"]]
    [[task]] = plan(["studies/01"], "smoke")
    assert task.report == project / "reports/smoke/studies/01_good"
    assert task.partial.parent == task.report.parent and task.partial.name.startswith(".01_good.")


def test_the_report_can_be_put_elsewhere(project):
    [[task]] = plan(["01"], parameters={"report_dir": "mine/../other/."})
    assert task.report == project / "other" and "report_dir" not in task.parameters


def test_notebooks_come_after_those_they_read(project):
    tiny.write(project, "06_side", "# All", PARAMETERS, reads=["01_good", "07_all"])
    tiny.write(project, "07_all", "# All", PARAMETERS, reads=["01_good"])
    tiny.write(project, "03_other", "# Other", PARAMETERS)
    assert names(plan()) == [["01_good", "03_other"], ["07_all"], ["06_side"]]
    assert names(plan(["06", "03"])) == [["03_other"], ["06_side"]]


def test_paths_are_found_here_and_among_the_data(project):
    for place in ("data/flowers", "data/flower_photos", "mine"):
        (project / place).mkdir(parents=True)
    (project / "data/flowers/rose.jpg").write_bytes(b"")
    given = {"data": "flowers, mine, flower_photos, nothing", "studies": ["flowers/rose"]}
    [[task]] = plan(["01"], parameters=given)
    found = named_paths(task)
    assert sorted(found) == ["flowers", "flowers/rose", "mine"]  # a download may come meanwhile
    assert found["flowers"] == project / "data/flowers"


@pytest.mark.parametrize("seconds", [8.5, math.nan, math.inf, [1], None])
def test_a_run_is_expected_to_take_what_the_last_took(project, seconds):
    run = {"wall_seconds": seconds, "date": "2025-01-02T03"}
    tiny.keep(project / "reports/laptop/01_good/run.json", run)
    known = (8.5, "as on 2025-01-02", True)
    guess = (180, "a guess, never run yet", False)
    assert expectation(plan(["01"])[0][0]) == (known if seconds == 8.5 else guess)


def test_weights_of_earlier_runs_took_their_time_too(project):
    run = {
        "wall_seconds": 9,
        "date": "2025",
        "parameters": {"weights": "w"},
        "seconds": {"a": 3, "b": 4},
    }
    tiny.keep(project / "reports/laptop/01_good/run.json", run)
    assert expectation(plan(["01"])[0][0]).seconds == 16
