"""The studies of paper 03: every measure has a control, and what is alike is trained once."""

from __future__ import annotations

import json
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from colorlib import color, datasets, evidence, machine, metrics, notebooks, record, training

NAME = "studies/03_cgan_flowers"
studies = notebooks.load(NAME)
lesson = studies.LESSON
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = lesson.Recipe(width=4, critic_width=4, image_size=32)
BUDGET = lesson.Budget(1, 1, 4, jitter=0.0)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    smoke = notebooks.profile_parameters(NAME, "smoke")
    return SimpleNamespace(**own | smoke | changes)


@pytest.fixture(scope="module")
def flowers():
    return datasets.load("flowers", 32, count=60, seed=3)


@pytest.fixture(scope="module")
def controls(flowers):
    return studies.control_paintings(flowers.pictures, metrics.mean_ab(flowers.pictures))


# ----------------------------------------------------------------------------- variants and bench


def test_studies_are_what_the_parameters_and_limits_name():
    default = notebooks.parameters(NAME)["studies"].default
    assert default == list(studies.STUDIES)
    notebooks.check_values(NAME, {"studies": default})
    known = {
        f.name for kind in (lesson.Recipe, lesson.Budget, studies.Variant) for f in fields(kind)
    }
    for variants in studies.STUDIES.values():
        assert len(variants) >= 2
        assert all(set(changes) <= known for changes in variants.values())


def test_the_first_variant_is_the_lessons_way():
    P = parameters(steps=60, width=32, image_size=64, batch_size=16)
    split = {key: [48, 12] for key in ("unet_epochs", "resnet_epochs")}
    rows = lesson.plan_rows(SimpleNamespace(**vars(P) | split, authors_share=0.0), 1)
    laptop = notebooks.parameters("03_cgan_flowers")["resnet_epochs"].default
    night = notebooks.profile_parameters("03_cgan_flowers", "overnight")["resnet_epochs"]
    assert night[1] / sum(night) <= studies.CRITIC_SHARE <= laptop[1] / sum(laptop)
    own = {"norms": "resnet_gan"}
    changed = {"critic": {"lambda_l1": 10.0}, "conservative": {"objective": "l1"}}
    for study, variants in studies.STUDIES.items():
        first = studies.plan(P, next(iter(variants.values())), P.seed)
        recipe, budget = rows[own.get(study, "unet_gan")]
        assert first.recipe == lesson.replace(recipe, **changed.get(study, {})), study
        same = {"space": lesson.replace(budget, jitter=0.0)}.get(study, budget)
        assert study == "conservative" or (first.budget == same and not first.domain), study


def test_every_variant_takes_as_many_steps():
    P = parameters(steps=400)
    for variants in studies.STUDIES.values():
        for title, changes in variants.items():
            budget = studies.plan(P, changes, 1).budget
            assert budget.l1_steps + budget.steps == 400 and budget.seed == 1, title
            alone = {"l1": budget.steps == 0, "gan": budget.l1_steps == 0}
            assert alone.get(changes.get("objective"), True), title


@pytest.fixture
def bench(flowers, tmp_path):
    return studies.make_bench(parameters(), flowers, HERE, tmp_path)


def test_nothing_is_trained_twice(bench, monkeypatch):
    trained = []

    def train(name, recipe, budget, *rest):
        trained.append((recipe, budget))
        painter = studies.Painter(lesson.UNet(blocks=5, width=4))
        history = training.History(name, [1], {"l1": [0.5]}, [{"step": 1, "error": 0.01}])
        return painter, None, [history]

    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setitem(studies.STUDIES, "cyclegan", {"cGAN": {}})
    for study in ("losses", "skips", "average", "cyclegan", "conservative", "losses"):
        bench.run(study)
    assert len(trained) == 5 + 2 + 1 + 0 + 4  # with its own toss the same recipe is another network
    bench.run("space")
    bench.P.study_seeds = [0, 7]
    bench.run("space")
    assert len(trained) == 14 + 2 and [budget.seed for _, budget in trained[-2:]] == [7, 7]


def test_a_study_says_whether_its_first_variant_has_learned(bench):
    study = bench.run("losses", more={"another": studies.another_picture(bench.test.pictures)})
    assert not study["learned"] and "NOT below" in studies.sentences(study)[0]
    assert "decides nothing" in studies.sentences(study)[1]
    assert list(study["variants"])[-1] == "another" and "another" not in study["errors"]
    read = json.loads(json.dumps(study))  # as a committed record gives it back
    assert studies.sentences(read) == studies.sentences(study)
    good = study | {"learned": True}
    assert "NOT" not in studies.sentences(good)[0] and len(studies.sentences(good)) == 2


