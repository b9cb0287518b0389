"""The definitions of notebook 04, as the notebook itself uses them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise, permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from learning import overfits
from sklearn.cluster import KMeans
from torch import nn

from colorlib import (
    adversarial,
    color,
    colorize,
    datasets,
    machine,
    metrics,
    notebooks,
    pictures,
    training,
)

paper = notebooks.load("04_two_unpaired_images")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4)
BUDGET = paper.Budget((2,))
PHOTOS = ["pairs/lemons_source", "pairs/fuji_target", "pairs/peaks_source"]


def scene(height=24, width=30, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def pair_of(height=20, width=25, side=20):
    return paper.make_pair("x", scene(height, width, 1), scene(height, width, 2), side)


def scale_of(recipe=TINY, level=0, side=20):
    """One scale in training."""
    pair = pair_of(side=side)
    torch.manual_seed(0)
    sizes = paper.scale_sizes(*pair.target.shape[:2])[-level - 1 :]
    return paper.Training(paper.Pyramid(recipe, sizes), level, pair, HERE, 1e-3)


def pixels_of(name, side=40):
    rgb = pictures.resize(datasets.photo(name), (side, side), "squash")
    return torch.from_numpy(rgb.reshape(-1, 3)).float() / 127.5 - 1


# --- the palette --------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5, 8])
def test_palette_of_separate_colours_is_that_of_scikit_learn(k):
    random = np.random.default_rng(k)
    corners = np.stack(np.meshgrid([-0.8, 0, 0.8], [-0.8, 0.8], [-0.8, 0.8]), -1).reshape(-1, 3)
    corners, counts = random.permutation(corners)[:k], random.permutation(np.arange(1, k + 1)) * 30
    points = [c + random.normal(0, 0.03, (n, 3)) for c, n in zip(corners, counts, strict=True)]
    points = random.permutation(np.concatenate(points))
    colours, shares = paper.palette(torch.from_numpy(points), k)
    wanted = KMeans(k, n_init=10, random_state=0).fit(points)
    order = np.argsort(-np.bincount(wanted.labels_))
    np.testing.assert_allclose(colours.numpy(), wanted.cluster_centers_[order], atol=1e-6)
    np.testing.assert_allclose(shares.numpy(), np.sort(counts)[::-1] / counts.sum(), atol=1e-12)


@pytest.mark.parametrize("name", PHOTOS)
def test_palette_of_a_photo_is_that_of_scikit_learn_from_the_same_start(name):
    points = pixels_of(name).double()
    start = paper.seed_centres(points, 5)
    colours, _ = paper.palette(points, 5, start=start, rounds=300, order="lightness")
    again = {"n_init": 1, "max_iter": 300, "tol": 0, "algorithm": "lloyd"}
    wanted = KMeans(5, init=start.numpy(), **again).fit(points.numpy())
    light = np.argsort(wanted.cluster_centers_ @ np.array(paper.LUMA))
    np.testing.assert_allclose(colours.numpy(), wanted.cluster_centers_[light], atol=1e-6)
    best = KMeans(5, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert wanted.inertia_ < 1.1 * best  # our seeds are nearly as good as ten throws of theirs


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
    _, shares = paper.palette(points, 2, order="matched", like=like)
    torch.testing.assert_close(shares, torch.tensor([49.0, 50.0]) / 99)


def test_the_matching_is_the_best_of_all_pairings():
    colours, like = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
    sums = {p: (colours[list(p)] - like).square().sum().item() for p in permutations(range(4))}
    assert tuple(paper.match(colours, like).tolist()) == min(sums, key=sums.get)


@pytest.mark.parametrize("order", ["matched", "lightness", "size"])
def test_the_palette_of_the_reference_itself_is_the_wanted_one(order):
    scale = scale_of(replace(TINY, order=order, lightness="own"))
    scale.reader.last.copy_(scale.reader.wanted[:, :3].flip(0))  # any order to begin with
    found = scale.reader(scale.reference)
    torch.testing.assert_close(found, scale.reader.wanted, atol=0.02, rtol=0)


def test_palette_of_fewer_colours_than_asked_for():
    points = torch.tensor([[0.5, -0.5, 0.0]] * 30 + [[-1.0, 0.0, 1.0]] * 10, requires_grad=True)
    colours, shares = paper.palette(points, 5)
    assert torch.isfinite(colours).all() and shares.tolist() == [0.75, 0.25, 0, 0, 0]
    torch.testing.assert_close(colours[:2], points[[0, -1]].detach())
    colours.square().sum().backward()
    assert torch.isfinite(points.grad).all() and points.grad.abs().sum() > 0


@pytest.mark.parametrize("assignment", ["hard", "soft"])
def test_gradient_steps_move_a_palette_to_its_target(assignment):
    wanted, pixels = paper.palette(pixels_of(PHOTOS[0]))[0], pixels_of(PHOTOS[1], 16)
    optimizer, distances = torch.optim.Adam([pixels.requires_grad_()], lr=0.02), []
    for _ in range(250):
        colours, _ = paper.palette(pixels, order="matched", assignment=assignment, like=wanted)
        distance = (colours - wanted).square().sum(1).mean()
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
        distances.append(distance.item())
    assert distances[-1] < 0.05 * distances[0]


def test_soft_gradients_are_those_of_a_finite_difference():
    torch.manual_seed(0)
    points = torch.rand(12, 3, dtype=torch.float64) * 2 - 1
    how = {"start": paper.seed_centres(points, 3), "rounds": 0, "order": "lightness"}

    def colours_and_shares(x):
        return paper.palette(x, 3, assignment="soft", **how)

    assert torch.autograd.gradcheck(colours_and_shares, points.requires_grad_())
    assert not paper.palette(points, 3)[1].requires_grad  # a hard share is a count


# --- networks -----------------------------------------------------------------------------------


def test_a_score_sees_its_patch_and_nothing_else():
    seen = torch.randn(1, 16, 20, 20, requires_grad=True)
    scores = paper.Critic(TINY, 16)(seen)
    assert scores.shape == (1, 1, 6, 6)
    (gradient,) = torch.autograd.grad(scores[0, 0, 2, 1], seen)
    rows, columns = gradient.abs().sum((0, 1)).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 16, 1, 15)


@pytest.mark.parametrize("norm", ["none", "layer", "instance"])
def test_two_pictures_may_share_a_pass(norm):
    recipe = paper.Recipe(width=6, critic_norm=norm)
    critic, both = paper.Critic(recipe, 16), torch.randn(2, 16, 20, 20)
    torch.testing.assert_close(critic(both), torch.cat([critic(x) for x in both.split(1)]))
    if norm != "layer":  # of which the generator has none
        network = paper.Generator(replace(recipe, norm=norm))
        noise = torch.randn(2, 3, 20, 20)
        apart = torch.cat([network(x) for x in noise.split(1)])
        torch.testing.assert_close(network(noise), apart, atol=1e-5, rtol=0)


def test_instance_norm_hides_the_palette_and_the_others_do_not():
    torch.manual_seed(0)
    grey, palettes = torch.rand(1, 1, 20, 20), torch.rand(2, 5, 3)
    moved = {}
    for norm in ("none", "layer", "instance"):
        critic = paper.Critic(replace(TINY, critic_norm=norm), 16)
        one, other = (critic(paper.what_the_critic_sees(grey, p)) for p in palettes)
        moved[norm] = ((one - other).abs().max() / one.std()).item()
    assert moved["instance"] < 1e-3 < 0.05 < min(moved["none"], moved["layer"])


@pytest.mark.parametrize("equation_3", ["mended", "printed"])
def test_the_generator_is_residual_and_as_printed_it_doubles_the_coarser_picture(equation_3):
    network = paper.Generator(replace(TINY, equation_3=equation_3))
    noise, coarser = torch.randn(2, 1, 3, 9, 11)
    wanted = {"mended": (coarser + network.layers(noise + coarser)).clamp(-1, 1)}
    wanted["printed"] = 2 * coarser + network.layers(noise)
    torch.testing.assert_close(network(noise, coarser), wanted[equation_3])
    assert network(noise).abs().max() <= 1


def test_what_leaves_the_range_is_cut_and_its_gradient_is_not():
    network, noise = paper.Generator(TINY, padded=False), torch.zeros(1, 3, 24, 24)
    network.layers = nn.Sequential(nn.AvgPool2d(15, 1), nn.Hardtanh(-0.1, 0.1))  # adds at most 0.1
    coarser = torch.tensor([-1.5, 0.2, 3.0]).view(1, 3, 1, 1).repeat(1, 1, 10, 10).requires_grad_()
    painted = network(noise, coarser)
    assert painted[0, :, 0, 0].tolist() == pytest.approx([-1, 0.3, 1])
    slope = torch.autograd.grad(painted[0, 2, 3, 3], coarser)[0]
    assert slope[0, 2, 3, 3] > 0.9 and not slope[0, :2].any()


def test_a_finer_scale_uses_up_its_margin_and_sees_no_border():
    torch.manual_seed(0)
    network = paper.Generator(TINY, padded=False)
    noise, coarser = torch.randn(1, 3, 30, 36), torch.rand(1, 3, 16, 22)
    painted = network(noise, coarser)
    assert painted.shape == coarser.shape
    flat = network(torch.zeros_like(noise), torch.full_like(coarser, 0.3))
    assert (
        flat - flat[..., :1, :1]
    ).abs().max() < 1e-5  # an even picture stays even up to its border
    padded = paper.Generator(TINY)(torch.zeros(1, 3, 16, 22), torch.full_like(coarser, 0.3))
    assert (padded - padded[..., 8:9, 8:9]).abs().max() > 1e-3


def test_training_and_painting_use_the_same_statistics():
    """Instance norms keep no running ones, and a validation leaves the networks as they were."""
    scale = scale_of(replace(TINY, width=8, norm="instance"))
    paper.look_at(scale, pair_of(), 1)
    assert all(part.training for part in scale.modules["generator"].modules())
    noises = scale.model.noises(1)
    assert torch.equal(scale.model(noises), scale.model.eval()(noises))


def test_a_generator_learns_four_pictures_by_heart():
    torch.manual_seed(0)
    network, noise = paper.Generator(paper.Recipe()), torch.randn(4, 3, 15, 15)
    photos = [pictures.resize(datasets.photo(name), (15, 15), "squash") for name in PHOTOS]
    wanted = color.as_batch(np.stack([*photos, scene(15, 15)])).float() / 127.5 - 1
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3, betas=(0.9, 0.99))

    def step(batch, index):
        painted = network(noise)
        optimizer.zero_grad()
        (painted - batch).square().mean().backward()
        optimizer.step()
        size = batch.shape[-2:]
        apart = paper.ab_of(painted.detach(), size) - paper.ab_of(batch, size)
        return {"l1": apart.abs().mean()}

    assert overfits(step, wanted, network) < 0.02


# --- objective, pyramid -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "spread", "channels"),
    [(0.0, 0.0, 16), (2.0, 0.0, 21), (0.0, 2.0, 26), (2.0, 2.0, 31)],
)
def test_the_critic_sees_five_colours_their_shares_and_how_far_they_scatter(
    shares, spread, channels
):
    scale = scale_of(replace(TINY, shares=shares, spread=spread))
    assert scale.real.shape == (1, channels, 20, 25)
    assert scale.modules["critic"](scale.real).shape == (1, 1, 6, 11)
    if shares:  # they are told as differences to a fifth, and add up to nothing
        assert scale.reader.wanted[:, 3].sum().item() == pytest.approx(0, abs=1e-5)


def test_neon_around_the_same_five_means_is_told_from_plain_colours():
    torch.manual_seed(0)
    colours = torch.tensor(
        [[-0.8, -0.8, -0.8], [0.8, 0.8, 0.8], [0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.9]]
    )
    noise = torch.randn(500, 3) * 0.1
    luma = torch.tensor(paper.LUMA)
    chroma, grey = noise - (noise @ luma)[:, None], (noise @ luma)[:, None].expand(-1, 3)
    for spreads, scattered in (((1, 1), chroma), ((1, 0), grey)):  # of RGB, of chroma
        told = paper.spread_of((colours[:, None] + scattered).flatten(0, 1), colours)
        wide = scattered.square().sum(1).mean().sqrt().item()
        for column, by in zip(told.T, spreads, strict=True):
            assert column.numpy() == pytest.approx(max(0.01, by * wide), rel=0.15)


def test_the_reference_is_lent_the_targets_lightnesses_by_rank():
    pair = pair_of(side=40)
    own, given, lent = (
        color.rgb_to_lab(color.as_rgb(rgb[None])).flatten(2)[0]
        for rgb in (pair.reference, pair.target, paper.lend_lightness(pair))
    )
    assert (lent[0].sort().values - given[0].sort().values).abs().max() < 1
    order = own[0].argsort(stable=True)
    assert lent[0][order].diff().min() > -1  # but for rounding
    inside = (lent[1:].square().sum(0) - own[1:].square().sum(0)).abs() < 30
    assert inside.float().mean() > 0.4  # where a screen has the colour, it stays
    assert (lent[1:] - own[1:])[:, inside].abs().max() < 2


def test_the_critic_learns_more_slowly_and_own_lightness_can_be_had():
    rates = {name: o.param_groups[0]["lr"] for name, o in scale_of().optimizers.items()}
    assert rates == {"generator": 1e-3, "critic": 0.25e-3}
    own = scale_of(replace(TINY, lightness="own")).reference
    wanted = 2 * color.as_rgb(pair_of().reference[None]) - 1
    torch.testing.assert_close(own, paper.resize(wanted, own.shape[-2:]))


@pytest.mark.parametrize("start", ["chain", "result"])
def test_what_equation_5_goes_on_from(start):
    scale = scale_of(replace(TINY, rebuilt_from=start), level=1, side=24)
    model = scale.model
    coarser = scale.chain if start == "chain" else scale.pool[0]
    wanted = model.generators[1](model.amplitudes[1] * model.noises()[1], coarser)
    torch.testing.assert_close(scale.make_pictures(0)[1], wanted, atol=1e-5, rtol=0)
    chain = paper.resize(model(model.noises(levels=1)), model.sizes[1])
    torch.testing.assert_close(scale.chain, chain)
    error = (chain - scale.reference).square().mean().sqrt()
    assert model.amplitudes[1].item() == pytest.approx(0.1 * error.item(), rel=1e-5)


def test_the_norms_of_equations_5_and_6_are_means_or_sums():
    grown = {}
    for norms in ("mean", "sum"):
        scale = scale_of(replace(TINY, norms=norms, adversarial_weight=0.0))
        scale.optimizers["generator"] = torch.optim.SGD(
            scale.modules["generator"].parameters(), 0.0
        )
        torch.manual_seed(1)
        scale.step(None, 0)
        grown[norms] = scale.modules["generator"].layers[0].weight.grad.norm().item()
    assert 20 * 25 < grown["sum"] / grown["mean"] < 3 * 20 * 25


@pytest.mark.parametrize(
    ("size", "count"),
    [((64, 64), 6), ((256, 256), 11), ((128, 128), 8), ((30, 90), 3), ((16, 16), 1)],
)
def test_scales_shrink_by_about_the_factor_down_to_the_field(size, count):
    sizes = paper.scale_sizes(*size)
    assert len(sizes) == count and sizes[-1] == size
    assert min(sizes[0]) == (paper.FIELD if count > 1 else min(size))
    assert all(0.7 < small[1] / large[1] < 0.81 for small, large in pairwise(sizes))


def test_a_palette_that_moves_by_one_moves_the_mean_score_by_at_most_one():
    """What the penalty asks for, at any size: a critic that adds up 1/k of the palette has none."""

    class Sum(nn.Module):
        def forward(self, seen):
            return seen[:, 1:2, 7:-7, 7:-7]  # a patch map, smaller than the picture

    scale = SimpleNamespace(modules={"critic": Sum()}, here=HERE)
    for size in (16, 40):
        places, real = size * size, torch.rand(1, 16, size, size)
        penalty = adversarial.gradient_penalty(
            lambda seen, n=places: n * paper.score(scale, seen),
            real,
            torch.zeros_like(real),
            1.0,
            per="place",
        )
        inside = (size - 14) ** 2 / places
        wanted = inside * (1 / inside - 1) ** 2 + (1 - inside)
        assert penalty.item() == pytest.approx(wanted, rel=1e-3)


def test_each_update_leaves_the_other_network_alone():
    scale = scale_of()
    painted, rebuilt = scale.make_pictures(0)
    fake = paper.what_the_critic_sees(paper.to_grey(painted), scale.reader(painted))

    def changed(update):
        before = {n: [p.clone() for p in m.parameters()] for n, m in scale.modules.items()}
        update()
        now = {n: list(m.parameters()) for n, m in scale.modules.items()}
        return [
            n for n in now if any(not torch.equal(*p) for p in zip(before[n], now[n], strict=True))
        ]

    assert changed(lambda: paper.update_critic(scale, fake.detach())) == ["critic"]
    update = lambda: paper.update_generator(scale, painted, rebuilt, fake)  # noqa: E731
    assert changed(update) == ["generator"]


def test_the_two_losses_pull_where_the_paper_says():
    """New noise takes the target's structure, the fixed noise becomes the reference."""
    pair = paper.make_pair("x", scene(16, 16, 1), scene(16, 16, 2), 16)
    recipe = replace(TINY, width=16, norm="instance", adversarial_weight=0.0)
    model, (stage,) = paper.train("x", recipe, paper.Budget((150,), 2e-3), pair, HERE)
    for key in ("reconstruction", "content"):
        values = stage.losses[key]
        assert np.mean(values[-10:]) < 0.6 * values[0]
    grey, reference = paper.target_and_reference(pair)
    new, fixed = model(model.noises(7)), model(model.noises())
    assert (fixed - reference).abs().mean() < (new - reference).abs().mean()
    assert (paper.to_grey(new) - grey).abs().mean() < (paper.to_grey(fixed) - grey).abs().mean()


