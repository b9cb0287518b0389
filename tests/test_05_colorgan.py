"""The definitions of notebook 05, as the notebook itself uses them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from learning import overfits
from torch import nn

from colorlib import adversarial, color, datasets, evidence, machine, metrics, notebooks, training

paper = notebooks.load("05_colorgan")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, critic_width=4, noise_channels=4, feature_channels=32, image_size=32)
RATES = {"generator": 1e-3, "critic": 1e-3}


def tiny_vgg(width=4):
    return paper.load_vgg("random", width=width)


def game(vgg=None, **changes):
    torch.manual_seed(0)
    return paper.Game(paper.replace(TINY, **changes), HERE, vgg or tiny_vgg(), RATES)


def small(**changes):
    torch.manual_seed(0)
    return paper.build_model(paper.replace(TINY, **changes)).eval()


def batch(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def pictures(count=12, size=32, seed=1):
    return datasets.load("things", size, count=count, seed=seed)


def greys(count, height, width, seed=0):
    return 100 * torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


# --- the perceptual network --------------------------------------------------------------------


def test_vgg_is_torchvisions_up_to_relu4_3():
    from torchvision.models import vgg

    theirs = vgg.vgg16(weights=None).features[:23].eval()
    state = {f"features.{k}": v for k, v in theirs.state_dict().items()}
    ours = paper.vgg_from(state, "torchvision", "made up")
    assert ours.compared == ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    rgb = torch.rand(1, 3, 32, 32)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in paper.INPUTS["torchvision"])
    torch.testing.assert_close(ours(rgb)["relu4_3"], theirs((rgb - mean) / deviation))


def vgg19_state(last=16, seed=0):
    """VGG19 cut off after `features.last`, with made-up weights."""
    widths = [64, 64, 128, 128, 256, 256, 256, 256, 512]
    numbers = [0, 2, 5, 7, 10, 12, 14, 16, 19]
    generator, state, c_in = torch.Generator().manual_seed(seed), {}, 3
    for number, width in zip(numbers, widths, strict=True):
        if number <= last:
            shape = (width, c_in, 3, 3)
            state[f"features.{number}.weight"] = 0.05 * torch.randn(shape, generator=generator)
            state[f"features.{number}.bias"] = torch.zeros(width)
        c_in = width
    return state


def test_a_cut_off_vgg19_serves_the_layers_it_has(tmp_path):
    torch.save(vgg19_state(), tmp_path / "vgg19.pth")
    vgg = paper.load_vgg("file", str(tmp_path / "vgg19.pth"), "caffe")
    assert vgg.compared == ["relu1_2", "relu2_2", "relu3_3"]
    assert (vgg.target, vgg.channels, vgg.stride) == ("relu3_4", 256, 4)
    said = paper.describe_vgg(vgg, layers=True)
    assert "vgg19.pth" in said and "relu3_4 pooled to 1/8, 256 channels" in said


def test_caffe_weights_get_bgr_in_0_to_255_minus_means():
    vgg = paper.vgg_from(vgg19_state(last=2), "caffe", "made up")
    vgg.layers = nn.ModuleDict({"relu1_2": nn.Identity()})  # shows what the first layer is given
    rgb = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    expected = torch.tensor([0 - 103.939, 127.5 - 116.779, 255 - 123.68])
    torch.testing.assert_close(vgg(rgb, ["relu1_2"])["relu1_2"].flatten(), expected)


@pytest.mark.parametrize(("key", "value"), [("features.5.bias", None), ("features.7.weight", 0)])
def test_files_that_are_no_whole_vgg_are_named(tmp_path, key, value):
    state = vgg19_state() | {key: torch.zeros(128, 64, 3, 3)}
    if value is None:
        del state[key]
    torch.save(state, tmp_path / "v.pth")
    with pytest.raises(training.WeightsError, match=r"v\.pth: not a whole VGG"):
        paper.load_vgg("file", str(tmp_path / "v.pth"))


def test_without_weights_there_is_no_perceptual_loss_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    vgg = paper.load_vgg("auto", width=4)
    assert "L_p left out" in paper.describe_vgg(vgg) and vgg.compared == []
    losses = game(vgg).step(batch(), 0)
    assert set(losses) == {"critic", "penalty", "L_g", "L_1", "L_s"}


# --- networks ----------------------------------------------------------------------------------


def test_colorgan_at_the_papers_size():
    model = paper.ColorGAN().to("meta").eval()  # shapes without numbers
    lightness = torch.zeros(1, 1, 256, 256, device="meta")
    latent, passed = model.encoder(lightness)
    ab, mapped = model(lightness)
    assert latent.shape == mapped.shape == (1, 512, 32, 32)
    assert [tuple(p.shape[1:]) for p in passed] == [(64, 256, 256), (128, 128, 128), (256, 64, 64)]
    assert ab.shape == (1, 2, 256, 256)
    assert isinstance(model.fit, nn.Identity)


def test_the_mapped_noise_is_added_to_the_latent_map():
    model, seen = small(), {}
    model.generator.register_forward_hook(lambda m, args, out: seen.update(latent=args[0]))
    x = torch.randn(1, 1, 32, 32)
    noise = model.draw_noise(x)
    with torch.no_grad():
        _, mapped = model(x, noise)
        latent, _ = model.encoder(x)
    torch.testing.assert_close(seen["latent"], latent + mapped)
    torch.testing.assert_close(mapped, model.branch(0.1 * noise))


@pytest.mark.parametrize("skips", [True, False])
def test_encoder_features_reach_the_generator_only_if_passed(skips):
    model = small(skips=skips)
    x = torch.randn(1, 1, 32, 32)
    latent, passed = model.encoder(x)
    with torch.no_grad():
        one = model.generator(latent, passed)
        other = model.generator(latent, [torch.zeros_like(p) for p in passed])
    assert torch.equal(one, other) == (not skips)


def test_noise_is_all_that_differs_between_draws():
    x, model, without = torch.randn(1, 1, 32, 32), small(), small(branch=False)
    with torch.no_grad():
        assert torch.equal(model(x, sigma=0.0)[0], model(x, sigma=0.0)[0])
        assert not torch.equal(model(x)[0], model(x)[0])
        assert torch.equal(without(x)[0], without(x)[0]) and without(x)[1] is None


def test_first_weights_decide_how_much_noise_arrives():
    some, added = pictures(), {}
    for keeps in (False, True):
        torch.manual_seed(0)
        model = paper.ColorGAN(4, 4, 32, keeps=keeps)
        added[keeps] = paper.latent_shares(model, some, "cpu", 0)["added_over_draws"]
    assert 0 < added[False] < 0.02 and 0.05 < added[True] < 0.2  # sigma is 0.1


def test_the_critic_is_patchgan_and_no_picture_sees_another():
    assert adversarial.receptive_field(paper.Critic()) == 70
    torch.manual_seed(0)
    x, critic = torch.randn(3, 3, 32, 32), paper.Critic(4)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))


# --- colouring ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (33, 64), (150, 100)])
def test_colorize_keeps_size_and_lightness(height, width):
    grey = greys(2, height, width)
    rgb = paper.colorize(small(), grey)
    assert rgb.shape == (2, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_draws_are_versions_that_a_seed_fixes():
    model, grey = small(sigma=5.0), greys(2, 40, 32)
    versions = paper.colorize(model, grey, draws=3, seed=7)
    assert versions.shape == (3, 2, 3, 40, 32)
    assert torch.equal(versions, paper.colorize(model, grey, draws=3, seed=7))
    assert torch.equal(versions[0], paper.colorize(model, grey, seed=7))
    assert not torch.equal(versions[0], versions[1])
    assert not torch.equal(versions[0], paper.colorize(model, grey, seed=8))
    for version in versions:
        assert (color.rgb_to_lab(version)[:, :1] - grey).abs().max() < 0.01


def test_weights_come_back_and_those_of_others_are_refused(tmp_path):
    info = {"notebook": paper.NAME, "build": paper.asdict(TINY), "vgg": tiny_vgg().origin}
    model, file, grey = small(), tmp_path / "colorgan.safetensors", greys(1, 32, 32)
    training.save_weights(file, model, info)
    again = paper.read_row(file, tiny_vgg(), HERE)
    assert torch.equal(paper.colorize(model, grey, 2), paper.colorize(again, grey, 2))
    with pytest.raises(notebooks.ParameterError, match=r"32 channels; this run has .* 64"):
        paper.read_row(file, tiny_vgg(8), HERE)
    training.save_weights(file, model, {"notebook": "03_cgan_flowers", "build": {}})
    with pytest.raises(training.WeightsError, match="weights of 03_cgan_flowers"):
        paper.load_model(file)


# --- losses and steps --------------------------------------------------------------------------


def test_wasserstein_loss_and_penalty_by_hand():
    def mean_of_ab(x):  # slope: 2 * 64 numbers of 1/128 each
        return x[:, 1:].mean((1, 2, 3), keepdim=True)

    lightness, truth = torch.zeros(2, 1, 8, 8), torch.ones(2, 2, 8, 8)
    assert paper.wasserstein_loss(mean_of_ab, lightness, truth).item() == -1
    loss, penalty = paper.critic_loss(mean_of_ab, lightness, truth, 0 * truth)
    assert loss.item() == -1
    assert penalty.item() == pytest.approx(10 * (1 / math.sqrt(128) - 1) ** 2, rel=1e-4)
    assert paper.critic_loss(mean_of_ab, lightness, truth, 0 * truth, "clipping")[1].item() == 0


def test_the_perceptual_loss_is_zero_on_the_truth_and_differentiable_through_lab():
    g, rgb = game(lambda_g=0.0, lambda_s=0.0), batch()
    lightness, truth = color.to_network(rgb)
    known = (g, lightness, truth, paper.true_features(g, rgb))
    assert paper.equation_1(*known, truth, None)["L_p"].item() < 0.02
    grey = (0 * truth).requires_grad_()
    (gradient,) = torch.autograd.grad(paper.equation_1(*known, grey, None)["L_p"], grey)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_features_of_true_pictures_are_computed_once_per_batch():
    g, calls, rgb = game(critic_steps=2), [], batch()
    g.vgg.register_forward_hook(lambda m, args, _: calls.append(torch.equal(args[0], rgb / 255)))
    losses = g.step(rgb, 0)
    assert calls == [True, False]  # once for the truth, once for the painting
    assert set(losses) == {"critic", "penalty", "L_g", "L_p", "L_1", "L_s"}


def test_eq_1_is_the_weighted_sum_and_its_step_leaves_the_critic_alone():
    g, again, seen = game(), game(), {}
    g.optimizers["generator"].step = lambda: seen.update(
        {n: p.grad.clone() for n, p in g.modules["generator"].named_parameters()}
    )
    g.optimizers["critic"].step = lambda: None
    torch.manual_seed(3)
    g.step(batch(), 0)
    for one, other in zip(*(x.modules["critic"].parameters() for x in (g, again)), strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(3)
    lightness, truth = color.to_network(batch())
    painted = paper.predict(again.modules["generator"], lightness)
    features = paper.true_features(again, batch())
    terms = paper.equation_1(again, lightness, truth, features, *painted)
    (0.1 * terms["L_g"] + 100 * terms["L_p"] + 10 * terms["L_1"] + terms["L_s"]).backward()
    for name, parameter in again.modules["generator"].named_parameters():
        torch.testing.assert_close(parameter.grad, seen[name], rtol=1e-4, atol=1e-6)


def test_clipping_bounds_every_weight():
    g = game(critic="clipping")
    g.step(batch(), 0)
    assert max(p.abs().max().item() for p in g.modules["critic"].parameters()) <= paper.CLIP


def test_l_s_does_not_pull_on_the_painting_nor_on_the_encoder():
    g = game(lambda_g=0.0, lambda_p=0.0, lambda_l1=0.0)
    assert paper.pulls(g, batch()) == {"L_s": 0.0}
    g.step(batch(), 0)
    encoder, branch = g.modules["generator"].encoder, g.modules["generator"].branch
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in branch.parameters())


def test_l_s_alone_drives_the_branch_to_the_median():
    g, rgb = game(lambda_g=0.0, lambda_p=0.0, lambda_l1=0.0), batch(8)
    features = torch.nn.functional.adaptive_avg_pool2d(
        paper.true_features(g, rgb)["relu4_3"], (4, 4)
    )
    best = (features.median(0).values - features).abs().mean().item()
    g.optimizers["generator"] = torch.optim.Adam(g.modules["generator"].parameters(), lr=5e-3)
    losses = [g.step(rgb, i)["L_s"].item() for i in range(150)]
    assert losses[0] > 1.15 * best  # there was something to learn
    assert best <= losses[-1] < 0.5 * (losses[0] + best)


def test_the_critic_joins_when_it_is_due():
    some = pictures(16).train
    budget = paper.Budget(4, 4, 1e-3, 1e-3, critic_from=0.5)
    _, _, history = paper.train("late", TINY, budget, some, HERE, tiny_vgg())
    assert np.isnan(history.losses["critic"]).tolist() == [True, True, False, False]
    assert np.isfinite(history.losses["L_1"]).all()


def test_the_network_overfits_four_pictures():
    torch.manual_seed(0)
    recipe = paper.Recipe(width=16, feature_channels=32, lambda_g=0.0, lambda_s=0.0, branch=False)
    vgg = paper.load_vgg("none", width=4)
    colours = paper.Game(recipe, HERE, vgg, {"generator": 5e-3})
    rgb, generator = pictures(40).spread(4).tensor(), colours.modules["generator"]
    assert overfits(colours.step, rgb, generator, key="L_1", below=0.02) < 0.02


def test_every_batch_norm_learns_also_after_a_validation():
    some = pictures(16)
    budget = paper.Budget(3, 4, 1e-3, 1e-3)
    rest = (some.train, HERE, tiny_vgg(), None, True, some.train, 3)
    painter, trained, history = paper.train("norms", TINY, budget, *rest)
    assert len(history.validation) == 3 and not painter.training
    norms = [m for m in trained.modules["generator"].modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 14 and all(norm.training for norm in norms)
    assert not training.norms_that_sleep(trained.modules["generator"])


# --- data, table 1, diversity ------------------------------------------------------------------


def voc_like(count, seed=0):
    random = np.random.default_rng(seed)
    return datasets.PictureSet(
        "voc2012", 1, "crop", random.integers(0, 255, (count, 1, 1, 3), np.uint8),
        [f"voc2012/{i:05d}.jpg" for i in range(count)],
        [f"{i * 2654435761 % 2**32:040x}" for i in range(count)],
        [(1, 1)] * count, np.full(count, 1, np.uint8),
    )  # fmt: skip


def test_the_papers_split_is_15413_and_1712_whatever_the_order_of_the_files():
    everything = voc_like(17125)
    train, validation, test = paper.split_set(everything, "paper", 0)
    assert (len(train), len(test)) == (15413, 1712)
    assert set(train.names).isdisjoint(test.names) and set(validation.names) <= set(train.names)
    mixed = everything.subset(np.random.default_rng(1).permutation(17125))
    assert set(paper.split_set(mixed, "paper", 0)[2].names) == set(test.names)
    assert set(paper.split_set(everything, "paper", 1)[2].names) != set(test.names)


def test_what_stands_in_for_your_picture_is_never_a_training_picture():
    for name in paper.EXAMPLES:
        folder, file = name.split("/")
        assert f"{name}.jpg" in datasets.load(folder, 8).test.names, file
    own, credit = paper.own_pictures([], [f"{paper.EXAMPLES[0]}.jpg"])
    assert list(own) == [f"{paper.EXAMPLES[1]} (embedded)"] and credit


def test_every_protocol_is_scored_once_with_its_floor():
    truth = pictures(6).pictures.copy()
    assert len(paper.protocol_rows(small(), truth, (5.0, 10.0), HERE, 0)) == 4  # none is grey
    truth[0] = 90  # a true-grey picture
    rows = paper.protocol_rows(small(), truth, (5.0, 10.0), HERE, 0)
    found = {(r["grey pictures"], r["PSNR"], r["L"]): r["values"]["grey_floor"][0] for r in rows}
    assert len(rows) == len(found) == 8
    house = metrics.evaluate({}, truth, (5.0, 10.0)).rows["grey_floor"]
    assert found["out", "mean", "true"] == pytest.approx(house["psnr"], abs=1e-3)
    assert found["out", "pooled", "true"] == pytest.approx(house["psnr_pooled"], abs=1e-3)
    assert found["in", "mean", "true"] > house["psnr"]  # the grey one is perfect
    gaps = [abs(found[g, "mean", s] - found[g, "pooled", s]) for g, _, s in found]
    assert paper.moved_by(rows, "PSNR") == pytest.approx(max(gaps))
    assert paper.moved_by(rows, "side") == 0


def test_rec_601_paints_from_the_grey_that_was_given():
    truth = np.zeros((2, 32, 32, 3), np.uint8) + np.array([20, 40, 230], np.uint8)
    scored = paper.painted_from(small(), truth, (5.0, 10.0), HERE, 0, paper.with_other_lightness)
    given = paper.with_other_lightness(truth)
    expected = paper.colorize(small(), (given + 1) * 50, seed=0)
    assert np.array_equal(scored["ours"], color.to_pictures(expected))
    for painted in scored.values():
        assert 50 * (paper.true_lightness(painted) - given).abs().max() < 0.6  # 8 bits
        assert 50 * (paper.true_lightness(painted) - paper.true_lightness(truth)).abs().min() > 2


def test_the_sweep_sees_noise_that_is_there():
    model, some = small(sigma=1.0), pictures(6)
    rows = paper.sigma_sweep(model, some, HERE, 3, 0, (0.0, 0.0), sigmas=(0.0, 1.0, 100.0))
    assert rows["0"]["distance"] == 0
    assert 0 < rows["1"]["distance"] < rows["100"]["distance"]
    assert rows["100"]["low"] <= rows["100"]["distance"] <= rows["100"]["high"]


def test_truths_found_by_hand():
    rgb = np.zeros((1, 8, 8, 3), np.uint8) + np.array([170, 110, 60], np.uint8)
    coin = datasets.coin(rgb)
    heads, tails = (110 * color.to_network(color.as_batch(p))[1] for p in (coin.heads, coin.tails))
    assert paper.truths_found(torch.stack([heads, tails]), coin)["both"] == 1
    assert paper.truths_found(torch.stack([heads, heads]), coin)["one"] == 1
    assert paper.truths_found(torch.stack([(heads + tails) / 2, 0 * heads]), coin)["neither"] == 1
    assert paper.distance_between(torch.stack([heads, tails, tails]))[0] > 25  # two pairs of three


def test_what_the_branch_could_have_learned():
    some, vgg = pictures(24), tiny_vgg()
    paper.set_scales(vgg, some, HERE)
    found = paper.measure_branch(small(), vgg, some, HERE, 0)
    scores = found["L_s"]
    assert scores[paper.MEDIAN] < min(scores[paper.NONE], scores[paper.OWN], scores[paper.OTHER])
    assert scores["control: its own features"] == 0
    assert scores["control: another picture's features as the map"] > 0
    assert found["branch_minus_median"]["mean"] > 0 and 0 < found["zeros"] < 1


def test_a_branch_that_knew_the_picture_would_be_noticed(monkeypatch):
    some, vgg, gaps = pictures(48), tiny_vgg(), {}
    paper.set_scales(vgg, some, HERE)
    features = paper.target_features(vgg, some, HERE, (4, 4))
    middle = features.median(0, keepdim=True).values
    noise = 0.05 * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    for part in (0.1, 0.0):
        maps = middle + part * (features - middle) + noise
        monkeypatch.setattr(paper, "draw_maps", lambda *a, maps=maps, **k: maps)
        gaps[part] = paper.measure_branch(small(), vgg, some, HERE, 0)["own_minus_other"]
    assert gaps[0.1]["high"] < 0 and gaps[0.0]["low"] < 0 < gaps[0.0]["high"]


# --- studies and claims ------------------------------------------------------------------------


def bench(tmp_path, **changes):
    defaults = {k: p.default for k, p in notebooks.parameters(paper.NAME).items()}
    values = dict(
        data="things", image_size=32, pictures=40, width=4, study_width=4, critic_width=4,
        noise_channels=4, batch_size=4, study_steps=2, study_seeds=[0, 1], draws=2,
    )  # fmt: skip
    P = SimpleNamespace(**defaults | values | changes)
    return paper.Workbench(P, tiny_vgg(), HERE, tmp_path)


def test_a_variant_is_trained_once_and_a_part_that_is_off_is_no_variant(tmp_path):
    b = bench(tmp_path, lambda_s=0.0)
    variants = {
        "whole": b.recipe,
        "no branch": paper.replace(b.recipe, branch=False),
        "without L_s": paper.replace(b.recipe, lambda_s=0.0),
    }
    study, _ = paper.run_study(b, variants)
    assert list(study["variants"]) == ["whole", "no branch"] and len(b.trained) == 4
    paper.run_study(b, {"again": b.recipe}, paper.measure_draws)
    assert len(b.trained) == 4
    assert study["variants"]["whole"]["delta_e_paired"]["mean"] == 0
    assert len(study["variants"]["no branch"]["delta_e_paired"]["seeds"]) == 2
    (tmp_path / "checkpoints" / "colorgan.checkpoint.pth").write_bytes(b"")
    b.tidy()
    assert [f.name for f in b.folder.iterdir()] == ["colorgan.checkpoint.pth"]


def test_the_coin_is_judged_against_fair_tosses(tmp_path):
    study = paper.run_coin(bench(tmp_path))
    first, *_, last = study["variants"].values()
    assert last["both"] == 0 and last["distance"] == 0  # without a branch there is one version
    assert sum(first[key] for key in ("both", "one", "neither")) == pytest.approx(1)
    claim, known = paper.CLAIMS_ON_NOISE[0], {"studies": {"coin": study}}
    first["of_fair_tosses"] = evidence.measured([0.9, 0.8, 0.95])
    assert evidence.judge([claim], known, paper.NAME)[0]["verdict"] == "supported"
    first["of_fair_tosses"] = evidence.measured([0.0, 0.0, 0.1])
    assert evidence.judge([claim], known, paper.NAME)[0]["verdict"] == "contradicted"


def test_the_gradient_of_a_critic_that_wins_vanishes_only_for_the_printed_cross_entropy():
    kept = {}
    for kind in ("saturating", "penalty"):
        g = game(critic=kind, lambda_l1=0.0)
        g.optimizers["critic"].param_groups[0]["lr"] = 5e-3
        kept[kind] = paper.slope_kept(g, batch(8), 60)
    assert kept["saturating"] < 0.1 < kept["penalty"]


def test_the_generators_of_03_keep_their_rates_and_stages():
    cgan = notebooks.load("03_cgan_flowers")
    P = SimpleNamespace(study_size=32, study_steps=80, batch_size=4)
    own = paper.settings_of_03("overnight")
    recipe, budget = paper.rival(cgan, own, "resnet", P, 2)
    assert (recipe.generator, recipe.image_size, recipe.encoder_weights) == ("resnet", 32, "none")
    assert budget.l1_steps + budget.steps == 80 and budget.seed == 2
    assert budget.l1_steps == round(80 * own.resnet_epochs[0] / sum(own.resnet_epochs))
    assert (budget.rate, budget.average) == (1e-3, 0.995)
    _, budget = paper.rival(cgan, paper.settings_of_03("paper"), "unet", P, 0)
    assert (budget.l1_steps, budget.steps) == (56, 24)


def test_fluctuation_leaves_a_steady_fall_out():
    falling = [12.0 - i / 4 for i in range(12)]
    assert paper.fluctuation(falling) == pytest.approx(0, abs=1e-9)
    shaken = [value + (-1) ** i for i, value in enumerate(falling)]
    assert paper.fluctuation(shaken) == pytest.approx(0.11, abs=0.02)
