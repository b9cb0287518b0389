"""A disk that takes no more: one line, and what was there stays whole."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import test_record as record_of
from photos import fill, noise, one_line
from PIL import Image
from torch import nn
from toy import Toy, checkpoints

from colorlib import figures, files, pictures, training
from colorlib.batch import run as runner
from colorlib.datasets import load
from colorlib.pictures import PictureError
from colorlib.record import RecordError


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """A disk that takes files of that many bytes only: half of a larger one gets there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def no_space() -> Iterator[None]:
    """A disk that takes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(files.os, "fsync", MagicMock(side_effect=error))
        yield


full = pytest.mark.parametrize(
    ("disk", "words"),
    [(no_space, "No space left on device"), (lambda: room_for(4096), "File too large")],
)


@full
def test_a_full_disk_warns_once_and_training_goes_on(tmp_path, capfd, disk, words):
    toy, again, whole = Toy(), Toy(), Toy()
    toy.fail_at = 4
    with pytest.raises(RuntimeError):
        toy.run(tmp_path, checkpoint_seconds=0)
    (checkpoint,) = checkpoints(tmp_path)
    kept = checkpoint.read_bytes()
    capfd.readouterr()
    with disk():
        history = again.run(tmp_path, checkpoint_seconds=0)
    errors = capfd.readouterr().err
    assert history.steps[-1] == 12 and whole.run() and again.after == whole.after
    assert errors.count(words) == 1 and str(tmp_path) not in errors
    assert list(tmp_path.iterdir()) == [checkpoint] and checkpoint.read_bytes() == kept


@full
def test_a_report_that_finds_no_room_leaves_the_one_before_it(project, disk, words):
    assert runner.run(["01"])[0].good
    report = project / "reports/laptop/01_good"
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    with disk():
        [failed] = runner.run(["01"], force=True)
    assert failed.state in ("failed", "refused") and "\n" not in failed.note
    assert ("the disk is full; free some space" if disk is no_space else words) in failed.note
    assert before == {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    assert runner.run(["01"], force=True)[0].state == "finished"


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"), (errno.EIO, "Input")],
)
def test_a_write_makes_the_folder_and_replaces_the_file_whole_or_not_at_all(
    tmp_path, monkeypatch, code, words
):
    path = tmp_path / "new" / f"{'n' * 250}.png"  # as long as a name may be
    pictures.write(path, noise(4, 4))
    pictures.write(path, noise(4, 4, 1))

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PictureError, match=words) as error:
        pictures.write(path, noise(4, 4))
    assert str(path) in one_line(error) and list(path.parent.iterdir()) == [path]
    assert np.array_equal(pictures.read_rgb(path), noise(4, 4, 1))


@pytest.mark.parametrize(
    ("name", "width", "words"),
    [
        ("file/a.png", 4, "cannot be written"),
        ("folder.png", 4, "Is a directory"),
        ("a.jpg", 70_000, "cannot be written .*; choose .* a smaller picture"),
        ("a.gif", 4, r"can be written: \.png \.jpg"),
        ("a", 4, r"can be written: \.png \.jpg"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, name, width, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match=words):
        pictures.write(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failing_run_keeps_the_report_before_it(project, monkeypatch, number):
    assert runner.run(["01"])[0].state == "finished"
    before = (project / "reports/laptop/01_good/index.html").read_text()

    def fail(each, environ):
        each.heading = "Training"
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr(runner, "execute", fail)
    [again] = runner.run(["01"], force=True)
    words = "the disk is full" if number == errno.ENOSPC else "choose another place with -p"
    assert again.state == "failed" and words in again.note and "\n" not in again.note
    assert again.note.startswith("in 'Training': ")
    assert (project / "reports/laptop/01_good/index.html").read_text() == before


def test_a_place_that_cannot_be_is_refused(project):
    (project / "file").write_text("")
    [refused] = runner.run(["01"], parameters={"report_dir": "file/below"})
    assert refused.state == "refused" and "-p report_dir" in refused.note


@pytest.mark.parametrize("keep", [0, 100])
def test_damaged_cache_is_built_again(tmp_path, data_root, keep):
    folder = str(fill(tmp_path / "mine", 5))
    expected = np.array(load(folder, 8).pictures)
    stored = [path for path in (data_root / "cache").rglob("*.pkl") if path.is_file()]
    assert stored
    for path in stored:
        path.write_bytes(path.read_bytes()[:keep])
    again = load(folder, 8)
    assert np.array_equal(again.pictures, expected) and isinstance(again.pictures, np.memmap)


def test_data_folder_that_cannot_be_written(tmp_path, data_root, monkeypatch):
    folder = str(fill(tmp_path / "mine", 5))
    expected = load(folder, 8)
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.warns(UserWarning, match=r"mine: .* kept in memory; .*COLORLIB_DATA"):
        found = load(folder, 8)
    assert np.array_equal(found.pictures, expected.pictures) and found.hash == expected.hash


def weights(place: Path, value: int) -> None:
    training.save_weights(place / "w.safetensors", nn.Linear(60, 60 + value), {})


def figure(place: Path, value: int) -> None:
    figures.begin(place / "figures")
    figures.show_figure(Image.fromarray(noise(60, 60, value)), "one", "noise")


def report(place: Path, value: int) -> None:
    record_of.write(place, paper={"long": "x" * 6000, "value": value})


def painted(place: Path, value: int) -> None:
    pictures.write(place / "a.png", noise(60, 60, value))


@pytest.mark.parametrize("write", [weights, figure, report, painted])
def test_what_finds_no_room_is_said_in_a_line_and_the_older_file_is_whole(tmp_path, write):
    write(tmp_path, 0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with room_for(4096), pytest.raises((OSError, PictureError, RecordError)) as caught:
        write(tmp_path, 1)
    assert "File too large" in one_line(caught) and before
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_cache_that_finds_no_room_costs_a_line_and_no_picture(tmp_path, data_root):
    folder = str(fill(tmp_path / "mine", 12))
    with room_for(4096), pytest.warns(UserWarning) as told:
        found = load(folder, 30)
    assert all("\n" not in str(each.message) for each in told)
    for again in (load(folder, 30), load(folder, 30)):  # made anew, then from the cache
        assert np.array_equal(found.pictures, again.pictures)
    assert isinstance(again.pictures, np.memmap)
