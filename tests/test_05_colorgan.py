"""The definitions of notebook 05, as the notebook itself uses them."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from colorlib import adversarial, color, datasets, machine, metrics, notebooks, training

paper = notebooks.load("05_colorgan")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(
    width=4, critic_width=4, noise_channels=4, feature_channels=32, image_size=32, sigma=0.1
)
RATES = {"generator": 1e-3, "critic": 1e-3}


def tiny_vgg(width=4):
    return paper.load_vgg("random", width=width)


def game(vgg=None, **changes):
    torch.manual_seed(0)
    return paper.Game(paper.replace(TINY, **changes), HERE, vgg or tiny_vgg(), RATES)


def batch(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def pictures(count=12, size=32, seed=1):
    return datasets.load("garden", size, count=count, seed=seed)


def greys(count, height, width, seed=0):
    return 100 * torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def gap(mean, low, high, seeds=None):
    return {"mean": mean, "low": low, "high": high, "seeds": seeds or [mean]}


# --- the perceptual network --------------------------------------------------------------------


def test_vgg_is_vgg16_up_to_relu4_3():
    vgg = paper.Vgg()
    convs = [m for m in vgg.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
    assert vgg.compared == ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    assert (vgg.target, vgg.channels, vgg.stride) == ("relu4_3", 512, 8)
    assert not any(p.requires_grad for p in vgg.parameters())


def test_vgg_agrees_with_torchvisions():
    from torchvision.models import vgg

    torch.manual_seed(0)
    theirs = vgg.vgg16(weights=None).features[:23].eval()
    state = {f"features.{k}": v for k, v in theirs.state_dict().items()}
    ours = paper.vgg_from(state, "torchvision", "made up")
    rgb = torch.rand(2, 3, 32, 48)
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


def test_caffe_weights_get_bgr_in_0_to_255_minus_means(tmp_path):
    state = vgg19_state(last=2)
    state["features.0.weight"].zero_()
    for channel in range(3):  # the first features are the input itself, shifted to be positive
        state["features.0.weight"][channel, channel, 1, 1] = 1.0
    state["features.0.bias"][:3] = 200.0
    vgg = paper.vgg_from(state, "caffe", "made up")
    rgb = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    seen = vgg.layers["relu1_1"](
        (rgb.flip(1) - vgg.mean) / vgg.deviation
    )  # what forward feeds to the first layer
    expected = [200 + 0 - 103.939, 200 + 127.5 - 116.779, 200 + 255 - 123.68]
    torch.testing.assert_close(seen[0, :3, 4, 4], torch.tensor(expected), rtol=1e-5, atol=1e-3)
    whole = vgg.layers["relu1_2"](seen)
    torch.testing.assert_close(vgg(rgb, ["relu1_2"])["relu1_2"], whole)


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_bad_vgg_files_end_in_one_line(tmp_path, content):
    file = tmp_path / "v.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(training.WeightsError) as caught:
        paper.load_vgg("file", str(file))
    assert "v.pth" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", ["other", "no bias", "shape"])
def test_files_that_are_no_vgg_are_named(tmp_path, spoil):
    state = vgg19_state()
    if spoil == "other":
        state = {"conv1.weight": torch.zeros(3)}
    elif spoil == "no bias":
        del state["features.5.bias"]
    else:
        state["features.7.weight"] = torch.zeros(128, 64, 3, 3)
    torch.save(state, tmp_path / "v.pth")
    with pytest.raises(training.WeightsError, match=r"v\.pth: (no VGG|not a whole VGG)"):
        paper.load_vgg("file", str(tmp_path / "v.pth"))


def test_imagenet_weights_without_a_network_say_what_to_do(monkeypatch):
    def offline(*arguments, **keywords):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(training.WeightsError, match="vgg = 'random'") as caught:
        paper.load_vgg("imagenet")
    assert "\n" not in str(caught.value)


def test_imagenet_weights_reach_the_layers(monkeypatch):
    state = {f"features.{n}.{k}": v for n, k, v in made_up_vgg16()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *a, **k: dict(state)
    )
    vgg = paper.load_vgg("imagenet")
    assert "torchvision" in vgg.origin and vgg.wants == "torchvision"
    torch.testing.assert_close(vgg.layers["relu4_3"][-2].weight, state["features.21.weight"])


def made_up_vgg16():
    numbers, c_in = iter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24)), 3
    for width in (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512):
        number = next(numbers)
        yield number, "weight", torch.full((width, c_in, 3, 3), number / 1000)
        yield number, "bias", torch.zeros(width)
        c_in = width


def test_the_random_vgg_is_the_same_in_every_run_and_disturbs_no_seed():
    torch.manual_seed(5)
    first = tiny_vgg()
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    for one, other in zip(first.parameters(), tiny_vgg().parameters(), strict=True):
        assert torch.equal(one, other)
    assert "random" in paper.describe_vgg(first)


def test_scales_make_the_mean_activation_one():
    vgg, some = tiny_vgg(), pictures()
    paper.set_scales(vgg, some, HERE)
    found = vgg(some.tensor().float() / 255)
    assert set(found) == set(vgg.compared)
    for features in found.values():
        assert features.mean().item() == pytest.approx(1, abs=1e-3)
    assert all(float(f"{scale:.4g}") == scale for scale in vgg.scales.values())


# --- networks ----------------------------------------------------------------------------------


def test_colorgan_at_the_papers_size():
    model = paper.ColorGAN().eval()
    with torch.no_grad():
        lightness = torch.zeros(1, 1, 256, 256)
        latent, passed = model.encoder(lightness)
        ab, mapped = model(lightness)
    assert latent.shape == mapped.shape == (1, 512, 32, 32)
    assert [tuple(p.shape[1:]) for p in passed] == [(64, 256, 256), (128, 128, 128), (256, 64, 64)]
    assert ab.shape == (1, 2, 256, 256) and ab.abs().max() <= 1
    assert isinstance(model.fit, nn.Identity)


def small(**changes):
    torch.manual_seed(0)
    return paper.build_model(paper.replace(TINY, **changes)).eval()


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


def test_other_channels_of_the_features_are_fitted():
    model = small(feature_channels=12)
    ab, mapped = model(torch.zeros(1, 1, 32, 32))
    assert mapped.shape[1] == 12 and ab.shape == (1, 2, 32, 32)
    assert model.fit.weight.shape == (32, 12, 1, 1)


@pytest.mark.parametrize("skips", [True, False])
def test_encoder_features_reach_the_generator_only_if_passed(skips):
    model = small(skips=skips)
    x = torch.randn(1, 1, 32, 32)
    latent, passed = model.encoder(x)
    with torch.no_grad():
        one = model.generator(latent, passed)
        other = model.generator(latent, [torch.zeros_like(p) for p in passed])
    assert torch.equal(one, other) == (not skips)


def test_without_the_branch_there_is_no_noise():
    model = small(branch=False)
    with torch.no_grad():
        x = torch.randn(2, 1, 32, 32)
        one, mapped = model(x)
        other, _ = model(x)
    assert mapped is None and torch.equal(one, other)


def test_noise_zero_is_one_map_for_all():
    model = small()
    with torch.no_grad():
        x = torch.randn(1, 1, 32, 32)
        first, _ = model(x, sigma=0.0)
        second, _ = model(x, sigma=0.0)
        third, _ = model(x, sigma=5.0)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_critic_is_patchgan_without_norms():
    critic = paper.Critic()
    assert adversarial.receptive_field(critic) == 70
    assert critic(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert not [m for m in critic.modules() if "Norm" in type(m).__name__]
    torch.manual_seed(0)
    x = torch.randn(3, 3, 32, 32)
    critic = paper.Critic(4)
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))  # no picture sees another


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


@pytest.mark.parametrize("model", [dict(branch=False), dict(sigma=0.0)])
def test_versions_of_a_model_without_noise_are_refused_in_one_line(model):
    assert paper.colorize(small(**model), greys(1, 32, 32)).shape == (1, 3, 32, 32)
    with pytest.raises(notebooks.ParameterError, match="no noise") as caught:
        paper.colorize(small(**model), greys(1, 32, 32), draws=2)
    assert "\n" not in str(caught.value)


def test_weights_come_back_as_the_same_model(tmp_path):
    model = small(sigma=0.3, skips=False)
    recipe = paper.replace(TINY, sigma=0.3, skips=False)
    info = {"notebook": paper.NAME, "build": paper.asdict(recipe)}
    training.save_weights(tmp_path / "colorgan.safetensors", model, info)
    again = paper.load_model(tmp_path / "colorgan.safetensors")
    grey = greys(1, 32, 32)
    assert again.image_size == 32
    assert torch.equal(paper.colorize(model, grey, 2), paper.colorize(again, grey, 2))


def test_weights_of_another_vgg_are_refused_in_one_line(tmp_path):
    info = {"notebook": paper.NAME, "build": paper.asdict(TINY), "vgg": tiny_vgg().origin}
    file = tmp_path / "colorgan.safetensors"
    training.save_weights(file, small(), info)
    assert paper.read_row(file, tiny_vgg(), HERE).image_size == 32
    with pytest.raises(notebooks.ParameterError, match="32 channels, this run's VGG has 64"):
        paper.read_row(file, tiny_vgg(8), HERE)
    other = tiny_vgg()
    other.origin = "weights of another.pth"
    with pytest.raises(notebooks.ParameterError, match=r"random weights.*another\.pth"):
        paper.read_row(file, other, HERE)


def test_weights_of_another_notebook_are_refused_in_one_line(tmp_path):
    file = tmp_path / "colorgan.safetensors"
    training.save_weights(file, small(), {"notebook": "03_cgan_flowers", "build": {}})
    with pytest.raises(training.WeightsError, match="weights of 03_cgan_flowers") as caught:
        paper.load_model(file)
    assert "\n" not in str(caught.value)


def test_weights_trained_on_other_pictures_say_so(tmp_path, capsys):
    info = {"notebook": paper.NAME, "build": paper.asdict(TINY), "vgg": tiny_vgg().origin}
    file, some = tmp_path / "colorgan.safetensors", pictures()
    training.save_weights(file, small(), info | {"data": "voc", "train_hash": some.hash})
    paper.read_row(file, tiny_vgg(), HERE, some)
    assert "other pictures" not in capsys.readouterr().out
    paper.read_row(file, tiny_vgg(), HERE, pictures(seed=2))
    assert "trained on other pictures (voc)" in capsys.readouterr().out


# --- losses and steps --------------------------------------------------------------------------


def test_wasserstein_loss_and_penalty_by_hand():
    def mean_of_ab(x):  # slope: 2 * 64 numbers of 1/128 each
        return x[:, 1:].mean((1, 2, 3), keepdim=True)

    lightness, truth, painted = (
        torch.zeros(2, 1, 8, 8),
        torch.ones(2, 2, 8, 8),
        torch.zeros(2, 2, 8, 8),
    )
    assert paper.wasserstein_loss(mean_of_ab, lightness, truth).item() == -1
    loss, penalty = paper.critic_loss(mean_of_ab, lightness, truth, painted)
    assert loss.item() == -1
    assert penalty.item() == pytest.approx(10 * (1 / math.sqrt(128) - 1) ** 2, rel=1e-4)
    assert paper.critic_loss(mean_of_ab, lightness, truth, painted, "clipping")[1].item() == 0


def test_cross_entropy_of_a_critic_that_knows_nothing_is_ln_2():
    def nothing(x):
        return x.sum((1, 2, 3)) * 0

    args = (torch.zeros(2, 1, 8, 8), torch.ones(2, 2, 8, 8), torch.zeros(2, 2, 8, 8))
    assert paper.critic_loss(nothing, *args, "cross_entropy")[0].item() == pytest.approx(
        math.log(2)
    )


def test_the_noise_map_loss_pools_finer_features():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    mapped = torch.zeros(1, 1, 2, 2)
    assert paper.noise_map_loss(mapped, features).item() == features.mean().item()
    assert paper.noise_map_loss(mapped, torch.ones(1, 1, 2, 2)).item() == 1


def test_the_perceptual_loss_is_zero_on_the_truth_and_differentiable_through_lab():
    g, rgb = game(), batch()
    lightness, truth = color.to_network(rgb)
    features = paper.true_features(g, rgb)
    painted = truth.clone().requires_grad_()
    terms = paper.equation_1(g, lightness, truth, features, painted, torch.zeros(4, 32, 4, 4))
    assert terms["L_p"].item() < 0.02 and terms["L_1"].item() == 0
    grey = (0 * truth).requires_grad_()
    (gradient,) = torch.autograd.grad(
        paper.equation_1(g, lightness, truth, features, grey, torch.zeros(4, 32, 4, 4))["L_p"], grey
    )
    assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("kind", ["penalty", "clipping", "cross_entropy"])
def test_features_of_true_pictures_are_computed_once_per_batch(kind):
    g, calls = game(critic=kind, critic_steps=2), []
    rgb = batch()
    true = rgb.float() / 255
    g.vgg.register_forward_hook(
        lambda m, args, out: calls.append(
            torch.equal(args[0], true) and args[0].shape == true.shape
        )
    )
    losses = g.step(rgb, 0)
    assert calls == [True, False]  # once for the truth, once for the painting
    assert set(losses) == {"critic", "penalty", "L_g", "L_p", "L_1", "L_s"}
    assert all(torch.isfinite(v) for v in losses.values())


def test_terms_left_out_are_not_computed():
    g, calls = game(lambda_g=0.0, lambda_p=0.0, lambda_s=0.0), []
    g.vgg.register_forward_hook(lambda *a: calls.append(1))
    assert set(g.step(batch(), 0)) == {"L_1"} and calls == [] and "critic" not in g.modules


def test_eq_1_is_the_weighted_sum():
    g = game()
    seen = {}
    g.optimizers["generator"].step = lambda: seen.update(
        {
            n: p.grad.clone()
            for n, p in g.modules["generator"].named_parameters()
            if p.grad is not None
        }
    )
    torch.manual_seed(3)
    g.step(batch(), 0)
    critic = {k: v.clone() for k, v in g.modules["critic"].state_dict().items()}
    again = game()
    again.modules["critic"].load_state_dict(critic)
    torch.manual_seed(3)
    lightness, truth = color.to_network(batch())
    painted, mapped = paper.predict(again.modules["generator"], lightness)
    terms = paper.equation_1(
        again, lightness, truth, paper.true_features(again, batch()), painted, mapped
    )
    total = 0.1 * terms["L_g"] + 100 * terms["L_p"] + 10 * terms["L_1"] + terms["L_s"]
    total.backward()
    for name, parameter in again.modules["generator"].named_parameters():
        torch.testing.assert_close(parameter.grad, seen[name], rtol=1e-4, atol=1e-6)


def test_the_critic_step_leaves_the_generator_alone_and_the_other_way_round():
    g = game()
    before = {n: [p.clone() for p in m.parameters()] for n, m in g.modules.items()}
    lightness, truth = color.to_network(batch())
    painted, _ = paper.predict(g.modules["generator"], lightness)
    paper.update_critic(g, lightness, truth, painted.detach())
    same = [
        torch.equal(a, b)
        for a, b in zip(before["generator"], g.modules["generator"].parameters(), strict=True)
    ]
    assert all(same) and all(p.grad is None for p in g.modules["generator"].parameters())
    assert not torch.equal(before["critic"][0], next(g.modules["critic"].parameters()))
    g.optimizers["critic"].step = lambda: None
    kept = [p.clone() for p in g.modules["critic"].parameters()]
    g.step(batch(), 1)
    assert all(
        torch.equal(a, b) for a, b in zip(kept, g.modules["critic"].parameters(), strict=True)
    )
    assert all(p.requires_grad for p in g.modules["critic"].parameters())


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


def test_pulls_are_the_gradients_lengths():
    g = game(lambda_g=0.0, lambda_p=0.0, lambda_s=0.0)
    # each of n numbers pulls with 10 / n: a vector of length 10 / sqrt(n), n = 2 * 32 * 32
    assert paper.pulls(g, batch())["L_1"] == pytest.approx(10 / math.sqrt(2048), rel=1e-3)


def test_l1_training_learns_one_colour():
    orange = np.zeros((8, 32, 32, 3), np.uint8) + np.array([230, 140, 40], np.uint8)
    g = game(lambda_g=0.0, lambda_p=0.0, lambda_s=0.0, branch=False)
    errors = [g.step(color.as_batch(orange), i)["L_1"].item() for i in range(60)]
    assert errors[-1] < 0.5 * errors[0]


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


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    some, vgg = pictures(16).train, tiny_vgg()
    budget = paper.Budget(6, 4, 1e-3, 1e-3)
    whole, _ = paper.train("a", TINY, budget, some, HERE, vgg, tmp_path / "whole")

    def stop(module, arguments, output, calls=[]):  # noqa: B006  two calls a step
        calls.append(1)
        if len(calls) == 8:
            raise OSError("the machine goes down")

    falling = tiny_vgg()
    falling.register_forward_hook(stop)
    monkeypatch.setattr(training, "run", partial(training.run, checkpoint_seconds=0.0))
    with pytest.raises(OSError, match="goes down"):
        paper.train("b", TINY, budget, some, HERE, falling, tmp_path / "parts")
    again, history = paper.train("b", TINY, budget, some, HERE, vgg, tmp_path / "parts")
    assert history.resumed_at == 3
    one, other = (g.modules["generator"].state_dict() for g in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_one_cycle_rises_and_falls():
    factors = [paper.one_cycle(i, 100) for i in range(100)]
    assert max(factors) == 1.0 and factors.index(1.0) == 25
    assert factors[25:] == sorted(factors[25:], reverse=True)
    assert all(0 < paper.one_cycle(i, n) <= 1 for n in (1, 2, 3) for i in range(n))


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


def test_crops_of_one_photograph_never_part():
    everything = datasets.load("garden,photos", 32, count=120, seed=0)
    for seed in range(5):
        train, _, test = paper.split_set(everything, "paper", seed)
        assert len(train) + len(test) == 120 and len(test) >= 12
        assert {*map(paper.original, train.names)}.isdisjoint(map(paper.original, test.names))
    assert paper.original("photos/motorcycle_left-03") == paper.original(
        "photos/motorcycle_right-00"
    )


def test_figures_show_coloured_pictures_that_no_training_saw(monkeypatch, tmp_path):
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path))
    P, house = SimpleNamespace(show=[], seed=0), pictures(40)
    found = paper.figure_pictures(house.test, house.train, P)
    assert set(found.names) <= set(house.test.names)
    secret = paper.replace(pictures(40), names=[f"voc/{i}" for i in range(40)])
    found = paper.figure_pictures(secret, secret, P)  # none of them may be shown
    assert len(found) >= 3 and all(name.startswith("photos/") for name in found.names)
    photos = datasets.load("photos", 32)
    found = paper.figure_pictures(secret, photos, P)  # and these were trained on
    assert len(found) and all(name.startswith("garden/") for name in found.names)
    assert (metrics.mean_chroma(found.pictures) >= metrics.GREY_CHROMA).all()


def test_the_house_split_is_left_alone():
    everything = pictures(40)
    train, validation, test = paper.split_set(everything, "house", 0)
    assert (train, validation, test) == (everything.train, everything.validation, everything.test)


def test_rec_601_grey_has_another_lightness_where_colours_are_saturated():
    rgb = np.zeros((2, 16, 16, 3), np.uint8)
    rgb[0], rgb[1] = (120, 120, 120), (0, 0, 255)
    true, _ = color.to_network(color.as_batch(rgb))
    other = paper.with_other_lightness(rgb)
    assert (true[0] - other[0]).abs().max() < 0.02
    assert 50 * (true[1] - other[1]).abs().max() > 10


def test_every_protocol_is_scored_with_its_floor():
    truth = pictures(6).pictures.copy()
    truth[0] = 90  # a true-grey picture
    rows = paper.protocol_rows(small(), truth, (5.0, 10.0), HERE, 0)
    assert len(rows) == 8 and len({(r["grey pictures"], r["PSNR"], r["L"]) for r in rows}) == 8
    found = {(r["grey pictures"], r["PSNR"], r["L"]): r["values"] for r in rows}
    house = metrics.evaluate({}, truth, (5.0, 10.0)).rows["grey_floor"]
    assert found["out", "mean", "true"]["grey_floor"][0] == pytest.approx(house["psnr"], abs=1e-6)
    assert found["out", "pooled", "true"]["grey_floor"][0] == pytest.approx(
        house["psnr_pooled"], abs=1e-6
    )
    assert found["in", "mean", "true"]["grey_floor"][0] > house["psnr"]  # the grey one is perfect


def test_rec_601_paints_from_the_grey_that_was_given():
    truth = np.zeros((2, 32, 32, 3), np.uint8) + np.array([20, 40, 230], np.uint8)
    scored = paper.painted_from(small(), truth, (5.0, 10.0), HERE, 0, paper.with_other_lightness)
    given = paper.with_other_lightness(truth)
    expected = paper.colorize(small(), (given + 1) * 50, seed=0)
    assert np.array_equal(scored["ours"], color.to_pictures(expected))
    for painted in scored.values():
        assert 50 * (paper.true_lightness(painted) - given).abs().max() < 0.6  # 8 bits
        assert 50 * (paper.true_lightness(painted) - paper.true_lightness(truth)).abs().min() > 2


def test_test_pictures_of_other_sizes_are_the_same_pictures():
    some = pictures(8, 32)

    def load(size):
        return datasets.load("garden", size, count=8, seed=1)

    assert paper.pictures_of_size(some, 24, load).shape == (8, 24, 24, 3)
    larger = paper.pictures_of_size(some.subset([5, 2]), 64, load)
    by_name = load(64)
    assert np.array_equal(larger[0], by_name.pictures[by_name.names.index(some.names[5])])


def test_distance_between_draws_by_hand():
    versions = torch.zeros(3, 2, 2, 4, 4)
    versions[1, 0, 0] = 3.0
    versions[1, 0, 1] = 4.0  # draw 2 of picture 1 is 5 away from the other two
    assert paper.distance_between(versions).tolist() == pytest.approx([10 / 3, 0])


def test_draws_are_compared_as_a_screen_shows_them():
    model, some = small(sigma=1.0), pictures(6)
    with torch.no_grad():
        model.generator.paint[0].bias[:] = 9.0  # colours far outside of what a screen has
        found = paper.sample(model, some, HERE, 2, 0)
    lightness, _ = color.to_network(some.tensor())
    rgb = color.from_network(lightness, found[0] / 110)
    torch.testing.assert_close(color.rgb_to_lab(rgb)[:, 1:], found[0], atol=0.2, rtol=0)
    assert found.norm(dim=2).mean() < 0.9 * 110 * math.sqrt(2)


def test_lpips_is_taken_over_all_pairs_of_draws():
    calls = []

    def lpips(one, other):
        calls.append(1)
        return np.full(len(one), float(len(calls)))

    rows = paper.sigma_sweep(small(), pictures(6), HERE, 4, 0, (0.0, 0.0), lpips, sigmas=(1.0,))
    assert len(calls) == 6 and rows["1"]["lpips"] == 3.5


def test_the_sweep_sees_noise_that_is_there():
    model, some = small(sigma=1.0), pictures(6)
    rows = paper.sigma_sweep(model, some, HERE, 3, 0, (0.0, 0.0), sigmas=(0.0, 1.0, 100.0))
    assert rows["0"]["distance"] == 0
    assert 0 < rows["1"]["distance"] < rows["100"]["distance"]
    assert rows["100"]["low"] <= rows["100"]["distance"] <= rows["100"]["high"]


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
    some, vgg = pictures(24), tiny_vgg()
    features = paper.target_features(vgg, some, HERE, (4, 4))
    monkeypatch.setattr(paper, "draw_maps", lambda *a, **k: features + 0.1)
    found = paper.measure_branch(small(), vgg, some, HERE, 0)
    assert found["own_minus_other"]["high"] < 0 and found["branch_minus_median"]["mean"] < 0
    assert "taught the branch something" in paper.noise_verdict(0.1, found["own_minus_other"], 0.0)


def carried(monkeypatch, part):
    """What is measured of a branch whose map holds a part of each picture's own deviation."""
    some, vgg = pictures(48), tiny_vgg()
    paper.set_scales(vgg, some, HERE)
    features = paper.target_features(vgg, some, HERE, (4, 4))
    noise = 0.05 * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    middle = features.median(0, keepdim=True).values
    maps = middle + part * (features - middle) + noise
    monkeypatch.setattr(paper, "draw_maps", lambda *a, **k: maps)
    return paper.measure_branch(small(), vgg, some, HERE, 0)