def test_training_makes_the_palette_of_the_reference():
    red = np.zeros((20, 20, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    red[::2] = (60, 20, 20)
    grey = np.repeat(scene(20, 20, 3)[..., :1], 3, 2)
    pair = paper.make_pair("x", red, grey, 20)
    recipe = paper.Recipe(width=12, alpha_rec=0.0, coarsest=20)
    model, _ = paper.train("x", recipe, paper.Budget((150,), 2e-3), pair, HERE)
    ab = color.rgb_to_lab(color.as_rgb(paper.native(model, model.noises(0))[None]))
    assert ab[:, 1].mean() > 15  # reddish, where nothing but the critic has seen red


# --- pairs, measures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reference"),
    [((1, 1), (40, 30)), ((1, 50), (3, 3)), ((300, 20), (20, 300)), ((33, 64), (64, 33))],
)
def test_any_two_sizes_train_and_colour(target, reference):
    lightness = 100 * torch.rand(1, 1, *target)
    pair = paper.make_pair("x", scene(*reference), np.full((*target, 3), 90, np.uint8), 16)
    assert pair.reference.shape == pair.target.shape and max(pair.target.shape) <= 64
    model, _ = paper.train("x", TINY, BUDGET, pair, HERE)
    rgb = paper.colorize(model, lightness)
    assert rgb.shape == (1, 3, *target) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - lightness).abs().max() < 0.01


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_a_pair_gets_one_size_whatever_the_two_shapes(fit):
    pair = paper.make_pair("x", scene(60, 40), scene(48, 96), 24, fit)
    assert pair.reference.shape == pair.target.shape == (24, 48, 3)
    squashed = paper.make_pair("x", scene(60, 40), scene(48, 96), 24)
    assert np.array_equal(pair.reference, squashed.reference) == (fit == "squash")


