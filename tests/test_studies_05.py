"""The studies of paper 05: what is alike is trained once, and every measure has a control."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colorlib import color, datasets, evidence, machine, metrics, notebooks, record, training

NAME = "studies/05_colorgan"
studies = notebooks.load(NAME)
lesson = studies.LESSON
HERE = machine.Machine(torch.device("cpu"), None, False, 1)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    smoke = notebooks.profile_parameters(NAME, "smoke")
    return SimpleNamespace(**own | smoke | changes)


def plan(changes, seed=0, known=True, **more):
    return studies.plan(parameters(steps=20), known, changes, seed, **more)


@pytest.fixture(scope="module")
def flowers():
    return datasets.load("flowers", 32, count=60, seed=3)


@pytest.fixture(scope="module")
def vgg(flowers):
    torch.manual_seed(0)
    return lesson.set_scales(lesson.Vgg(), flowers.train, HERE)


def bench_of(flowers, folder, vgg=None, **changes):
    P = parameters(**changes)
    planned = studies.partial(studies.plan, P, bool(vgg))
    return studies.make_bench(P, {"": flowers}, studies.STUDIES, HERE, vgg, folder, planned)


# ------------------------------------------------------------------------------ variants


def test_studies_are_what_the_parameters_and_limits_name():
    default = notebooks.parameters(NAME)["studies"].default
    assert default == [*studies.STUDIES, "coin", "table_1"]
    notebooks.check_values(NAME, {"studies": default})
    kinds = (lesson.Recipe, lesson.Budget, studies.Variant)
    known = {f.name for kind in kinds for f in fields(kind)} | {"share", "wider", "reseeded"}
    for variants in (*studies.STUDIES.values(), studies.COIN):
        assert len(variants) >= 2 and all(set(changes) <= known for changes in variants.values())


def test_the_first_variant_is_the_lessons_way_but_for_the_start():
    own = {key: known.default for key, known in notebooks.parameters("05_colorgan").items()}
    P = SimpleNamespace(**vars(parameters(width=16, image_size=64, batch_size=16)) | {"steps": 20})
    recipe, budget = lesson.plan(SimpleNamespace(**own | {"epochs": [0, 20], "seed": 5}), 1)
    ours = studies.Variant(recipe, replace(budget, gan_rate=budget.rate))
    for variants in studies.STUDIES.values():
        assert studies.plan(P, True, next(iter(variants.values())), 5) == ours
    again = studies.plan(P, True, studies.STUDIES["losses"]["again, from other seeds"], 5)
    assert again.recipe == recipe and again.budget == replace(ours.budget, seed=105)
    first = studies.plan(P, True, studies.STUDIES["help"]["L1 first, as the lesson"], 5)
    assert (
        first.budget == lesson.plan(SimpleNamespace(**own | {"epochs": [16, 4], "seed": 5}), 1)[1]
    )


def test_every_variant_takes_as_many_steps_and_without_a_vgg_its_terms_are_off():
    for variants in (*studies.STUDIES.values(), studies.COIN):
        for title, changes in variants.items():
            budget = plan(changes).budget
            assert budget.l1_steps + budget.steps == 20, title
    off = plan({}, known=False).recipe
    assert (off.lambda_p, off.lambda_s) == (0, 0) and plan({}).recipe.lambda_p == 3
    assert plan({"features": "random"}, known=False).recipe.lambda_p == 3
    assert plan({"wider": 2.0}).recipe.width == 8


def test_nothing_is_trained_twice(flowers, tmp_path, monkeypatch):
    trained, bench = [], bench_of(flowers, tmp_path)

    def train(name, recipe, budget, *rest):
        trained.append(recipe)
        history = training.History(name, [1], {"L_1": [0.5]}, [{"step": 1, "error": 0.01}])
        return {"colorgan": lesson.build_model(recipe)}, None, [history]

    monkeypatch.setattr(lesson, "train", train)
    for study in ("losses", "skips", "critic_steps", "losses"):
        bench.run(study)
    # without a VGG, what leaves L_p or L_s out is the first variant, and L1 alone is without L_g
    assert len(trained) == 5 + 1 + 2


# ------------------------------------------------------------------------------ ways to train


def test_penalties_hold_what_they_say():
    weight = torch.zeros(1, 3, 8, 8)
    weight[0, 1, 0, 0] = 2.0

    def critic(x):  # two scores a picture, one of slope 2 in one pixel, the other flat
        return torch.stack([(x * weight).sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)[:, None, None]

    real, fake = torch.rand(2, 8, 3, 8, 8)
    assert lesson.penalty(critic, real, fake).item() == pytest.approx(0, abs=1e-4)  # mean slope: 1
    torch.manual_seed(0)
    found = {round(studies.PatchHeld.penalty(critic, real, fake).item(), 2) for _ in range(20)}
    assert found == {10.0}  # slope 2 or slope 0: either is 1 off
    places = studies.PlaceHeld.penalty(critic, real, fake).item()
    assert places == pytest.approx(10.0, abs=1e-3)  # 2 at one pixel and 0 at all others


def test_only_the_nearest_draw_learns_and_a_distribution_gives_samples():
    flat = torch.full((4, 3, 32, 32), 90, dtype=torch.uint8)
    for kind in ("nearest", "distribution"):
        variant = plan(studies.COIN[next(t for t in studies.COIN if kind in t)])
        game = studies.KINDS[kind](variant.recipe, HERE, None, variant.budget)
        losses = [next(iter(game.step(flat, i).values())).item() for i in range(15)]
        assert losses[-1] < losses[0], kind
    model = game.modules["generator"].eval()
    x = torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        model.generator.paint.weight.zero_()
        model.generator.paint.bias.fill_(-1e4)
        model.generator.paint.bias[[10, 200]] = 0.0  # two colours, equally likely
        seen = {tuple(model(x)[0][0, :, 5, 5].tolist()) for _ in range(30)}
    assert seen == {tuple(model.grid[i].tolist()) for i in (10, 200)}
    assert lesson.paints_versions(model)


def test_a_rival_trains_for_as_many_steps_and_paints(flowers, tmp_path):
    bench = bench_of(flowers, tmp_path, steps=4)
    variant = bench.plan({"kind": "unet"}, 0)
    one = bench.train("rival", variant)
    assert one.painted.shape == flowers.test.pictures.shape
    assert sum(len(history.steps) for history in one.histories) == 4
    assert one.histories[-1].validation[-1]["error"] > 0


# ------------------------------------------------------------------------------ measures


def test_what_the_branch_could_have_learned(flowers, vgg):
    torch.manual_seed(0)
    model = lesson.build_model(plan({}).recipe)
    gaps = studies.measure_branch(model, vgg, flowers.pictures, HERE, 0)
    assert len(gaps) == len(flowers) // 2 and gaps.mean() > 0
    features = vgg(color.as_batch(flowers.pictures) / 255)["relu3_4"]
    known = lesson.F.adaptive_avg_pool2d(features, 4).tensor_split(2)[0].median(0).values
    model.branch.forward = lambda noise: known.expand(len(noise), -1, -1, -1)
    assert studies.measure_branch(model, vgg, flowers.pictures, HERE, 0).mean() == 0


def test_a_random_vgg_is_the_same_every_time_and_tells_pictures_apart(flowers):
    one, other = studies.random_vgg(), studies.random_vgg()
    batch = color.as_batch(flowers.pictures[:2]) / 255
    features, same = one(batch)["relu3_4"], other(batch)["relu3_4"]
    assert torch.equal(features, same)
    assert (features[0] - features[1]).abs().mean() > 0.2 * features.mean()


def test_one_colour_everywhere_and_the_true_one_are_the_ends_of_the_error(flowers, tmp_path):
    bench, truth = bench_of(flowers, tmp_path), flowers.test.pictures
    found = {
        t: [studies.Trained(p)]
        for t, p in (("truth", truth), ("mean", studies.even(truth, bench.mean_ab)))
    }
    bench.scores["losses"] = bench._scored(found, None)
    ends, floors = bench.ends("losses", found)
    assert ends["truth"][0] == 0 < floors["constant"] == pytest.approx(ends["mean"][0], abs=0.05)


def test_noise_is_measured_with_its_controls(flowers, vgg, tmp_path):
    bench = bench_of(flowers, tmp_path, vgg)
    truth = flowers.test.pictures
    models = [lesson.build_model(plan(c).recipe) for c in ({}, studies.LOUD, {"noise": "none"})]
    found = {
        str(i): [studies.Trained(truth, painter=m.eval(), variant=plan({}))]
        for i, m in enumerate(models)
    }
    found["mean colour"] = [studies.Trained(np.zeros_like(truth) + 128)]
    loud, vector = (t for t in studies.STUDIES["noise"] if "kept, without L_s" in t)
    errors = np.ones((1, len(truth)))
    bench.scores["noise"] = {loud: {"delta_e": errors}, vector: {"delta_e": 3 * errors}}
    found = {loud: found.pop("1"), vector: found.pop("2"), **found}
    rows = studies.look_at_noise(bench, {"0": found.pop("0"), **found})
    assert rows["0"]["apart"]["mean"] < rows[loud]["apart"]["mean"] and "apart" not in rows[vector]
    assert rows["0"]["vivid"]["mean"] == 0 < rows["mean colour"]["vivid"]["mean"]
    assert "own_minus_median" in rows[loud]
    assert rows[vector]["minus_map"]["mean"] == 2


def test_random_colours_are_vivid_in_another_way(flowers):
    truth = flowers.test.pictures
    rgb = studies.random_colours(truth, 0)
    bench = SimpleNamespace(test=flowers.test)
    rows = studies.look_vivid(
        bench, {t: [studies.Trained(p)] for t, p in (("r", rgb), ("t", truth))}
    )
    assert rows["t"]["off_words"] == "0.00" < rows["r"]["off_words"]
    assert rows["t"]["vivid"]["mean"] < 0 == rows["r"]["vivid"]["mean"]  # beside the first
    assert metrics.ciede2000(rgb, truth).mean() > 10


def test_a_winning_critic_of_the_printed_game_has_no_slope_left(flowers):
    rgb, kept = flowers.train.spread(8).pictures, {}
    for kind in ("saturating", "penalty"):
        variant = plan({"critic": kind, "critic_rate": 5e-3})
        torch.manual_seed(0)
        game = lesson.Game(variant.recipe, HERE, None, variant.budget)
        kept[kind], won = studies.slope_kept(game, rgb, 60)
        assert won > 0.9, kind
    assert kept["saturating"] < 0.2 < kept["penalty"] <= 1


def test_shaking_is_what_a_line_does_not_explain():
    def history(errors):
        return training.History("x", validation=[{"error": e} for e in errors])

    smooth = 0.147 + 0.035 * np.exp(-np.arange(25, 201, 25) / 45)
    shaken = smooth + 0.01 * np.resize([1, -1], 8)
    assert studies.shaking(history(smooth)) < 0.002
    assert studies.shaking(history(shaken)) > 0.04


# ------------------------------------------------------------------------------ the coin, table 1


def test_the_coin_is_judged_against_fair_tosses_and_its_pictures_are_all_that_is_learned(
    flowers, tmp_path
):
    P = parameters(coin_steps=2)
    bench, coin = studies.coin_bench(P, flowers, HERE, None, tmp_path)
    assert len(bench.test) == len(coin.up) == 8
    assert np.array_equal(bench.test.pictures, coin.heads)
    variant = bench.plan({}, 0)
    assert variant.toss == "both" and bench.plan({"toss": "heads"}, 0).toss == "heads"
    assert (variant.budget.jitter, variant.budget.crop) == (0, 1)
    one = bench.train("coin", variant)
    found = {"ColorGAN": [one], "tosses": [studies.Trained(coin.heads)]}
    rows = studies.look_at_draws(bench, found, coin)
    assert rows["tosses"]["of_tosses"]["mean"] == 1
    assert sum(rows["ColorGAN"][key] for key in ("both", "one", "neither")) == pytest.approx(1)
    heads = studies.Trained(coin.heads, [training.History("x", validation=[{"error": 0.1}])])
    bench.scores["coin"] = bench._scored({"one truth": [heads]}, coin.heads)
    ends, floors = bench.ends("coin", {"one truth": [heads]})
    assert ends["one truth"] == [0] and floors["constant"] > 0 < floors["grey"]


def test_every_protocol_stands_once_with_its_floor(flowers):
    torch.manual_seed(0)
    model = lesson.build_model(plan({}).recipe).eval()
    truth = flowers.pictures[:6].copy()
    assert len(studies.protocol_rows(truth, model, HERE)) == 2  # none is grey
    truth[0] = 90
    rows = studies.protocol_rows(truth, model, HERE)
    assert len({(row["L"], row["grey pictures"]) for row in rows}) == len(rows) == 4
    house = metrics.evaluate({}, truth, (5.0, 10.0)).rows["grey_floor"]
    first = rows[0]
    assert (first["L"], first["grey pictures"]) == ("true", "out")
    assert first["grey, mean dB"] == pytest.approx(house["psnr"], abs=1e-3)
    assert first["grey, pooled dB"] == pytest.approx(house["psnr_pooled"], abs=1e-3)
    assert rows[1]["grey, mean dB"] > house["psnr"]  # the grey one is perfect
    bare = studies.protocol_rows(truth)
    assert [row["grey, SSIM"] for row in bare] == [row["grey, SSIM"] for row in rows]
    assert not any(key.startswith("ours") for row in bare for key in row)


def test_rec_601_is_another_lightness():
    blue = np.zeros((1, 8, 8, 3), np.uint8) + np.array([20, 40, 230], np.uint8)
    gap = studies.rec_601(blue) - color.to_network(color.as_batch(blue))[0]
    assert 50 * gap.abs().min() > 2


# ------------------------------------------------------------------------------ claims


def test_claims_are_read_and_point_at_what_the_studies_keep():
    claims = studies.read_claims(studies.CLAIMS)
    assert len(claims) == 14 and not any(claim.untestable for claim in claims)
    assert all(claim.untestable for claim in studies.read_claims(studies.UNTESTABLE))
    table = studies.STUDIES | {"coin": studies.COIN}
    more = {"random colours", "mean colour"}
    for claim in claims:
        for path in filter(None, (claim.path, claim.control)):
            titles = [*table[path[1]], *more]
            assert path[0] == "studies" and any(title.startswith(path[3]) for title in titles), path


def test_diverse_is_judged_by_the_coin():
    claim = studies.read_claims(studies.CLAIMS)[0]
    none = {"of_tosses": evidence.measured([0.0, 0.0, 0.0])}

    def verdict(*shares, learned=True):
        rows = {"ColorGAN": {"of_tosses": evidence.measured(shares)}, "no branch": none}
        study = {"learned": learned, "variants": rows, "origin": record.origin("smoke")}
        return studies.judge([claim], {"coin": study}, NAME)[0]["verdict"]

    assert verdict(0.9, 0.8, 0.95) == record.SUPPORTED
    assert verdict(0.0, 0.0, 0.1) == record.CONTRADICTED
    assert verdict(0.9, 0.8) == verdict(0.9, 0.8, 0.9, learned=False) == record.INCONCLUSIVE
