"""The studies of paper 04: variants on one bench, rivals and promises, and their controls."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colorlib import bench as benches
from colorlib import color, machine, notebooks, pictures, record
from colorlib.pairs import Pair

NAME = "studies/04_two_unpaired_images"
studies = notebooks.load(NAME)
lesson = studies.LESSON
HERE = machine.Machine(torch.device("cpu"), None, False, 1)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    smoke = notebooks.profile_parameters(NAME, "smoke")
    return SimpleNamespace(**own | smoke | changes)


def scene(height=40, width=50, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def bench_of(folder, **changes):
    raw = [Pair(f"tiny{n}", scene(40, 50, n), scene(30, 48, n + 9)) for n in (0, 1)]
    return studies.make_bench(parameters(**changes), raw, HERE, folder)


@pytest.fixture
def bench(tmp_path):
    return bench_of(tmp_path)


def test_studies_are_what_the_parameters_and_limits_name():
    default = notebooks.parameters(NAME)["studies"].default
    assert sorted(default) == sorted([*studies.STUDIES, "against", "speed"])
    notebooks.check_values(NAME, {"studies": default})
    kinds = (lesson.Recipe, lesson.Budget, studies.Variant)
    known = {f.name for kind in kinds for f in fields(kind)} | {"even"}
    for variants in studies.STUDIES.values():
        assert len(variants) >= 2 and all(set(changes) <= known for changes in variants.values())


def test_the_first_variant_is_the_lessons_way_and_every_other_one_differs():
    own = notebooks.parameters("04_two_unpaired_images")
    P = parameters(width=32, iterations=[40, 20, 5], image_size=30)
    for variants in studies.STUDIES.values():
        first, *others = (studies.plan(P, changes, 0) for changes in variants.values())
        assert first.recipe == lesson.Recipe() and first.fit == "squash"
        assert first.budget == lesson.Budget((40, 20, 5), P.rate, seed=0)
        assert first not in others and len({*others}) == len(others)
    assert lesson.Recipe().norm == own["norm"].default
    assert lesson.Recipe().critic_norm == own["critic_norm"].default


def test_to_the_letter_changes_all_that_the_paper_states():
    printed = studies.plan(parameters(), studies.AS_PRINTED, 0)
    recipe, budget = printed.recipe, printed.budget
    assert (recipe.norm, recipe.critic_norm, recipe.equation_3) == (
        "instance",
        "instance",
        "printed",
    )
    assert (recipe.shares, recipe.spread, recipe.assignment, recipe.order) == (0, 0, "hard", "size")
    assert (recipe.norms, recipe.margin, budget.rate, budget.slow_after) == ("sum", False, 5e-4, 1)
    assert (recipe.alpha_rec, recipe.alpha_content, recipe.blocks) == (10, 30, 7)


def test_even_steps_paint_as_many_pixels():
    P = parameters(iterations=[800, 500, 300, 120], image_size=36)
    budget = lesson.Budget(tuple(P.iterations))
    even = lesson.Budget((studies.even_steps(P),))
    wanted = studies.painted_pixels(budget, 36)
    assert studies.painted_pixels(even, 36) == pytest.approx(wanted, rel=0.01)


def test_a_study_measures_structure_palette_and_equation_5(bench):
    bench.find("norm", look=studies.look)
    rows = bench.studies["norm"]["variants"]
    assert list(rows) == list(studies.STUDIES["norm"])
    for row in rows.values():
        assert 0 < row["rebuilt"] < 255 and row["palette"] > 0
        assert row["structure_paired"]["pairs"] == row["delta_e_paired"]["pairs"] == 2
    assert rows["no norm"]["palette_paired"]["mean"] == 0
    assert rows["instance norm in the generator"]["palette_paired"]["mean"] != 0


def test_what_the_lesson_has_no_switch_for_changes_the_training(tmp_path):
    bench = bench_of(tmp_path, iterations=[6], rate=0.01)
    ways = [{}, {"fit": "crop"}, {"halves": True}]
    painted = [bench.trained("x", changes)[0].painted for changes in ways]
    for other in painted[1:]:
        assert [rgb.shape for rgb in other] == [p.target.shape for p in bench.pairs]
        assert not np.array_equal(other[0], painted[0][0])


def test_two_halves_are_read_apart():
    picture = torch.cat([torch.full((1, 3, 8, 12), 0.8), torch.full((1, 3, 8, 12), -0.6)], 2)
    picture = picture + 0.02 * torch.rand(picture.shape)
    reader = studies.HalvesReader(lesson.Recipe(shares=0.0, spread=0.0), picture)
    upper, lower = reader.wanted.chunk(2)
    assert upper.shape == (5, 3) and upper.min() > 0.7 and lower.max() < -0.5
    torch.testing.assert_close(reader(picture, anew=True), reader.wanted)
    assert (reader(picture.flip(2), anew=True)[:5] < 0).all()


def test_scatter_sees_spots_and_the_remedy_removes_them():
    lightness = torch.full((1, 1, 40, 40), 40.0)
    lightness[..., 20:] = 75
    ab = torch.zeros(1, 2, 40, 40)
    ab[:, 0, :, :20], ab[:, 1, :, 20:] = 0.2, 0.3
    clean = color.to_picture(color.from_network(lightness / 50 - 1, ab))
    spots = ab + 0.1 * torch.randn(ab.shape, generator=torch.Generator().manual_seed(0))
    dirty = color.to_picture(color.from_network(lightness / 50 - 1, spots))
    mended = lesson.make_consistent(dirty, lightness)
    before, after = (studies.scatter(rgb, lightness) for rgb in (dirty, mended))
    assert studies.scatter(clean, lightness) < 1 < after < 0.5 * before


def test_rivals_and_promises_rest_on_pairs(bench):
    study = studies.run_against(bench)
    rows = study["variants"]
    for row in (*studies.RIVALS, "mean_ab", "grey_floor"):
        assert rows[row]["ours_minus"]["pairs"] == rows[row]["consistent_minus"]["pairs"] == 2
    gap = rows["ours"]["delta_e"] - rows["gpnn"]["delta_e"]
    assert rows["gpnn"]["ours_minus"]["mean"] == pytest.approx(gap)
    assert rows["ours"]["ours_minus"]["mean"] == 0
    assert rows["field"]["of seven"]["mean"] == 15
    assert rows["promises"]["structure of the reference"]["mean"] < 0  # a control that must fail


@pytest.mark.parametrize(("share", "learned"), [(0.01, True), (1.5, False)])
def test_what_has_learned_is_read_from_the_palette(bench, monkeypatch, share, learned):
    monkeypatch.setattr(studies, "measure", lambda *about: (0.5, share, 9.0))
    study = bench.run("norm", look=studies.look)
    assert study["learned"] == learned and study["floors"]["grey"] == 1
    assert study["errors"].keys() == studies.STUDIES["norm"].keys()
    assert {end for ends in study["errors"].values() for end in ends} == {share}
    plain = Pair("plain", np.full((30, 30, 3), (200, 90, 40), np.uint8), scene(30, 48))
    bench.pairs = [plain]
    _, floors = bench.ends("norm", {})
    assert floors["constant"] < 1, "one colour is right where the reference has only one"


@pytest.mark.parametrize("floor", ["palette of grey", "structure of the reference"])
def test_to_lose_to_a_floor_of_colour_counts_and_not_to_have_learned_does_not(monkeypatch, floor):
    """Ours is farther than the mean colour: a finding, unless its losses were not met."""
    facts = {"palette": 0.1, "palette of grey": 0.5, "structure": 0.1}
    facts = {
        k: np.full((1, 5), v) for k, v in (facts | {"structure of the reference": -0.7}).items()
    }
    errors = dict(ours=9.0, consistent=9.0, grey_floor=8.0, mean_ab=7.0)
    errors = {row: np.full((1, 5), error) for row, error in errors.items()}
    monkeypatch.setattr(studies, "paint_against", lambda bench: (errors, facts))
    bench = SimpleNamespace(scale="")
    assert studies.run_against(bench)["learned"]
    facts[floor] = -facts[floor]
    assert not studies.run_against(bench)["learned"]


def test_organised_plainly_a_step_does_the_same_and_keeps_nothing(bench):
    sizes = lesson.scale_sizes(24, 24)
    pair = lesson.make_pair("x", scene(), scene(seed=3), 24)
    losses, recipe = [], lesson.Recipe(width=4)
    for kind in (lesson.Training, studies.PlainTraining):
        torch.manual_seed(0)
        scale = kind(lesson.Pyramid(recipe, sizes), len(sizes) - 1, pair, HERE, 1e-4)
        torch.manual_seed(1)
        losses.append(scale.step(None, 0))
    for key in losses[0]:
        torch.testing.assert_close(losses[0][key], losses[1][key], atol=1e-4, rtol=1e-3)
    times = studies.step_seconds(bench.pairs[0], 15, HERE, rounds=1, steps=1)
    assert (
        list(times) == ["as here", "as here, float32", "plainly, float32"]
        and min(times.values()) > 0
    )


def test_claims_point_at_what_the_studies_keep():
    claims = benches.read_claims(studies.CLAIMS)
    assert len(claims) == 12 and not any(claim.untestable for claim in claims)
    assert all(claim.untestable for claim in benches.read_claims(studies.UNTESTABLE))
    titles = {name: list(variants) for name, variants in studies.STUDIES.items()}
    titles["against"] = [
        "ours",
        "consistent",
        *studies.RIVALS,
        "grey_floor",
        "mean_ab",
        "promises",
        "field",
    ]
    for path in (path for c in claims for path in (c.path, c.control) if path):
        assert path[0] == "studies" and path[2] == "variants" and path[1] in titles
        assert any(title.startswith(path[3]) for title in titles[path[1]]), path
    rows = benches.judge(claims, dict.fromkeys(titles), NAME)
    assert {row["verdict"] for row in rows} == {record.NOT_RUN}


def test_claims_find_their_numbers(bench):
    for name in ("norm", "losses", "palette"):
        bench.find(name, look=studies.look)
    found = bench.studies | {
        "against": studies.run_against(bench) | {"origin": record.origin("smoke")}
    }
    rows = benches.judge(benches.read_claims(studies.CLAIMS), found, NAME)
    assert {row["verdict"] for row in rows} <= {
        record.SUPPORTED,
        record.CONTRADICTED,
        record.INCONCLUSIVE,
    }
    assert all(row["number"] and row["number"] != "none to compare" for row in rows)
