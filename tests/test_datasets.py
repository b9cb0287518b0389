"""Sets by name and folder: splits, cache, credits, the coin."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from photos import blocks, fill

from colorlib import color, datasets, pictures
from colorlib.datasets import DatasetError, PictureSet, load


@pytest.fixture(autouse=True)
def data_root(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("COLORLIB_DATA", str(root))
    return root


def splits_of(found: PictureSet) -> dict[str, PictureSet]:
    return {"train": found.train, "validation": found.validation, "test": found.test}


def test_folder_holds_what_its_files_show(tmp_path):
    found = load(str(fill(tmp_path / "mine", 30)), 16)
    assert found.name == "mine" and found.size == 16 and len(found) == 30
    assert found.pictures.dtype == np.uint8 and found.pictures.shape == (30, 16, 16, 3)
    assert sorted(found.names) == [f"mine/{i:03d}.png" for i in range(30)]
    assert set(found.shapes) == {(30, 40)} and found.skipped == [] and found.credits == {}
    for name, digest, picture in zip(found.names, found.digests, found.pictures, strict=True):
        path = tmp_path / name
        assert digest == hashlib.sha1(path.read_bytes()).hexdigest()
        assert np.array_equal(picture, pictures.resize(pictures.read_rgb(path), 16))


def test_squash_differs_from_crop_and_nonsense_is_refused(tmp_path):
    folder = str(fill(tmp_path / "mine", 3))
    squashed = load(folder, 16, fit="squash")
    first = pictures.read_rgb(tmp_path / squashed.names[0])
    assert np.array_equal(squashed.pictures[0], pictures.resize(first, 16, "squash"))
    with pytest.raises(ValueError, match="fit must be"):
        load(folder, 16, fit="keep")
    with pytest.raises(ValueError, match="size must be at least 1"):
        load(folder, 0)


def test_a_folder_is_looked_for_here_and_then_in_the_data_folder(tmp_path, data_root, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (data_root / "set").symlink_to(fill(tmp_path / "elsewhere", 2))
    assert len(load("set", 8)) == 2 and load("set", 8).name == "set"  # a link keeps its own name
    fill(tmp_path / "here" / "set", 5)
    assert len(load("set", 8)) == 5
    monkeypatch.chdir(tmp_path / "here" / "set")
    assert load(".", 8).name == "set"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/where", "named sets are flowers, scenes, things, old, pairs"),
        ("meadow/000.png", "no such set or folder"),
        (" , ", "no data set is named"),
    ],
)
def test_unknown_names_are_told_what_there_is(data_root, name, words):
    fill(data_root / "meadow", 1)
    with pytest.raises(DatasetError, match=words):
        load(name, 8)


def test_count_takes_a_seeded_choice(tmp_path):
    folder = str(fill(tmp_path / "mine", 30))
    some, again, others = (load(folder, 8, count=10, seed=seed) for seed in (0, 0, 1))
    assert len(some) == len(others) == 10 and some.names == again.names
    assert set(some.names) != set(others.names)
    assert set(some.names) < set(load(folder, 8, count=20).names)
    assert len(load(folder, 8, count=99)) == 30


def test_the_split_follows_the_digest_alone(tmp_path):
    """So copies stay together, and no picture moves when files are renamed or join."""
    folder = fill(tmp_path / "mine", 60, ".bmp")
    for i in range(0, 60, 7):
        (folder / f"copy{i}.bmp").write_bytes((folder / f"{i:03d}.bmp").read_bytes())
    (folder / "001.bmp").rename(folder / "zzz.bmp")
    found = load(str(folder), 8)
    assert sum(map(len, splits_of(found).values())) == len(found) and found.note == ""
    for name, part in splits_of(found).items():
        wanted = {9: "test", 8: "validation"}
        assert {wanted.get(int(d, 16) % 10, "train") for d in part.digests} == {name}


def test_the_place_decides_where_it_is_known(tmp_path):
    folder = fill(tmp_path / "mine", 60, ".bmp")
    rows = [f"mine/{i:03d}.bmp\tAnn\tCC0 1.0\tplace {i % 12}" for i in range(48)]
    (tmp_path / "credits.tsv").write_text("\n".join(["file\tauthor\tlicence\tplace", *rows]))
    found = load(str(folder), 8)
    where = {name: split for split, part in splits_of(found).items() for name in part.names}
    for place in range(12):
        names = {f"mine/{i:03d}.bmp" for i in range(place, 48, 12)}
        role = int(hashlib.sha1(f"place {place}".encode()).hexdigest(), 16) % 10
        assert {where[name] for name in names} == {{8: "validation", 9: "test"}.get(role, "train")}
    assert isinstance(found.train.pictures, np.memmap)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_small_folders_fill_every_split(tmp_path, count):
    found = load(str(fill(tmp_path / "mine", count)), 8)
    sizes = list(map(len, splits_of(found).values()))
    assert all(sizes) and found.note
    if count > 2:
        assert sum(sizes) == count and not set(found.train.names) & set(found.test.names)


@pytest.fixture
def some(tmp_path) -> PictureSet:
    return load(str(fill(tmp_path / "mine", 60, ".bmp")), 8)


def test_splits_are_views_of_the_memory_map(some):
    for part in splits_of(some).values():
        assert isinstance(part.pictures, np.memmap)
        assert np.shares_memory(part.pictures, some.pictures)
    with pytest.raises(ValueError, match="read-only"):
        some.train.pictures[0] = 0


def test_subset_by_list_mask_and_slice_never_moves_a_picture_between_splits(some):
    picked = some.subset([5, 2, 2])
    assert picked.names == [some.names[5], some.names[2], some.names[2]]
    assert np.array_equal(picked.pictures, some.pictures[[5, 2, 2]]) and picked.hash != some.hash
    assert some.subset(slice(3, 6)).names == some.names[3:6]
    assert np.array_equal(some.subset([3, 4, 5]).pictures, some.pictures[3:6])
    assert some.subset(np.arange(60) % 2 == 0).digests == some.digests[::2]
    assert len(some.subset([])) == 0
    with pytest.raises(IndexError):
        some.subset([60])
    assert some.train.subset([0]).test.names == []
    assert some.train.subset([0]).train.names == some.train.names[:1]


def test_spread_is_even_and_keeps_the_order(some):
    places = [some.names.index(name) for name in some.spread(5).names]
    assert places[0] == 0 and places[-1] == len(some) - 1 and places == sorted(set(places))
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    assert some.spread(10**6).names == some.names and len(some.subset([]).spread(5)) == 0


def test_tensor_is_channels_first_and_its_own(some):
    batch = some.tensor([4, 1])
    assert batch.dtype == torch.uint8 and batch.shape == (2, 3, 8, 8) and batch.is_contiguous()
    assert np.array_equal(batch[1].permute(1, 2, 0).numpy(), some.pictures[1])
    batch.zero_()
    assert some.pictures[1].any()
    assert some.tensor().shape == (60, 3, 8, 8)


def test_hash_tells_pictures_sizes_and_fits_apart_and_changed_files_are_noticed(tmp_path):
    folder, later = fill(tmp_path / "mine", 4), tmp_path / "later.png"
    (folder / "later.png").symlink_to(later)  # cannot be read yet
    hashes = {load(str(folder), 8).hash, load(str(folder), 8).hash, load(str(folder), 9).hash}
    hashes |= {load(str(folder), 8, fit="squash").hash}
    pictures.write(folder / "000.png", blocks(99))
    assert len(hashes | {load(str(folder), 8).hash}) == 4
    pictures.write(later, blocks(98))
    assert len(load(str(folder), 8)) == 5
    (folder / "000.png").unlink()
    assert len(load(str(folder), 8)) == 4


def test_a_photo_and_its_credit_from_another_project_too(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    name = load("old", 8).names[0].removesuffix(".jpg")
    whole = datasets.photo(name)
    assert whole.dtype == np.uint8 and whole.ndim == 3 and min(whole.shape[:2]) >= 192
    assert datasets.credit(name) == load("old", 8).credits[f"{name}.jpg"]
    with pytest.raises(pictures.PictureError, match=r"flowers/lena.jpg: cannot be read"):
        datasets.photo("flowers/lena")


def test_mixture_keeps_every_picture_in_its_split(tmp_path):
    folder = fill(tmp_path / "mine", 30)
    mixed, old, mine = (load(name, 8) for name in (f"old,{folder}", "old", str(folder)))
    assert mixed.name == "old,mine" and len(mixed) == len(old) + len(mine)
    for split, part in splits_of(mixed).items():
        assert set(part.names) == {*getattr(old, split).names, *getattr(mine, split).names}
        assert np.shares_memory(part.pictures, mixed.pictures)
    i = mixed.names.index("mine/007.png")
    assert np.array_equal(mixed.pictures[i], mine.pictures[mine.names.index("mine/007.png")])
    assert mixed.credits == old.credits
    shares = Counter(name.split("/")[0] for name in load("old,things,scenes", 8, count=7).names)
    assert shares == {"old": 3, "things": 2, "scenes": 2}
    with pytest.raises(DatasetError, match="rename one"):
        load(f"{folder},{fill(tmp_path / 'other' / 'mine', 1)}", 8)


def test_status_lists_every_named_set(data_root):
    fill(data_root / "flowers102", 2)
    rows = {name: (here, licence) for name, here, licence in datasets.status()}
    assert list(rows) == [*datasets.EMBEDDED, "flower_photos", "flowers102", "voc2012"]
    assert rows["pairs"][0] == "70 pictures" and rows["flowers102"][0] == "2 pictures"
    assert "2000 MB" in rows["voc2012"][0] and "CC BY 2.0" in rows["flower_photos"][1]


def test_credits_from_a_table_beside_the_folder(data_root):
    fill(data_root / "meadow", 3)
    (data_root / "credits.tsv").write_text(
        "file\tauthor\ttitle\tlicence\nmeadow/000.png\tBùi Linh\tx\tCC BY 2.0\n"
        'meadow/002.png\tA "quoted" name\t\t\nmeadow/999.png\tNobody\t\tCC0\nhill/1.png\tEve\t\t\n',
        encoding="utf-8",
    )
    found, quoted = load("meadow", 8), {"meadow/002.png": 'A "quoted" name'}
    assert found.credits == {"meadow/000.png": "Bùi Linh, CC BY 2.0"} | quoted
    assert found.subset([found.names.index("meadow/002.png")]).credits == quoted


def test_credits_from_the_licence_of_flower_photos(data_root):
    fill(data_root / "flower_photos" / "daisy", 2)
    (data_root / "flower_photos" / "LICENSE.txt").write_text(
        "All images in this archive are licensed ...\n\n"
        "daisy/000.png CC-BY by Steve - over 7 million views - https://www.flickr.com/photos/s/9/\n"
        "daisy/001.png CC BY 2.0 by jenny - https://www.flickr.com/photos/j/1/\n",
    )
    found = load("flower_photos", 8)
    assert found.credits == {
        "flower_photos/daisy/000.png": (
            "Steve - over 7 million views, flickr.com/photos/s/9, CC BY 2.0"
        ),
        "flower_photos/daisy/001.png": "jenny, flickr.com/photos/j/1, CC BY 2.0",
    }
    assert found.credit_line.count(";") == 1


def test_second_load_decodes_nothing(tmp_path, monkeypatch):
    folder = str(fill(tmp_path / "mine", 5))
    first = load(folder, 8)
    monkeypatch.setattr(pictures, "decode", MagicMock(side_effect=AssertionError))
    second = load(folder, 8)
    assert np.array_equal(first.pictures, second.pictures) and first.names == second.names
    assert first.shapes == second.shapes and first.hash == second.hash
    with pytest.raises(AssertionError):
        load(folder, 9)


def test_several_that_build_one_cache_at_once(tmp_path):
    folder = str(fill(tmp_path / "mine", 40))
    with ThreadPoolExecutor(4) as pool:  # joblib tells threads and processes apart in one way
        found = list(pool.map(lambda _: load(folder, 8), range(4)))
    assert len({each.pictures.tobytes() for each in [*found, load(folder, 8)]}) == 1


def lab_of(rgb: np.ndarray) -> torch.Tensor:
    return color.rgb_to_lab(color.as_rgb(rgb))


def colour_of(rgb: np.ndarray) -> torch.Tensor:
    """Return a + ib of every pixel."""
    return torch.view_as_complex(lab_of(rgb)[:, 1:].movedim(1, -1).contiguous())


@pytest.fixture(scope="module")
def tossed() -> tuple[np.ndarray, datasets.Coin]:
    rgb = np.stack([blocks(i, 24, 24) for i in range(70)])
    return rgb, datasets.coin(rgb, seed=3)


def test_the_sides_of_a_coin_have_the_photos_lightness_and_differ_by_their_hue_alone(tossed):
    rgb, coin = tossed
    for side in (coin.heads, coin.tails):
        assert side.dtype == np.uint8 and side.shape == rgb.shape
        assert (lab_of(side)[:, 0] - lab_of(rgb)[:, 0]).abs().max() < 0.5
    heads, tails, photo = map(colour_of, (coin.heads, coin.tails, rgb))
    assert (heads.abs() - tails.abs()).abs().max() < 2 and (heads.abs() < photo.abs() + 2).all()
    strong = heads.abs() > 20
    turned = torch.rad2deg((tails / heads)[strong].angle())
    kept = torch.rad2deg((heads / photo)[strong].angle())
    assert strong.float().mean() > 0.1
    assert (turned - 120).abs().max() < 6 and kept.abs().max() < 6


def test_the_coin_decides_each_picture_by_the_seed(tossed):
    rgb, coin = tossed
    assert 20 < coin.up.sum() < 50
    for i, up in enumerate(coin.up):
        assert np.array_equal(coin.pictures[i], (coin.heads if up else coin.tails)[i])
    again, other = datasets.coin(rgb, seed=3), datasets.coin(rgb, seed=4)
    assert np.array_equal(again.pictures, coin.pictures)
    assert not np.array_equal(other.up, coin.up) and np.array_equal(other.tails, coin.tails)
    straight = datasets.coin(rgb[:4], angle=0.0)
    assert np.array_equal(straight.heads, straight.tails)
