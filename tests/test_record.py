"""Records: what is wrong is named, what is written names no folder of this machine."""

from __future__ import annotations

import copy
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colorlib import files, machine, metrics, record
from colorlib.record import RecordError


def scores(psnr: float = 21.0) -> dict:
    means = dict.fromkeys((*metrics.SCORES, "psnr_pooled", "cf_ratio"), 1.0)
    ends = {name: [0.5, 1.5] for name in metrics.SCORES}
    return {**means, "psnr": psnr, "n": 12, "ci95": ends}


CLAIM = dict.fromkeys(record.CLAIM, "words") | {
    "verdict": "supported",
    "trainings": 3,
    "origin": None,
}


def good() -> dict:
    rows = {"grey_floor": scores(19.8), "mean_ab": scores(20.1), "unet": scores()}
    return {
        "notebook": "03_cgan_flowers",
        "profile": "overnight",
        "data": {"name": "flowers", "train": 80, "test": 12, "excluded_grey": 0},
        "results": rows,
        "paper": {"unet": {"psnr": 24.0}},
        "measures": {"share": {"mean": 0.4, "low": 0.4, "high": 0.4, "exact": True}},
        "claims": [dict(CLAIM)],
        "questions": [dict.fromkeys(record.QUESTION, "words")],
        "studies": {"lab_or_rgb": {"origin": record.origin("overnight"), "rows": [1]}},
    }


def arguments(**changes) -> dict:
    content = good()
    return {
        **content,
        "parameters": {"seed": 3, "data": "flowers"},
        "seconds": {"training": 12.5},
        "machine": machine.prepare("cpu", "fp32", "small", seed=0, threads=1),
        "weights_origin": "trained here",
        **changes,
    }


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_record_is_read_as_it_was_written(tmp_path):
    content = arguments()
    content["data"]["hash"] = "abc"
    content["results"]["unet"]["psnr"] = np.float32(21.5)
    content["results"]["unet"]["n"] = np.int64(12)
    content["results"]["unet"]["ci95"]["psnr"] = (20.0, torch.tensor(22.0))
    record.write(tmp_path / "report", **content, extra={"steps": 400, "bad": math.nan})
    metrics, run = record.read(tmp_path / "report")
    assert metrics.keys() == good().keys()
    assert metrics["results"]["unet"]["psnr"] == 21.5
    assert metrics["results"]["unet"]["ci95"]["psnr"] == [20.0, 22.0]
    assert "hash" not in metrics["data"] and run["data"]["hash"] == "abc"
    assert run["seed"] == 3 and run["seconds"] == {"training": 12.5}
    assert run["machine"]["device"] == "cpu" and run["machine"]["precision"] == "float32"
    assert run["machine"]["threads"] == 1 and run["machine"]["versions"]["torch"]
    assert run["memory_mib"]["host"] > 10 and run["weights_origin"] == "trained here"
    assert run["date"].endswith("+00:00") and run["extra"] == {"steps": 400, "bad": None}
    assert files_of(tmp_path / "report") == ["metrics.json", "run.json"]


def _without(path: str):
    def change(metrics: dict) -> None:
        *way, last = path.split(".")
        for key in way:
            metrics = metrics[key]
        del metrics[last]

    return change


def _set(path: str, value):
    def change(metrics: dict) -> None:
        *way, last = path.split(".")
        for key in way:
            metrics = metrics[int(key)] if key.isdigit() else metrics[key]
        metrics[last] = value

    return change


