"""The definitions of notebook 02, as the notebook itself uses them."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import overfits

from colorlib import color, machine, notebooks, pictures, training

paper = notebooks.load("02_one_to_one_dcgan")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, image_size=72)
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
    generator = paper.Generator(paper.Recipe())
    rows = paper.trace_layers(generator, torch.zeros(2, 1, 64, 64))
    outputs = [64, 128, 256, 512, 256, 128, 64, 3, 3]
    halves = [32, 16, 8, 4, 8, 16, 32, 64, 64]
    expected = [f"2 × {c} × {s} × {s}" for c, s in zip(outputs, halves, strict=True)]
    assert [row["out"] for row in rows] == expected
    assert [row["layer"] for row in rows[:8]] == ["Conv."] * 4 + ["Deconv."] * 4
    kernels = [25 * a * b + b for a, b in pairwise([1, *outputs[:8]])]
    norms = [2 * b for b in outputs[:7]] + [0]
    counted = [k + n for k, n in zip(kernels, norms, strict=True)]
    assert [row["parameters"] for row in rows[:8]] == counted
    assert 8.5 < training.count_parameters(generator) < 8.8


def test_discriminator_gives_100_rows_of_one_score():
    rows = paper.trace_layers(paper.Discriminator(), torch.zeros(100, 3, 64, 64))
    sizes = ["64 × 32 × 32", "128 × 16 × 16", "256 × 8 × 8", "512 × 4 × 4", "1"]
    assert [row["out"] for row in rows] == [f"100 × {size}" for size in sizes]
    assert rows[4]["parameters"] == 512 * 16 + 1


def test_taken_to_the_letter_the_last_layer_paints_half_the_range():
    torch.manual_seed(0)
    literal = paper.Generator(paper.replace(TINY, literal_last=True)).eval()
    assert literal(torch.rand(2, 1, 64, 64)).min() >= 0


# --- pieces of the source -----------------------------------------------------------------------


def test_grey_and_colour_pieces_are_one_transform():
    source = scene()
    batch = paper.Pieces(source, 24, 8, seed=1).cut(torch.arange(24))
    assert torch.equal(paper.to_grey(batch), color.rgb_to_lab(batch)[:, :1] / 50 - 1)
    # a grey source, moved by the same table, lies where the colour pieces' lightness lies
    geometry = ("rotate", "flip", "warp", "resize")
    grey = color.grey_of(source)
    of_colour, of_grey = (
        paper.to_grey(paper.Pieces(s, 24, 8, 1, geometry).cut(torch.arange(24)))
        for s in (source, grey)
    )
    assert (of_colour - of_grey).abs().mean() < 0.01


def test_an_epoch_shows_every_piece_once_and_the_next_in_another_order():
    pieces = paper.Pieces(scene(), 24, 8, seed=0)
    epochs = [
        torch.cat([pieces.batch(e * 3 + i, "cpu") for i in range(3)]).flatten(1).sum(1)
        for e in range(2)
    ]
    whole = pieces.cut(torch.arange(24)).flatten(1).sum(1)
    for epoch in epochs:
        torch.testing.assert_close(epoch.sort().values, whole.sort().values)
    assert not torch.equal(*epochs)


def test_pieces_without_augmentation_are_crops():
    source = scene(70, 90)
    pieces = paper.Pieces(source, 30, 8, 0, ()).cut(torch.arange(30))
    crops = as_rgb(source).unfold(2, 64, 1).unfold(3, 64, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    nearest = torch.cdist(pieces.flatten(1), crops.flatten(1), p=math.inf).min(1).values
    assert nearest.max() < 1e-3
    assert len(torch.cdist(pieces.flatten(1), crops.flatten(1)).argmin(1).unique()) > 15


@pytest.mark.parametrize("kind", paper.AUGMENTATIONS)
def test_each_augmentation_changes_what_it_names(kind):
    tables = [paper.draw_pieces(12, 0, kinds) for kinds in ((), (kind,))]
    grids = [paper.sampling_grid(table, 80, 100) for table in tables]
    moved = (grids[0] - grids[1]).abs().amax((1, 2, 3)) > 1e-4
    assert bool(moved.any()) == (kind in ("rotate", "flip", "warp", "resize"))
    pieces = [paper.Pieces(scene(), 12, 4, 0, kinds) for kinds in ((), (kind,))]
    plain, changed = (p.cut(torch.arange(12)) for p in pieces)
    assert ((plain - changed).abs().amax((1, 2, 3)) > 1e-3).float().mean() > 0.3


# --- lattice, merging, segments -----------------------------------------------------------------


def test_the_papers_lattice_has_49_places():
    places = paper.lattice(256, 256)
    assert places.tolist() == [[32 * i, 32 * j] for i in range(7) for j in range(7)]  # Eq. 4


@settings(max_examples=60)
@given(sides, sides, st.integers(4, 64))
def test_every_pixel_is_covered(height, width, stride):
    covered = np.zeros((height, width), bool)
    for top, left in paper.lattice(height, width, stride):
        assert 0 <= top <= height - 64 and 0 <= left <= width - 64
        covered[top : top + 64, left : left + 64] = True
    assert covered.all()


@settings(max_examples=25)
@given(sides, sides, st.integers(16, 64), st.integers(0, 99))
def test_weights_sum_to_one_and_a_perfect_generator_gives_the_target(height, width, stride, seed):
    random = torch.Generator().manual_seed(seed)
    target = torch.rand(1, 3, height, width, generator=random)
    places = paper.lattice(height, width, stride)
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
    assert (stages["merged"] - truth).abs().max() < 1e-5 and "segmented" not in stages


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


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frobenius", ["mean", "sum"])
def test_losses_are_those_of_the_equations(frobenius):
    gan = paper.Training(paper.replace(TINY, frobenius=frobenius), HERE, 1e-9)
    batch = paper.Pieces(scene(), 8, 4).batch(0, "cpu")
    x, z = 2 * batch - 1, paper.to_grey(batch)
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
    gan = paper.Training(paper.replace(TINY, frobenius="none"), HERE, 1e-4)
    losses = gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)
    assert losses["generator"].item() == pytest.approx(losses["cross_entropy"].item())


def test_the_critic_loss_does_not_reach_the_generator():
    gan = paper.Training(TINY, HERE, 1e-3)
    gan.update_generator = lambda x, painted: {}
    gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)
    assert all(p.grad is None for p in gan.modules["generator"].parameters())


@pytest.mark.parametrize("adversarial", ["gan", "gan_saturating", "none"])
def test_every_recipe_takes_a_step_and_paints(adversarial):
    gan = paper.Training(paper.replace(TINY, adversarial=adversarial), HERE, 1e-3)
    losses = gan.step(paper.Pieces(scene(), 16, 8).batch(0, "cpu"), 0)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert ("critic" in gan.modules) == (adversarial != "none")
    model = gan.modules["generator"].eval()
    assert paper.colorize(model, color.lightness_of(scene(70, 64))).shape == (1, 3, 70, 64)


def tiny_pair(seed=0):
    return paper.make_pair("tiny", scene(72, 80, seed), scene(80, 72, seed), 72)


BUDGET = paper.Budget(pieces=16, batch_size=8, epochs=3, rate=2e-3)


def test_training_learns_the_colours_of_its_source_and_keeps_a_picture_an_epoch(tmp_path):
    red_and_blue = np.zeros((72, 72, 3), np.uint8)
    red_and_blue[:36], red_and_blue[36:] = (200, 60, 50), (10, 20, 90)
    pair = paper.make_pair("two", red_and_blue, red_and_blue, 72)
    budget = paper.Budget(pieces=64, batch_size=16, epochs=12, rate=4e-3)
    recipe = paper.replace(TINY, frobenius="sum")  # which learns in fewer steps
    watch = paper.watcher(pair, HERE, tmp_path)
    model, history = paper.train("two", recipe, budget, pair, HERE, watch=watch)
    assert history.losses["mse"][-1] < 0.4 * history.losses["mse"][0]
    errors = [entry["CIEDE2000"] for entry in history.validation]
    frames = sorted(tmp_path.glob("*.png"))
    assert len(errors) == len(frames) == 12 and errors[-1] < 0.5 * errors[0]
    painted = paper.paint_pair(model, pair, HERE, paper.Post())
    assert np.array_equal(pictures.read_rgb(frames[-1]), painted)


def test_the_generator_learns_four_pieces_by_heart():
    torch.manual_seed(0)
    recipe = paper.replace(TINY, width=16, adversarial="none")
    gan, pieces = paper.Training(recipe, HERE, 5e-3), paper.Pieces(scene(), 4, 4)

    def step(batch, index):
        gan.step(batch, index)
        x, given = gan.pose(batch)
        with torch.no_grad():
            lab = [color.rgb_to_lab((p + 1) / 2) for p in (gan.modules["generator"](given), x)]
        return {"l1": (lab[0] - lab[1])[:, 1:].abs().mean() / 110}

    batch = pieces.batch(0, "cpu")
    assert overfits(step, batch, gan.modules["generator"], most=150) < 0.02


def test_settling_gives_the_batch_norms_the_statistics_of_the_source_and_leaves_the_network_alone():
    torch.manual_seed(0)
    gan, pieces = paper.Training(TINY, HERE, 1e-3), paper.Pieces(scene(), 64, 4)
    generator = gan.modules["generator"]
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    settled = paper.settled(generator, pieces, gan)
    assert all(torch.equal(before[key], value) for key, value in generator.state_dict().items())
    for module in gan.modules.values():
        assert training.norms_that_sleep(module) == [] and module.training
    assert not settled.training
    first = [settled.layers[0][0](gan.pose(pieces.batch(i, "cpu"))[1]) for i in range(paper.SETTLE)]
    means = torch.stack([maps.mean((0, 2, 3)) for maps in first]).mean(0)
    torch.testing.assert_close(settled.layers[0][1].running_mean, means, atol=1e-5, rtol=1e-3)


def test_the_rate_fades_in_the_second_half():
    rates = [paper.fading(step, 100) for step in (0, 49, 75, 99)]
    assert rates == pytest.approx([1, 1, 0.5, 0.02])


# --- painting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (30, 200), (64, 64), (65, 127), (150, 90)])
def test_colorize_keeps_size_and_lightness(size):
    torch.manual_seed(0)
    model = paper.Generator(TINY).eval()
    grey = 100 * torch.rand(1, 1, *size)
    rgb = paper.colorize(model, grey)
    assert rgb.shape == (1, 3, *size) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_weights_come_back_as_the_same_model(tmp_path):
    torch.manual_seed(0)
    model = paper.Generator(TINY).eval()
    info = {"notebook": paper.NAME, "row": "dcgan", "build": paper.asdict(TINY)}
    training.save_weights(tmp_path / "w.safetensors", model, info)
    again, grey = paper.load_model(tmp_path / "w.safetensors"), color.lightness_of(scene())
    assert again.image_size == 72
    assert torch.equal(paper.colorize(model, grey), paper.colorize(again, grey))


def test_a_reference_is_learned_for_the_command_line(monkeypatch):
    monkeypatch.setattr(paper, "FIT_BUDGET", BUDGET)
    monkeypatch.setattr(paper, "FIT_RECIPE", TINY)
    model = paper.fit_reference(scene(100, 90), HERE, side=70)
    assert model.image_size == 70 and not model.training
    assert paper.colorize(model, color.lightness_of(scene(140, 150))).shape == (1, 3, 140, 150)


def test_the_long_way_is_the_papers_own(monkeypatch):
    asked = []
    monkeypatch.setattr(paper, "train", lambda _, *given: [asked.extend(given)])
    paper.fit_reference(scene(100, 90), HERE, long=True)
    assert asked[:2] == [paper.Recipe(), paper.Budget()]


# --- pairs ----------------------------------------------------------------------------------------


def asked(**more):
    defaults = {"data": "pairs", "pairs": [], "source": "", "target": "", "image_size": 80}
    return SimpleNamespace(**(defaults | more))


def test_results_are_of_pairs_that_served_no_choice():
    found, problems = paper.load_pairs(asked())
    assert problems == [] and len(found) == 25
    assert {p.part for p in found} == {"results"} and all(p.has_truth for p in found)
    assert {min(p.target.shape[:2]) for p in found} == {80}
    assert set(paper.NEAR) & {p.name for p in found} == {
        "beach_dog",
        "dandelion",
        "moorland",
        "reservoir",
        "sunflower2",
    }


def test_a_grey_source_has_no_colours_to_give():
    with pytest.raises(notebooks.ParameterError, match="reference is grey"):
        paper.make_pair("x", np.full((80, 80, 3), 120, np.uint8), scene(), 72)


# --- scores ---------------------------------------------------------------------------------------


def test_the_worst_piece_is_shown_beside_the_sources_most_alike():
    source = scene(96, 96, 3)
    torch.manual_seed(0)
    model, pieces = paper.Generator(TINY).eval(), paper.Pieces(source, 400, 8, 0, ())
    pairs = [paper.make_pair("x", source, target, 96) for target in (source, scene(96, 96, 9))]
    found = [paper.worst_piece(pair, model, pieces, HERE) for pair in pairs]
    assert found[0][2] < 0.5 * found[1][2], "a piece of the source itself has a near neighbour"
    for labs, error, _ in found:
        assert error > 0 and [lab.shape for lab in labs] == [(3, 64, 64)] * 4
        assert labs[0][1:].abs().max() == 0 and torch.equal(labs[0][0], labs[2][0])


def test_a_perfect_generator_loses_nothing_without_gaussian_and_segments():
    pair = tiny_pair()
    bare = paper.perfect_stages(pair, paper.Post(sigma=0, segment="none"))
    whole = paper.perfect_stages(pair, paper.Post(sigma=4))
    assert max(bare.values()) < 0.05 < whole["smoothed"] and whole["segmented"] > 0.05


def test_every_stage_is_there_and_the_last_has_the_targets_lightness():
    torch.manual_seed(0)
    pair, model = tiny_pair(), paper.Generator(TINY).eval()
    stages, places, pieces = paper.all_stages(model, pair, HERE, paper.Post())
    assert list(stages) == ["plain average", "merged", "smoothed", "segmented", "own L"]
    assert len(places) == len(pieces) and stages["own L"].shape == (1, 3, 80, 72)
    gap = color.rgb_to_lab(stages["own L"])[:, :1] - color.lightness_of(pair.target)
    assert gap.abs().max() < 0.01
    assert np.array_equal(
        color.to_picture(stages["own L"]), paper.paint_pair(model, pair, HERE, paper.Post())
    )


def test_the_papers_own_numbers_are_the_defaults():
    recipe, budget = paper.Recipe(), paper.Budget()
    numbers = (recipe.width, budget.pieces, budget.batch_size, budget.epochs, budget.rate)
    assert numbers == (64, 12_800, 100, 14, 6e-4)
