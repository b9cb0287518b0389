"""The definitions of notebook 04, as the notebook itself uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import wasserstein_distance
from sklearn.cluster import KMeans
from torch import nn

from colorlib import (
    adversarial,
    color,
    colorize as colorizing,
    datasets,
    machine,
    notebooks,
    pictures,
    training,
)
from colorlib.pairs import Pair

paper = notebooks.load("04_two_unpaired_images")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4)
BUDGET = paper.Budget(iterations=2)


def scene(height=24, width=30, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def pixels_of(name="flower", side=40):
    rgb = pictures.resize(datasets.photo(name), side, "keep")
    return torch.from_numpy(rgb.reshape(-1, 3)).float() / 127.5 - 1


def by_lightness(centres):
    return centres[np.argsort(centres @ np.array(paper.LUMA))]


# --- the palette --------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5, 8])
def test_palette_of_separate_colours_is_that_of_scikit_learn(k):
    random = np.random.default_rng(k)
    corners = random.permutation(
        np.stack(np.meshgrid([-0.8, 0, 0.8], [-0.8, 0.8], [-0.8, 0.8]), -1).reshape(-1, 3)
    )[:k]
    counts = random.permutation(np.arange(1, k + 1)) * 30
    points = np.concatenate(
        [c + random.normal(0, 0.03, (n, 3)) for c, n in zip(corners, counts, strict=True)]
    )
    colours, shares = paper.palette(torch.from_numpy(random.permutation(points)), k)
    wanted = KMeans(k, n_init=10, random_state=0).fit(points)
    order = np.argsort(-np.bincount(wanted.labels_))
    np.testing.assert_allclose(colours.numpy(), wanted.cluster_centers_[order], atol=1e-6)
    np.testing.assert_allclose(shares.numpy(), np.sort(counts)[::-1] / counts.sum(), atol=1e-12)


@pytest.mark.parametrize("name", ["flower", "coffee", "china", "astronaut"])
def test_palette_of_a_photo_is_that_of_scikit_learn_from_the_same_start(name):
    points = pixels_of(name).double()
    start = paper.seed_centres(points, 5)
    colours, _ = paper.palette(points, 5, start=start, rounds=300)
    wanted = KMeans(5, init=start.numpy(), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(
        points.numpy()
    )
    np.testing.assert_allclose(
        by_lightness(colours.numpy()), by_lightness(wanted.cluster_centers_), atol=1e-6
    )
    best = KMeans(5, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert wanted.inertia_ < 1.05 * best  # our seeds are about as good as ten throws of theirs


def test_palette_is_sorted_by_share_or_by_lightness():
    points = pixels_of("coffee")
    _, shares = paper.palette(points)
    assert torch.all(shares[:-1] >= shares[1:]) and shares.sum().item() == pytest.approx(1)
    colours, _ = paper.palette(points, order="lightness")
    light = colours @ colours.new_tensor(paper.LUMA)
    assert torch.all(light[:-1] <= light[1:])


def test_a_matched_order_does_not_jump():
    """One pixel changes sides, and the palette hardly moves; by size it turns over."""
    points = torch.cat([torch.full((50, 3), -0.5), torch.full((49, 3), 0.5)])
    points = points + 0.01 * torch.randn(99, 3, generator=torch.Generator().manual_seed(0))
    changed = points.clone()
    changed[0] = 0.5  # now the other group is the larger
    like = torch.tensor([[0.9, 0.9, 0.9], [-0.1, -0.4, -0.4]])
    jumps = {}
    for order in ("matched", "size"):
        both = [paper.palette(x, 2, order=order, like=like)[0] for x in (points, changed)]
        jumps[order] = (both[0] - both[1]).abs().max().item()
    assert jumps["matched"] < 0.05 < 0.9 < jumps["size"]
    colours, shares = paper.palette(points, 2, order="matched", like=like)
    assert colours[0].min() > 0 > colours[1].max()
    torch.testing.assert_close(shares, torch.tensor([49.0, 50.0]) / 99)


def test_the_matching_is_the_best_of_all_pairings():
    from itertools import permutations

    colours, like = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
    sums = {p: (colours[list(p)] - like).square().sum().item() for p in permutations(range(4))}
    assert tuple(paper.match(colours, like).tolist()) == min(sums, key=sums.get)


@pytest.mark.parametrize("order", ["matched", "lightness", "size"])
@pytest.mark.parametrize("warm", [True, False])
def test_the_palette_of_the_reference_itself_is_the_wanted_one(order, warm):
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 20)
    recipe = replace(TINY, palette_order=order)
    model = paper.Pyramid(recipe, [(20, 25)])
    scale = paper.Scale(model, 0, pair, HERE, 1e-3, speed=paper.Speed(warm_palette=warm))
    scale.reader.last.copy_(scale.reader.wanted[:, :3].flip(0))  # any order to begin with
    torch.testing.assert_close(
        scale.reader(scale.reference), scale.reader.wanted, atol=0.02, rtol=0
    )


def test_a_colour_that_no_pixel_has_is_not_in_the_palette():
    """The k-means of a step must not borrow the colours it is compared with."""
    red = np.zeros((20, 20, 3), np.uint8) + np.array([250, 10, 10], np.uint8)
    pair = paper.make_pair("x", red, scene(20, 20), 20)
    scale = paper.Scale(paper.Pyramid(TINY, [(20, 20)]), 0, pair, HERE, 1e-3)
    with torch.no_grad():
        colours = scale.reader(scale.make_pictures(0)[0])
    assert (colours[:, 0] - scale.reader.wanted[0, 0]).abs().min() > 0.3


def test_palette_of_fewer_colours_than_asked_for():
    points = torch.tensor([[0.5, -0.5, 0.0]] * 30 + [[-1.0, 0.0, 1.0]] * 10, requires_grad=True)
    colours, shares = paper.palette(points, 5)
    assert torch.isfinite(colours).all() and shares.tolist() == [0.75, 0.25, 0, 0, 0]
    torch.testing.assert_close(colours[:2], points[[0, -1]].detach())
    colours.square().sum().backward()
    assert torch.isfinite(points.grad).all() and points.grad.abs().sum() > 0
    one, share = paper.palette(torch.full((9, 3), 0.25), 4)
    assert torch.isfinite(one).all() and share[0] == 1


def test_the_gradient_of_a_colour_is_one_by_the_size_of_its_group():
    points = torch.cat([torch.rand(50, 3) - 1, torch.rand(20, 3) + 4]).double().requires_grad_()
    colours, _ = paper.palette(points, 2)
    (gradient,) = torch.autograd.grad(colours[1].sum(), points)
    assert gradient[:50].abs().max() == 0
    torch.testing.assert_close(gradient[50:], torch.full((20, 3), 1 / 20, dtype=torch.float64))


@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_gradient_steps_move_a_palette_to_its_target(assignment):
    points, wanted = (
        pixels_of("coffee", 16),
        paper.palette(pixels_of("flower"), order="lightness")[0],
    )
    moved = paper.move_pixels(points, wanted, "matched", assignment, steps=250)
    assert moved[-1] < 0.05 * moved[0]


def test_soft_gradients_are_those_of_a_finite_difference():
    torch.manual_seed(0)
    points = torch.rand(12, 3, dtype=torch.float64) * 2 - 1
    start = paper.seed_centres(points, 3)

    def first(x):
        return paper.palette(x, 3, start=start, rounds=0, order="lightness", assignment="soft")[0]

    assert torch.autograd.gradcheck(first, points.clone().requires_grad_())


# --- networks -----------------------------------------------------------------------------------


def test_the_fields_of_seven_and_five_blocks():
    assert adversarial.receptive_field(paper.Critic()) == 15
    assert adversarial.receptive_field(paper.Critic(blocks=5)) == 11
    assert adversarial.receptive_field(paper.Generator()) == 15


@pytest.mark.parametrize("norm", ["none", "layer", "instance"])
def test_a_score_sees_its_patch_and_nothing_else(norm):
    critic = paper.Critic(norm="none", width=4)
    seen = torch.randn(1, 16, 20, 20, requires_grad=True)
    scores = critic(seen)
    assert scores.shape == (1, 1, 6, 6)
    (gradient,) = torch.autograd.grad(scores[0, 0, 2, 1], seen)
    rows, columns = gradient.abs().sum((0, 1)).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 16, 1, 15)
    layers = [type(m) for m in paper.Critic(norm=norm).modules()]
    kinds = {
        "none": 0,
        "layer": layers.count(nn.GroupNorm),
        "instance": layers.count(nn.InstanceNorm2d),
    }
    assert kinds[norm] == (0 if norm == "none" else 6)


def test_real_and_fake_may_share_a_pass():
    for norm in ("none", "layer", "instance"):
        critic = paper.Critic(norm=norm, width=6)
        both = torch.randn(2, 16, 20, 20)
        torch.testing.assert_close(critic(both), torch.cat([critic(x) for x in both.split(1)]))


def test_instance_norm_hides_the_palette_and_the_others_do_not():
    torch.manual_seed(0)
    grey = torch.rand(1, 1, 20, 20)
    palettes = torch.rand(2, 5, 3)
    moved = {}
    for norm in ("none", "layer", "instance"):
        critic = paper.Critic(norm=norm)
        one, other = (critic(paper.what_the_critic_sees(grey, p)) for p in palettes)
        moved[norm] = ((one - other).abs().max() / one.std()).item()
    assert moved["instance"] < 1e-3 < 0.05 < min(moved["none"], moved["layer"])


def test_without_a_border_a_generator_only_follows_its_noise():
    assert paper.follows_noise("circular") < 1e-3 < 0.1 < paper.follows_noise("zeros")


def test_the_generator_is_residual():
    network = paper.Generator(width=4)
    noise, coarser = torch.randn(2, 1, 3, 9, 11)
    torch.testing.assert_close(network(noise, coarser), coarser + network.layers(noise + coarser))
    assert network(noise).abs().max() <= 1


def test_equation_3_to_the_letter_doubles_the_coarser_picture():
    network = paper.Generator(width=4, equation_3="printed")
    noise, coarser = torch.randn(2, 1, 3, 9, 11)
    torch.testing.assert_close(network(noise, coarser), 2 * coarser + network.layers(noise))


def test_a_soft_share_has_a_gradient_and_a_hard_one_has_none():
    points = pixels_of("coffee", 12).double().requires_grad_()
    assert not paper.palette(points, 3)[1].requires_grad
    _, shares = paper.palette(points, 3, assignment="soft")
    (gradient,) = torch.autograd.grad(shares[0], points)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    with torch.no_grad():  # downhill, the share falls
        moved = paper.palette(points - 0.05 * gradient / gradient.abs().max(), 3, assignment="soft")
    assert moved[1][0] < shares[0]


def test_the_critic_sees_five_colours_and_with_shares_how_much_of_each():
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 20)
    for weight, channels in ((0.0, 16), (2.0, 21)):
        model = paper.Pyramid(replace(TINY, shares=weight), [(20, 25)])
        scale = paper.Scale(model, 0, pair, HERE, 1e-3)
        assert scale.real.shape == (1, channels, 20, 25)
        assert scale.modules["critic"](scale.real).shape == (1, 1, 6, 11)
        if weight:  # they are told as differences to a fifth, and add up to nothing
            assert scale.reader.wanted[:, 3].sum().item() == pytest.approx(0, abs=1e-5)
    assert paper.Critic().layers[0].in_channels == 16


@pytest.mark.parametrize("start", ["chain", "result"])
def test_what_equation_5_goes_on_from(start):
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 24)
    model = paper.Pyramid(replace(TINY, rebuilt_from=start), paper.scale_sizes(24, 30))
    scale = paper.Scale(model, 1, pair, HERE, 1e-3)
    coarser = scale.coarser.fixed if start == "chain" else scale.coarser.other(0)
    fixed = model.amplitudes[1] * model.fixed()[1]
    wanted = model.generators[1](fixed, coarser)
    torch.testing.assert_close(scale.make_pictures(0)[1], wanted, atol=1e-5, rtol=0)


def test_grey_may_be_the_mean_of_the_channels():
    picture = torch.tensor([0.9, -0.3, 0.0]).view(1, 3, 1, 1)
    assert paper.to_grey(picture, "mean").item() == pytest.approx(0.2)
    assert paper.to_grey(picture).item() == pytest.approx(0.299 * 0.9 - 0.587 * 0.3)


# --- pyramid ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"), [((64, 64), 6), ((256, 256), 10), ((16, 16), 1), ((30, 90), 3)]
)
def test_scales_shrink_by_the_factor_and_not_below_the_coarsest(size, count):
    sizes = paper.scale_sizes(*size)
    assert len(sizes) == count and sizes[-1] == size
    assert all(min(s) >= 15 for s in sizes)
    assert min(sizes[0]) * 0.75 < 15 + 1


def test_the_amplitude_is_the_error_of_the_reconstruction():
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 24)
    torch.manual_seed(0)
    model = paper.Pyramid(TINY, paper.scale_sizes(24, 30))
    scale = paper.Scale(model, 1, pair, HERE, 1e-3)
    error = (
        (paper.resize(model.rebuild(1), model.sizes[1]) - scale.reference).square().mean().sqrt()
    )
    assert model.amplitudes[1].item() == pytest.approx(0.1 * error.item(), rel=1e-5)


def test_no_result_is_made_from_the_noise_of_the_training():
    model = paper.Pyramid(TINY, paper.scale_sizes(24, 30)).eval()
    fixed = model.rebuild()
    with torch.no_grad():
        assert all((model.draw(seed) - fixed).abs().max() > 1e-3 for seed in range(4))
    assert paper.FIXED_NOISE > 2**20 and paper.POOL_NOISE - paper.FIXED_NOISE > 2**20


@pytest.mark.parametrize("level", [0, 1])
def test_one_pass_for_two_pictures_changes_nothing(level):
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 24)
    losses = []
    for shared in (True, False):
        torch.manual_seed(0)
        model = paper.Pyramid(TINY, paper.scale_sizes(24, 30))
        scale = paper.Scale(model, level, pair, HERE, 1e-3, speed=paper.Speed(shared=shared))
        losses.append([{k: v.item() for k, v in scale.step(None, i).items()} for i in range(3)])
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_a_palette_that_moves_by_one_moves_the_mean_score_by_at_most_one():
    """What the penalty asks for, at any size: a critic that adds up 1/k of the palette has none."""

    class Sum(nn.Module):
        def forward(self, seen):
            return seen[:, 1:2, 7:-7, 7:-7]  # a patch map, smaller than the picture

    for size in (16, 40):
        pair = paper.make_pair("x", scene(size, size, 1), scene(size, size, 2), size)
        scale = paper.Scale(paper.Pyramid(TINY, [(size, size)]), 0, pair, HERE, 1e-3)
        places, real = size * size, scale.real
        fake = torch.zeros_like(real)
        inside = (size - 14) ** 2 / places
        penalty = adversarial.gradient_penalty(
            lambda seen, n=places: n * paper.score(Sum(), seen, HERE), real, fake, 1.0, per="place"
        )
        slope = 1 / inside
        assert penalty.item() == pytest.approx(inside * (slope - 1) ** 2 + (1 - inside), rel=1e-3)


def test_the_critics_update_leaves_the_generator_alone_and_back():
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 20)
    scale = paper.Scale(paper.Pyramid(TINY, [(20, 25)]), 0, pair, HERE, 1e-3)
    painted, rebuilt = scale.make_pictures(0)
    fake = paper.what_the_critic_sees(paper.to_grey(painted), scale.reader(painted))
    before = {n: [p.clone() for p in m.parameters()] for n, m in scale.modules.items()}

    def same(name):
        return all(
            torch.equal(a, b)
            for a, b in zip(before[name], scale.modules[name].parameters(), strict=True)
        )

    paper.update_critic(scale, fake.detach())
    assert same("generator") and not same("critic")
    before["critic"] = [p.clone() for p in scale.modules["critic"].parameters()]
    paper.update_generator(scale, painted, rebuilt, fake)
    assert same("critic") and not same("generator")


def test_the_two_losses_pull_where_the_paper_says():
    """New noise takes the target's structure, the fixed noise becomes the reference."""
    pair = paper.make_pair("x", scene(16, 16, 1), scene(16, 16, 2), 16)
    recipe = replace(TINY, width=16, adversarial_weight=0.0)
    model, (stage,) = paper.train("x", recipe, paper.Budget(iterations=150, rate=2e-3), pair, HERE)
    for key in ("reconstruction", "content"):
        values = stage.losses[key]
        assert np.mean(values[-10:]) < 0.6 * values[0]
    grey, reference = paper.target_and_reference(pair)
    new, fixed = model.draw(7), model.rebuild()
    assert (fixed - reference).abs().mean() < (new - reference).abs().mean()
    assert (paper.to_grey(new) - grey).abs().mean() < (paper.to_grey(fixed) - grey).abs().mean()


