"""The definitions of notebook 05, as the notebook itself uses them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from learning import overfits
from torch import nn

from colorlib import adversarial, color, datasets, files, machine, notebooks

paper = notebooks.load("05_colorgan")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, noise_channels=4, image_size=32)
BUDGET = paper.Budget(1, 1, 4, rate=1e-3, gan_rate=1e-3, critic_rate=1e-3, jitter=0.0)


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return paper.Vgg()


def game(vgg=None, budget=BUDGET, **changes):
    torch.manual_seed(0)
    return paper.Game(paper.replace(TINY, **changes), HERE, vgg, budget)


def small(**changes):
    torch.manual_seed(0)
    return paper.build_model(paper.replace(TINY, **changes)).eval()


def batch(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def pictures(count=12, size=32, seed=1):
    return datasets.load("flowers", size, count=count, seed=seed)


def greys(count, height, width, seed=0):
    return 100 * torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


# --- the perceptual network --------------------------------------------------------------------


def test_vgg_is_torchvisions_vgg19_up_to_relu3_4(vgg):
    from torchvision.models.vgg import cfgs, make_layers

    theirs = make_layers(cfgs["E"][:10]).eval()
    theirs.load_state_dict(vgg.features.state_dict())
    rgb = torch.rand(1, 3, 32, 32)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in paper.INPUTS["torchvision"])
    found = vgg(rgb)
    assert list(found) == ["relu1_2", "relu2_2", "relu3_4"]
    torch.testing.assert_close(found["relu3_4"], theirs((rgb - mean) / deviation))
    assert found["relu3_4"].shape == (1, paper.CHANNELS, 8, 8)


def test_caffe_weights_get_bgr_in_0_to_255_minus_means():
    vgg, seen = paper.Vgg("caffe"), {}
    vgg.features[0].register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    vgg(torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4))
    expected = torch.tensor([0 - 103.939, 127.5 - 116.779, 255 - 123.68])
    torch.testing.assert_close(seen["x"][0, :, 0, 0], expected)


def test_a_file_is_loaded_whole_or_cut_off_and_another_is_refused(tmp_path, vgg):
    state = vgg.state_dict() | {"features.19.weight": torch.zeros(512, 256, 3, 3)}
    torch.save(state, tmp_path / "vgg19.pth")
    loaded = paper.load_vgg(str(tmp_path / "vgg19.pth"))
    assert loaded.origin == "vgg19.pth" and loaded.wants == "caffe"
    assert torch.equal(loaded.features[16].weight, vgg.features[16].weight)
    torch.save({key: state[key] for key in list(state)[:4]}, tmp_path / "half.pth")
    with pytest.raises(RuntimeError, match="Missing key"):
        paper.load_vgg(str(tmp_path / "half.pth"))


def test_without_weights_there_is_no_loss_on_features(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert paper.load_vgg("auto") is None and paper.load_vgg("none") is None
    assert set(game().step(batch(), 0)) == {"critic", "penalty", "L_g", "L_1"}


def test_scales_make_features_one_on_average():
    some, vgg = pictures(), paper.set_scales(paper.Vgg(), pictures(), HERE)
    found = vgg(some.spread(16).tensor().float() / 255)
    assert all(part.mean().item() == pytest.approx(1, rel=1e-3) for part in found.values())


def test_the_lesson_scales_its_features_before_it_trains():
    source = notebooks.path(paper.NAME).read_text(encoding="utf-8")
    scaled = source.index("vgg = vgg and set_scales(")
    assert scaled < source.index("models, game, histories = train_or_load(")


# --- networks ----------------------------------------------------------------------------------


def test_colorgan_at_the_papers_size():
    model = paper.ColorGAN().to("meta").eval()  # shapes without numbers
    lightness = torch.zeros(1, 1, 256, 256, device="meta")
    latent, passed = model.encoder(lightness)
    ab, mapped = model(lightness)
    assert latent.shape == (1, 512, 32, 32) and mapped.shape == (1, paper.CHANNELS, 32, 32)
    assert [tuple(p.shape[1:]) for p in passed] == [(64, 256, 256), (128, 128, 128), (256, 64, 64)]
    assert ab.shape == (1, 2, 256, 256)


def test_the_mapped_noise_is_added_to_the_latent_map():
    model, seen = small(), {}
    model.generator.register_forward_hook(lambda m, args, out: seen.update(latent=args[0]))
    x = torch.randn(1, 1, 32, 32)
    noise = model.draw_noise(x)
    with torch.no_grad():
        _, mapped = model(x, noise)
        latent, _ = model.encoder(x)
    torch.testing.assert_close(seen["latent"], latent + model.fit(mapped))
    torch.testing.assert_close(mapped, model.branch(0.1 * noise))


@pytest.mark.parametrize("skips", [True, False])
def test_encoder_features_reach_the_generator_only_if_passed(skips):
    model = small(skips=skips)
    latent, passed = model.encoder(torch.randn(1, 1, 32, 32))
    with torch.no_grad():
        one = model.generator(latent, passed)
        other = model.generator(latent, [torch.zeros_like(p) for p in passed])
    assert torch.equal(one, other) == (not skips)


def test_noise_is_all_that_differs_between_draws_and_a_vector_is_one_for_all_places():
    x, model, without = torch.randn(1, 1, 32, 32), small(), small(noise="none")
    with torch.no_grad():
        assert torch.equal(model(x, sigma=0.0)[0], model(x, sigma=0.0)[0])
        assert not torch.equal(model(x)[0], model(x)[0])
        assert torch.equal(without(x)[0], without(x)[0]) and without(x)[1] is None
    assert paper.paints_versions(model) and not paper.paints_versions(without)
    assert not paper.paints_versions(small(sigma=0.0))
    vector = small(noise="vector").draw_noise(x)
    assert torch.equal(vector, vector[:, :, :1, :1].expand_as(vector)) and vector.std() > 0
    assert model.draw_noise(x)[0, 0].std() > 0


def test_first_weights_decide_how_much_noise_arrives():
    lightness, way = color.to_network(pictures().tensor())[0], {}
    for keeps in (False, True):
        torch.manual_seed(0)
        way[keeps] = paper.noise_on_its_way(paper.ColorGAN(4, 16, keeps_noise=keeps), lightness, 0)
    assert way[False]["noise"] == pytest.approx(0.1, rel=0.15)
    assert way[False]["branch's map"] < 0.02 and 0.05 < way[True]["branch's map"] < 0.2


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


def test_weights_come_back_with_their_history(tmp_path):
    P = SimpleNamespace(weights="", resume=False)
    some = pictures(16).train
    rest = (P, HERE, None, tmp_path, some, lambda painter: {"error": 1.0})
    models, trained, histories = paper.train_or_load(TINY, BUDGET, *rest)
    assert sorted(models) == ["colorgan", "colorgan_l1"] and trained and len(histories) == 2
    P.weights = str(tmp_path / "weights")
    again, nothing, told = paper.train_or_load(TINY, BUDGET, *rest)
    assert nothing is None and [h.losses for h in told] == [h.losses for h in histories]
    grey = greys(1, 32, 32)
    for row, model in models.items():
        assert torch.equal(paper.colorize(model, grey, 2), paper.colorize(again[row], grey, 2))


# --- losses and steps --------------------------------------------------------------------------


def test_wasserstein_loss_and_penalty_by_hand():
    def mean_of_ab(x):  # slope: 2 * 64 numbers of 1/128 each
        return x[:, 1:].mean((1, 2, 3), keepdim=True)

    lightness, truth = torch.zeros(2, 1, 8, 8), torch.ones(2, 2, 8, 8)
    assert paper.wasserstein_loss(mean_of_ab, lightness, truth).item() == -1
    loss, held = paper.critic_loss(mean_of_ab, lightness, truth, 0 * truth)
    assert loss.item() == -1
    assert held.item() == pytest.approx(10 * (1 / math.sqrt(128) - 1) ** 2, rel=1e-4)
    assert paper.critic_loss(mean_of_ab, lightness, truth, 0 * truth, "clipping")[1].item() == 0


def test_the_perceptual_loss_is_zero_on_the_truth_and_differentiable_through_lab(vgg):
    g, rgb = game(vgg, lambda_g=0.0, lambda_s=0.0), batch()
    lightness, truth = color.to_network(rgb)
    lightness = paper.exposed(
        lightness, 1.0
    )  # the features of the truth are those of its other exposure
    assert paper.equation_1(g, lightness, truth, truth, None)["L_p"].item() == 0
    grey = (0 * truth).requires_grad_()
    loss = paper.equation_1(g, lightness, truth, grey, None)["L_p"]
    (gradient,) = torch.autograd.grad(loss, grey)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_eq_1_is_the_weighted_sum_and_its_step_leaves_the_critic_alone(vgg):
    g, again, seen = game(vgg), game(vgg), {}
    g.optimizers["generator"].step = lambda: seen.update(
        {n: p.grad.clone() for n, p in g.modules["generator"].named_parameters()}
    )
    g.optimizers["critic"].step = lambda: None
    torch.manual_seed(3)
    losses = g.step(batch(), 0)
    assert set(losses) == {"critic", "penalty", "L_g", "L_p", "L_1", "L_s"}
    for one, other in zip(*(x.modules["critic"].parameters() for x in (g, again)), strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(3)
    lightness, truth = color.to_network(batch())
    lightness = paper.exposed(lightness, 0.0)  # it draws, too
    painted = paper.predict(again.modules["generator"], lightness)
    terms = paper.equation_1(again, lightness, truth, *painted)
    (0.1 * terms["L_g"] + 100 * terms["L_p"] + 10 * terms["L_1"] + terms["L_s"]).backward()
    for name, parameter in again.modules["generator"].named_parameters():
        torch.testing.assert_close(parameter.grad, seen[name], rtol=1e-4, atol=1e-6)


def test_clipping_bounds_every_weight():
    g = game(critic="clipping")
    g.step(batch(), 0)
    assert max(p.abs().max().item() for p in g.modules["critic"].parameters()) <= paper.CLIP


def test_l_s_does_not_pull_on_the_painting_nor_on_the_encoder(vgg):
    alone = dict.fromkeys(("lambda_g", "lambda_p", "lambda_l1"), 0.0)
    g = game(vgg, **alone)
    assert paper.pulls(g, g.recipe, np.zeros((2, 32, 32, 3), np.uint8)) == {"L_s": 0.0}
    g.step(batch(), 0)
    encoder, branch = g.modules["generator"].encoder, g.modules["generator"].branch
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in branch.parameters())


def test_l_s_alone_drives_the_branch_to_the_median():
    rgb, vgg = batch(8), paper.set_scales(paper.Vgg(), pictures(), HERE)
    alone = dict.fromkeys(("lambda_g", "lambda_p", "lambda_l1"), 0.0)
    g = game(vgg, paper.replace(BUDGET, gan_rate=5e-3), **alone)
    features = nn.functional.adaptive_avg_pool2d(vgg(rgb / 255)["relu3_4"], (4, 4))
    best = (features.median(0).values - features).abs().mean().item()
    losses = [g.step(rgb, i)["L_s"].item() for i in range(100)]
    assert losses[0] > 1.15 * best  # there was something to learn
    assert best <= losses[-1] < 0.5 * (losses[0] + best)


def test_first_l1_alone_and_then_all_of_eq_1():
    some = pictures(16).train
    budget = paper.replace(BUDGET, l1_steps=3, steps=2)
    watch = lambda painter: {"error": float(painter.training)}  # noqa: E731
    painters, last, histories = paper.train("two", TINY, budget, some, HERE, None, None, watch)
    assert [set(h.losses) for h in histories] == [{"L_1"}, {"critic", "penalty", "L_g", "L_1"}]
    assert [len(h.steps) for h in histories] == [3, 2] and "critic" in last.modules
    one, other = (p.state_dict()["generator.paint.0.weight"] for p in painters.values())
    assert not torch.equal(one, other) and not any(p.training for p in painters.values())
    norms = [m for m in last.modules["generator"].modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 14 and all(norm.training for norm in norms)


def test_the_papers_own_numbers():
    P = SimpleNamespace(
        **{key: known.default for key, known in notebooks.parameters(paper.NAME).items()}
        | notebooks.profile_parameters(paper.NAME, "paper")
    )
    recipe, budget = paper.plan(P, 963)
    assert recipe == paper.Recipe()  # 0.1, 100, 10, 1; sigma 0.1; 256 px
    assert (budget.l1_steps, budget.steps, budget.batch_size) == (0, 300 * 963, 16)
    assert (budget.gan_rate, budget.critic_rate, budget.schedule) == (1e-4, 2e-4, "constant")
    assert (budget.average, budget.crop, budget.decay, budget.jitter) == (0, 1, 0, 0)


def test_the_network_overfits_four_pictures():
    budget = paper.Budget(1, 0, 4, rate=5e-3, jitter=0.0)
    torch.manual_seed(0)
    recipe = paper.Recipe(width=16, noise_channels=4, noise="none")
    colours = paper.Game(recipe, HERE, None, budget, alone=True)
    rgb, generator = pictures(40).spread(4).tensor(), colours.modules["generator"]
    assert overfits(colours.step, rgb, generator, key="L_1", below=0.02) < 0.02


# --- diversity and the coin --------------------------------------------------------------------


def test_what_stands_in_for_your_picture_is_never_a_training_picture():
    for name in paper.EXAMPLES:
        folder, file = name.split("/")
        assert f"{name}.jpg" in datasets.load(folder, 8).test.names, file
    source = files.read_json(notebooks.path(paper.NAME))["cells"]
    (cell,) = (c for c in source if c["id"] == "show-yours")
    assert "not in train_set.names" in "".join(cell["source"])


def test_louder_noise_moves_the_draws_further_apart():
    model, rgb = small(sigma=1.0), pictures(6).pictures
    apart = [
        paper.distance_between(paper.sample(model, rgb, HERE, 3, 0, s)) for s in (0.0, 1.0, 100.0)
    ]
    assert apart[0] == 0 < apart[1] < apart[2]


def test_truths_found_by_hand():
    rgb = np.zeros((1, 8, 8, 3), np.uint8) + np.array([170, 110, 60], np.uint8)
    coin = datasets.coin(rgb)
    middle = np.round((coin.heads.astype(float) + coin.tails) / 2).astype(np.uint8)
    both = paper.truths_found(np.stack([coin.heads, coin.tails]), coin)
    assert both["both"] == 1 and both["apart"] > 40
    assert paper.truths_found(np.stack([coin.heads, coin.heads]), coin)["one"] == 1
    assert paper.truths_found(np.stack([middle, middle]), coin)["neither"] == 1


def test_fair_tosses_find_both_truths_and_are_what_the_coin_allows():
    both, coin = paper.tossed(pictures(40).train, 0)
    assert len(both) == 16 and np.array_equal(both.pictures[:8], coin.heads)
    found = paper.truths_found(paper.fair_tosses(coin, 30, 0), coin)
    assert found["both"] > 0.99 and found["apart"] > 20
    assert len(set(both.digests)) == 16