def test_a_tenth_of_the_deviation_is_noticed(monkeypatch):
    found = carried(monkeypatch, 0.1)
    assert found["own_minus_other"]["high"] < 0
    assert paper.claim_on_l_s(found)["verdict"] == "held"


def test_a_blind_branch_gives_a_narrow_interval_around_zero(monkeypatch):
    found = carried(monkeypatch, 0.0)
    gap = found["own_minus_other"]
    assert gap["low"] < 0 < gap["high"]
    assert gap["high"] - gap["low"] < 0.01 * found["L_s"][paper.MEDIAN]
    assert paper.claim_on_l_s(found)["verdict"] == "partly"  # nearer than no map, and no more


@pytest.mark.parametrize(
    ("none", "swap", "verdict"),
    [
        ((-2, -1), (-0.2, -0.1), "held"),
        ((-2, -1), (-0.1, 0.1), "partly"),
        ((-2, 1), (-0.2, -0.1), "did not hold"),
        ((1, 2), (-0.1, 0.1), "did not hold"),
    ],
)
def test_the_branch_is_judged_against_no_map(none, swap, verdict):
    found = {
        "own_minus_none": gap(sum(none) / 2, *none),
        "own_minus_other": gap(sum(swap) / 2, *swap),
    }
    assert paper.claim_on_l_s(found)["verdict"] == verdict
    assert paper.claim_on_l_s(found, "random")["verdict"] == "not testable here"