def test_training_makes_the_palette_of_the_reference():
    red = np.zeros((20, 20, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    red[::2] = (60, 20, 20)
    grey = np.repeat(scene(20, 20, 3)[..., :1], 3, 2)
    pair = paper.make_pair("x", red, grey, 20)
    recipe = replace(paper.Recipe(width=12, colours=2, alpha_rec=0.0), coarsest=20)
    model, _ = paper.train("x", recipe, paper.Budget(iterations=150, rate=2e-3), pair, HERE)
    ab = color.rgb_to_lab(
        torch.from_numpy(paper.native(model)).permute(2, 0, 1)[None].float() / 255
    )
    assert ab[:, 1].mean() > 15  # reddish, where nothing but the critic has seen red


# --- pairs, sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reference"),
    [((1, 1), (40, 30)), ((1, 50), (3, 3)), ((300, 20), (20, 300)), ((33, 64), (64, 33))],
)
def test_any_two_sizes_train_and_colour(target, reference):
    lightness = 100 * torch.rand(1, 1, *target)
    pair = paper.make_pair("x", scene(*reference), np.full((*target, 3), 90, np.uint8), 16)
    assert pair.reference.shape == pair.target.shape and max(pair.target.shape) <= 64
    model, _ = paper.train("x", TINY, BUDGET, pair, HERE)
    rgb = paper.colorize(model.eval(), lightness)
    assert rgb.shape == (1, 3, *target) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - lightness).abs().max() < 0.01