class Stub:
    """A pyramid that paints one picture."""

    def __init__(self, picture):
        self.sizes, self.noises, self.picture = [(20, 25)], lambda *asked: [], picture

    def __call__(self, noises):
        return self.picture


def test_the_lines_are_those_of_the_error_of_the_colours():
    pair = pair_of()
    lines = paper.constant_lines(pair)
    ab = color.rgb_to_lab(color.as_rgb(pair.target[None]))[:, 1:] / 110
    assert lines["grey"] == pytest.approx(ab.abs().mean().item(), abs=1e-6)
    own = paper.make_pair("x", pair.target, pair.target, 20)
    assert paper.constant_lines(own)["reference's median"] <= lines["reference's median"]
    truth = color.as_batch(pair.target[None]).float() / 127.5 - 1
    scale = scale_of()
    scale.model = Stub(truth)
    assert paper.look_at(scale, pair, 1)["error"] < 1e-6
    scale.model = Stub(torch.zeros_like(truth))
    assert paper.look_at(scale, pair, 1)["error"] == pytest.approx(lines["grey"], abs=1e-4)


def test_to_look_at_a_scale_changes_nothing():
    pair, weights = pair_of(side=20), []
    for look in (True, False):
        scale = scale_of()
        torch.manual_seed(1)
        for index in range(3):
            scale.step(None, index)
            if look:
                found = paper.look_at(scale, pair, index)
        weights.append([p.clone() for m in scale.modules.values() for p in m.state_dict().values()])
    assert all(torch.equal(*both) for both in zip(*weights, strict=True))
    assert set(found) == {"our painting", "the reference", "the truth", "error"}
    grey = replace(pair, target=color.grey_of(pair.target))
    assert set(paper.look_at(scale, grey, 1)) == {"our painting", "the reference"}


