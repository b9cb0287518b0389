"""Sets by name and folder: splits, cache, credits, audit, and downloads from a local server."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tqdm import tqdm

from colorlib import cache, datasets, downloads, metrics, pictures
from colorlib.datasets import DatasetError, PictureSet, load


@pytest.fixture(autouse=True)
def data_root(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("COLORLIB_DATA", str(root))
    return root


def blocks(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """A picture of coloured blocks: no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def fill(folder: Path, count: int, suffix: str = ".png") -> Path:
    """Write pictures; as .bmp their bytes, and so their splits, are the same everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(blocks(i)).save(folder / f"{i:03d}{suffix}")
    return folder


def forbid(monkeypatch, what: str) -> None:
    def fail(*arguments, **options):
        raise AssertionError(f"{what} was called although the cache is whole")

    monkeypatch.setattr(pictures, what, fail)


# --- folders ----------------------------------------------------------------------------------


def test_folder_holds_what_its_files_show(tmp_path):
    found = load(str(fill(tmp_path / "mine", 30)), 16)
    assert found.name == "mine" and found.size == 16 and len(found) == 30
    assert found.pictures.dtype == np.uint8 and found.pictures.shape == (30, 16, 16, 3)
    assert sorted(found.names) == [f"mine/{i:03d}.png" for i in range(30)]
    assert set(found.shapes) == {(30, 40)}
    for name, digest, picture in zip(found.names, found.digests, found.pictures, strict=True):
        path = tmp_path / name
        assert digest == hashlib.sha1(path.read_bytes()).hexdigest()
        assert np.array_equal(picture, pictures.resize(pictures.read_rgb(path), 16))
    assert found.labels is None and found.legend is None and found.skipped == []


def test_squash_differs_from_crop_and_keep_is_refused(tmp_path):
    folder = str(fill(tmp_path / "mine", 3))
    squashed, cropped = load(folder, 16, fit="squash"), load(folder, 16)
    assert squashed.hash != cropped.hash
    first = pictures.read_rgb(tmp_path / squashed.names[0])
    assert np.array_equal(squashed.pictures[0], pictures.resize(first, 16, "squash"))
    assert not np.array_equal(squashed.pictures, cropped.pictures)
    with pytest.raises(ValueError, match="fit must be"):
        load(folder, 16, fit="keep")


def test_relative_folder_is_looked_for_here_and_then_in_the_data_folder(
    tmp_path, data_root, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fill(data_root / "set", 2)
    assert len(load("set", 8)) == 2
    fill(tmp_path / "here" / "set", 5)
    assert len(load("set", 8)) == 5
    monkeypatch.chdir(tmp_path / "here" / "set")
    assert load(".", 8).name == "set"


def test_folder_may_be_a_link_and_keeps_its_own_name(tmp_path, data_root):
    fill(tmp_path / "elsewhere", 3)
    (data_root / "flowers").symlink_to(tmp_path / "elsewhere")
    assert load("flowers", 8).name == "flowers"


def test_bad_files_are_skipped_with_one_line_each(tmp_path):
    folder = fill(tmp_path / "mine", 6)
    (folder / "empty.jpg").touch()
    (folder / "in").mkdir()
    (folder / "in" / "text.png").write_text("not a picture")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:300])
    (folder / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for _ in range(2):  # read, then from the cache
        found = load(str(folder), 8)
        assert len(found) == 6
        assert [line.split(":")[0] for line in found.skipped] == [
            "mine/cut.png",
            "mine/empty.jpg",
            "mine/in/text.png",
            "mine/lost.png",
        ]
        assert not any(str(tmp_path) in line or "\n" in line for line in found.skipped)


def test_folders_without_a_readable_picture(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="holds no picture"):
        load(str(tmp_path / "none"), 8)
    (tmp_path / "none" / "a.jpg").touch()
    with pytest.raises(DatasetError, match=r"no readable picture \(1 bad: none/a\.jpg: is empty"):
        load(str(tmp_path / "none"), 8)
    assert not any((tmp_path / "data" / "cache").iterdir())


def test_unknown_names_are_told_what_there_is(tmp_path, data_root):
    fill(data_root / "meadow", 1)
    with pytest.raises(DatasetError, match="did you mean meadow"):
        load("medow", 8)
    with pytest.raises(DatasetError, match="named sets are garden, photos, flower_photos"):
        load(str(tmp_path / "nowhere"), 8)
    with pytest.raises(DatasetError, match="is a file"):
        load(str(data_root / "meadow" / "000.png"), 8)
    with pytest.raises(DatasetError, match="no data set is named"):
        load(" , ", 8)


def test_count_takes_a_seeded_choice(tmp_path):
    folder = str(fill(tmp_path / "mine", 30))
    some, others = load(folder, 8, count=10), load(folder, 8, count=10, seed=1)
    assert len(some) == len(others) == 10
    assert some.names == load(folder, 8, count=10).names
    assert set(some.names) != set(others.names)
    assert set(some.names) < set(load(folder, 8, count=20).names)
    assert len(load(folder, 8, count=99)) == 30


# --- splits -----------------------------------------------------------------------------------


def test_split_follows_the_digest_and_duplicates_stay_together(tmp_path):
    folder = fill(tmp_path / "mine", 60, ".bmp")
    for i in range(0, 60, 7):
        (folder / f"copy{i}.bmp").write_bytes((folder / f"{i:03d}.bmp").read_bytes())
    found = load(str(folder), 8)
    splits = {"train": found.train, "validation": found.validation, "test": found.test}
    assert sum(map(len, splits.values())) == len(found) and found.note == ""
    for name, part in splits.items():
        wanted = {9: "test", 8: "validation"}
        assert {wanted.get(int(d, 16) % 10, "train") for d in part.digests} == {name}
    assert not set(found.train.digests) & set(found.test.digests)


def test_a_picture_keeps_its_split_when_files_are_renamed_or_join(tmp_path):
    folder = fill(tmp_path / "mine", 60, ".bmp")
    before = load(str(folder), 8)
    for i in range(60, 70):
        pictures.write(folder / f"{i:03d}.png", blocks(i))
    (folder / "000.bmp").rename(folder / "zzz.bmp")
    after = load(str(folder), 8)
    for split in ("train", "validation", "test"):
        assert set(getattr(before, split).digests) <= set(getattr(after, split).digests)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_small_folders_fill_every_split(tmp_path, count):
    found = load(str(fill(tmp_path / "mine", count)), 8)
    assert len(found.train) and len(found.validation) and len(found.test)
    assert found.note
    if count > 2:
        assert len(found.train) + len(found.validation) + len(found.test) == count
    if count > 1:
        assert not set(found.train.names) & set(found.test.names)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=40))
def test_assignment_is_by_group_whole_and_independent_of_order(numbers):
    groups = [hashlib.sha1(str(number).encode()).hexdigest() for number in numbers]
    roles, note = datasets._assign(groups)
    by_group = dict(zip(groups, roles, strict=True))
    assert all(by_group[group] == role for group, role in zip(groups, roles, strict=True))
    backwards, _ = datasets._assign(groups[::-1])
    assert np.array_equal(backwards[::-1], roles)
    for bit in (datasets.TRAIN, datasets.VALIDATION, datasets.TEST):
        assert (roles & bit).any()
    moved = any(datasets._role(group) != role for group, role in by_group.items())
    assert bool(note) == moved


# --- the set itself ---------------------------------------------------------------------------


@pytest.fixture
def some(tmp_path) -> PictureSet:
    return load(str(fill(tmp_path / "mine", 60, ".bmp")), 8)


def test_splits_are_views_of_the_memory_map(some):
    for part in (some.train, some.validation, some.test):
        assert isinstance(part.pictures, np.memmap)
        assert np.shares_memory(part.pictures, some.pictures)
    with pytest.raises(ValueError, match="read-only"):
        some.train.pictures[0] = 0


def test_repr_is_one_line(some):
    text = repr(some)
    assert text.startswith("PictureSet('mine', 60 pictures of 8 px: ") and "\n" not in text


def test_subset_by_list_mask_and_slice(some):
    picked = some.subset([5, 2, 2])
    assert picked.names == [some.names[5], some.names[2], some.names[2]]
    assert np.array_equal(picked.pictures, some.pictures[[5, 2, 2]])
    assert some.subset(slice(3, 6)).names == some.names[3:6]
    mask = np.arange(60) % 2 == 0
    assert some.subset(mask).digests == some.digests[::2]
    assert len(some.subset([])) == 0
    assert picked.hash != some.hash
    with pytest.raises(IndexError):
        some.subset([60])


def test_spread_is_even_and_keeps_the_order(some):
    places = [some.names.index(name) for name in some.spread(5).names]
    assert places[0] == 0 and places[-1] == len(some) - 1 and places == sorted(set(places))
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    assert some.spread(10**6).names == some.names and len(some.subset([]).spread(5)) == 0


def test_subsets_never_move_a_picture_between_splits(some):
    assert some.train.subset([0]).test.names == []
    assert some.train.subset([0]).train.names == some.train.names[:1]
    assert some.showable(["mine/*"]).test.names == some.test.names


def test_showable_needs_a_full_match(some):
    assert some.showable(["mine/00*"]).names == sorted(
        (f"mine/{i:03d}.bmp" for i in range(10)), key=some.names.index
    )
    assert len(some.showable(["00*", "other/*"])) == 0
    assert len(some.showable([])) == 0


def test_tensor_is_channels_first_and_its_own(some):
    batch = some.tensor([4, 1])
    assert batch.dtype == torch.uint8 and batch.shape == (2, 3, 8, 8) and batch.is_contiguous()
    assert np.array_equal(batch[1].permute(1, 2, 0).numpy(), some.pictures[1])
    batch.zero_()
    assert some.pictures[1].any()
    assert some.tensor().shape == (60, 3, 8, 8)


def test_hash_tells_pictures_sizes_and_fits_apart(tmp_path):
    folder = fill(tmp_path / "mine", 4)
    first = load(str(folder), 8)
    assert first.hash == load(str(folder), 8).hash
    hashes = {first.hash, load(str(folder), 9).hash, load(str(folder), 8, fit="squash").hash}
    pictures.write(folder / "000.png", blocks(99))
    assert len(hashes | {load(str(folder), 8).hash}) == 4


# --- garden, photos, mixtures -----------------------------------------------------------------


def test_garden_has_names_labels_and_a_legend():
    found = load("garden", 16, count=12)
    assert sorted(found.names) == [f"garden/{i:06d}" for i in range(12)]
    assert found.labels.shape == (12, 16, 16) and found.labels.max() < len(found.legend)
    assert found.digests[0] == hashlib.sha1(found.pictures[0].tobytes()).hexdigest()
    again = load("garden", 16, count=12)
    assert np.array_equal(found.pictures, again.pictures) and found.hash == again.hash
    for name, labels in zip(found.train.names, found.train.labels, strict=True):
        assert np.array_equal(labels, found.labels[found.names.index(name)])
    assert load("garden", 16, count=12, seed=1).hash != found.hash


def test_garden_rows_are_those_that_the_renderer_draws():
    drawn = datasets.garden.render(6, 16, seed=3, kind="mixed")
    found = load("garden", 16, count=6, seed=3, kind="mixed")
    for name, picture, labels in zip(found.names, found.pictures, found.labels, strict=True):
        i = int(name.split("/")[1])
        assert np.array_equal(picture, drawn.rgb[i]) and np.array_equal(labels, drawn.labels[i])


def test_a_bar_follows_the_drawing_of_a_garden(monkeypatch, capsys):
    bars = []

    def watched(*arguments, **look):
        bars.append(tqdm(*arguments, **{**look, "delay": 0}))
        return bars[-1]

    monkeypatch.setattr(datasets, "tqdm", watched)
    load("garden", 16, count=3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load("garden", 16, count=4)
    assert "garden: drawing" in capsys.readouterr().err
    assert [bar.n for bar in bars] == [0, 4], "where nobody looks it does not count"


def test_unknown_kind_of_garden():
    with pytest.raises(DatasetError, match="garden"):
        load("garden", 16, count=2, kind="cactus")


def test_photos_come_from_the_installed_packages():
    found = load("photos", 32)
    assert len(found) == datasets.PHOTO_CROPS * len(datasets.PHOTOS) and not found.skipped
    assert all(name in found.credits for name in found.names)
    chelsea = found.names.index("photos/chelsea-00")
    assert np.array_equal(
        found.pictures[chelsea], pictures.resize(datasets.photo("chelsea"), 32, "crop")
    )
    assert len(set(found.digests)) == len(found)
    assert found.hash == load("photos", 32).hash


def test_more_than_a_hundred_crops_of_a_photo(monkeypatch):
    monkeypatch.setattr(datasets, "PHOTOS", {"chelsea": datasets.PHOTOS["chelsea"]})
    found = load("photos", 8, count=102)
    assert found.names[0] == "photos/chelsea-00" and found.names[-1] == "photos/chelsea-101"
    assert set(found.credits) == set(found.names)
    assert found.credit_line == datasets.PHOTOS["chelsea"].credit


def test_no_photo_is_split_between_training_and_test():
    found = load("photos", 8, count=40)
    assert len(found) == 40
    groups = [
        {datasets.PHOTOS[name[7:-3]].group for name in part.names}
        for part in (found.train, found.validation, found.test)
    ]
    assert all(groups)
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    for part in (found.train, found.validation, found.test):  # a stereo pair is nearly one photo
        sides = {n[7:-3] for n in part.names if "motorcycle" in n}
        assert sides in (set(), {"motorcycle_left", "motorcycle_right"})


def test_missing_package_leaves_the_other_photos(monkeypatch):
    lost = {
        name: replace_package(item, "no_such_package") if item.package == "sklearn" else item
        for name, item in datasets.PHOTOS.items()
    }
    monkeypatch.setattr(datasets, "PHOTOS", lost)
    found = load("photos", 8)
    assert {line.split(":")[0] for line in found.skipped} == {"photos/china", "photos/flower"}
    assert len(found) == datasets.PHOTO_CROPS * 9
    with pytest.raises(DatasetError, match="choose astronaut"):
        datasets.photo("lena")


def replace_package(item: datasets.Photo, package: str) -> datasets.Photo:
    return item._replace(package=package)


def test_mixture_keeps_every_picture_in_its_split(tmp_path):
    fill(tmp_path / "mine", 30)
    mixed = load(f"photos,{tmp_path / 'mine'}", 8)
    photos, mine = load("photos", 8), load(str(tmp_path / "mine"), 8)
    assert mixed.name == "photos,mine" and len(mixed) == len(photos) + len(mine)
    for split in ("train", "validation", "test"):
        part = getattr(mixed, split)
        assert set(part.names) == {*getattr(photos, split).names, *getattr(mine, split).names}
        assert np.shares_memory(part.pictures, mixed.pictures)
    i = mixed.names.index("mine/007.png")
    assert np.array_equal(mixed.pictures[i], mine.pictures[mine.names.index("mine/007.png")])
    assert mixed.credits == photos.credits
    assert len(load(f"photos,{tmp_path / 'mine'}", 8, count=7)) == 7


def test_two_folders_of_one_name_are_refused(tmp_path):
    fill(tmp_path / "a" / "x", 1), fill(tmp_path / "b" / "x", 1)
    with pytest.raises(DatasetError, match="rename one"):
        load(f"{tmp_path / 'a' / 'x'},{tmp_path / 'b' / 'x'}", 8)


# --- credits ----------------------------------------------------------------------------------


def test_credits_from_an_attribution_table_beside_the_folder(data_root):
    fill(data_root / "flowers", 3)
    (data_root / "flowers_attribution.tsv").write_text(
        "# Photos: Creative Commons Attribution 2.0 (CC BY 2.0); file, photographer, id.\n"
        '000.png\tBùi Linh\tlinh/1\n002.png\tA "quoted" name\n999.png\tNobody\tx/9\n',
        encoding="utf-8",
    )
    found = load("flowers", 8)
    assert found.credits == {
        "flowers/000.png": "Bùi Linh, flickr.com/photos/linh/1, CC BY 2.0",
        "flowers/002.png": 'A "quoted" name, CC BY 2.0',
    }
    assert list(found.showable(["flowers/002*"]).credits) == ["flowers/002.png"]


def test_credits_from_the_licence_of_flower_photos(data_root):
    fill(data_root / "flower_photos" / "daisy", 2)
    (data_root / "flower_photos" / "LICENSE.txt").write_text(
        "All images in this archive are licensed ...\n\n"
        "daisy/000.png CC-BY by Steve - over 7 million views - https://www.flickr.com/photos/s/9/\n"
        "daisy/001.png CC BY 2.0 by jenny - https://www.flickr.com/photos/j/1/\n",
    )
    assert load("flower_photos", 8).credits == {
        "flower_photos/daisy/000.png": (
            "Steve - over 7 million views, flickr.com/photos/s/9, CC BY 2.0"
        ),
        "flower_photos/daisy/001.png": "jenny, flickr.com/photos/j/1, CC BY 2.0",
    }


# --- the cache --------------------------------------------------------------------------------


def test_second_load_decodes_nothing(tmp_path, monkeypatch):
    folder = str(fill(tmp_path / "mine", 5))
    first = load(folder, 8)
    forbid(monkeypatch, "read_resized")
    second = load(folder, 8)
    assert np.array_equal(first.pictures, second.pictures) and first.names == second.names
    assert first.shapes == second.shapes and first.hash == second.hash


def test_changed_added_and_removed_files_are_noticed(tmp_path):
    folder = fill(tmp_path / "mine", 5)
    first = load(str(folder), 8)
    pictures.write(folder / "000.png", blocks(77))
    assert load(str(folder), 8).hash != first.hash
    (folder / "000.png").unlink()
    assert len(load(str(folder), 8)) == 4


def damage_pictures(folder: Path) -> None:
    data = bytearray((folder / "pictures").read_bytes())
    data[100] ^= 255
    (folder / "pictures").write_bytes(data)


def cut_pictures(folder: Path) -> None:
    (folder / "pictures").write_bytes((folder / "pictures").read_bytes()[:-1])


def cut_info(folder: Path) -> None:
    (folder / "info.json").write_text((folder / "info.json").read_text()[:-20])


def empty_info(folder: Path) -> None:
    (folder / "info.json").write_text("[]")


def lose_pictures(folder: Path) -> None:
    (folder / "pictures").unlink()


@pytest.mark.parametrize(
    "damage", [damage_pictures, cut_pictures, cut_info, empty_info, lose_pictures]
)
def test_damaged_cache_is_built_again(tmp_path, data_root, damage):
    folder = str(fill(tmp_path / "mine", 5))
    first = load(folder, 8)
    expected = first.pictures.copy()
    [place] = (data_root / "cache").iterdir()
    damage(place)
    again = load(folder, 8)
    assert np.array_equal(again.pictures, expected) and isinstance(again.pictures, np.memmap)
    assert [path.name for path in (data_root / "cache").iterdir()] == [place.name]


def test_disk_full_while_building_falls_back_to_memory(tmp_path, data_root, monkeypatch):
    folder = str(fill(tmp_path / "mine", 5))
    expected = load(folder, 9).pictures

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.files, "write_json", fail)
    with pytest.warns(UserWarning, match=r"mine: .*No space left .* kept in memory"):
        found = load(folder, 8)
    assert not isinstance(found.pictures, np.memmap) and len(found) == 5
    assert [path.name for path in (data_root / "cache").iterdir() if "-8-" in path.name] == []
    assert not any(path.name.startswith(".") for path in (data_root / "cache").iterdir())
    assert np.array_equal(found.roles, load(folder, 9).roles) and len(expected) == 5


def test_data_folder_that_cannot_be_written(tmp_path, monkeypatch):
    folder = str(fill(tmp_path / "mine", 5))
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.warns(UserWarning, match="kept in memory"):
        found = load(folder, 8)
    assert len(found) == 5
    with pytest.warns(UserWarning, match="kept in memory"):
        garden = load("garden", 16, count=3)
    assert garden.labels.shape == (3, 16, 16)


def test_partial_folders_of_killed_processes_are_removed_after_a_day(tmp_path, data_root):
    old, young = data_root / "cache" / ".partial-old", data_root / "cache" / ".partial-young"
    old.mkdir(parents=True), young.mkdir()
    os.utime(old, (0, 0))
    load(str(fill(tmp_path / "mine", 2)), 8)
    assert not old.exists() and young.exists()


def _load_in_process(folder: str) -> str:
    found = load(folder, 8)
    return hashlib.sha1(found.pictures.tobytes()).hexdigest()


def test_processes_that_build_one_cache_at_once(tmp_path, data_root):
    folder = str(fill(tmp_path / "mine", 40))
    context = get_context("spawn")  # a fork of a process with threads may hang
    together = context.Barrier(2, timeout=300)
    with ProcessPoolExecutor(2, context, together.wait) as pool:
        hashes = list(pool.map(_load_in_process, [folder] * 4))
    assert set(hashes) == {hashlib.sha1(load(folder, 8).pictures.tobytes()).hexdigest()}
    [place] = (data_root / "cache").iterdir()
    assert place.name.startswith("mine-8-")


# --- audit and status -------------------------------------------------------------------------


def test_audit_finds_what_was_planted(tmp_path):
    folder = fill(tmp_path / "mine", 20)
    (folder / "copy.png").write_bytes((folder / "003.png").read_bytes())
    pictures.write(folder / "near.jpg", blocks(5), quality=60)
    pictures.write(folder / "mirror.png", np.ascontiguousarray(blocks(7)[:, ::-1]))
    grey = np.repeat(blocks(50)[..., :1], 3, axis=2)
    pictures.write(folder / "grey.png", grey)
    pictures.write(folder / "wide.png", blocks(51, 24, 80))
    (folder / "bad.png").touch()
    found = datasets.audit(load(str(folder), 32))
    assert found.pictures == 25 and sum(found.splits) == 25 and len(found.skipped) == 1
    assert found.sizes == [((30, 40), 24), ((24, 80), 1)]
    assert found.short_sides == (24, 30, 30)
    assert [sorted(names) for names in found.exact] == [["mine/003.png", "mine/copy.png"]]
    assert [set(pair) for pair in found.near] == [{"mine/005.png", "mine/near.jpg"}]
    assert [set(pair) for pair in found.near_mirrored] == [{"mine/007.png", "mine/mirror.png"}]
    assert found.true_grey == ["mine/grey.png"]
    rows = {row["what"]: row["found"] for row in found.rows()}
    assert rows["exact duplicates"] == "1" and rows["unreadable files"] == "1"
    assert rows["different sizes"] == "2, 40 x 30 the most (24)"


def test_audit_and_scores_agree_on_what_is_grey(tmp_path, monkeypatch):
    found = load(str(fill(tmp_path / "mine", 9)), 32)
    limit = float(np.median(metrics.mean_chroma(found.pictures)))
    monkeypatch.setattr(metrics, "GREY_CHROMA", limit)
    grey = datasets.audit(found).true_grey
    scored = metrics.evaluate({}, found.pictures, (0.0, 0.0))
    assert len(grey) == scored.excluded_grey == 4


def test_audit_counts_near_pairs_that_the_split_separates(tmp_path):
    folder = tmp_path / "mine"
    for i in range(12):
        pictures.write(folder / f"{i}.png", blocks(0), quality=90)
        pictures.write(folder / f"{i}.jpg", blocks(0), quality=60 + i)
    found = load(str(folder), 16)
    audit = datasets.audit(found)
    unlike = sum(
        found.roles[i] != found.roles[j] and found.digests[i] != found.digests[j]
        for i in range(len(found))
        for j in range(i)
    )
    assert audit.across_splits == unlike > 0


def test_status_lists_every_named_set_and_the_folders(data_root):
    fill(data_root / "meadow", 3)
    fill(data_root / "flowers102", 2)
    (data_root / "empty").mkdir()
    load("meadow", 8)
    rows = {row.name: row for row in datasets.status()}
    assert list(rows) == ["garden", "photos", "flower_photos", "flowers102", "voc2012", "meadow"]
    assert rows["photos"].present and rows["photos"].pictures == 11
    assert rows["meadow"].pictures == 3
    size = sum(path.stat().st_size for path in (data_root / "meadow").iterdir())
    assert rows["meadow"].bytes == size
    assert rows["flowers102"].present and not rows["voc2012"].present
    assert "2000 MB" in rows["voc2012"].how and "CC BY 2.0" in rows["flower_photos"].licence


# --- downloads --------------------------------------------------------------------------------


class Server:
    """What the local server does: tests set `ranges`, `lies`, `status`, `stop_after`."""

    def __init__(self, body: bytes):
        self.body = body
        self.ranges = True
        self.lies = False
        self.status = 0
        self.stop_after = 0
        self.requests: list[str | None] = []
        self.url = ""


@contextmanager
def serve(body: bytes) -> Iterator[Server]:
    state = Server(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.requests.append(asked)
            if state.status:
                self.send_error(state.status)
                return
            start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and state.ranges else 0
            if start >= len(state.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.end_headers()
                return
            rest = state.body[start:]
            if state.lies:  # says that it sends a part, and sends all
                start, rest = 0, state.body
            self.send_response(206 if start or state.lies else 200)
            self.send_header("Content-Length", str(len(rest)))
            if start or state.lies:
                end = f"{len(state.body) - 1}/{len(state.body)}"
                self.send_header("Content-Range", f"bytes {start}-{end}")
            self.end_headers()
            self.wfile.write(rest[: state.stop_after or None])
            if state.stop_after:
                state.status = 503  # and then it stays away

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/tiny.tgz"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def make_tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return stream.getvalue()


def encoded(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(blocks(seed)).save(stream, "PNG")
    return stream.getvalue()


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(blocks(seed)).save(stream, "JPEG")
    return stream.getvalue()


TINY = make_tar(
    {
        "top/in/daisy/a.png": encoded(1),
        "top/in/rose/b.png": encoded(2),
        "top/in/LICENSE.txt": b"daisy/a.png CC-BY by Ann - https://www.flickr.com/photos/ann/1/\n",
        "top/in/notes.xml": b"not wanted",
        "top/other/c.png": encoded(3),
    }
)


@pytest.fixture
def publish(monkeypatch) -> Callable[..., downloads.Archive]:
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def publish(url: str, body: bytes = TINY, digest: str = "") -> downloads.Archive:
        archive = downloads.Archive(
            url=url,
            digest=digest or f"sha256:{hashlib.sha256(body).hexdigest()}",
            size=len(body),
            count=2,
            inside="top/in",
            licence="CC BY 2.0",
        )
        monkeypatch.setitem(downloads.ARCHIVES, "tiny", archive)
        return archive

    return publish


def left_over(data_root: Path) -> list[str]:
    return sorted(p.name for p in (data_root / "downloads").iterdir() if p.suffix != ".lock")


def assert_tiny_is_whole(data_root: Path) -> None:
    found = load("tiny", 8)
    assert sorted(found.names) == ["tiny/daisy/a.png", "tiny/rose/b.png"]
    assert found.credits == {"tiny/daisy/a.png": "Ann, flickr.com/photos/ann/1, CC BY 2.0"}
    inside = {p.relative_to(data_root / "tiny").as_posix() for p in (data_root / "tiny").rglob("*")}
    assert inside == {"daisy", "rose", "daisy/a.png", "rose/b.png", "LICENSE.txt"}


@pytest.mark.parametrize("terminal", [True, False])
def test_fresh_download_happens_once_and_shows_a_bar(
    data_root, publish, monkeypatch, capsys, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with serve(TINY) as server:
        publish(server.url)
        assert_tiny_is_whole(data_root)
        assert_tiny_is_whole(data_root)
    assert server.requests == [None]
    assert left_over(data_root) == []
    shown = capsys.readouterr().err
    assert "tiny: 100%" in shown if terminal else shown == ""


def test_interrupted_download_goes_on_where_it_stopped(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.stop_after = 1000
        with pytest.raises(DatasetError, match=r"tiny: .*503.*are kept, run again to go on"):
            load("tiny", 8)
        assert (data_root / "downloads" / "tiny.tgz.part").read_bytes() == TINY[:1000]
        server.stop_after, server.status, server.requests = 0, 0, []
        assert_tiny_is_whole(data_root)
    assert server.requests == ["bytes=1000-"]
    assert left_over(data_root) == []


def test_connection_that_breaks_is_taken_up_within_one_call(data_root, publish, monkeypatch):
    monkeypatch.setattr(downloads, "BLOCK", 256)
    with serve(TINY) as server:
        publish(server.url)
        read = downloads._blocks
        breaks = iter([True, False])

        def break_once(response):
            for block in read(response):
                yield block
                if next(breaks, False):
                    raise ConnectionError("reset by peer")

        monkeypatch.setattr(downloads, "_blocks", break_once)
        assert_tiny_is_whole(data_root)
    assert server.requests == [None, "bytes=256-"]


def test_server_without_ranges_sends_all_again(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.ranges = False
        (data_root / "downloads").mkdir()
        (data_root / "downloads" / "tiny.tgz.part").write_bytes(TINY[:500])
        assert_tiny_is_whole(data_root)
    assert server.requests == ["bytes=500-"]


def test_part_that_does_not_fit_is_not_appended(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.lies = True
        (data_root / "downloads").mkdir()
        (data_root / "downloads" / "tiny.tgz.part").write_bytes(TINY[:500])
        assert_tiny_is_whole(data_root)
    assert server.requests == ["bytes=500-"]


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_partial_file_that_is_whole_or_too_long(data_root, publish, extra):
    with serve(TINY) as server:
        publish(server.url)
        (data_root / "downloads").mkdir()
        (data_root / "downloads" / "tiny.tgz.part").write_bytes(TINY + extra)
        assert_tiny_is_whole(data_root)
    assert len(server.requests) == (2 if extra else 1)


def test_wrong_checksum_is_refused_and_removed(data_root, publish):
    with serve(TINY) as server:
        publish(server.url, digest="md5:" + "0" * 32)
        with pytest.raises(DatasetError, match=r"is not the published archive.*was removed"):
            load("tiny", 8)
    assert left_over(data_root) == [] and not (data_root / "tiny").exists()


def test_not_found_is_not_tried_again(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.status = 404
        with pytest.raises(
            DatasetError, match=r"tiny: cannot fetch .*404.* COLORLIB_DATA"
        ) as error:
            load("tiny", 8)
    assert len(server.requests) == 1 and "\n" not in str(error.value)


def test_server_trouble_is_tried_a_few_times(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.status = 503
        with pytest.raises(DatasetError, match="503"):
            load("tiny", 8)
    assert len(server.requests) == downloads.ATTEMPTS


def test_a_silent_server_is_tried_a_few_times_and_is_no_trouble_of_the_disk(
    data_root, publish, monkeypatch
):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.1)
    calls, call = [], downloads.urllib.request.urlopen

    def watched(*arguments, **options):
        calls.append(arguments)
        return call(*arguments, **options)

    monkeypatch.setattr(downloads.urllib.request, "urlopen", watched)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call, never answers
        publish(f"http://127.0.0.1:{server.getsockname()[1]}/tiny.tgz")
        with pytest.raises(DatasetError, match=r"tiny: cannot fetch .*timed out"):
            load("tiny", 8)
    assert len(calls) == downloads.ATTEMPTS


def fail_with_a_full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_while_a_download_runs_is_named(data_root, publish, monkeypatch):
    with serve(TINY) as server:
        publish(server.url)
        monkeypatch.setattr(downloads, "open", fail_with_a_full_disk, raising=False)
        with pytest.raises(DatasetError, match=r"tiny: cannot write to .*No space left"):
            load("tiny", 8)
    assert len(server.requests) == 1


def test_a_download_that_could_not_be_unpacked_is_used_and_removed_later(
    data_root, publish, monkeypatch
):
    with serve(TINY) as server:
        publish(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(downloads.shutil, "copyfileobj", fail_with_a_full_disk)
            with pytest.raises(DatasetError, match=r"tiny: cannot write to .*No space left"):
                load("tiny", 8)
        assert left_over(data_root) == ["tiny.tgz.fetched"]
        assert_tiny_is_whole(data_root)
    assert server.requests == [None] and left_over(data_root) == []


def test_without_a_network_it_says_what_to_do(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
    with pytest.raises(DatasetError) as error:  # the server is gone, its port is closed
        load("tiny", 8)
    text = str(error.value)
    assert f"put tiny.tgz into {data_root / 'downloads'}" in text
    assert "COLORLIB_DATA" in text and "\n" not in text


def test_archive_placed_by_hand_is_used_and_kept(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    (data_root / "downloads").mkdir()
    (data_root / "downloads" / "tiny.tgz").write_bytes(TINY)
    assert_tiny_is_whole(data_root)
    assert left_over(data_root) == ["tiny.tgz"]


def test_wrong_archive_placed_by_hand_is_named_and_left_alone(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    (data_root / "downloads").mkdir()
    (data_root / "downloads" / "tiny.tgz").write_bytes(TINY[:-1])
    with pytest.raises(DatasetError, match=r"tiny\.tgz is not the published archive"):
        load("tiny", 8)
    assert left_over(data_root) == ["tiny.tgz"] and not (data_root / "tiny").exists()


def test_folder_in_the_data_folder_needs_no_archive(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    fill(data_root / "tiny", 4)
    assert len(load("tiny", 8)) == 4


def test_members_that_climb_out_and_links_are_left_behind(tmp_path, data_root, publish):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(9))
    evil = make_tar(
        {
            "top/in/a.png": encoded(1),
            "top/in/../../../evil.png": encoded(2),
            "/top/in/absolute.png": encoded(3),
            "../evil2.png": encoded(4),
        },
        {"top/in/link.png": str(secret), "top/in/folder": str(tmp_path)},
    )
    publish("http://127.0.0.1:9/tiny.tgz", evil)
    (data_root / "downloads").mkdir()
    (data_root / "downloads" / "tiny.tgz").write_bytes(evil)
    before = {p for p in tmp_path.rglob("*") if data_root not in p.parents}
    assert load("tiny", 8).names == ["tiny/a.png"]
    assert [p.name for p in (data_root / "tiny").iterdir()] == ["a.png"]
    assert {p for p in tmp_path.rglob("*") if data_root not in p.parents} == before


@pytest.mark.parametrize(
    "body",
    [b"no archive at all", TINY[: len(TINY) // 2], make_tar({})],
    ids=["text", "cut", "nothing inside"],  # a tar holds the time: its bytes make no stable name
)
def test_archive_that_cannot_be_unpacked(data_root, publish, body):
    publish("http://127.0.0.1:9/tiny.tgz", body)
    (data_root / "downloads").mkdir()
    (data_root / "downloads" / "tiny.tgz").write_bytes(body)
    with pytest.raises(DatasetError, match=r"tiny: .*tiny\.tgz (is damaged|holds no picture)"):
        load("tiny", 8)
    assert left_over(data_root) == ["tiny.tgz"] and not (data_root / "tiny").exists()


def test_download_into_a_folder_that_cannot_be_written(tmp_path, publish, monkeypatch):
    publish("http://127.0.0.1:9/tiny.tgz")
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DatasetError, match=r"tiny: cannot write to .*COLORLIB_DATA"):
        load("tiny", 8)


def test_too_little_room_is_said_before_the_download(data_root, publish, monkeypatch):
    with serve(TINY) as server:
        archive = publish(server.url)
        monkeypatch.setitem(downloads.ARCHIVES, "tiny", replace(archive, size=10**18))
        with pytest.raises(DatasetError, match="free some space"):
            load("tiny", 8)
    assert server.requests == []


def test_two_at_once_download_once(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        threads = [threading.Thread(target=downloads.fetch, args=("tiny",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_tiny_is_whole(data_root)
    assert server.requests == [None]


def test_voc2012_is_unpacked_from_its_own_layout_after_an_interruption(data_root, monkeypatch):
    """A miniature of the real archive: plain tar, md5, pictures beside what nobody wants."""
    inside = "VOCdevkit/VOC2012"
    members = {
        f"{inside}/Annotations/2007_000027.xml": b"<annotation/>",
        f"{inside}/ImageSets/Main/train.txt": b"2007_000027",
        f"{inside}/JPEGImages/2007_000027.jpg": jpeg(1),
        f"{inside}/JPEGImages/2007_000032.jpg": jpeg(2),
        f"{inside}/SegmentationClass/2007_000032.png": encoded(3),
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    body, real = stream.getvalue(), downloads.ARCHIVES["voc2012"]
    assert real.url.endswith(".tar") and real.digest.startswith("md5:") and real.count == 17125
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(body) as server:
        small = {"url": server.url.replace("tiny.tgz", "voc.tar"), "size": len(body)}
        digest = f"md5:{hashlib.md5(body).hexdigest()}"
        monkeypatch.setitem(downloads.ARCHIVES, "voc2012", replace(real, digest=digest, **small))
        server.stop_after = len(body) // 2
        with pytest.raises(DatasetError, match=r"voc2012: .*run again to go on"):
            load("voc2012", 8)
        server.stop_after, server.status, server.requests = 0, 0, []
        found = load("voc2012", 8)
        assert server.requests == [f"bytes={len(body) // 2}-"]
    assert sorted(found.names) == ["voc2012/2007_000027.jpg", "voc2012/2007_000032.jpg"]
    assert sorted(p.name for p in (data_root / "voc2012").rglob("*")) == [
        "2007_000027.jpg",
        "2007_000032.jpg",
    ]
    assert left_over(data_root) == []
    monkeypatch.setitem(downloads.ARCHIVES, "voc2012", replace(real, digest=f"md5:{'0' * 32}"))
    assert len(load("voc2012", 16)) == 2  # what is unpacked needs no archive


def test_archives_are_described_fully():
    for archive in downloads.ARCHIVES.values():
        kind, value = archive.digest.split(":")
        assert len(value) == 2 * hashlib.new(kind).digest_size and archive.url.startswith(
            "https://"
        )
        assert archive.size > 10**8 and archive.count > 3000 and archive.licence