def test_a_grey_reference_is_one_clear_line():
    grey = np.full((20, 20, 3), 99, np.uint8)
    with pytest.raises(notebooks.ParameterError, match="reference is grey") as caught:
        paper.make_pair("x", grey, scene(), 16)
    assert "\n" not in str(caught.value)


def asked(**more):
    defaults = {"data": "photos", "pairs": [], "reference": "", "target": "", "show": []}
    return SimpleNamespace(**(defaults | {"reference_fit": "squash"} | more))


def test_pairs_of_a_folder_get_one_size(tmp_path):
    for half, size in (("source", (50, 40)), ("target", (40, 60))):
        Image.fromarray(scene(*size)).save(tmp_path / f"a_{half}.png")
    for fit in ("squash", "crop"):
        (pair,), _ = paper.load_pairs(asked(data=str(tmp_path)), 16, fit)
        assert pair.reference.shape == pair.target.shape == (16, 24, 3) and not pair.shown


def test_two_files_of_your_own_replace_the_pairs(tmp_path):
    files = {half: str(tmp_path / f"{half}.png") for half in ("reference", "target")}
    for seed, file in enumerate(files.values()):
        Image.fromarray(scene(seed=seed)).save(file)
    (pair,), _ = paper.load_pairs(asked(**files), 24)
    assert pair.name == "target" and np.array_equal(pair.reference, scene(seed=0))


