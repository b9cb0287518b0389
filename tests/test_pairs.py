"""Pairs of pictures: where they come from, what is refused in one line, and their scores."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from colorlib import color, datasets, metrics, notebooks, pairs, pictures


def scene(height=40, width=50, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def make(name, reference, target, **more):
    """What a notebook does, without any change of size."""
    pairs.check_reference(name, reference)
    return pairs.Pair(name, reference, target, **more)


def load(data="pairs", wanted=(), **more):
    return pairs.load(data, wanted, make, **more)


def names_of(found):
    return [pair.name for pair in found]


def write_pair(folder, name, seed=0):
    for i, half in enumerate(("source", "target")):
        Image.fromarray(scene(seed=seed + i)).save(folder / f"{name}_{half}.png")


def test_every_embedded_pair_is_a_choice_or_a_result_with_colours_and_credits():
    (choices, odd), (results, strange) = load(part="choices"), load(part="results")
    assert odd == strange == [] and {pair.part for pair in choices} == {"choices"}
    assert sorted(names_of(choices)) == sorted(datasets.CHOICES)
    known = {pair.name: pair for pair in choices + results}
    assert len(results) == 25 and len(known) == 35
    for pair in known.values():
        assert pair.has_truth and pair.credit, pair.name
        small = [pictures.resize(rgb, 20).astype(int) for rgb in (pair.reference, pair.target)]
        assert np.abs(small[0] - small[1]).mean() > 3, pair.name
    gully, falls = known["gully"], known["falls_nz"]  # of one author, of two
    assert pairs.credit_of([gully, gully, falls]) == f"{gully.credit}; {falls.credit}"
    assert (gully.credit.count(";"), falls.credit.count(";")) == (0, 1)


def test_a_folder_gives_pairs_by_name_and_by_beginning(tmp_path):
    for i, name in enumerate(["gt_a", "gt_b", "other"]):
        write_pair(tmp_path, name, i)
    folder = str(tmp_path)
    assert names_of(load(folder, ["gt_"])[0]) == ["gt_a", "gt_b"]
    assert names_of(load(folder, ["other", "gt_b"])[0]) == ["other", "gt_b"]
    everything, _ = load(folder)
    assert names_of(everything) == ["gt_a", "gt_b", "other"]
    assert np.array_equal(everything[1].reference, scene(seed=1))  # the source
    assert np.array_equal(everything[1].target, scene(seed=2))


def test_a_strangers_folder_of_that_name_has_its_own_credits_and_no_part(tmp_path):
    (tmp_path / "pairs").mkdir()
    for name in ("dandelion", "waves"):
        write_pair(tmp_path / "pairs", name)
    lines = [f"pairs/dandelion_{half}.png\tAnn\tCC0 1.0" for half in ("source", "target")]
    (tmp_path / "credits.tsv").write_text("\n".join(["file\tauthor\tlicence", *lines]))
    (dandelion, waves), _ = load(str(tmp_path / "pairs"), part="results")
    assert dandelion.credit == "Ann, CC0 1.0" and dandelion.part == ""
    assert pairs.credit_of([waves]) == ""


def test_a_bad_pair_costs_a_line_and_a_grey_target_the_truth(tmp_path):
    for name in ("good", "grey", "old", "torn"):
        write_pair(tmp_path, name)
    for half in ("grey_source", "old_target"):
        Image.new("L", (40, 40), 90).save(tmp_path / f"{half}.png")
    (tmp_path / "torn_target.png").write_bytes(b"torn")
    found, problems = load(str(tmp_path))
    assert [(pair.name, pair.has_truth) for pair in found] == [("good", True), ("old", False)]
    assert len(problems) == 2 and all("\n" not in line for line in problems)
    assert "grey: the reference is grey" in problems[0] and "torn_target.png" in problems[1]
    with pytest.raises(notebooks.ParameterError, match="no pair can be used: left out: grey"):
        load(str(tmp_path), ["grey"])


def test_two_files_of_ones_own_replace_all_others(tmp_path):
    write_pair(tmp_path, "mine")
    own = tuple(str(tmp_path / f"mine_{half}.png") for half in ("source", "target"))
    assert names_of(load(wanted=["lemons"], own=own)[0]) == ["mine_target"]


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"wanted": ["lemnos"]}, "no pair 'lemnos' in pairs; there are alps_hut, apples"),
        ({"wanted": ["apples"], "part": "results"}, "no pair can be used: none is results"),
        ({"data": "no/where"}, "no/where: no such set or folder"),
        ({"data": "old"}, "no NAME_source"),
        ({"own": ("no.png", "no.png")}, "no.png"),
    ],
)
def test_wrong_names_end_in_one_line(asked, word):
    refused = (notebooks.ParameterError, datasets.DatasetError, pictures.PictureError)
    with pytest.raises(refused, match=word) as caught:
        load(**asked)
    assert "\n" not in str(caught.value)


def test_rows_are_means_over_the_pairs_that_have_them():
    two = [pairs.Pair(name, scene(), scene(40 + i, 50, i + 5)) for i, name in enumerate("ab")]
    scores = {pair.name: pairs.score(pair, {"ours": color.grey_of(pair.target)}) for pair in two}
    scores["b"] |= {"some": pairs.score(two[1], {"some": two[1].target})["some"]}
    rows = pairs.sum_up(scores)
    assert rows["ours"]["n"] == 2 and rows["grey_floor"]["gain_over_grey"] == 0
    assert rows["ours"]["delta_e"] == pytest.approx(rows["grey_floor"]["delta_e"], abs=0.1)
    both = [metrics.ciede2000(color.grey_of(p.target)[None], p.target[None])[0] for p in two]
    assert rows["ours"]["delta_e"] == pytest.approx(np.mean(both), abs=1e-3)
    assert rows["ours"]["ci95"]["delta_e"] == pytest.approx(sorted(both), abs=1e-3)
    assert rows["some"]["n"] == 1 and rows["some"]["cf_ratio"] == pytest.approx(1)


def test_the_mean_colour_is_that_of_the_reference():
    red, target = np.full((40, 50, 3), (200, 60, 50), np.uint8), scene(seed=3)
    ab = np.broadcast_to(metrics.mean_ab(red[None]), (40, 50, 2))
    painted = color.with_lightness(ab, color.lightness_of(target))
    found = pairs.score(pairs.Pair("x", red, target), {"by hand": painted})
    assert found["by hand"]["delta_e"] == pytest.approx(found["mean_ab"]["delta_e"], abs=0.05)
