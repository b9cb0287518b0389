"""The studies of paper 02: pairs on one bench, what is alike trained once, and their controls."""

from __future__ import annotations

import math
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colorlib import bench as benches
from colorlib import color, machine, notebooks, pictures, record

NAME = "studies/02_one_to_one_dcgan"
studies = notebooks.load(NAME)
lesson = studies.LESSON
HERE = machine.Machine(torch.device("cpu"), None, False, 1)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    smoke = notebooks.profile_parameters(NAME, "smoke")
    return SimpleNamespace(**own | smoke | changes)


def scene(height=80, width=100, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def as_rgb(picture):
    return color.as_rgb(picture[None])


def pair(seed=0):
    return lesson.make_pair(f"tiny{seed}", scene(72, 80, seed), scene(80, 72, seed), 72)


@pytest.fixture
def bench(tmp_path):
    return studies.make_bench(parameters(), [pair(0), pair(1)], HERE, tmp_path)


# --- variants and bench -------------------------------------------------------------------------


def test_studies_are_what_the_parameters_and_limits_name():
    default = notebooks.parameters(NAME)["studies"].default
    assert default == [*studies.STUDIES, "causes", "hints"]
    notebooks.check_values(NAME, {"studies": default})
    kinds = (lesson.Recipe, lesson.Post, studies.Variant)
    known = {f.name for kind in kinds for f in fields(kind)}
    for variants in studies.STUDIES.values():
        assert len(variants) >= 2 and all(set(changes) <= known for changes in variants.values())


def test_the_first_variant_is_the_lessons_way():
    P, own = parameters(width=16), notebooks.parameters("02_one_to_one_dcgan")
    for variants in studies.STUDIES.values():
        variant = studies.plan(P, next(iter(variants.values())), 0)
        assert variant.post == lesson.Post() and variant.sees == "grey"
        assert variant.recipe == lesson.Recipe(16, image_size=P.image_size)
        assert variant.recipe.adversarial == own["adversarial"].default
        assert variant.recipe.frobenius == own["frobenius"].default


def test_what_is_joined_otherwise_is_trained_once(bench, monkeypatch):
    trained, real = [], lesson.train

    def train(*given, **more):
        trained.append(given[0])
        return real(*given, **more)

    monkeypatch.setattr(lesson, "train", train)
    bench.find("postprocessing")
    assert len(trained) == 2, "one training a pair"
    rows = bench.studies["postprocessing"]["variants"]
    assert rows["our default"]["delta_e_paired"]["mean"] == 0
    assert rows["no segments"]["delta_e_paired"]["pairs"] == 2
    assert rows["no segments"]["delta_e_paired"]["mean"] != 0
    said = benches.sentences(bench.studies["postprocessing"])[0]
    assert "a CIEDE2000 of" in said and "both grey and one constant colour" in said


@pytest.mark.parametrize("sees", ["position", "context", "features"])
def test_a_generator_can_be_given_more_than_the_grey_piece(bench, sees):
    (one,) = bench.trained("more", {"sees": sees})
    assert one.variant.recipe.given == studies.CHANNELS[sees]
    assert [rgb.shape for rgb in one.painted] == [p.target.shape for p in bench.pairs]


def test_what_is_seen_belongs_to_the_place_of_the_piece():
    pieces = studies.SeenPieces(scene(70, 90), 12, 4, 0, ())
    found, plain = pieces.cut(torch.arange(12)), lesson.Pieces(scene(70, 90), 12, 4, 0, ())
    assert torch.equal(found[:, :3], plain.cut(torch.arange(12)))
    planes = torch.cat(
        [studies.positions(70, 90), studies.describe(color.lightness_of(scene(70, 90)))], 1
    )
    windows = planes.unfold(2, 64, 1).unfold(3, 64, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    nearest = torch.cdist(found[:, 3:].flatten(1), windows.flatten(1), p=math.inf).min(1).values
    assert nearest.max() < 0.02


# --- measures -----------------------------------------------------------------------------------


def test_seams_are_seen_where_pieces_end():
    places = lesson.lattice(64, 128, 64)
    flat = torch.full((1, 3, 64, 128), 0.5) + 0.01 * torch.rand(1, 3, 64, 128)
    cut = flat.clone()
    cut[..., 64:] = cut[..., 64:] * torch.tensor([1.4, 0.8, 0.6]).view(1, 3, 1, 1)
    assert studies.jumps_at_seams(cut, places) - studies.jumps_at_seams(flat, places) > 10
    assert math.isnan(studies.jumps_at_seams(flat, places[:0]))


def test_stages_have_measures_and_a_control(bench):
    bench.find("postprocessing", look=studies.look_at_stages)
    row = bench.studies["postprocessing"]["variants"]["our default"]
    stages = ["plain average", "merged", "smoothed", "segmented", "own L", "wrong weights"]
    assert list(row["stages"]) == stages
    assert row["seams_by_ssim"]["pairs"] == row["seams_by_wrong"]["pairs"] == 2


def test_partial_rank_correlation_agrees_with_scipy_and_takes_the_third_out():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    third, none = random.normal(size=200), np.zeros(200)
    one, other = (third + 0.3 * random.normal(size=200) for _ in range(2))
    plain = studies.partial_rank_correlation(one, other, none)
    assert plain == pytest.approx(spearmanr(one, other).statistic)
    assert abs(studies.partial_rank_correlation(one, other, third)) < 0.25 < 0.8 < plain
    assert studies.partial_rank_correlation(one, one + 1, third) == pytest.approx(1)
    assert math.isnan(studies.partial_rank_correlation(one[:4], other[:4], third[:4]))
    assert math.isnan(studies.partial_rank_correlation(none, one, third))


def test_a_piece_of_the_source_itself_has_a_near_neighbour():
    source = scene(96, 96, 3)
    pairs = [lesson.make_pair("x", source, target, 96) for target in (source, scene(96, 96, 9))]
    torch.manual_seed(0)
    model = lesson.Generator(lesson.Recipe(width=4)).eval()
    pieces = lesson.Pieces(source, 400, 8, 0, ())
    facts = [studies.piece_facts(p, model, pieces, HERE) for p in pairs]
    assert facts[0]["distance"].mean() < 0.5 * facts[1]["distance"].mean()
    for measure in ("error", "error_of_mean", "distance", "ambiguity", "chroma"):
        assert facts[0][measure].shape == (len(lesson.lattice(96, 96)),)


# --- hints --------------------------------------------------------------------------------------


def test_dabs_hold_the_true_colour_where_they_lie():
    one = pair()
    hints = studies.place_hints(one, 12, seed=1)
    mask = hints[:, :1] > 0
    assert hints.shape == (1, 3, *one.target.shape[:2]) and 12 * 4 <= mask.sum() <= 12 * 9
    truth = color.normalise(color.rgb_to_lab(as_rgb(one.target)))[1]
    off = (hints[:, 1:] - truth).norm(dim=1, keepdim=True)[mask]
    assert 110 * off.mean() < 6
    assert hints[:, 1:].abs().sum(1, keepdim=True)[~mask].max() == 0
    assert torch.equal(hints, studies.place_hints(one, 12, seed=1))


def test_recoloured_pieces_keep_lightness_and_their_dabs_follow():
    torch.manual_seed(0)
    rgb = as_rgb(scene(64, 64)).expand(64, -1, -1, -1)
    recoloured, dabs = studies.simulate_hints(rgb)
    assert (lesson.to_grey(recoloured) - lesson.to_grey(rgb)).abs().max() < 2e-3
    changed = (recoloured - rgb).abs().amax((1, 2, 3)) > 0.02
    with_dabs = dabs[:, 0].flatten(1).any(1)
    assert 20 < changed.sum() < 64 and not changed[~with_dabs].any()
    ab = color.normalise(color.rgb_to_lab(recoloured))[1]
    mask = dabs[:, :1].expand_as(ab) > 0
    assert 110 * (dabs[:, 1:] - ab)[mask].abs().mean() < 6


def test_hints_are_held_against_spreading_and_levin(bench, tmp_path):
    study = studies.run_hints(bench, tmp_path)
    assert list(study["variants"]) == ["3 dabs", "12 dabs", "fewest", "most"]
    assert study["variants"]["most"] == study["variants"]["12 dabs"]
    assert study["variants"]["most"]["minus levin"]["pairs"] == 2


# --- claims -------------------------------------------------------------------------------------


def test_claims_point_at_what_the_studies_keep():
    claims = benches.read_claims(studies.CLAIMS)
    assert len(claims) == 20 and not any(claim.untestable for claim in claims)
    assert all(claim.untestable for claim in benches.read_claims(studies.UNTESTABLE))
    titles = {name: list(variants) for name, variants in studies.STUDIES.items()}
    titles["causes"] = ["the network", "the mean colour"]
    titles["hints"] = ["fewest", "most"]
    titles["against"] = ["welsh", "reinhard", "mean_ab"]
    for path in (path for c in claims for path in (c.path, c.control) if path):
        assert path[0] == "studies" and path[2] == "variants" and path[1] in titles
        assert any(title.startswith(path[3]) for title in titles[path[1]]), path
    rows = benches.judge(claims, dict.fromkeys(titles), NAME)
    assert {row["verdict"] for row in rows} == {record.NOT_RUN}


def test_the_lessons_own_way_is_held_against_the_classics(bench):
    found = studies.run_against(bench)["variants"]
    assert found["welsh"]["ours_minus"]["pairs"] == 2
    assert {"low", "high"} <= found["mean_ab"]["ours_minus"].keys()
