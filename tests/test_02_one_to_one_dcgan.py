"""The definitions of notebook 02, as the notebook itself uses them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import overfits

from colorlib import color, machine, metrics, notebooks, pictures, training

paper = notebooks.load("02_one_to_one_dcgan")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, critic_width=4, image_size=72)
sides = st.integers(64, 150)


def scene(height=80, width=100, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


def as_rgb(picture):
    return color.as_rgb(picture[None])


# --- the networks of Tables I and II ----------------------------------------------------------


def test_generator_has_the_shapes_and_weights_of_table_2():
    generator = paper.Generator()
    seen = paper.trace_layers(generator, torch.zeros(2, 1, 64, 64))
    outputs = [64, 128, 256, 512, 256, 128, 64, 3, 3]
    halves = [32, 16, 8, 4, 8, 16, 32, 64, 64]
    assert [shape for shape, _ in seen] == [
        (2, c, s, s) for c, s in zip(outputs, halves, strict=True)
    ]
    ladder = [1, *outputs[:8]]
    kernels = [25 * a * b + b for a, b in pairwise(ladder)]
    norms = [2 * b for b in outputs[:7]] + [0]
    assert [n for _, n in seen[:8]] == [k + n for k, n in zip(kernels, norms, strict=True)]
    assert 8.5 < training.count_parameters(generator) < 8.8


def test_discriminator_gives_100_rows_of_one_score():
    seen = paper.trace_layers(paper.Discriminator(), torch.zeros(100, 3, 64, 64))
    assert [shape for shape, _ in seen] == [
        (100, 64, 32, 32),
        (100, 128, 16, 16),
        (100, 256, 8, 8),
        (100, 512, 4, 4),
        (100, 1),
    ]
    assert seen[4][1] == 512 * 16 + 1


# --- pieces of the source -----------------------------------------------------------------------


def test_grey_and_colour_pieces_are_one_transform():
    source = scene()
    batch = paper.Pieces(source, 24, 8, seed=1).cut(torch.arange(24))
    assert torch.equal(paper.to_grey(batch["rgb"]), color.rgb_to_lab(batch["rgb"])[:, :1] / 50 - 1)
    # a grey source, moved by the same table, lies where the colour pieces' lightness lies
    geometry = ("rotate", "flip", "warp", "resize")
    grey = color.grey_of(source)
    of_colour, of_grey = (
        paper.to_grey(paper.Pieces(s, 24, 8, 1, geometry).cut(torch.arange(24))["rgb"])
        for s in (source, grey)
    )
    assert (of_colour - of_grey).abs().mean() < 0.01


def test_an_epoch_shows_every_piece_once_and_the_next_in_another_order():
    pieces = paper.Pieces(scene(), 24, 8, seed=0)
    epochs = [
        torch.cat([pieces.batch(e * 3 + i, "cpu")["rgb"] for i in range(3)]).flatten(1).sum(1)
        for e in range(2)
    ]
    whole = pieces.cut(torch.arange(24))["rgb"].flatten(1).sum(1)
    for epoch in epochs:
        torch.testing.assert_close(epoch.sort().values, whole.sort().values)
    assert not torch.equal(*epochs)


def test_pieces_without_augmentation_are_crops():
    source = scene(70, 90)
    pieces = paper.Pieces(source, 30, 8, 0, ()).cut(torch.arange(30))["rgb"]
    crops = as_rgb(source).unfold(2, 64, 1).unfold(3, 64, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    nearest = torch.cdist(pieces.flatten(1), crops.flatten(1), p=math.inf).min(1).values
    assert nearest.max() < 1e-3
    assert len(torch.cdist(pieces.flatten(1), crops.flatten(1)).argmin(1).unique()) > 15


@pytest.mark.parametrize("kind", paper.AUGMENTATIONS)
def test_each_augmentation_changes_what_it_names(kind):
    pieces = [paper.Pieces(scene(), 12, 4, 0, kinds) for kinds in ((), (kind,))]
    plain, changed = (p.cut(torch.arange(12)) for p in pieces)
    moved = (plain["position"] - changed["position"]).abs().amax((1, 2, 3)) > 1e-4
    geometric = kind in ("rotate", "flip", "warp", "resize")
    assert bool(moved.any()) == geometric
    assert ((plain["rgb"] - changed["rgb"]).abs().amax((1, 2, 3)) > 1e-3).float().mean() > 0.3


# --- lattice, merging, segments -----------------------------------------------------------------


def test_the_papers_lattice_has_49_places():
    places = paper.lattice(256, 256)
    assert places.tolist() == [[32 * i, 32 * j] for i in range(7) for j in range(7)]  # Eq. 4


@settings(max_examples=60)
@given(sides, sides, st.integers(4, 64), st.integers(0, 60), st.integers(0, 99))
def test_every_pixel_is_covered(height, width, stride, jitter, seed):
    jitter = min(jitter, 64 - stride)
    places = paper.lattice(height, width, stride, jitter, seed)
    covered = np.zeros((height, width), bool)
    for top, left in places:
        assert 0 <= top <= height - 64 and 0 <= left <= width - 64
        covered[top : top + 64, left : left + 64] = True
    assert covered.all()


@settings(max_examples=25)
@given(sides, sides, st.integers(16, 64), st.integers(0, 99))
def test_weights_sum_to_one_and_a_perfect_generator_gives_the_target(height, width, stride, seed):
    random = torch.Generator().manual_seed(seed)
    target = torch.rand(1, 3, height, width, generator=random)
    places = paper.lattice(height, width, stride, 0, seed)
    pieces = paper.cut(target, places)
    weights = 0.01 + torch.rand(len(places), 1, 64, 64, generator=random)
    merged = paper.merge_pieces(pieces, weights, places, (height, width))
    torch.testing.assert_close(merged, target, atol=1e-5, rtol=1e-5)
    ones = paper.merge_pieces(torch.ones_like(pieces), weights, places, (height, width))
    torch.testing.assert_close(ones, torch.ones_like(target), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["map", "scalar", "equal"])
def test_a_perfect_generator_ends_in_the_targets_own_ab(kind):
    truth = as_rgb(scene(90, 110))
    places, grey = paper.lattice(90, 110), paper.to_grey(truth)
    post = paper.Post(ssim=kind, sigma=0, segment="none")
    stages = paper.finish(paper.cut(truth, places), grey, places, post)
    expected = color.normalise(color.rgb_to_lab(truth))[1]
    assert (stages["ab"] - expected).abs().max() < 1e-3


def test_a_piece_that_keeps_the_structure_weighs_more():
    given = paper.to_grey(as_rgb(scene(64, 64, seed=2)))
    good = ((given + 1) / 2).expand(-1, 3, -1, -1)
    noise = torch.rand(1, 3, 64, 64)
    for kind in ("map", "scalar"):
        weights = [paper.piece_weights(p, given, kind).mean() for p in (good, noise)]
        assert weights[0] > 2 * weights[1] > 0
    assert paper.piece_weights(noise, given, "equal").unique().tolist() == [1.0]


def test_ssim_agrees_with_scikit_image():
    from skimage.metrics import structural_similarity

    one, two = (scene(64, 80, s)[..., 0] / 255 for s in (1, 2))
    ours = paper.ssim_map(*(torch.tensor(p)[None, None] for p in (one, two)))[0, 0].numpy()
    _, theirs = structural_similarity(
        one, two, data_range=1, full=True, use_sample_covariance=False
    )
    assert np.abs(ours - theirs)[3:-3, 3:-3].max() < 1e-6


def test_seams_are_seen_where_pieces_end():
    places = paper.lattice(64, 128, 64)
    flat = torch.full((1, 3, 64, 128), 0.5) + 0.01 * torch.rand(1, 3, 64, 128)
    cut = flat.clone()
    cut[..., 64:] = cut[..., 64:] * torch.tensor([1.4, 0.8, 0.6]).view(1, 3, 1, 1)
    assert paper.seam_excess(cut, flat, places) > 10
    assert paper.seam_excess(flat, flat, places) == paper.seam_excess(cut, cut, places) == 0
    assert math.isnan(paper.seam_excess(flat, flat, places[:0]))


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frobenius", ["mean", "sum"])
def test_losses_are_those_of_the_equations(frobenius):
    gan = paper.PieceGAN(paper.replace(TINY, frobenius=frobenius), HERE, 1e-9)
    batch = paper.Pieces(scene(), 8, 4).batch(0, "cpu")
    x, z = 2 * batch["rgb"] - 1, paper.to_grey(batch["rgb"])
    with torch.no_grad():
        painted = gan.modules["generator"](z)
        scores = [gan.modules["critic"](p) for p in (x, painted)]
    losses = gan.step(batch, 0)
    real, fake = (torch.sigmoid(s) for s in scores)
    expected = -(real.log().mean() + (1 - fake).log().mean()) / 2  # Eq. 1 has their sum
    assert losses["discriminator"].item() == pytest.approx(expected.item(), rel=1e-3)
    squares = (painted - x).square().flatten(1)
    assert losses["mse"].item() == pytest.approx(squares.mean().item(), rel=1e-3)
    second = squares.sum(1).mean() if frobenius == "sum" else squares.mean()  # Eq. 2
    total = losses["cross_entropy"] + second
    assert losses["generator"].item() == pytest.approx(total.item(), rel=1e-3)


def test_adversarial_alone_hears_nothing_of_the_colours():
    gan = paper.PieceGAN(paper.replace(TINY, frobenius="none"), HERE, 1e-4)
    losses = gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)
    assert losses["generator"].item() == pytest.approx(losses["cross_entropy"].item())


def test_the_critic_loss_does_not_reach_the_generator():
    gan = paper.PieceGAN(TINY, HERE, 1e-3)
    gan.update_generator = lambda x, painted: {}
    gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)
    assert all(p.grad is None for p in gan.modules["generator"].parameters())


@pytest.mark.parametrize("adversarial", ["gan", "gan_saturating"])
@pytest.mark.parametrize("descriptors", ["none", "position", "features", "context"])
def test_every_recipe_takes_a_step_and_paints(adversarial, descriptors):
    recipe = paper.replace(
        TINY, adversarial=adversarial, descriptors=descriptors, hints="recolored"
    )
    gan = paper.PieceGAN(recipe, HERE, 1e-3)
    losses = gan.step(paper.pieces_of(scene(), recipe, BUDGET).batch(0, "cpu"), 0)
    assert all(torch.isfinite(loss) for loss in losses.values())
    model = gan.modules["generator"].eval()
    assert paper.colorize(model, color.lightness_of(scene(70, 64))).shape == (1, 3, 70, 64)


def tiny_pair(seed=0):
    return paper.make_pair("tiny", scene(72, 80, seed), scene(80, 72, seed), 72)


BUDGET = paper.Budget(pieces=16, batch_size=8, epochs=3, rate=2e-3)


def test_training_learns_the_colours_of_its_source():
    red_and_blue = np.zeros((72, 72, 3), np.uint8)
    red_and_blue[:36], red_and_blue[36:] = (200, 60, 50), (10, 20, 90)
    pair = paper.make_pair("two", red_and_blue, red_and_blue, 72)
    budget = paper.Budget(pieces=64, batch_size=16, epochs=12, rate=4e-3)
    recipe = paper.replace(TINY, frobenius="sum")  # which learns in fewer steps
    model, history, album = paper.train("two", recipe, budget, pair, HERE, post=paper.Post())
    assert history.losses["mse"][-1] < 0.4 * history.losses["mse"][0]
    pages = album.pages.numpy()
    errors = metrics.ciede2000(pages, np.stack([pair.target] * len(pages)))
    assert errors[-1] < 0.5 * errors[0]
    assert np.array_equal(pages[-1], paper.paint_pair(model, pair, HERE, paper.Post()))


def test_the_generator_learns_four_pieces_by_heart():
    torch.manual_seed(0)
    recipe = paper.replace(TINY, width=16, adversarial="none")
    gan, pieces = paper.PieceGAN(recipe, HERE, 5e-3, 0.9), paper.Pieces(scene(), 4, 4)

    def step(batch, index):
        gan.step(batch, index)
        x, given = paper.posed(recipe, batch)
        with torch.no_grad():
            lab = [color.rgb_to_lab((p + 1) / 2) for p in (gan.modules["generator"](given), x)]
        return {"l1": (lab[0] - lab[1])[:, 1:].abs().mean() / 110}

    batch = pieces.batch(0, "cpu")
    assert overfits(step, batch, gan.modules["generator"], most=150) < 0.02


def test_settling_gives_the_batch_norms_the_statistics_of_the_source_and_leaves_the_network_alone():
    torch.manual_seed(0)
    gan, pieces = paper.PieceGAN(TINY, HERE, 1e-3), paper.Pieces(scene(), 64, 4)
    generator = gan.modules["generator"]
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    settled = paper.settled(generator, pieces, HERE)
    assert all(torch.equal(before[key], value) for key, value in generator.state_dict().items())
    for module in gan.modules.values():
        assert training.norms_that_sleep(module) == [] and module.training
    assert not settled.training
    first = [
        settled.layers[0][0](paper.posed(TINY, pieces.batch(i, "cpu"))[1])
        for i in range(paper.SETTLE)
    ]
    means = torch.stack([maps.mean((0, 2, 3)) for maps in first]).mean(0)
    torch.testing.assert_close(settled.layers[0][1].running_mean, means, atol=1e-5, rtol=1e-3)


def test_the_rate_fades_in_the_second_half():
    rates = [paper.fading(step, 100) for step in (0, 49, 75, 99)]
    assert rates == pytest.approx([1, 1, 0.5, 0.02])


# --- painting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (30, 200), (64, 64), (65, 127), (150, 90)])
def test_colorize_keeps_size_and_lightness(size):
    torch.manual_seed(0)
    model = paper.build_generator(TINY).eval()
    grey = 100 * torch.rand(1, 1, *size)
    rgb = paper.colorize(model, grey)
    assert rgb.shape == (1, 3, *size) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_weights_come_back_as_the_same_model(tmp_path):
    torch.manual_seed(0)
    recipe = paper.replace(TINY, descriptors="position")
    model = paper.build_generator(recipe).eval()
    info = {"notebook": paper.NAME, "row": "dcgan", "build": paper.asdict(recipe)}
    training.save_weights(tmp_path / "w.safetensors", model, info)
    again = paper.load_model(tmp_path / "w.safetensors")
    grey = color.lightness_of(scene())
    assert again.recipe == recipe and again.image_size == 72
    assert torch.equal(paper.colorize(model, grey), paper.colorize(again, grey))


def test_a_reference_is_learned_for_the_command_line(monkeypatch):
    monkeypatch.setattr(paper, "FIT_BUDGET", BUDGET)
    monkeypatch.setattr(paper, "FIT_RECIPE", TINY)
    model = paper.fit_reference(scene(100, 90), HERE, side=70)
    assert model.image_size == 70 and not model.training
    assert paper.colorize(model, color.lightness_of(scene(140, 150))).shape == (1, 3, 140, 150)


# --- hints ----------------------------------------------------------------------------------------


def test_dabs_hold_the_true_colour_where_they_lie():
    pair = tiny_pair()
    hints = paper.place_hints(pair, 12, seed=1)
    mask = hints[:, :1] > 0
    assert hints.shape == (1, 3, *pair.target.shape[:2])
    assert 12 * 4 <= mask.sum() <= 12 * 9
    truth = color.normalise(color.rgb_to_lab(as_rgb(pair.target)))[1]
    off = (hints[:, 1:] - truth).norm(dim=1, keepdim=True)[mask]
    assert 110 * off.mean() < 6
    assert hints[:, 1:].abs().sum(1, keepdim=True)[~mask].max() == 0
    assert torch.equal(hints, paper.place_hints(pair, 12, seed=1))


def test_recoloured_pieces_keep_lightness_and_their_dabs_follow():
    torch.manual_seed(0)
    rgb = as_rgb(scene(64, 64)).expand(64, -1, -1, -1)
    recoloured, dabs = paper.simulate_hints(rgb)
    assert (paper.to_grey(recoloured) - paper.to_grey(rgb)).abs().max() < 2e-3
    changed = (recoloured - rgb).abs().amax((1, 2, 3)) > 0.02
    with_dabs = dabs[:, 0].flatten(1).any(1)
    assert 20 < changed.sum() < 64 and not changed[~with_dabs].any()
    ab = color.normalise(color.rgb_to_lab(recoloured))[1]
    mask = dabs[:, :1].expand_as(ab) > 0
    assert 110 * (dabs[:, 1:] - ab)[mask].abs().mean() < 6
    same, _ = paper.simulate_hints(rgb, recolored=False)
    torch.testing.assert_close(same, rgb, atol=1e-3, rtol=0)


# --- pairs ----------------------------------------------------------------------------------------


def asked(**more):
    defaults = {"data": "pairs", "pairs": [], "source": "", "target": "", "image_size": 80}
    return SimpleNamespace(**(defaults | {"show": []} | more))


def test_results_are_of_pairs_that_served_no_choice():
    found, problems = paper.load_pairs(asked())
    assert problems == [] and len(found) == 25
    assert {p.part for p in found} == {"results"} and all(p.has_truth and p.shown for p in found)
    assert {min(p.target.shape[:2]) for p in found} == {80}
    near = {p.name for p in found if paper.nearness(p)}
    assert near == {"beach_dog", "dandelion", "moorland", "reservoir", "sunflower2"}
    assert not paper.nearness(paper.make_pair("reservoir", scene(), scene(), 72))  # one's own


def test_a_grey_source_has_no_colours_to_give():
    with pytest.raises(notebooks.ParameterError, match="reference is grey"):
        paper.make_pair("x", np.full((80, 80, 3), 120, np.uint8), scene(), 72)


# --- scores, causes, verdicts ---------------------------------------------------------------------


def test_partial_rank_correlation_agrees_with_scipy_and_takes_the_third_out():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    third, none = random.normal(size=200), np.zeros(200)
    one, other = (third + 0.3 * random.normal(size=200) for _ in range(2))
    plain = paper.partial_rank_correlation(one, other, none)
    assert plain == pytest.approx(spearmanr(one, other).statistic)
    assert abs(paper.partial_rank_correlation(one, other, third)) < 0.25 < 0.8 < plain
    assert paper.partial_rank_correlation(one, one + 1, third) == pytest.approx(1)
    assert math.isnan(paper.partial_rank_correlation(one[:4], other[:4], third[:4]))
    assert math.isnan(paper.partial_rank_correlation(none, one, third))


def test_a_piece_of_the_source_itself_has_a_near_neighbour():
    source = scene(96, 96, 3)
    pairs = [paper.make_pair("x", source, target, 96) for target in (source, scene(96, 96, 9))]
    torch.manual_seed(0)
    model, pieces = paper.build_generator(TINY).eval(), paper.Pieces(source, 400, 8, 0, ())
    facts = [paper.piece_facts(pair, model, pieces, HERE, paper.Post()) for pair in pairs]
    assert facts[0]["distance"].mean() < 0.5 * facts[1]["distance"].mean()
    for measure in ("error", "error_of_mean", "distance", "ambiguity", "chroma"):
        assert facts[0][measure].shape == (len(paper.lattice(96, 96)),)


def test_a_perfect_generator_loses_nothing_without_gaussian_and_segments():
    pair = tiny_pair()
    bare = paper.perfect_stages(pair, paper.Post(sigma=0, segment="none"))
    whole = paper.perfect_stages(pair, paper.Post(sigma=4))
    assert max(bare.values()) < 0.05 < whole["smoothed"] and whole["segmented"] > 0.05


def test_pictures_of_a_hint_study_are_of_its_first_seed(monkeypatch):
    monkeypatch.setattr(paper, "train", lambda *a: (paper.build_generator(a[1]).eval(), None, None))
    P = SimpleNamespace(
        hint_ways=["recolored"],
        study_seeds=[3, 4],
        hint_counts=[2, 9],
        resume=False,
        image_size=72,
        batch_size=8,
        study_width=4,
    )
    pair = tiny_pair()
    post = paper.Post(sigma=0, segment="none")
    study, paintings = paper.run_hints(P, [pair], TINY, BUDGET, HERE, Path(), post)
    for count in (2, 9):
        dabs = paper.place_hints(pair, count, 3)
        assert torch.equal(paintings["tiny", count]["hints"], dabs)
        assert np.array_equal(paintings["tiny", count]["levin"], paper.paint_levin(pair, dabs))
    assert study["steps"] == 6
    levin = [paper.paint_levin(pair, paper.place_hints(pair, 9, seed)) for seed in (3, 4)]
    errors = [metrics.ciede2000(rgb[None], pair.target[None])[0] for rgb in levin]
    assert study["counts"]["9"]["levin"] == pytest.approx(np.mean(errors))
    assert len(study["most"]["none"]["delta_e_paired"]["seeds"]) == 2