BAD = [
    (_without("results.grey_floor"), "lacks the row 'grey_floor'"),
    (_without("results.mean_ab"), "lacks the row 'mean_ab'"),
    (_set("results", {}), "lacks the row 'grey_floor'"),
    (_without("results.unet.ci95"), "results.unet: 'ci95' is a required"),
    (_without("results.unet.ci95.ssim"), "results.unet.ci95: 'ssim' is a required"),
    (_set("results.unet.ci95.psnr", [3.0, 1.0]), r"ci95.psnr is \[3.0, 1.0\]"),
    (_set("results.unet.psnr", math.nan), "results.unet.psnr is nan"),
    (_set("results.unet.psnr", "21"), "results.unet.psnr: '21' is not of type 'number'"),
    (_set("results.unet.n", 0), "results.unet.n: 0 is less than"),
    (_set("results.unet", None), "results.unet: None is not of type"),
    (_set("claims.0.verdict", "true"), "'true' is not one of"),
    (_set("claims.0.verdict", "held"), "'held' is not one of"),
    (_set("claims.0.number", None), "'supported' needs a number"),
    (_set("claims.0.claim", " "), r"claims\[0\].claim: ' ' does not match"),
    (_set("claims.0.extra", 1), "'extra' was unexpected"),
    (_set("claims", {}), "claims: {} is not of type 'array'"),
    (_set("questions.0.why", ""), r"questions\[0\].why: '' does not match"),
    (_set("measures.share", {"mean": 1}), "'low' is a required"),
    (_set("profile", "fast"), "'fast' is not one of"),
    (_set("notebook", ""), "notebook: '' does not match"),
    (_set("data.train", -1), "data.train: -1 is less than"),
    (_set("data.test", True), "data.test: True is not of type"),
    (_without("data.excluded_grey"), "data: 'excluded_grey' is a required"),
    (_set("seconds", 3.0), "'seconds' was unexpected"),
    (_without("studies"), "'studies' is a required"),
    (_set("studies.a", [1]), "studies.a: "),
    (_set("studies.a", {"origin": "me"}), "studies.a.origin: 'me' is not of type"),
    (_set("studies.lab_or_rgb.curve", [1.0, math.inf]), r"curve\[1\] is inf"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_each_fault_is_named(change, words):
    metrics = good()
    record.check_metrics(metrics)
    change(metrics)
    with pytest.raises(RecordError, match=words) as caught:
        record.check_metrics(metrics)
    assert "\n" not in str(caught.value)


def test_nothing_is_written_when_something_is_wrong(tmp_path):
    for wrong in ({"results": {}}, {"profile": "fast"}, {"paper": {"unet": {1, 2}}}):
        with pytest.raises(RecordError):
            record.write(tmp_path, **arguments(**wrong))
    assert files_of(tmp_path) == []


def test_all_faults_are_named_at_once():
    metrics = good()
    for change, _ in (BAD[4], BAD[10]):
        change(metrics)
    with pytest.raises(RecordError) as caught:
        record.check_metrics(metrics)
    for words in ("'ssim' is a required", "'true' is not one of"):
        assert words in str(caught.value)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()
TABLES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*good()]), inner, max_size=9)
    ),
)


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_any_other_content_is_refused_and_never_crashes(content):
    with pytest.raises(RecordError):
        record.check_metrics(content)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*good()]), st.none() | st.booleans() | st.lists(st.integers()))
def test_any_wrong_section_is_refused(section, value):
    metrics = {**good(), section: value}
    if value != [] or section not in ("claims", "questions"):
        with pytest.raises(RecordError):
            record.check_metrics(metrics)


def test_nothing_scored_needs_no_rows():
    metrics = good()
    metrics["data"]["test"], metrics["results"] = 0, {}
    record.check_metrics(metrics)


# ---------------------------------------------------------------------------------------- git