@pytest.mark.parametrize(
    ("distance", "words"),
    [(0.2, "nothing that can be seen"), (1.5, "below what an eye"), (3.0, "visibly")],
)
def test_the_verdict_on_the_noise_follows_its_thresholds(distance, words):
    said = paper.noise_verdict(distance, {"high": 0.1}, 0.5)
    assert words in said and "taught the branch nothing" in said


# --- studies and claims ------------------------------------------------------------------------


def bench(tmp_path, **changes):
    values = dict(
        data="garden", image_size=32, study_size=32, pictures=24, seed=0, split="house",
        width=4, critic_width=4,
        noise_channels=4, sigma=0.1, skips=True,
        lambda_g=0.1, lambda_p=100.0, lambda_l1=10.0, lambda_s=1.0, critic="penalty",
        critic_steps=1, generator_rate=1e-3, critic_rate=1e-3, batch_size=4, schedule="one_cycle",
        study_steps=1, study_seeds=[0, 1], resume=True, show=[],
    )  # fmt: skip
    return paper.Workbench(SimpleNamespace(**values | changes), tiny_vgg(), HERE, tmp_path)


def test_a_variant_that_two_studies_share_is_trained_once(tmp_path):
    b = bench(tmp_path)
    study = paper.run_study(
        b, {"whole": b.recipe, "no branch": paper.replace(b.recipe, branch=False)}
    )
    assert len(b.trained) == 4
    paper.run_study(b, {"again": b.recipe}, paper.measure_draws)
    assert len(b.trained) == 4
    assert study["variants"]["whole"]["delta_e_paired"]["mean"] == 0
    assert len(study["variants"]["no branch"]["delta_e_paired"]["seeds"]) == 2
    assert not study["variants"]["no branch"]["same_recipe"]
    assert all(not g.optimizers for g, _ in b.trained.values())
    assert all(
        p.grad is None
        for g, _ in b.trained.values()
        for m in g.modules.values()
        for p in m.parameters()
    )


