"""The studies of paper 01: what is alike is trained once, and every measure has its control."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from learning import overfits

from colorlib import bench as benches
from colorlib import color, datasets, evidence, machine, metrics, notebooks, record, training

NAME = "studies/01_patchwise_cnn"
studies = notebooks.load(NAME)
lesson = studies.LESSON
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
MEAN = (0.5, 0.5)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    smoke = notebooks.profile_parameters(NAME, "smoke")
    return SimpleNamespace(**own | smoke | changes)


@pytest.fixture(scope="module")
def scenes():
    return datasets.load("scenes", 64, count=30, seed=3)


@pytest.fixture
def bench(scenes, tmp_path):
    return studies.make_bench(parameters(), scenes, HERE, tmp_path)


def networks(width=6, **changes):
    torch.manual_seed(0)
    pair = lesson.PatchwisePair(lesson.Recipe(width, image_size=64, **changes)).eval()
    for net in pair.nets:
        torch.nn.init.normal_(net.mapping.weight, 0, 0.3)
    return pair


# ------------------------------------------------------------------------------ variants


def test_studies_are_what_the_parameters_and_limits_name():
    default = notebooks.parameters(NAME)["studies"].default
    assert default == [*studies.STUDIES, "speed"]
    notebooks.check_values(NAME, {"studies": default})
    known = {f.name for kind in (lesson.Recipe, studies.Variant) for f in fields(kind)}
    known |= {"share", "wider", "patch", "switch"}
    for variants in studies.STUDIES.values():
        assert len(variants) >= 2 and all(set(changes) <= known for changes in variants.values())


def test_the_first_variant_is_the_lessons_way():
    own = notebooks.parameters("01_patchwise_cnn")
    P = parameters(**{key: own[key].default for key in ("patch_size", "batch_size")})
    P.image_size, P.steps, P.rate = own["image_size"].default, 600, own["rate"].default
    told = SimpleNamespace(**vars(P) | {"steps": [300, 300]})
    recipe, budget = lesson.plan(told, MEAN)
    for study in ("losses", "switch", "networks", "shape", "field", "width", "radius"):
        first = studies.plan(P, MEAN, next(iter(studies.STUDIES[study].values())), P.seed)
        assert (first.recipe, first.budget) == (recipe, budget), study


def test_every_variant_takes_as_many_steps_of_as_many_pixels():
    P = parameters(image_size=128, patch_size=32, batch_size=32, steps=600, width=16)
    pixels = 32 * 24**2
    for variants in studies.STUDIES.values():
        for title, changes in variants.items():
            variant = studies.plan(P, MEAN, changes, 1)
            budget, inner = variant.budget, variant.budget.patch - 8
            if variant.kind != "whole":
                assert budget.steps == 600 and budget.seed == 1, title
                assert budget.batch_size * inner**2 == pytest.approx(pixels, rel=0.6), title


def test_the_whole_picture_costs_what_the_patches_cost():
    P = parameters(image_size=128, patch_size=32, batch_size=32, steps=600, width=16)
    ours, whole = (studies.plan(P, MEAN, c, 0) for c in studies.STUDIES["global_local"].values())
    assert whole.recipe.reduce == 1 and whole.budget.patch == 128 and whole.budget.first == 0
    y = torch.zeros(32, 1, 32, 32)
    each = studies.multiply_adds(lesson.PatchwisePair(ours.recipe), y)
    counted = sum(row["multiply-adds, millions"] for row in lesson.layer_rows(16, 32))
    assert each == pytest.approx(2 * 32 * 1e6 * counted)
    y = torch.zeros(8, 1, 128, 128)
    other = studies.multiply_adds(studies.GlobalLocal(whole.recipe), y)
    assert other * whole.budget.steps == pytest.approx(each * 600, rel=0.05)


def test_what_only_paints_otherwise_is_trained_once(bench, monkeypatch):
    trained, real = [], lesson.train

    def train(*given, **more):
        trained.append(given[0])
        return real(*given, **more)

    monkeypatch.setattr(lesson, "train", train)
    for study in ("radius", "equalize", "losses"):
        bench.find(study, look=studies.look_at_edges if study == "radius" else None)
    assert len(trained) == 5, "the lesson's own, and four other losses"
    painted = {t: each[0].painted for t, each in bench.found["radius"].items()}
    assert (painted["as it comes"] != painted["radius 8 %"]).any()
    assert bench.studies["radius"]["variants"]["as it comes"]["near_edges"]["mean"] == 0


def test_every_study_leaves_what_its_claims_are_read_from(bench):
    looks = {
        "switch": studies.against(("L1 only", "alternate")),
        "patch_size": studies.look_at_seams,
    }
    looks |= {"styles": studies.look_at_styles, "global_local": studies.look_abroad}
    for study, look in looks.items():
        bench.find(study, look=look)
    known = {"studies": bench.studies}
    for claim in benches.read_claims(studies.CLAIMS):
        if claim.path[1] in looks:
            found = evidence.look_up(known, claim.path)
            assert len(found["seeds"]) == 1 and np.isfinite(found["mean"]), claim.path


# -------------------------------------------------------------------------------- trainings


def test_at_the_plateau_the_loss_changes_and_stays():
    recipe, budget = lesson.Recipe(4, image_size=32), lesson.Budget(60, 0, 2, 16, rate=1e-9)
    game = studies.PlateauTraining(recipe, budget, HERE, every=3)
    batch = torch.rand(2, 1, 16, 16), torch.rand(2, 2, 8, 8)
    used = []
    for index in range(15):
        used.append(game.is_second(index))
        game.step(batch, index)
    assert used == [False] * 9 + [True] * 6, "three files without a fall: the first is the best"
    assert "plateau" in game.network.state_dict(), "a checkpoint knows it"


def test_the_printed_loss_is_a_kind_of_training():
    assert studies.KINDS["literal"].second_loss is lesson.literal_loss
    assert lesson.PatchTraining.second_loss is lesson.log_loss


@pytest.mark.parametrize("size", [(30, 33), (64, 64), (5, 7)])
def test_the_global_network_takes_any_size(size):
    network = studies.GlobalLocal(lesson.Recipe(4)).eval()
    assert network.paint(torch.rand(1, 1, *size)).shape == (1, 2, *size)


def test_the_global_network_overfits_four_pictures_and_its_norms_learn(scenes):
    rgb = color.as_rgb(scenes.train.spread(4).pictures)[..., ::2, ::2]
    y, chroma = lesson.grey_level(color.rgb_to_lab(rgb)[:, :1]), lesson.chroma_of(rgb)
    game = studies.WholeTraining(lesson.Recipe(8), lesson.Budget(0, 999, 4, 32), HERE)
    assert training.norms_that_sleep(game.network) == []

    def step(batch, index):
        game.step(batch, index)
        return {"l1": (torch.sigmoid(game.network(y).detach()) - chroma).abs().mean()}

    assert overfits(step, (y, chroma), game.network, most=400) < 0.02


@pytest.mark.parametrize("style", ["", *studies.STYLED])
def test_styles_change_colours_and_not_lightness(style, scenes):
    rgb = scenes.pictures[:8]
    lab = [color.rgb_to_lab(color.as_rgb(p)) for p in (rgb, studies.dressed(rgb, style))]
    assert (lab[0] - lab[1])[:, :1].abs().max() < 1.5  # eight bits
    moved = (lab[0] - lab[1])[:, 1:].norm(dim=1).mean()
    assert moved > 5 if style else moved == 0


# --------------------------------------------------------------------------------- measures


@pytest.mark.parametrize(("height", "width"), [(112, 168), (130, 75)])
def test_the_patch_loop_equals_the_whole_picture_on_the_inner_49(height, width):
    y = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    inside, outside, share = studies.compare_assemblies(networks(), y, 64)
    assert inside < 1e-5 < outside
    assert studies.clean_centre(56, 56).sum() == 49 * 49
    if height % 56 == width % 56 == 0:
        assert share == pytest.approx(1 - (49 / 56) ** 2)


def test_edge_agreement_tells_aligned_colour_from_shifted_colour():
    rgb = np.full((1, 32, 32, 3), 90, np.uint8)
    rgb[:, :, 16:] = (200, 60, 60)
    lab = color.rgb_to_lab(color.as_rgb(rgb))
    lab[:, 1:] = lab[:, 1:].roll(6, 3)
    shifted = color.to_pictures(color.lab_to_rgb(color.fit_gamut(lab)).clamp(0, 1))
    assert studies.edge_agreement(rgb)[0] > 0.95 > 0.6 > studies.edge_agreement(shifted)[0]


def test_a_table_knows_where_colours_are():
    train = np.full((60, 32, 32, 3), 120, np.uint8)
    train[:, :16] = (140, 170, 220)  # the sky is blue and light
    train[:, 16:] = (90, 120, 60)
    painted = studies.paint_by_table(train, train[:2])
    assert metrics.ciede2000(painted, train[:2]).max() < 2
    upside_down = train[:2, ::-1]
    assert metrics.ciede2000(studies.paint_by_table(train, upside_down), upside_down).min() > 5


def test_degraded_inputs_are_what_they_are_called(scenes):
    true = lesson.lightness_of(scenes.pictures[:2])
    assert studies.bilevel(true).unique().tolist() == [0, 100]
    assert studies.faded(true).min() >= 40 and studies.faded(true).max() <= 75
    spread = studies.equalise(studies.faded(true))
    assert spread.std() > 2 * studies.faded(true).std()
    assert len(studies.equalise(studies.bilevel(true)[:1]).unique()) == 2


def test_operations_and_parameters_are_those_of_the_papers():
    work, parameters = studies.against_iizuka()
    assert 70 < work < 80 and 0.25 < parameters < 0.35


# ----------------------------------------------------------------------------------- claims


def test_claims_point_at_what_the_studies_keep():
    claims = benches.read_claims(studies.CLAIMS)
    assert len(claims) == 20 and not any(claim.untestable for claim in claims)
    assert all(claim.untestable for claim in benches.read_claims(studies.UNTESTABLE))
    titles = {name: list(variants) for name, variants in studies.STUDIES.items()}
    titles["speed"] = ["vectorized", "whole picture", "the paper's model"]
    for path in (path for c in claims for path in (c.path, c.control) if path):
        assert path[0] == "studies" and path[2] == "variants" and path[1] in titles
        assert any(title.startswith(path[3]) for title in titles[path[1]]), path
    rows = benches.judge(claims, dict.fromkeys(titles), NAME)
    assert {row["verdict"] for row in rows} == {record.NOT_RUN}


def test_pairs_of_variants_are_compared_where_they_are_asked_for(bench):
    bench.table = {"networks": studies.STUDIES["networks"]}
    look = studies.against(("one, as wide", "two networks"))
    bench.find("networks", look=look)
    row = bench.studies["networks"]["variants"]["one, as wide"]
    assert row["minus two networks"] == row["delta_e_paired"]
    assert row["apart from two networks"]["mean"] == abs(row["delta_e_paired"]["seeds"][0])


def test_a_variant_is_a_variant_of_the_recipe():
    variant = studies.Variant(lesson.Recipe(4), lesson.Budget(1, 1))
    assert studies.changed(variant, {"radius": 0.1, "other": 1}) == replace(variant, radius=0.1)