# ---------------------------------------------------------------------------- measures of 5.1, 4.3


def test_spill_sees_colour_that_runs_over_edges_and_no_pale_or_single_colour(flowers, controls):
    pictures = datasets.load("flowers", 64, count=120, seed=3).pictures
    controls = studies.control_paintings(pictures, metrics.mean_ab(pictures))
    controls["another"] = studies.another_picture(pictures)
    truth = studies.spill(pictures)
    gaps = {n: evidence.paired(studies.spill(rgb), truth) for n, rgb in controls.items()}
    assert gaps["truth, blurred colour"]["low"] > 0 and gaps["another"]["low"] > 0
    for name in ("truth at half chroma", "mean colour", "one green"):
        assert gaps[name]["low"] <= 0, name
    assert studies.spill(studies.constant(pictures, (0.0, 0.0))).max() == 0


def test_hues_are_named_as_people_name_them():
    colours = {"red": (200, 60, 40), "yellow": (250, 220, 40), "green": (60, 140, 40)}
    colours |= {"blue": (40, 120, 230)}
    for name, rgb in colours.items():
        picture = np.full((1, 1, 1, 3), rgb, np.uint8)
        assert studies.HUES[studies.hue_of(picture).item()] == name
    assert studies.hue_of(np.full((1, 1, 1, 3), 90, np.uint8)).item() == -1


def test_neither_the_mean_colour_nor_a_pale_truth_is_blind_to_rare_hues(flowers, controls):
    rgb, usual = flowers.pictures, controls["mean colour"]
    lightness, ab = color.to_network(color.as_batch(rgb))
    common = studies.hue_of(rgb) <= 3  # pink to yellow: the other hues are painted in the mean
    mean = torch.tensor(metrics.mean_ab(rgb)).view(1, 2, 1, 1) / 110
    blind = color.to_pictures(color.from_network(lightness, torch.where(common[:, None], ab, mean)))
    found = controls | {"blind": blind, "another": studies.another_picture(rgb)}
    hues = studies.error_by_hue(found, rgb, usual, rgb)
    assert len(hues) >= 5

    def ranked(name):
        return studies.rank_correlation([h["share"] for h in hues], [h[name] for h in hues])

    assert ranked("blind") < -0.5
    for name in ("mean colour", "truth at half chroma", "another"):
        assert ranked(name) >= -0.2, name


def test_green_everywhere_does_not_know_green(flowers, controls):
    truth = flowers.pictures
    known = {name: studies.knows_green(rgb, truth) for name, rgb in controls.items()}
    assert known["truth"] == 1 and known["truth at half chroma"] > 0.4
    assert abs(known["mean colour"]) < 0.05 and known["one green"] < 0.2
    assert studies.knows_green(studies.another_picture(truth), truth) < 0.3


def test_look_closer_gives_evidence_of_every_row_and_controls_that_fail(bench):
    more = studies.control_paintings(bench.test.pictures, bench.mean_ab)
    found = {"U-Net": [studies.Trained(more["truth"])] * 2}
    found |= {title: [studies.Trained(rgb)] for title, rgb in more.items()}
    rows = studies.look_closer(bench, found)
    assert rows["U-Net"]["off"]["mean"] == rows["U-Net"]["spill"]["mean"] == 0
    assert len(rows["U-Net"]["rare"]["seeds"]) == 2 and rows["one green"]["green"]["mean"] == 0
    assert rows["U-Net"]["green"]["low"] > 0 >= rows["mean colour"]["green"]["high"]


def test_the_coin_sorts_paint_into_heads_tails_between_and_neither(flowers):
    coin = datasets.coin(flowers.pictures, 0)
    middle = np.round((coin.heads.astype(float) + coin.tails) / 2).astype(np.uint8)
    tests = {"near heads": coin.heads, "near tails": coin.tails, "between": middle}
    for where, rgb in tests.items():
        assert studies.where_it_lands(rgb, coin)[where] > 0.9, where
    controls = studies.coin_controls(coin, metrics.mean_ab(coin.pictures))
    landed = {name: studies.where_it_lands(rgb, coin) for name, rgb in controls.items()}
    truth, other = landed["as the coin fell"], landed["another picture's"]
    assert truth["near heads"] > 0.2 < truth["near tails"] and truth["between"] < 0.05
    assert landed["no paint"]["neither"] > 0.95
    assert other["near heads"] + other["near tails"] < 0.5
    none = studies.where_it_lands(coin.heads, coin, least=1e9)
    assert set(none.values()) == {0.0}