def test_a_study_checkpoint_is_named_by_what_it_is(tmp_path):
    first, second = bench(tmp_path), bench(tmp_path)
    other = paper.replace(first.recipe, branch=False)
    first.get(first.recipe, 0)
    first.get(other, 0)
    game, history = second.get(other, 0)  # in another order, after a crash
    assert history.resumed_at == 1 and len(list(second.folder.glob("study_*"))) == 2
    assert torch.equal(
        game.modules["generator"].encoder.stages[0][0].weight,
        first.get(other, 0)[0].modules["generator"].encoder.stages[0][0].weight,
    )
    (second.folder / "colorgan.checkpoint.safetensors").write_bytes(b"")
    second.tidy()
    assert [f.name for f in second.folder.iterdir()] == ["colorgan.checkpoint.safetensors"]


def test_a_part_that_is_off_cannot_be_judged(tmp_path):
    b = bench(tmp_path, lambda_p=0.0, study_seeds=[0])
    variants = {"all": b.recipe, "without it": paper.replace(b.recipe, lambda_p=0.0)}
    study = paper.run_study(b, variants) | {"origin": "x"}
    claim = paper.worse_without("claim", study, "without it")
    assert claim["verdict"] == "not testable here" and "switched off" in claim["test"]
    claim = paper.worse_without("claim", study, "nowhere")
    assert claim["verdict"] == "not testable here" and "nothing would be left" in claim["test"]
    assert not paper.can_learn(paper.replace(b.recipe, lambda_g=0.0, lambda_l1=0.0))