def _commit(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "code.py").write_text("a = 1\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return files.git(folder, "rev-parse", "HEAD")


def written(project: Path, place: str) -> dict:
    record.write(project / place, **arguments())
    return record.read(project / place)[1]["git"]


def test_the_commit_is_recorded_and_changes_are_seen(tmp_path, monkeypatch):
    project = tmp_path / "project"
    commit = _commit(project)
    monkeypatch.setenv("COLORLIB_ROOT", str(project))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    for place in ("reports/a", "reports/b"):  # a new report is no change of the code
        assert written(project, place) == {"commit": commit, "dirty": False}
    (project / "code.py").write_text("a = 2\n")
    assert written(project, "reports/c") == {"commit": commit, "dirty": True}


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    nothing = {"commit": "none", "dirty": False}
    inner = tmp_path / "unpacked"
    inner.mkdir()
    monkeypatch.setenv("COLORLIB_ROOT", str(inner))
    assert written(inner, "a") == nothing
    _commit(tmp_path)
    assert written(inner, "b") == nothing, "the repository around is not ours"
    monkeypatch.setenv("PATH", "")
    assert written(inner, "c") == nothing, "git is not installed"


# ----------------------------------------------------------------------------- reading records


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"a": 1}', b"\xff\xfe"])
def test_a_bad_record_ends_in_one_line(tmp_path, content):
    record.write(tmp_path, **arguments())
    path = tmp_path / "metrics.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordError, match=r"metrics\.json") as caught:
        record.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_kindly_or_strictly(tmp_path):
    path = tmp_path / "a.json"
    for content, error in ((None, FileNotFoundError), ("{", ValueError), ("[1]", ValueError)):
        if content is not None:
            path.write_text(content)
        assert files.read_json(path) == {}
        with pytest.raises(error):
            files.read_json(path, strict=True)
    path.write_text('{"é": 1}', encoding="utf-8")
    assert files.read_json(path) == files.read_json(path, strict=True) == {"é": 1}


def test_a_folder_that_refuses_ends_in_one_line(tmp_path):
    (tmp_path / "report").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="cannot write the record"):
        record.write(tmp_path / "report", **arguments())


def _report(root: Path, profile: str, date: str, studies: dict, name="03_cgan_flowers") -> Path:
    folder = root / "reports" / profile / name
    record.write(folder, **arguments(profile=profile, studies=studies))
    run = json.loads((folder / "run.json").read_text())
    run |= {"date": date, "git": {"commit": "0123456789abc", "dirty": False}}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_the_newest_study_comes_with_its_origin(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    assert record.newest_study("03_cgan_flowers", "skips") is None
    late = {"skips": {"rows": [2], "origin": record.origin("overnight", scale="half")}}
    _report(tmp_path, "overnight", "2026-03-01T10:00:00+00:00", late, "studies/03_cgan_flowers")
    _report(tmp_path, "paper", "2026-02-01T10:00:00+00:00", {"skips": {"rows": [1]}, "b": {"c": 3}})
    _report(tmp_path, "laptop", "2026-04-01T10:00:00+00:00", {"skips": {"rows": [3]}})
    newest = record.newest_study("03_cgan_flowers", "skips")
    made = record.origin("overnight", "2026-03-01", "0123456", "half")
    assert newest == {"rows": [2], "origin": made}
    assert record.newest_study("03_cgan_flowers", "b")["origin"]["profile"] == "paper"
    assert record.newest_study("04_two_unpaired_images", "skips") is None


def test_a_study_that_another_run_made_is_not_written_again(tmp_path):
    made = record.origin("overnight", "2026-03-01", "0123456", "half")
    studies = {"ours": {"rows": [1]}, "theirs": {"rows": [2], "origin": made}, "none": None}
    record.write(tmp_path, **arguments(studies=studies))
    assert record.read(tmp_path)[0]["studies"].keys() == {"ours"}


def test_a_damaged_report_does_not_stop_another_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    damaged = _report(tmp_path, "overnight", "2026-03-01T10:00:00+00:00", {"skips": {"rows": [2]}})
    _report(tmp_path, "paper", "2026-02-01T10:00:00+00:00", {"skips": {"rows": [1]}})
    (damaged / "metrics.json").write_text("{")
    with pytest.warns(UserWarning, match="not a readable record"):
        assert record.newest_study("03_cgan_flowers", "skips")["rows"] == [1]


def test_checking_changes_nothing():
    metrics = good()
    before = copy.deepcopy(metrics)
    record.check_metrics(metrics)
    assert metrics == before