def test_colourings_keep_the_split_and_have_their_own_hash(flowers):
    found = studies.colourings(flowers, 0)
    assert len(found["both"]) == 120 and len(found["both"].train) == 2 * len(flowers.train)
    assert len({each.hash for each in found.values()}) == 3
    coin = datasets.coin(flowers.pictures, 0)
    expected = color.as_batch(np.stack([coin.heads[0], coin.tails[0]]))
    assert torch.equal(found["both"].tensor([0, 60]), expected)
    assert found["heads"].test.names == flowers.test.names


def test_look_where_convicts_the_average_and_not_who_commits(flowers):
    coin = datasets.coin(flowers.pictures, 0)
    middle = np.round((coin.heads.astype(float) + coin.tails) / 2).astype(np.uint8)
    paintings = {"L1, tossed": middle, "commits": coin.pictures}
    found = {title: [studies.Trained(rgb)] for title, rgb in paintings.items()}
    rows = studies.look_where(None, found, coin)
    assert rows["L1, tossed"]["averages"]["low"] > 0.5 > rows["commits"]["averages"]["high"]
    assert rows["commits"]["commits"]["low"] > 0.5 and rows["L1, tossed"]["commits"]["mean"] == 0


# -------------------------------------------------------------------------- CycleGAN, dropout, art


def test_the_pool_gives_old_paintings_half_of_the_time_and_holds_fifty():
    torch.manual_seed(0)
    pool, old = studies.Pool(50, 1, 2), 0
    for step in range(100):
        batch = (
            torch.arange(10 * step, 10 * step + 10).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        )
        shown = pool(batch)
        assert shown.shape == batch.shape and len(pool.kept) == 50
        assert int(pool.filled) == min(50, 10 * (step + 1))
        seen = shown[:, 0, 0, 0].tolist()
        if step < 5:  # it only takes in
            assert torch.equal(shown, batch)
        old += sum(number < 10 * step for number in seen)
    assert 0.4 < old / 950 < 0.6
    assert {"kept", "filled"} == set(pool.state_dict())  # a checkpoint keeps it


def test_without_a_pool_the_critics_see_what_is_new():
    batch = torch.rand(4, 1, 2, 2)
    assert torch.equal(studies.Pool(0, 1, 2)(batch), batch)


def test_cyclegan_cycles_back_on_an_identity_and_never_pairs_a_picture_with_itself():
    cycle = studies.CycleGAN(TINY, HERE, BUDGET, domain="lab", pool=2)
    seen = []

    class Copy(nn.Module):
        def __init__(self, count):
            super().__init__()
            self.weight, self.count, self.multiple = nn.Parameter(torch.ones(1)), count, 1

        def forward(self, x):
            seen.append(x.detach())
            return (self.weight * x[:, :1]).repeat(1, self.count, 1, 1)

    cycle.modules["paint"], cycle.modules["unpaint"] = Copy(3), Copy(1)
    adam = torch.optim.Adam(cycle.modules["paint"].parameters())
    cycle.optimizers["painters"] = adam
    grey = torch.randint(0, 255, (4, 1, 32, 32), dtype=torch.uint8).expand(-1, 3, -1, -1)
    losses = cycle.step(grey, 0)
    whole = color.to_network(grey)[0]
    assert torch.equal(seen[0], whole[:2]) and torch.equal(seen[1][:, :1], whole[2:])
    # colour of grey pictures is (L, 0, 0); the copies cycle L back without error
    expected = whole[2:].abs().mean() * 2 / 3
    assert losses["cycle"] == pytest.approx(expected.item(), rel=1e-3)


def test_a_cyclegan_trains_paints_and_is_dearer(bench):
    variant = studies.plan(bench.P, studies.CYCLE, 0)
    one = bench.train("cycle", variant)
    assert one.painted.shape == bench.test.pictures.shape and len(one.histories[0].steps) == 2
    assert int(one.game.modules["pool_grey"].filled) == 8
    assert one.histories[0].validation[-1]["error"] > 0
    row = studies.look_back(bench, {"cycle": [one]})["cycle"]
    assert 1.5 < row["times"] < 4 and row["dearer"]["exact"] and row["back"] > 0