def test_a_random_vgg_does_not_judge_a_pretrained_one():
    row = {"delta_e_paired": gap(1, 0.5, 1.5, [1, 1, 1]), "psnr_paired": gap(-1, -2, -0.5)}
    losses = dict.fromkeys(("all", "without perceptual", "without Wasserstein"), row)
    for vgg, verdict in {"VGG: random weights": "not testable here", "VGG: x": "held"}.items():
        study = {"variants": losses, "origin": "o", "vgg": vgg}
        claims = paper.claims_on_parts(study, None)
        assert [c["verdict"] for c in claims] == [verdict, "held", "not run yet"]
        assert "[o; " + vgg + "]" in claims[1]["test"]


def test_the_generators_of_03_keep_its_rates_and_stages():
    cgan, P = (
        notebooks.load("03_cgan_flowers"),
        SimpleNamespace(study_size=32, study_steps=80, batch_size=4),
    )
    own = paper.settings_of_03("evening")
    assert (own.resnet_l1_epochs, own.resnet_gan_epochs, own.data) == (3, 1, "flower_photos")
    recipe, budget = paper.rival(cgan, own, "resnet", P, 2)
    assert (recipe.generator, recipe.image_size) == ("resnet", 32)
    assert (budget.l1_steps, budget.steps, budget.seed) == (60, 20, 2)
    assert (budget.l1_rate, budget.rate) == (own.l1_rate, own.gan_rate) == (1e-3, 5e-4)
    recipe, budget = paper.rival(cgan, paper.settings_of_03("paper"), "unet", P, 0)
    assert (budget.l1_steps, budget.steps, budget.rate, recipe.width) == (0, 80, 2e-4, 64)