def test_palette_distance_moves_earth():
    lab = np.array([[0.0, 0, 0], [100, 0, 0]])
    half, quarter = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert paper.palette_distance((lab, half), (lab, half)) == pytest.approx(0, abs=1e-9)
    assert paper.palette_distance((lab, half), (lab, quarter)) == pytest.approx(25)
    assert paper.palette_distance((lab, half), (lab[::-1], half)) == pytest.approx(0, abs=1e-9)
    away = lab + np.array([0, 3, 4])
    assert paper.palette_distance((lab, half), (away, half)) == pytest.approx(5)


def test_structure_and_palette_know_target_and_reference():
    pair = pair_of(30, 30, 30)
    assert paper.structure(pair.target, pair) == pytest.approx(1, abs=1e-3)
    assert paper.structure(pair.reference, pair) < 0.6
    assert paper.palette_share(pair.reference, pair) == pytest.approx(0, abs=1e-6)
    assert paper.palette_share(color.grey_of(pair.target), pair) == pytest.approx(1)


def test_colours_are_dealt_anew_among_equally_light_places_only():
    lightness = torch.full((1, 1, 20, 20), 40.0)
    lightness[..., 10:] = 75
    ab = np.zeros((20, 20, 2), np.float32)
    ab[:10, :10, 0], ab[:10, 10:, 1] = 20, 20  # in each half one colour above, grey below
    before = color.with_lightness(ab, lightness)
    after = paper.deal_colours(before, lightness)
    assert not np.array_equal(after, before)
    for half in (np.s_[:, :10], np.s_[:, 10:]):
        sides = [np.sort(x[half].reshape(-1, 3).astype(int), 0) for x in (before, after)]
        assert np.abs(sides[0] - sides[1]).max() <= 1  # the same colours, but for rounding