@pytest.mark.parametrize("name", paper.DRAWN)
def test_drawn_pairs_have_colours_and_two_different_pictures(name):
    (pair,), _ = paper.load_pairs(asked(pairs=[name]), 20)
    assert pair.has_truth and pair.reference.shape == pair.target.shape
    assert np.abs(pair.reference.astype(int) - pair.target).mean() > 3


# --- measures -----------------------------------------------------------------------------------


def test_the_least_distance_is_that_of_the_two_lightnesses():
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 24)
    wanted = paper.lab_palette(pair.reference)
    grey = paper.lab_palette(color.grey_of(pair.target))
    light = [c[:, 0] for c, _ in (grey, wanted)]
    oracle = wasserstein_distance(*light, grey[1], wanted[1])  # in one dimension it is sorting
    assert paper.least_distance(pair) == pytest.approx(oracle, abs=1e-6)
    assert 0 < paper.least_distance(pair) < paper.palette_distance(grey, wanted)


def test_palette_distance_moves_earth():
    lab = np.array([[0.0, 0, 0], [100, 0, 0]])
    half, quarter = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert paper.palette_distance((lab, half), (lab, half)) == pytest.approx(0, abs=1e-9)
    assert paper.palette_distance((lab, half), (lab, quarter)) == pytest.approx(25)
    assert paper.palette_distance((lab, half), (lab[::-1], half)) == pytest.approx(0, abs=1e-9)
    away = lab + np.array([0, 3, 4])
    assert paper.palette_distance((lab, half), (away, half)) == pytest.approx(5)
    random = np.random.default_rng(0)
    one, other = ((random.normal(0, 30, (5, 3)), random.dirichlet(np.ones(5))) for _ in range(2))
    there, back = paper.palette_distance(one, other), paper.palette_distance(other, one)
    assert there == pytest.approx(back) and there > 0