@pytest.mark.parametrize(
    ("delta_e", "psnr", "verdict"),
    [
        (gap(1, 0.5, 1.5, [1, 1, 1]), gap(-0.5, -0.8, -0.2), "held"),
        (gap(1, 0.5, 1.5, [1, 1]), gap(-0.5, -0.8, -0.2), "partly"),  # too few trainings
        (gap(1, 0.5, 1.5, [1, 1, 1]), gap(0.1, -0.4, 0.2), "partly"),  # PSNR disagrees
        (gap(1, 0.5, 1.5, [2.2, 1, -0.2]), gap(-0.5, -0.8, -0.2), "partly"),  # a seed disagrees
        (gap(1, -0.5, 2.5, [1, 1, 1]), gap(-0.5, -0.8, -0.2), "did not hold"),  # it holds zero
        (gap(-0.3, -0.5, -0.1), gap(-0.5, -0.8, -0.2), "did not hold"),
    ],
)
def test_a_part_helps_only_if_eye_noise_and_seeds_agree(delta_e, psnr, verdict):
    zero = {"delta_e_paired": gap(0, 0, 0), "psnr_paired": gap(0, 0, 0)}
    study = {
        "variants": {"with": zero, "without it": {"delta_e_paired": delta_e, "psnr_paired": psnr}},
        "origin": "x",
        "vgg": "VGG: x",
    }
    claim = paper.worse_without("claim", study, "without")
    assert claim["verdict"] == verdict and "without it minus with it" in claim["test"]