def test_ab_explains_lightness_where_a_colour_has_one_lightness():
    flat = np.full((4, 32, 32, 3), [200, 30, 30], np.uint8)
    flat[:, :, 16:] = (30, 30, 200)
    assert studies.lightness_explained_by_ab(flat) > 0.99
    greys = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 1), np.uint8).repeat(3, 3)
    assert studies.lightness_explained_by_ab(greys) < 0.1


def test_draws_differ_with_dropout_alone():
    pictures = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    torch.manual_seed(0)
    for rate, differ in ((0.5, True), (0.0, False)):
        model = lesson.UNet(blocks=5, width=4, dropout=rate)
        versions, apart = studies.draws(model, pictures, HERE, 3, 0)
        assert len(versions) == 3 and (apart > 0) == differ
        assert not any(layer.training for layer in model.modules())


def test_line_art_is_dark_at_edges_on_paper_that_can_take_a_colour():
    picture = np.full((1, 32, 32, 3), 230, np.uint8)
    picture[:, 12:20, 12:20] = 40
    drawn = studies.line_art(picture)
    assert drawn[0, 2, 2, 0] == round(0.72 * 255) and drawn.min() < 60
    assert np.ptp(drawn, axis=-1).max() == 0


# ----------------------------------------------------------------------------------- cost, claims


def trained(errors, recipe=TINY, budget=BUDGET):
    histories = []
    for key, each in errors.items():
        points = [
            {"step": 5 * (i + 1), "seconds": float(i), "error": e} for i, e in enumerate(each)
        ]
        history = training.History("x", list(range(10)), {key: [0.0] * 10}, points, 9.0)
        histories.append(history)
    return studies.Trained(None, histories, variant=studies.Variant(recipe, budget))


def test_costs_are_counted_to_the_same_error():
    one = trained({"l1": [0.9, 0.8], "critic": [0.7, 0.5]})
    l1, both = (studies.operations(TINY, 32, objective) for objective in ("l1", "both"))
    points = studies.spent(one)
    assert [point[0] for point in points] == [0.9, 0.8, 0.7, 0.5]
    assert studies.until(points, 0.75) == pytest.approx((4 * (10 * l1 + 5 * both), 9.0))
    wide = studies.operations(lesson.replace(TINY, width=8), 32, "l1")
    assert both > l1 and 2 < wide / l1 < 4


def test_the_authors_schedules_cost_what_the_design_says():
    assert studies.cost_of_schedule("unet") == pytest.approx(1.7e15, rel=0.05)
    assert studies.cost_of_schedule("resnet") == pytest.approx(11.5e15, rel=0.05)


def study(**row):
    sure = {"mean": -1.0, "low": -1.2, "high": -0.8, "seeds": [-1.0, -0.9, -1.1]}
    psnr = {"mean": 1.0, "low": 0.8, "high": 1.2, "seeds": [1.0, 1.0, 1.0]}
    rows = {"ResNet U-Net": {"delta_e_paired": sure, "psnr_paired": psnr} | row}
    return {"learned": True, "variants": rows, "origin": record.origin("smoke"), "scale": "1 %"}


def test_claims_are_read_and_point_at_what_the_studies_keep():
    claims = studies.read_claims(studies.CLAIMS)
    assert len(claims) == 12 and not any(claim.untestable for claim in claims)
    assert all(claim.untestable for claim in studies.read_claims(studies.UNTESTABLE))
    for claim in claims:
        for path in filter(None, (claim.path, claim.control)):
            assert path[0] == "studies" and path[2] == "variants"
            assert path[1] in studies.STUDIES
    trained = {title for variants in studies.STUDIES.values() for title in variants}
    assert all(claim.path[3] in trained for claim in claims)


def test_what_has_not_learned_decides_nothing_but_what_is_counted_stands():
    claims = studies.read_claims(studies.CLAIMS)
    better, (dearer, until) = claims[0], [claim for claim in claims if "cost" in claim.path]

    def verdict(claim, name, **changes):
        given = study(schedule=evidence.exact(6.9)) | changes
        return studies.judge([claim], {name: given}, NAME)[0]["verdict"]

    assert verdict(better, "generators") == record.SUPPORTED
    assert verdict(better, "generators", learned=False) == record.INCONCLUSIVE
    assert verdict(dearer, "cost", learned=False) == record.CONTRADICTED
    assert verdict(until, "cost") == record.INCONCLUSIVE  # no error was shared
    assert studies.judge([better], {"generators": None}, NAME)[0]["verdict"] == record.NOT_RUN
