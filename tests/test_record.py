"""Records: what is wrong is named, what is written names no folder of this machine."""

from __future__ import annotations

import contextlib
import math
import os
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


CLAIM = dict.fromkeys(record.CLAIM, "words")
CLAIM |= {"verdict": "supported", "trainings": 3, "origin": None}


def good() -> dict:
    rows = {"grey_floor": scores(19.8), "mean_ab": scores(20.1), "unet": scores()}
    return {
        "notebook": "03_cgan_flowers",
        "profile": "overnight",
        "data": {"name": "flowers", "train": 80, "test": 12, "excluded_grey": 0},
        "results": rows,
        "paper": {"unet": {"psnr": 24.0}},
        "claims": [dict(CLAIM)],
        "questions": [dict.fromkeys(record.QUESTION, "words")],
        "studies": {"lab_or_rgb": {"origin": record.origin("overnight"), "rows": [1]}},
    }


def write(folder: Path, **changes) -> None:
    around = {
        "parameters": {"seed": 3, "data": "flowers"},
        "seconds": {"training": 12.5},
        "machine": machine.prepare("cpu", "fp32", "small", seed=0, threads=1),
        "weights_origin": "trained here",
    }
    record.write(folder, **good() | around | changes)


def test_a_record_is_read_as_it_was_written(tmp_path):
    data = {**good()["data"], "hash": "abc"}
    ends = {**scores()["ci95"], "psnr": (20.0, torch.tensor(22.0))}
    row = {**scores(), "psnr": np.float32(21.5), "n": np.int64(12), "ci95": ends}
    made = record.origin("overnight", "2026-03-01", "0123456", "half")
    studies = {"ours": {"rows": [1]}, "theirs": {"rows": [2], "origin": made}, "none": None}
    changes = {"data": data, "results": {**good()["results"], "unet": row}, "studies": studies}
    write(tmp_path / "report", **changes, extra={"steps": 400, "bad": math.nan})
    metrics, run = record.read(tmp_path / "report")
    assert metrics.keys() == good().keys() and metrics["data"] == good()["data"]
    assert metrics["results"]["unet"]["psnr"] == 21.5
    assert metrics["results"]["unet"]["ci95"]["psnr"] == [20.0, 22.0]
    assert metrics["studies"].keys() == {"ours"}, "what another run made is not written again"
    assert run["seed"] == 3 and run["seconds"] == {"training": 12.5} and run["data"] == data
    known = {"device": "cpu", "precision": "float32", "threads": 1}
    assert run["machine"] | known == run["machine"] and run["machine"]["versions"]["torch"]
    assert run["memory_mib"]["host"] > 10 and run["weights_origin"] == "trained here"
    assert run["date"].endswith("+00:00") and run["extra"] == {"steps": 400, "bad": None}
    assert sorted(os.listdir(tmp_path / "report")) == ["metrics.json", "run.json"]


ABSENT = object()
BAD = [  # where, what stands there instead, what is said
    ("results.grey_floor", ABSENT, "'grey_floor' is a required"),
    ("results.mean_ab", ABSENT, "'mean_ab' is a required"),
    ("results.unet.ci95.ssim", ABSENT, "results.unet.ci95: 'ssim' is a required"),
    ("results.unet.psnr", math.nan, "results.unet.psnr: None is not of type 'number'"),
    ("results.unet.psnr", "21", "results.unet.psnr: '21' is not of type 'number'"),
    ("results.unet.n", 0, "results.unet.n: 0 is less than"),
    ("claims.0.verdict", "held", "'held' is not one of"),
    ("claims.0.number", None, r"claims\[0\].number: None is not"),
    ("claims.0.claim", " ", r"claims\[0\].claim: ' ' does not match"),
    ("claims.0.extra", 1, "'extra' was unexpected"),
    ("questions.0.why", "", r"questions\[0\].why: '' does not match"),
    ("studies.lab_or_rgb.variants", {"a": {"psnr_paired": {"mean": 1}}}, "'low' is a required"),
    ("profile", "fast", "'fast' is not one of"),
    ("notebook", "", "notebook: '' does not match"),
    ("data.train", -1, "data.train: -1 is less than"),
    ("data.test", True, "data.test: True is not of type"),
    ("data.excluded_grey", ABSENT, "data: 'excluded_grey' is a required"),
    ("seconds", 3.0, "'seconds' was unexpected"),
    ("studies", ABSENT, "'studies' is a required"),
    ("studies.a", {"origin": "me"}, "studies.a.origin: 'me' is not of type"),
    ("studies.lab_or_rgb.variants", {"a": {"psnr_paired": {"mean": math.inf}}}, "mean: None is"),
]


def spoil(metrics: dict, path: str, value: object) -> None:
    *way, last = path.split(".")
    for key in way:
        metrics = metrics[int(key)] if key.isdigit() else metrics[key]
    metrics[last] = value
    if value is ABSENT:
        del metrics[last]