def test_claims_of_studies_that_were_not_run_say_so():
    claims = paper.claims_on_parts(None, None)
    claims += [paper.claim_on_slopes(None), paper.claim_on_stability(None)]
    claims += [*paper.claims_on_rivals(None), paper.claim_on_diversity({}, None, 0.1)]
    claims += [paper.claim_on_vividness(None, None), paper.claim_on_l_s(None)]
    assert {c["verdict"] for c in claims} == {"not run yet"}
    assert {c["number"] for c in claims} == {None}


@pytest.mark.parametrize(
    ("clipping", "verdict"),
    [([0.5, 0.6, 0.7], "held"), ([0.5, 0.6], "partly"), ([0.001, 0.002, 0.003], "partly")],
)
def test_vanishing_gradients_are_judged_by_the_cited_clipping(clipping, verdict):
    cross = [0.1, 0.2, 0.15][: len(clipping)]
    slopes = {"gradient penalty": [0.9, 1.0, 1.1], "clipping 0.01": clipping, "cross": cross}
    rows = {name: {"slope_of_each_seed": found} for name, found in slopes.items()}
    study = {"variants": rows, "origin": "x", "vgg": "VGG: x"}
    assert paper.claim_on_slopes(study)["verdict"] == verdict


@pytest.mark.parametrize(
    ("clipping", "verdict"),
    [
        ([0.01, 0.02, 0.03], "held"),
        ([0.01, 0.02, 0.05], "not testable here"),  # the seeds mix
        ([0.07, 0.08, 0.09], "did not hold"),
        ([0.01, 0.02], "not testable here"),
        ([], "not testable here"),
    ],
)
def test_stable_means_that_every_seed_shakes_less(clipping, verdict):
    shaking = {"gradient": [0.5] * 3, "clipping": clipping, "cross": [0.04, 0.05, 0.06]}
    rows = {name: {"fluctuation_of_each_seed": found} for name, found in shaking.items()}
    study = {"variants": rows, "origin": "x", "vgg": "VGG: x"}
    assert paper.claim_on_stability(study)["verdict"] == verdict


