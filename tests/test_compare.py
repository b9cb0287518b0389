"""My run against the committed one."""

import copy
import json
import subprocess

import pytest
import tiny

from colorlib import files, notebooks
from colorlib.batch import compare, stamps

MACHINE = {"device": "cpu", "cpu": "a", "gpu": None, "threads": 2, "versions": {"torch": "1"}}


def changed(row="ours", **scores):
    """Return the metrics with some scores of a row replaced."""
    metrics = copy.deepcopy(tiny.METRICS)
    metrics["results"][row] = {**metrics["results"][row], **scores}
    return metrics


def verdict(mine, near=False):
    return compare.judge(mine, tiny.METRICS, near)[0]


def test_the_same_numbers_are_identical():
    same = compare.judge(copy.deepcopy(tiny.METRICS), tiny.METRICS)
    assert same == ("identical", "to the last digit")


@pytest.mark.parametrize("metric", [m for m in compare.TOLERANCES if m != "n"])
@pytest.mark.parametrize("near", [True, False])
def test_each_tolerance_is_kept_to(metric, near):
    limit = compare.TOLERANCES[metric][0 if near else 1]
    for share, expected in ((0.99, "within tolerance"), (1.01, "outside")):
        for sign in (1, -1):
            mine = changed(**{metric: tiny.SCORES[metric] + sign * share * limit})
            found, note = compare.judge(mine, tiny.METRICS, near)
            assert found == expected and f"ours {metric} " in note


def test_another_machine_gets_more_room_and_baselines_less():
    assert verdict(changed(psnr=21.6), near=True) == "outside"
    assert verdict(changed(psnr=21.6), near=False) == "within tolerance"
    assert all(near <= far for near, far in compare.TOLERANCES.values())
    assert verdict(changed("grey_floor", psnr=21.05), near=True) == "outside"
    assert verdict(changed(psnr=21.05), near=True) == "within tolerance"


def test_missing_rows_numbers_and_other_pictures():
    without = copy.deepcopy(tiny.METRICS)
    del without["results"]["ours"]
    assert compare.judge(without, tiny.METRICS) == ("outside", "rows missing here: ours")
    assert verdict(changed(n=13)) == "outside"
    other = {**tiny.METRICS, "data": {**tiny.METRICS["data"], "test": 13}}
    assert verdict(other) == "other pictures"
    assert compare.judge(tiny.METRICS, {**tiny.METRICS, "results": {}})[0] == "no numbers"


def test_machines_are_the_same_when_what_rounds_is():
    here = {"machine": MACHINE}
    assert compare.other_machine(here, {"machine": {**MACHINE, "cores": 9}}) == ""
    other = {"machine": {**MACHINE, "cpu": "b", "versions": {}}}
    assert compare.other_machine(here, other) == "other cpu, versions"
    assert compare.other_machine(here, {}).startswith("other device, cpu")


def write_report(folder, metrics, machine=MACHINE, sealed=False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"machine": machine}))
    if sealed:  # by a run of this checkout
        digests = {name: files.sha(folder / name) for name in ("metrics.json", "run.json")}
        files.write_json(folder / stamps.STAMP, {"finished": "today", "files": digests})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one committed smoke report."""
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("01_good", "02_new"):
        tiny.write(tmp_path, name, "# Title")
    write_report(tmp_path / "reports/smoke/01_good", tiny.METRICS)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a report"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def compared(*names):
    found = compare.compare("smoke", names)
    return {name: verdict for name, verdict, _ in found}, found[0][2], compare.good(found)


def test_a_checkout_that_ran_nothing_has_nothing_to_compare(project):
    found, note, good = compared()
    assert found == {"01_good": "not run here", "02_new": "not committed"}
    assert "colorlib run 01_good --profile smoke" in note and not good


def test_a_fresh_run_in_the_tree_is_compared(project):
    report = project / "reports/smoke/01_good"
    write_report(report, tiny.METRICS, sealed=True)
    assert compared("01")[0] == {"01_good": "identical"}
    write_report(report, changed(psnr=21.25), sealed=True)
    note = "same kind of machine; farthest: ours psnr 21.25, committed 21 (± 0.3)"
    assert compared("01") == ({"01_good": "within tolerance"}, note, True)
    write_report(report, changed(psnr=21.5), sealed=True)
    assert compared("01")[0] == {"01_good": "outside"}
    write_report(report, changed(psnr=21.5), {**MACHINE, "cpu": "b"}, True)
    _, note, good = compared()  # the notebook that is not committed does not count
    assert note.startswith("other cpu; farthest: ours psnr 21.5") and good
    write_report(report, changed(psnr=25.0), sealed=True)
    assert not compared()[2]


def test_what_git_restored_is_not_held_against_itself(project):
    report, local = project / "reports/smoke/01_good", project / "reports/local/01_good"
    write_report(report, changed(psnr=20.9), sealed=True)
    subprocess.run(["git", "restore", "reports"], cwd=project, check=True)  # its stamp stays
    assert compared("01")[0] == {"01_good": "not run here"}
    write_report(local, changed(psnr=12.0))
    assert compared("01")[0] == {"01_good": "outside"}


def test_a_run_played_in_jupyter_is_compared(project):
    local = project / "reports/local/01_good"
    write_report(local, {**tiny.METRICS, "profile": "laptop"})
    assert compared("01")[0] == {"01_good": "not run here"}  # another profile
    write_report(local, tiny.METRICS)
    assert compared("01")[0] == {"01_good": "identical"}


def test_what_is_not_there_or_not_ours_is_not_taken(project, monkeypatch):
    with pytest.raises(notebooks.NotebookError, match="known: 01_good, 02_new"):
        compare.compare("smoke", ["09"])
    for commit in ("no-such-commit", f"--output={project / 'victim'}"):
        assert compare.committed_json("smoke", "01_good", "metrics.json", commit) == {}
    assert not list(project.glob("victim*"))
    monkeypatch.setenv("GIT_DIR", str(project / "elsewhere"))  # as set while a hook runs
    assert compare.committed_json("smoke", "01_good", "metrics.json", "HEAD") == tiny.METRICS