@pytest.mark.parametrize(("path", "value", "words"), BAD)
def test_each_fault_is_named_beside_others(path, value, words):
    metrics = good()
    record.check_metrics(metrics)
    assert metrics == good(), "checking changes nothing"
    spoil(metrics, path, value)
    with pytest.raises(RecordError, match=words) as caught:
        record.check_metrics(metrics)
    assert "\n" not in str(caught.value)
    metrics |= {"paper": None, "claims": None}
    with pytest.raises(RecordError, match=r"paper: None is not.*; .*claims: None is not"):
        record.check_metrics(metrics)


def test_nothing_scored_needs_no_rows():
    counts = {**good()["data"], "test": 0}
    record.check_metrics({**good(), "data": counts, "results": {}})


def test_nothing_is_written_when_something_is_wrong(tmp_path):
    for wrong in ({"results": {}}, {"profile": "fast"}, {"paper": {"unet": {1, 2}}}):
        with pytest.raises((RecordError, TypeError)):  # the second: a set is nothing for JSON
            write(tmp_path, **wrong)
    assert os.listdir(tmp_path) == []
    (tmp_path / "report").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="cannot write the record"):
        write(tmp_path / "report")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*good()]), inner, max_size=9)
    ),
)


@settings(max_examples=30)
@given(JSON, st.sampled_from([*good()]), st.none() | st.lists(st.integers(), min_size=1))
def test_any_other_content_or_section_is_refused_and_never_crashes(content, section, value):
    for wrong in (content, {**good(), section: value}):
        with pytest.raises(RecordError):
            record.check_metrics(wrong)


def repository(folder: Path) -> str:
    """Commit something; return its hash."""
    folder.mkdir(exist_ok=True)
    (folder / "code.py").write_text("a = 1\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return files.git(folder, "rev-parse", "HEAD")


def test_the_commit_of_the_project_is_recorded_and_no_other(tmp_path, monkeypatch):
    def recorded(place: Path) -> tuple[str, bool]:
        monkeypatch.setenv("COLORLIB_ROOT", str(place))
        write(place / "reports" / "a")
        return tuple(record.read(place / "reports" / "a")[1]["git"].values())

    project, inside = tmp_path / "project", tmp_path / "project" / "unpacked"
    made, nothing = repository(project), ("none", False)
    with monkeypatch.context() as patch:
        patch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        for _ in range(2):  # a new report is no change of the code
            assert recorded(project) == (made, False)
        (project / "code.py").write_text("a = 2\n")
        assert recorded(project) == (made, True)
    assert recorded(tmp_path) == nothing
    assert recorded(inside) == nothing, "the repository around is not ours"
    monkeypatch.setenv("PATH", "")
    assert recorded(project) == nothing, "git is not installed"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b'{"a": 1}', b"\xff\xfe"])
def test_a_bad_record_ends_in_one_line(tmp_path, content):
    write(tmp_path)
    path = tmp_path / "metrics.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RecordError, match=r"metrics\.json") as caught:
        record.read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "found", "error"),
    [
        (None, {}, FileNotFoundError),
        ("{", {}, ValueError),
        ("[1]", {}, ValueError),
        ('{"é": 1}', {"é": 1}, None),
    ],
)
def test_a_file_is_read_kindly_or_strictly(tmp_path, content, found, error):
    if content is not None:
        (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert files.read_json(tmp_path / "a.json") == found
    with pytest.raises(error) if error else contextlib.nullcontext():
        assert files.read_json(tmp_path / "a.json", strict=True) == found


def report(root: Path, profile: str, date: str, name="03_cgan_flowers", **studies) -> Path:
    folder = root / "reports" / profile / name
    write(folder, profile=profile, studies=studies)
    run = files.read_json(folder / "run.json")
    run |= {"date": f"{date}T10:00:00+00:00", "git": {"commit": "0123456789abc", "dirty": False}}
    files.write_json(folder / "run.json", run)
    return folder


def test_the_newest_study_comes_with_its_origin(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    assert record.newest_study("03_cgan_flowers", "skips") is None
    late = {"rows": [2], "origin": record.origin("overnight", scale="half")}
    damaged = report(tmp_path, "overnight", "2026-03-01", "studies/03_cgan_flowers", skips=late)
    report(tmp_path, "paper", "2026-02-01", skips={"rows": [1]}, b={"c": 3})
    report(tmp_path, "laptop", "2026-04-01", skips={"rows": [3]})
    made = record.origin("overnight", "2026-03-01", "0123456", "half")
    assert record.newest_study("03_cgan_flowers", "skips") == {"rows": [2], "origin": made}
    assert record.newest_study("studies/03_cgan_flowers", "skips")["rows"] == [2]
    assert record.newest_study("03_cgan_flowers", "b")["origin"]["profile"] == "paper"
    assert record.newest_study("studies/03_cgan_flowers", "b")["origin"]["profile"] == "paper"
    assert [run["date"][5:7] for _, run in record.newest("03_cgan_flowers")] == ["03", "02"]
    assert record.newest_study("04_two_unpaired_images", "skips") is None
    (damaged / "metrics.json").write_text("{")
    with pytest.warns(UserWarning, match="not a readable record"):
        assert record.newest_study("03_cgan_flowers", "skips")["rows"] == [1]