def test_fluctuation_leaves_a_steady_fall_out():
    falling = [12.0 - i / 4 for i in range(12)]
    assert paper.fluctuation(falling) == pytest.approx(0, abs=1e-9)
    shaken = [value + (-1) ** i for i, value in enumerate(falling)]
    assert paper.fluctuation(shaken) == pytest.approx(0.11, abs=0.02)
    assert paper.fluctuation(falling[:6]) is None


@pytest.mark.parametrize(
    ("main", "seeds", "verdict"),
    [
        (2.5, [2.4, 3.0], "held"),
        (2.5, [2.4, 1.5], "partly"),
        (2.5, [0.4, 3.0], "did not hold"),
        (0.4, None, "did not hold"),
        (3.0, None, "partly"),  # one training holds nothing
    ],
)
def test_diversity_must_show_in_every_training(main, seeds, verdict):
    study = {"variants": {"with": {"distance_of_each_seed": seeds}}, "origin": "x"}
    study |= {"vgg": "VGG: x", "sigma": 0.1}
    rows = {"0.1": {"distance": main}, "0": {"distance": 0.0}}
    claim = paper.claim_on_diversity(rows, seeds and study, 0.1, "VGG: x")
    assert claim["verdict"] == verdict
    assert paper.claim_on_diversity(rows, None, 0.0, "VGG: x")["verdict"] == "not testable here"


def test_studies_with_another_sigma_or_vgg_do_not_count_as_diversity():
    study = {"variants": {"with": {"distance_of_each_seed": [0.1]}}, "origin": "x"}
    for other in ({"vgg": "VGG: y", "sigma": 0.1}, {"vgg": "VGG: x", "sigma": 0.5}):
        claim = paper.claim_on_diversity({"0.1": {"distance": 2.0}}, study | other, 0.1, "VGG: x")
        assert claim["verdict"] == "partly" and claim["number"] == "2.00"


def test_vividness_needs_seeds_that_agree():
    def study(seeds, low=-2, high=-0.5):
        rows = {"with": {}, "no branch": {"colourfulness_paired": gap(-1, low, high, seeds)}}
        return {"variants": rows, "origin": "x", "vgg": "VGG: x"}

    def verdict(*arguments):
        return paper.claim_on_vividness(*arguments)["verdict"]

    assert verdict(None, study([-1.5, -1, -0.5])) == "held"
    assert verdict(None, study([-1.5, -0.5])) == "partly"
    assert verdict(None, study([-2.5, -1, 0.5])) == "partly"
    assert verdict(None, study([-1.5, -1, -0.5], high=0.2)) == "did not hold"
    assert verdict(gap(3, 2, 4), None) == "partly"  # one training cannot hold it
    assert verdict(gap(3, -1, 4), None) == "did not hold"
    assert verdict(gap(-3, -4, -2), None) == "did not hold"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lambda_g": 0.0, "lambda_p": 0.0, "lambda_l1": 0.0}, "no term is left"),
        ({"lpips_file": "lpips.pth", "image_size": 24}, "LPIPS needs 32"),
        ({"rows": []}, "at least one row"),
    ],
)
def test_parameters_that_cannot_work_are_refused_before_any_work(values, words):
    cells = notebooks.cells(notebooks.path(paper.NAME))
    source = next("".join(c["source"]) for c in cells if c["id"] == "check-parameters")
    known = notebooks.parameters(paper.NAME)
    defaults = {name: p.default for name, p in known.items()}
    defaults["__annotations__"] = {name: p.type for name, p in known.items()}
    scope = {"notebooks": notebooks, "metrics": metrics, "NAME": paper.NAME}
    exec(source, scope | defaults)  # the defaults pass
    with pytest.raises(notebooks.ParameterError, match=words) as caught:
        exec(source, scope | defaults | values)
    assert "\n" not in str(caught.value)