def test_the_parts_of_an_error_add_up_to_it():
    pair = pair_of(30, 30, 30)
    ab = [color.rgb_to_lab(color.as_rgb(x[None]))[0, 1:] for x in (pair.reference, pair.target)]
    told = paper.judge(pair.reference, pair)
    error = (ab[0] - ab[1]).square().sum(0).mean().item()
    assert told["squared error"] == pytest.approx(error, rel=1e-4)
    one = paper.judge(np.zeros_like(pair.target) + np.uint8([90, 60, 60]), pair)
    assert (
        one["own spread"] == pytest.approx(0, abs=1e-6) == pytest.approx(one["− 2 cov"], abs=1e-6)
    )


def test_patch_matching_finds_a_picture_in_itself_and_keeps_lightness():
    rgb = pictures.resize(datasets.photo(PHOTOS[0]), (40, 40), "squash")
    same = paper.make_pair("x", rgb, rgb, 40)
    painted = paper.gpnn(same)
    off = color.lightness_of(painted) - color.lightness_of(same.target)
    assert off.abs().mean() < 0.5  # rounded to 8 bits
    errors = metrics.ciede2000(np.stack([painted, color.grey_of(rgb)]), np.stack([rgb, rgb]))
    assert errors[0] < 0.25 * errors[1]


