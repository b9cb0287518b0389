"""Sweeps over seeds and parameters: where they are written, and what their spread is."""

from __future__ import annotations

import copy
import statistics

import pytest
import tiny
from click.testing import CliRunner

from colorlib import files, notebooks
from colorlib.batch import cli, compare
from colorlib.batch import run as runner
from colorlib.batch.plan import plan


@pytest.fixture
def scores(project, monkeypatch):
    """A notebook whose PSNR is twenty and its seed, and which fails at seed 9."""

    def execute(each, environ):
        seed = each.task.parameters["seed"]
        if seed == 9:
            raise runner.RunError("nine")
        tiny.play(each, environ)
        metrics = copy.deepcopy({**tiny.METRICS, "notebook": "01_good", "profile": "laptop"})
        own = {"psnr": 20.0 + seed, "gain_over_grey": seed / 2}
        metrics["results"]["ours"] = {**tiny.SCORES, **own}
        tiny.keep(each.task.partial / "metrics.json", metrics)
        told = {"memory_mib": {"host": 100.0 + seed}, "parameters": {}}
        tiny.keep(each.task.partial / "run.json", told)

    tiny.write(
        project, "01_good", "# Good", f"%%parameters\n{tiny.PARAMETERS}", 'MAIN_ROW = "ours"'
    )
    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr(cli.speed, "re_execute", lambda: None)
    return project / "reports/seeds/laptop/01_good"


def run(*words: str):
    return CliRunner().invoke(cli.main, ["run", "01", *words])


def test_seeds_are_summed_up_without_a_cluster(scores):
    result = run("--seeds", "0-4", "--jobs", "2")
    assert result.exit_code == 0, result.output
    summary = files.read_json(scores / "default/summary.json", strict=True)
    assert summary["seeds"] == [0, 1, 2, 3, 4] and summary["parameters"] == {}
    found = summary["results"]["ours"]["psnr"]
    assert (found["mean"], found["sd"]) == (22, pytest.approx(statistics.stdev(range(5))))
    assert found["width"] == pytest.approx(2.7764 * found["sd"] * 2**0.5, rel=1e-4)  # t, 4 degrees
    assert summary["results"]["ours"]["n"] == {"mean": 12, "sd": 0, "width": 0}
    assert summary["memory_mib"] == 104  # of the kernels, as they told
    assert "01_good   default     5 of 5  1.00 ± 0.79         9.00 ± 0.00" in result.stdout
    assert not (scores.parents[2] / "laptop").exists()  # the report of one run is left alone


def test_one_seed_has_no_spread_and_what_failed_is_not_counted(scores):
    result = run("--seeds", "3,9")
    assert result.exit_code == 1 and "1 of 2  1.50  " in result.stdout
    found = files.read_json(scores / "default/summary.json")
    assert found["seeds"] == [3]
    assert found["results"]["ours"]["psnr"] == {"mean": 23, "sd": None, "width": None}


def test_a_parameter_given_twice_is_run_with_both(scores):
    result = run("-p", "rate", "1e-3", "-p", "rate", "2e-3", "-p", "data", "x", "--seeds", "0-1")
    assert result.exit_code == 0, result.output
    places = {path.parent.relative_to(scores).as_posix() for path in scores.glob("*/*/run.json")}
    rates = [f"data-x,rate-{rate}" for rate in (0.001, 0.002)]
    assert places == {f"{folder}/seed-{seed}" for folder in rates for seed in (0, 1)}
    told = files.read_json(scores / rates[1] / "summary.json")["parameters"]
    assert told == {"rate": 0.002, "data": "x"}


def test_what_would_share_a_folder_is_refused(scores):
    result = run("-p", "data", "a b", "-p", "data", "a_b")
    assert result.exit_code == 2 and "one report_dir cannot hold several" in result.stderr
    assert not scores.exists()


@pytest.mark.parametrize("text", ["4-0", "-1", "a", "1,,2", "0-5000", "0-"])
def test_what_are_no_seeds_is_refused(scores, text):
    result = run("--seeds", text)
    assert result.exit_code == 2 and "write 0-4, or 0,3,7" in result.stderr


def test_a_notebook_without_a_seed_is_named(scores, project):
    tiny.write(project, "02_none", "# None", '%%parameters\nprofile: str = "laptop"')
    with pytest.raises(notebooks.ParameterError, match=r"02_none: seed = .*unknown parameter"):
        plan(["01", "02"], vary={"seed": ["0", "1"]})


def test_seeds_of_one_variant_are_summed_up_wherever_they_stand_in_the_order(scores):
    result = run(*["-p", "seed", "0", "-p", "seed", "1", "-p", "rate", "0.4", "-p", "rate", "0.6"])
    assert result.exit_code == 0, result.output
    for variant in ("rate-0.4", "rate-0.6"):
        assert files.read_json(scores / variant / "summary.json")["seeds"] == [0, 1]


def judged(difference: float, near: bool, widths: dict | None):
    mine = copy.deepcopy(tiny.METRICS)
    mine["results"]["ours"] = {**tiny.SCORES, "psnr": tiny.SCORES["psnr"] + difference}
    return compare.judge(mine, tiny.METRICS, near, widths)


def test_compare_takes_the_spread_of_seeds_for_another_machine(scores):
    wide, none = ({"ours": {"psnr": {"width": width}}} for width in (2.0, 0.0))
    assert judged(1.9, False, wide)[0] == "within tolerance"
    verdict, note = judged(2.1, False, wide)
    assert verdict == "outside" and note.endswith("(± 2, the spread of seeds)")
    assert judged(1.9, True, wide)[0] == "outside"  # the same machine repeats closely
    assert judged(0.09, False, none)[0] == "within tolerance"  # rounding
    assert judged(0.11, False, none)[0] == "outside"


@pytest.mark.parametrize(("seeds", "verdict"), [("0-4", "within tolerance"), ("0-3", "outside")])
def test_five_committed_seeds_are_enough(scores, monkeypatch, seeds, verdict):
    run("--seeds", seeds)
    own = files.read_json(scores / "default/seed-0/metrics.json")
    mine = copy.deepcopy(own)
    mine["results"]["ours"]["psnr"] += 5.0
    reports = scores.parents[2]
    tiny.keep(reports / "laptop/01_good/metrics.json", mine)
    digests = {"metrics.json": files.sha(reports / "laptop/01_good/metrics.json")}
    tiny.keep(reports / "laptop/01_good/.stamp.json", {"finished": "now", "files": digests})

    def committed(profile, name, file, against):
        if profile == "laptop":
            return {"metrics.json": own, "run.json": {"machine": {"cpu": "another"}}}[file]
        return files.read_json(reports / profile / name / file)

    monkeypatch.setattr(compare, "committed_json", committed)
    assert compare.compare("laptop", ["01"])[0][1] == verdict