def test_scatter_sees_spots_and_the_remedy_removes_them():
    lightness = torch.full((1, 1, 40, 40), 40.0)
    lightness[..., 20:] = 75
    ab = torch.zeros(1, 2, 40, 40)
    ab[:, 0, :, :20], ab[:, 1, :, 20:] = 0.2, 0.3
    clean = color.to_picture(color.from_network(lightness / 50 - 1, ab))
    spots = ab + 0.1 * torch.randn(ab.shape, generator=torch.Generator().manual_seed(0))
    dirty = color.to_picture(color.from_network(lightness / 50 - 1, spots))
    mended = paper.make_consistent(dirty, lightness)
    before, after = (paper.scatter(rgb, lightness) for rgb in (dirty, mended))
    assert paper.scatter(clean, lightness) < 1 < after < 0.5 * before
    error = [np.abs(rgb.astype(int) - clean).mean() for rgb in (dirty, mended)]
    assert error[1] < 0.5 * error[0]


def test_structure_is_one_for_the_same_grey_whatever_the_colour():
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 24)
    assert paper.structure(color.grey_of(pair.target), pair) == pytest.approx(1, abs=1e-4)
    assert paper.structure(color.grey_of(pair.reference), pair) < 0.7


# --- files, hook, resume ------------------------------------------------------------------------