def test_windows_come_back_as_the_picture_they_were_cut_from():
    planes = torch.rand(1, 2, 9, 12)
    assert paper.windows(planes).shape == (9 * 12, 2 * paper.WINDOW**2)
    torch.testing.assert_close(paper.average(paper.windows(planes), (9, 12)), planes)
    keys = torch.randn(30, 50)
    assert paper.look_up(keys.flip(0), keys).tolist() == list(range(29, -1, -1))


# --- files, hook --------------------------------------------------------------------------------


def test_weights_come_back_as_the_same_model_and_say_which_picture_they_paint(tmp_path):
    pair = pair_of(22, 22, 22)
    P = SimpleNamespace(weights="", resume=False)
    model, _ = paper.train_or_load(pair, TINY, BUDGET, P, HERE, tmp_path)
    file = tmp_path / "weights" / "two_unpaired-x.safetensors"
    again, info = paper.load_model(file), training.read_info(file)
    assert info["build"] == json.loads(json.dumps({"recipe": asdict(TINY), "sizes": model.sizes}))
    assert torch.equal(model(model.noises()), again(again.noises()))
    grey = color.lightness_of(pair.target)
    assert torch.equal(paper.colorize(model, grey, seed=3), paper.colorize(again, grey, seed=3))
    assert not torch.equal(model(model.noises(0)), model(model.noises(1)))
    assert info["target"] == colorize.thumbnail(grey)
    assert info["target"] != colorize.thumbnail(color.lightness_of(pair.reference))


def test_it_can_be_trained_for_a_photo_from_elsewhere(monkeypatch):
    monkeypatch.setattr(paper, "FIT_BUDGET", BUDGET)
    monkeypatch.setattr(paper, "FIT_RECIPE", TINY)
    lightness = color.lightness_of(scene(50, 71, 1))
    model = paper.fit_reference(scene(30, 30, 2), HERE, lightness, side=20)
    assert model.sizes[-1] == (20, 28)
    assert paper.colorize(model, lightness).shape == (1, 3, 50, 71)
