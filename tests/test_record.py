"""Records: what is wrong is named, what is written names no folder of this machine."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from colorlib import files, machine, record
from colorlib.record import RecordError


def scores(psnr: float = 21.0) -> dict:
    ends = {name: [0.5, 1.5] for name in record.INTERVALS}
    return {**dict.fromkeys(record.SCORES, 1.0), "psnr": psnr, "n": 12, "ci95": ends}


def good() -> dict:
    rows = {"grey_floor": scores(19.8), "mean_ab": scores(20.1), "unet": scores()}
    return {
        "notebook": "03_cgan_flowers",
        "profile": "evening",
        "data": {"name": "garden", "train": 80, "test": 12, "excluded_grey": 0},
        "results": rows,
        "paper": {"unet": {"psnr": 24.0}},
        "claims": [record.claim("L1 greys", "garden, red or blue", 0.4, "held")],
        "studies": {"lab_or_rgb": {"rows": [{"space": "Lab", "psnr": 21.0}]}},
    }


def arguments(**changes) -> dict:
    content = good()
    return {
        **content,
        "parameters": {"seed": 3, "data": "garden"},
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
    assert tuple(metrics) == record.SECTIONS
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
    (_without("results.unet.ci95"), "results.unet lacks 'ci95'"),
    (_without("results.unet.ci95.ssim"), "results.unet.ci95 lacks 'ssim'"),
    (_set("results.unet.ci95.psnr", [3.0, 1.0]), r"ci95.psnr is \[3.0, 1.0\]"),
    (_set("results.unet.psnr", math.nan), "results.unet.psnr is nan"),
    (_set("results.unet.psnr", "21"), "results.unet.psnr is '21', not a number"),
    (_set("results.unet.n", 0), "results.unet.n is 0"),
    (_set("results.unet", None), "results.unet is not a table"),
    (_set("claims.0.verdict", "true"), "verdict 'true' is none of held"),
    (_set("claims.0.number", None), "'held' needs a number"),
    (_set("claims.0.claim", " "), r"claims\[0\].claim is empty"),
    (_set("claims.0.extra", 1), "unknown 'extra'"),
    (_set("claims", {}), "claims is not a list"),
    (_set("profile", "fast"), "profile 'fast' is none of smoke, laptop"),
    (_set("notebook", ""), "notebook has no name"),
    (_set("data.train", -1), "data.train is -1"),
    (_set("data.test", True), "data.test is True"),
    (_set("data.name", ""), "data.name is empty"),
    (_without("data.excluded_grey"), "data lacks 'excluded_grey'"),
    (_set("seconds", 3.0), "unknown 'seconds'"),
    (_without("studies"), "metrics lacks 'studies'"),
    (_set("studies.a", [1]), "studies.a is not a table"),
    (_set("studies.a", {"origin": "me"}), "studies.a uses the reserved origin"),
    (_set("studies.a", {"curve": [1.0, math.inf]}), r"studies.a.curve\[1\] is inf"),
    (_set("paper.unet", {1, 2}), "paper.unet is a set, not plain data"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_each_fault_is_named_and_nothing_is_written(tmp_path, change, words):
    metrics = good()
    record.check_metrics(metrics)
    change(metrics)
    with pytest.raises(RecordError, match=words) as caught:
        record.check_metrics(metrics)
    assert "\n" not in str(caught.value)
    changed = {key: metrics[key] for key in record.SECTIONS if key in metrics}
    if len(changed) == len(metrics) == len(record.SECTIONS):
        with pytest.raises(RecordError):
            record.write(tmp_path, **arguments(**changed))
    assert files_of(tmp_path) == []


def test_all_faults_are_named_at_once():
    metrics = good()
    for change, _ in (BAD[0], BAD[4], BAD[10]):
        change(metrics)
    with pytest.raises(RecordError) as caught:
        record.check_metrics(metrics)
    for words in ("grey_floor", "ci95 lacks 'ssim'", "verdict 'true'"):
        assert words in str(caught.value)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats()
TABLES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(record.SECTIONS), inner, max_size=7)
    ),
)


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_any_other_content_is_refused_and_never_crashes(content):
    with pytest.raises(RecordError):
        record.check_metrics(content)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(record.SECTIONS), st.none() | st.booleans() | st.lists(st.integers()))
def test_any_wrong_section_is_refused(section, value):
    metrics = {**good(), section: value}
    if (section, value) != ("claims", []):
        with pytest.raises(RecordError):
            record.check_metrics(metrics)


def test_nothing_scored_needs_no_rows():
    metrics = good()
    metrics["data"]["test"], metrics["results"] = 0, {}
    record.check_metrics(metrics)


def test_a_claim_is_checked_where_it_is_made():
    assert record.claim("a", "b", "3 of 4", "partly") == {
        "claim": "a", "test": "b", "number": "3 of 4", "verdict": "partly"}  # fmt: skip
    assert record.claim("a", "b", None, "not run yet")["number"] is None
    assert record.claim("a", "b", np.float32(0.5), "held")["number"] == 0.5
    for wrong in (("a", "b", 1, "proven"), ("a", "b", None, "held"), ("a", "b", math.nan, "held")):
        with pytest.raises(RecordError):
            record.claim(*wrong)


# -------------------------------------------------------------------------------------- paths


def test_no_path_of_this_machine_is_written(tmp_path):
    photo = tmp_path / "my photos" / "cat one.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"")
    parameters = {
        "photos": str(photo),
        "folder": photo.parent,
        "list": [f"reads {tmp_path}/a/b.png, then stops", "/nowhere/at/all.pth"],
        "home": "~/pictures/secret/dog.png",
        "windows": r"C:\Users\me\weights.pth",
        "link": "file:///nowhere/else/x.png",
        "nested": {str(tmp_path / "key"): 1},
    }
    study = {"note": f"from {photo.parents[1]}/run/3"}
    changes = {"parameters": parameters, "studies": {"a": study}}
    record.write(tmp_path / "r", **arguments(**changes, weights_origin=str(photo)))
    text = (tmp_path / "r" / "run.json").read_text() + (tmp_path / "r" / "metrics.json").read_text()
    for part in (
        str(tmp_path),
        "nowhere",
        "Users",
        "secret",
        "my photos/",
        os.path.expanduser("~"),
    ):
        assert part not in text
    metrics, run = record.read(tmp_path / "r")
    assert run["parameters"] == {
        "photos": "cat one.jpg",
        "folder": "my photos",
        "list": ["reads b.png, then stops", "all.pth"],
        "home": "dog.png",
        "windows": "weights.pth",
        "link": "x.png",
        "nested": {"key": 1},
    }
    assert run["weights_origin"] == "cat one.jpg"
    assert metrics["studies"]["a"]["note"] == "from 3"


@pytest.mark.parametrize(
    "text",
    ["garden,photos", "flowers/tff_*", "https://example.org/a/b/c.zip", "and/or", "dB / 2", "1/2/3",
     "Lab, L/50-1 and ab/110", "", "~", "paper 03, section 4.5/4.6"],
)  # fmt: skip
def test_words_that_are_no_paths_stay(text):
    assert record._scrubbed(text) == text


# ---------------------------------------------------------------------------------------- git


def _commit(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "code.py").write_text("a = 1\n")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return files.git(folder, "rev-parse", "HEAD")


def test_the_commit_is_recorded_and_changes_are_seen(tmp_path, monkeypatch):
    project = tmp_path / "project"
    commit = _commit(project)
    monkeypatch.setenv("COLORLIB_ROOT", str(project))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert record._git_state(files.root()) == {"commit": commit, "dirty": False}
    record.write(project / "reports" / "local", **arguments())
    assert record._git_state(project)["dirty"] is False, "a new report is no change of the code"
    (project / "code.py").write_text("a = 2\n")
    record.write(tmp_path / "r", **arguments())
    assert record.read(tmp_path / "r")[1]["git"] == {"commit": commit, "dirty": True}


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    nothing = {"commit": "none", "dirty": False}
    assert record._git_state(tmp_path) == nothing
    _commit(tmp_path)
    inner = tmp_path / "unpacked"
    inner.mkdir()
    assert record._git_state(inner) == nothing, "the repository around is not ours"
    monkeypatch.setenv("PATH", "")
    assert record._git_state(tmp_path) == nothing, "git is not installed"


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


def test_writing_leaves_the_umask_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads write at this moment"))
    monkeypatch.setattr(files, "_UMASK", 0o027)
    files.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_refuses_ends_in_one_line(tmp_path):
    (tmp_path / "report").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="cannot write the record"):
        record.write(tmp_path / "report", **arguments())


def _report(root: Path, profile: str, date: str, studies: dict) -> Path:
    folder = root / "reports" / profile / "03_cgan_flowers"
    record.write(folder, **arguments(profile=profile, studies=studies))
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "date": date}))
    return folder


def test_the_newest_study_comes_with_origin_and_date(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    assert record.newest_study("03_cgan_flowers", "skips") is None
    late = {"skips": {"rows": [2]}, "empty": {}}
    _report(tmp_path, "evening", "2026-03-01T10:00:00+00:00", late)
    _report(tmp_path, "paper", "2026-02-01T10:00:00+00:00", {"skips": {"rows": [1]}, "b": {"c": 3}})
    _report(tmp_path, "laptop", "2026-04-01T10:00:00+00:00", {"skips": {"rows": [3]}})
    newest = record.newest_study("03_cgan_flowers", "skips")
    assert newest == {"rows": [2], "origin": "evening", "date": "2026-03-01"}
    assert record.newest_study("03_cgan_flowers", "b")["origin"] == "paper"
    assert record.newest_study("03_cgan_flowers", "empty") is None
    assert record.newest_study("04_two_unpaired_images", "skips") is None


def test_a_damaged_report_does_not_stop_another_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    damaged = _report(tmp_path, "evening", "2026-03-01T10:00:00+00:00", {"skips": {"rows": [2]}})
    _report(tmp_path, "paper", "2026-02-01T10:00:00+00:00", {"skips": {"rows": [1]}})
    (damaged / "metrics.json").write_text("{")
    with pytest.warns(UserWarning, match="not a readable record"):
        assert record.newest_study("03_cgan_flowers", "skips")["rows"] == [1]


def test_checking_changes_nothing():
    metrics = good()
    before = copy.deepcopy(metrics)
    record.check_metrics(metrics)
    assert metrics == before