def test_weights_come_back_as_the_same_model(tmp_path):
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 22)
    model, _ = paper.train("x", TINY, BUDGET, pair, HERE)
    build = {"recipe": asdict(TINY), "sizes": model.sizes}
    info = {"notebook": paper.NAME, "row": "two_unpaired", "image_size": 22, "build": build}
    training.save_weights(tmp_path / "w.safetensors", model, json.loads(json.dumps(info)))
    again = paper.load_model(tmp_path / "w.safetensors")
    for seed in (0, 1):
        assert torch.equal(model.draw(seed), again.draw(seed))
    assert torch.equal(model.rebuild(), again.rebuild())
    grey = color.lightness_of(pair.target)
    assert torch.equal(paper.colorize(model, grey, seed=3), paper.colorize(again, grey, seed=3))
    assert not torch.equal(model.draw(0), model.draw(1))


def test_weights_say_which_picture_they_paint(tmp_path):
    pair = paper.make_pair("x", scene(seed=1), scene(seed=2), 22)
    P = SimpleNamespace(weights="", resume=False)
    paper.train_or_load(pair, TINY, BUDGET, P, HERE, tmp_path)
    info = training.read_info(tmp_path / "weights" / "two_unpaired-x.safetensors")
    assert info["target"] == colorizing.thumbnail(color.lightness_of(pair.target))
    assert info["target"] != colorizing.thumbnail(color.lightness_of(pair.reference))


def test_the_command_line_trains_on_the_two_pictures(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from colorlib.cli import main

    monkeypatch.setattr(paper, "FIT_BUDGET", BUDGET)
    monkeypatch.setattr(paper, "FIT_RECIPE", TINY)
    Image.fromarray(scene(50, 71, 1)).save(tmp_path / "target.png")
    Image.fromarray(scene(30, 30, 2)).save(tmp_path / "reference.png")
    arguments = ["colorize", str(tmp_path / "target.png"), "--with", "04", "--side", "20"]
    arguments += ["--reference", str(tmp_path / "reference.png"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert np.asarray(Image.open(tmp_path / "out" / "target.png")).shape == (50, 71, 3)


TRAIN = """
import functools, sys
import numpy as np
import colorlib, torch
from colorlib import machine, notebooks, pictures, training

folder = sys.argv[1]
paper = notebooks.load("04_two_unpaired_images")
training.run = functools.partial(training.run, checkpoint_seconds=0.0)
here = machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
coarse = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
pair = paper.make_pair("killed", *(pictures.resize(c, (24, 24), "squash") for c in coarse), 24)
model, stages = paper.train("killed", paper.Recipe(width=6), paper.Budget(60), pair, here, folder)
training.save_weights(folder + "/final.safetensors", model, {})
print([h.losses for h in stages])
print("resumed at", [h.resumed_at for h in stages], file=sys.stderr)
"""


def start_training(folder):
    command = [sys.executable, "-c", TRAIN, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "COLORLIB_THREADS": "1"}, **pipes)


def test_killed_at_the_second_scale_and_resumed_ends_bit_identical(tmp_path):
    undisturbed = start_training(tmp_path / "a")
    losses, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    victim = start_training(tmp_path / "b")
    while not list((tmp_path / "b").glob("killed*24_x_24*.safetensors")) and victim.poll() is None:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL  # it was still training
    assert not (tmp_path / "b" / "final.safetensors").exists()
    resumed = start_training(tmp_path / "b")
    again, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    first, second = json.loads(said.rsplit("resumed at", 1)[1])
    assert first == 60 and 0 < second < 60
    assert again == losses
    final = [(tmp_path / run / "final.safetensors").read_bytes() for run in "ab"]
    assert final[0] == final[1]


# --- verdicts -----------------------------------------------------------------------------------


def gap(mean, low, high, seeds=None):
    return {"mean": mean, "low": low, "high": high, "seeds": seeds or [mean]}


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.9] * 5, "held"),
        ([0.9] * 9 + [0.75], "partly"),  # one pair disagrees
        ([0.9] * 2, "partly"),  # too few pairs
        ([0.95] * 3 + [0.6] * 2, "did not hold"),  # above on average, not surely
        ([0.5] * 6, "did not hold"),
        ([], "not run yet"),
    ],
)
def test_a_promise_is_held_on_every_pair_or_partly(values, verdict):
    assert paper.beyond(values, 0.8, above=True) == verdict
    assert paper.beyond([-v for v in values], -0.8, above=False) == verdict


