"""The embedded photographs: each credited, free to pass on, of the right size, in one split."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorlib import datasets, metrics

DATA = Path(__file__).parents[1] / "data"
FREE = {  # licences that allow to pass a picture on, with its author's name
    *(f"CC BY {version}" for version in ("2.0", "2.1", "2.5", "3.0", "4.0")),
    *(f"CC BY-SA {v}" for v in ("2.0", "2.0 FR", "2.1 JP", "2.5", "3.0", "4.0")),
    *("CC0 1.0", "public domain", "Public Domain Mark 1.0", "MIT", "Apache 2.0"),
}
COUNTS = {"flowers": 1058, "scenes": 834, "things": 490, "old": 30, "pairs": 70, "sketches": 12}
SPLITS = {
    "flowers": (861, 110, 87),
    "scenes": (659, 94, 81),
    "things": (403, 35, 52),
    "old": (24, 3, 3),
    "pairs": (20, 20, 50),
    "sketches": (8, 2, 2),
}


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    with open(DATA / "credits.tsv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def files_of(name: str) -> list[Path]:
    return sorted(path for path in (DATA / name).rglob("*") if path.is_file())


def all_files() -> list[Path]:
    return [path for name in datasets.EMBEDDED for path in files_of(name)]


def test_every_file_has_a_line_and_every_line_a_file(table):
    listed = [row["file"] for row in table]
    assert sorted(listed) == listed and len(set(listed)) == len(listed)
    assert set(listed) == {path.relative_to(DATA).as_posix() for path in all_files()}
    assert Counter(file.split("/")[0] for file in listed) == COUNTS


def test_every_line_names_an_author_a_source_and_a_licence_to_pass_on(table):
    assert {row["licence"] for row in table} <= FREE
    for row in table:
        assert row["author"].strip() and row["source"].strip() and None not in row, row["file"]
        assert not any(mark in row["author"] for mark in ("http", ".jpg", ". **")), row["file"]
        needs_a_name = not row["licence"].lower().startswith(("public domain", "cc0"))
        assert not (needs_a_name and row["author"] == "Unknown"), row["file"]


def test_the_readme_and_the_licence_say_what_is_share_alike(table):
    shared = sum("CC BY-SA" in row["licence"] for row in table)
    others = sum(COUNTS[name] for name in ("scenes", "things", "pairs"))
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert (
        f"{shared} of {others:,}" in readme
        and f"{len(table) - COUNTS['sketches']:,} real photographs" in readme
    )
    assert 0.4 < shared / others < 0.6
    licence = (DATA.parent / "LICENSE").read_text(encoding="utf-8")
    assert "CC BY-SA" in licence and "photographs in data/" in licence


def test_sizes_full_colour_and_no_metadata():
    sides = {"scenes": (144, 144), "things": (144, 144), "old": (192, 192), "pairs": (200, 320)}
    sides |= {"sketches": (288, 288)}
    for name, (least, most) in (sides | {"flowers": (200, 288)}).items():
        for path in files_of(name):
            with Image.open(path) as image:
                assert image.format == "JPEG" and least <= min(image.size) <= most, path.name
                assert not image.getexif() and "icc_profile" not in image.info, path.name
                if name != "flowers":  # those keep the bytes that they came with
                    assert all(layer[1:3] == (1, 1) for layer in image.layer), path.name


def test_all_of_it_is_at_most_50_megabytes():
    inside = [*all_files(), DATA / "README.md", DATA / "credits.tsv"]
    assert sum(path.stat().st_size for path in inside) <= 50_000_000


def test_no_photograph_is_there_twice():
    digests = defaultdict(list)
    for path in all_files():
        digests[hashlib.sha1(path.read_bytes()).hexdigest()].append(path.name)
    assert [names for names in digests.values() if len(names) > 1] == []


def test_no_source_is_in_two_sets_or_in_a_pair_and_a_set(table):
    sets = defaultdict(set)
    for row in table:
        sets[row["source"].split(" ")[-1]].add(row["file"].split("/")[0])
        if row["file"].startswith("pairs/") and row["title"].split(" ")[-1].isdigit():
            flickr = row["title"].split(" ")[-1]
            assert not list((DATA / "flowers").glob(f"*-{flickr}.jpg"))
    assert [source for source, names in sets.items() if len(names) > 1] == []


@pytest.mark.parametrize("name", COUNTS)
def test_splits_are_those_that_reports_rest_on(name):
    found = datasets.load(name, 8)
    assert tuple(map(len, (found.train, found.validation, found.test))) == SPLITS[name]
    assert found.skipped == [] and found.note == ""
    assert set(found.credits) == set(found.names)
    assert found.credit_line


def test_a_place_is_on_one_side_of_the_split(table):
    places = {row["file"]: row["place"] for row in table if row["place"]}
    everything = datasets.load("flowers,scenes,things", 8)
    roles = defaultdict(set)
    for name, role in zip(everything.names, everything.roles, strict=True):
        if name in places:
            roles[places[name]].add(int(role))
    shared = [place for place, count in Counter(places.values()).items() if count > 1]
    assert len(shared) > 150 and all(len(roles[place]) <= 1 for place in shared)


def test_pairs_are_whole_and_both_halves_have_colours(table):
    stems = [path.stem for path in files_of("pairs")]
    names = {stem.removesuffix("_source") for stem in stems if stem.endswith("_source")}
    assert set(stems) == {f"{name}_{half}" for name in names for half in ("source", "target")}
    assert len(names) == 35 and set(datasets.CHOICES) < names
    chroma = metrics.mean_chroma(np.asarray(datasets.load("pairs", 64).pictures))
    assert chroma.min() > metrics.GREY_CHROMA


def test_old_photographs_are_grey():
    assert metrics.mean_chroma(np.asarray(datasets.load("old", 32).pictures)).max() < 1