def test_colours_of_the_reference_are_asked_for_only_where_lightness_allows_them():
    def of(palette):
        return {"two_unpaired_native": {"palette": palette, "structure": 0.9}}

    facts = {str(i): of(4.0) | {"grey_floor": {"palette": 10.0}} for i in range(5)}
    facts["too dark"] = of(5.5) | {"grey_floor": {"palette": 10.0}}
    for found in facts.values():
        found["two_unpaired"] = found["truth"] = {"scatter": 1.0}
    least = dict.fromkeys(facts, 0.2) | {"too dark": 0.8}
    assert paper.claims_on_promises(facts, least, {})[1]["verdict"] == "held"
    allowed = paper.claims_on_promises(facts, dict.fromkeys(facts, 0.2), {})[1]
    assert allowed["verdict"] == "partly" and "0.55" in allowed["number"]


@pytest.mark.parametrize(("pairs", "verdict"), [(5, "held"), (3, "partly")])
def test_nearer_to_the_truth_needs_pairs(pairs, verdict):
    judged = [Pair(str(i), scene(), scene()) for i in range(pairs)]
    rows = {"two_unpaired": {"delta_e": 8.0, "psnr": 24.0}}
    rows["grey_floor"] = {"delta_e": 12.0, "psnr": 22.0}
    claims = paper.claims_on_quality({pair.name: rows for pair in judged}, judged)
    assert [c["verdict"] for c in claims] == [verdict] + ["not run yet"] * 4
    assert f"{pairs} of {pairs} pairs" in claims[0]["number"]


def test_claims_without_studies_and_pairs_say_so():
    claims = paper.claims_on_losses(None) + paper.claims_on_quality({}, [])
    claims += paper.claims_on_promises({}, {}, {})
    assert {c["verdict"] for c in claims} == {"not run yet"} and {c["number"] for c in claims} == {
        None
    }


def test_a_term_is_needed_only_if_every_seed_says_so():
    terms = ("no adversarial loss", "no reconstruction", "no content")
    keys = ("palette", "structure", "rebuilt")

    def study(sign, seeds):
        found = {
            f"{key}_paired": gap(sign * 0.3, sign * 0.3 - 0.1, sign * 0.3 + 0.1, seeds)
            for key in keys
        }
        return {"variants": dict.fromkeys(terms, found), "pairs": ["a"] * 5, "origin": "here"}

    up = [c["verdict"] for c in paper.claims_on_losses(study(1, [0.2, 0.3, 0.4]))]
    assert up == ["held", "held", "did not hold", "held"]  # structure must fall, not rise
    one_seed = [c["verdict"] for c in paper.claims_on_losses(study(1, [-0.1, 0.7]))]
    assert one_seed == ["partly", "partly", "did not hold", "partly"]
    down = [c["verdict"] for c in paper.claims_on_losses(study(-1, [-0.2, -0.4]))]
    assert down == ["did not hold", "did not hold", "held", "did not hold"]
