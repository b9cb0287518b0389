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
from PIL import Image
from torch import nn

from colorlib import classics, color, machine, metrics, notebooks, pictures, training

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


def test_layers_are_five_by_five_with_stride_two():
    both = [*paper.Generator(4).modules(), *paper.Discriminator(4).modules()]
    layers = [m for m in both if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 12
    assert {(m.kernel_size, m.stride) for m in layers} == {((5, 5), (2, 2))}


def test_the_literal_last_layer_paints_only_half_of_the_range():
    z = torch.randn(4, 1, 64, 64)
    literal = paper.Generator(4, literal_last=True)(z)
    plain = paper.Generator(4)(z)
    assert literal.min() >= 0 and plain.min() < 0


def test_first_discriminator_and_last_generator_layers_have_no_norm():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in paper.Discriminator(4).layers[0])
    assert isinstance(paper.Generator(4).layers[7], nn.ConvTranspose2d)


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


def test_a_piece_is_the_same_whenever_it_is_asked_for():
    one, two = (paper.Pieces(scene(), 40, 8, seed=3) for _ in range(2))
    chosen = torch.tensor([5, 17])
    assert torch.equal(one.cut(chosen)["rgb"], two.cut(torch.arange(40))["rgb"][chosen])
    assert torch.equal(one.batch(7, "cpu")["rgb"], two.batch(7, "cpu")["rgb"])
    other = paper.Pieces(scene(), 40, 8, seed=4)
    assert not torch.equal(one.batch(7, "cpu")["rgb"], other.batch(7, "cpu")["rgb"])


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


def test_a_mirrored_piece_is_the_mirror_image():
    plain, mirrored = (
        paper.Pieces(scene(), 20, 4, 0, k).cut(torch.arange(20))["rgb"] for k in ((), ("flip",))
    )
    same = (plain - mirrored).abs().amax((1, 2, 3)) < 1e-3
    flipped = (plain.flip(-1) - mirrored).abs().amax((1, 2, 3)) < 1e-3
    assert (same | flipped).all() and 3 < flipped.sum() < 17


@pytest.mark.parametrize("size", [(64, 64), (30, 90), (5, 7), (1, 1)])
def test_pieces_of_tiny_sources_are_finite(size):
    batch = paper.Pieces(scene(*size), 6, 3).batch(0, "cpu")
    assert batch["rgb"].shape == (3, 3, 64, 64)
    assert all(torch.isfinite(values).all() for values in batch.values())


def test_surroundings_follow_the_light_of_the_piece():
    source = scene(140, 150)
    neutral, lit = (
        paper.Pieces(source, 12, 4, 0, kinds, surroundings=True).cut(torch.arange(12))
        for kinds in ((), ("brightness", "contrast"))
    )
    for batch in (neutral, lit):
        grey = paper.to_grey(batch["rgb"])
        centre = (..., slice(32, 33), slice(32, 33))
        inside = classics.box(grey, 8)[
            centre
        ].flatten()  # the piece's own mean moves the wide mean along
        wide = batch["features"][:, :1][centre].flatten()
        assert torch.corrcoef(torch.stack([inside, wide]))[0, 1] > 0.5
        rough = paper.describe(50 * (grey + 1))[:, 1:2, 8:-8, 8:-8]
        torch.testing.assert_close(batch["features"][:, 1:2, 8:-8, 8:-8], rough, atol=1e-4, rtol=0)
    assert not torch.allclose(neutral["features"], lit["features"], atol=0.02)
    bare = paper.Pieces(source, 12, 4).cut(torch.arange(12))
    assert set(bare) == {"rgb", "position"} and bare["rgb"].shape == neutral["rgb"].shape


def test_surroundings_do_not_change_the_piece():
    both = [
        paper.Pieces(scene(), 8, 4, 3, surroundings=s).cut(torch.arange(8)) for s in (False, True)
    ]
    for key in ("rgb", "position"):
        torch.testing.assert_close(both[0][key], both[1][key], atol=1e-4, rtol=0)
    assert both[1]["features"].shape == (8, 3, 64, 64)


def test_position_says_where_in_the_source_a_piece_was_cut():
    source = np.zeros((80, 100, 3), np.uint8)
    source[..., 0] = np.linspace(0, 255, 100)[None]
    source[..., 1] = np.linspace(0, 255, 80)[:, None]
    batch = paper.Pieces(source, 16, 4, 2, ("rotate", "flip")).cut(torch.arange(16))
    inside = (batch["position"].abs() < 0.97).all(1)
    for axis in (0, 1):
        expected = (batch["position"][:, axis] + 1) / 2
        assert (batch["rgb"][:, axis] - expected).abs()[inside].max() < 0.03


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


def test_equal_weights_are_the_plain_average():
    places = paper.lattice(96, 128)
    pieces = torch.rand(len(places), 3, 64, 64)
    merged = paper.merge_pieces(pieces, torch.ones(len(places), 1, 64, 64), places, (96, 128))
    for y, x in ((0, 0), (40, 70), (95, 127), (33, 33)):
        over = [
            piece[:, y - top, x - left]
            for piece, (top, left) in zip(pieces, places, strict=True)
            if 0 <= y - top < 64 and 0 <= x - left < 64
        ]
        torch.testing.assert_close(merged[0, :, y, x], torch.stack(over).mean(0))


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


def test_a_segment_takes_the_median_or_the_mean_of_its_colours():
    rgb = torch.zeros(1, 3, 1, 5)
    rgb[0, 0, 0] = torch.tensor([0.0, 0.0, 0.9, 0.4, 0.8])
    labels = np.array([[0, 0, 0, 1, 1]])
    median = paper.one_color_a_segment(rgb, labels, "median")[0, 0, 0]
    mean = paper.one_color_a_segment(rgb, labels, "mean")[0, 0, 0]
    torch.testing.assert_close(median, torch.tensor([0.0, 0.0, 0.0, 0.6, 0.6]))
    torch.testing.assert_close(mean, torch.tensor([0.3, 0.3, 0.3, 0.6, 0.6]))


def test_segments_follow_lightness():
    light = torch.full((1, 1, 40, 40), 20.0)
    light[..., 20:] = 80.0
    labels = paper.segments_of(light)
    assert not set(labels[:, :19].flatten()) & set(labels[:, 21:].flatten())


def test_seams_are_seen_where_pieces_end():
    places = paper.lattice(64, 128, 64)
    flat = torch.full((1, 3, 64, 128), 0.5) + 0.01 * torch.rand(1, 3, 64, 128)
    cut = flat.clone()
    cut[..., 64:] = cut[..., 64:] * torch.tensor([1.4, 0.8, 0.6]).view(1, 3, 1, 1)
    assert paper.seam_excess(cut, flat, places) > 2 > paper.seam_excess(flat, flat, places)
    assert paper.seam_excess(cut, cut, places) == pytest.approx(
        1
    )  # the truth's own edge is no seam


def test_one_piece_has_no_seams():
    picture = torch.rand(1, 3, 64, 64)
    assert paper.seam_excess(picture, picture, paper.lattice(64, 64)) is None
    assert paper.mean_of_known([None, 1.0, 3.0]) == 2 and paper.mean_of_known([None]) is None


def test_a_bare_pixel_is_refused():
    places = paper.lattice(64, 128, 64)[:1]
    with pytest.raises(AssertionError, match="every pixel"):
        paper.merge_pieces(torch.ones(1, 3, 64, 64), torch.ones(1, 1, 64, 64), places, (64, 128))


@pytest.mark.parametrize("stride", [4, 16, 32, 50, 64])
@pytest.mark.parametrize("more", [{}, {"sigma": 0.0}, {"ssim": "equal"}, {"segment": "none"}])
def test_variants_of_post_processing_are_what_they_are_called(stride, more):
    default = paper.Post(stride=stride, **more)
    variants = paper.post_variants(default)
    assert next(iter(variants.values())) == default
    assert len(set(variants.values())) == len(variants)
    for name, post in variants.items():
        assert post.stride + post.jitter <= paper.PIECE
        if name.startswith("lattice moved"):
            assert f"{post.jitter // 2} px" in name and post.jitter > 0
    assert "equal weights" not in variants or variants["equal weights"].ssim == "equal"
    assert ("no Gaussian" in variants) == (default.sigma != 0)


@pytest.mark.parametrize(
    "more", [{}, {"adversarial": "none"}, {"frobenius": "mean"}, {"augmentations": ()}]
)
def test_the_first_variant_is_the_runs_own_recipe(more):
    own = paper.replace(TINY, **more)
    for variants in paper.trained_variants(own).values():
        recipes = list(variants.values())
        assert recipes[0] == own and len(set(recipes)) == len(recipes)
    objective = paper.trained_variants(own)["objective"]
    assert objective["no discriminator"].adversarial == "none"
    assert objective["adversarial alone"].frobenius == "none"
    odd = paper.trained_variants(paper.replace(TINY, augmentations=("flip",)))["augmentation"]
    assert list(odd)[:2] == ["as given", "all six"]


# --- training -----------------------------------------------------------------------------------


def test_losses_are_those_of_the_equations():
    gan = paper.PieceGAN(TINY, HERE, 1e-9)
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
    total = losses["cross_entropy"] + squares.sum(1).mean()  # Eq. 2
    assert losses["generator"].item() == pytest.approx(total.item(), rel=1e-3)


def test_the_frobenius_mean_is_the_sum_over_12288_entries():
    batch = paper.Pieces(scene(), 8, 4).batch(0, "cpu")
    found = {}
    for kind in ("sum", "mean"):
        torch.manual_seed(0)
        recipe = paper.replace(TINY, frobenius=kind, adversarial="none")
        found[kind] = paper.PieceGAN(recipe, HERE, 1e-4).step(batch, 0)["generator"].item()
    assert found["sum"] == pytest.approx(12288 * found["mean"], rel=1e-4)


def test_adversarial_alone_hears_nothing_of_the_colours():
    gan = paper.PieceGAN(paper.replace(TINY, frobenius="none"), HERE, 1e-4)
    losses = gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)
    assert losses["generator"].item() == pytest.approx(losses["cross_entropy"].item())


def test_without_a_discriminator_there_is_none():
    gan = paper.PieceGAN(paper.replace(TINY, adversarial="none"), HERE, 1e-3)
    assert set(gan.modules) == {"generator"}
    assert set(gan.step(paper.Pieces(scene(), 8, 4).batch(0, "cpu"), 0)) == {"mse", "generator"}


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
    budget = paper.Budget(pieces=64, batch_size=16, epochs=12, rate=2e-3)
    model, history, album = paper.train("two", TINY, budget, pair, HERE, post=paper.Post())
    assert history.losses["mse"][-1] < 0.3 * history.losses["mse"][0]
    pages = album.pages.numpy()
    errors = metrics.ciede2000(pages, np.stack([pair.target] * len(pages)))
    assert errors[-1] < 0.5 * errors[0]
    assert np.array_equal(pages[-1], paper.paint_pair(model, pair, HERE, paper.Post()))


class Killed(Exception):
    pass


def test_an_interrupted_training_ends_the_same_with_all_its_pages(tmp_path, monkeypatch):
    pair, post = tiny_pair(), paper.Post()
    whole = paper.train("a", TINY, BUDGET, pair, HERE, tmp_path / "whole", post=post)
    original, run = paper.PieceGAN.step, training.run

    def dies(self, batch, index):
        if index == 4:
            raise Killed
        return original(self, batch, index)

    monkeypatch.setattr(training, "run", lambda *a, **k: run(*a, checkpoint_seconds=0.0, **k))
    monkeypatch.setattr(training, "_code_digest", lambda *roots: "")  # the patch is no new code
    monkeypatch.setattr(paper.PieceGAN, "step", dies)
    with pytest.raises(Killed):
        paper.train("a", TINY, BUDGET, pair, HERE, tmp_path / "cut", post=post)
    monkeypatch.setattr(paper.PieceGAN, "step", original)
    again = paper.train("a", TINY, BUDGET, pair, HERE, tmp_path / "cut", post=post)
    assert again[1].resumed_at == 4
    assert again[1].losses == whole[1].losses
    assert torch.equal(again[2].pages, whole[2].pages) and again[2].pages[1].any()
    states = (m.state_dict() for m in (again[0], whole[0]))
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


# --- painting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (30, 200), (64, 64), (65, 127), (150, 90)])
def test_colorize_keeps_size_and_lightness(size):
    torch.manual_seed(0)
    model = paper.build_generator(TINY).eval()
    grey = 100 * torch.rand(1, 1, *size)
    rgb = paper.colorize(model, grey)
    assert rgb.shape == (1, 3, *size) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


class Copyist(nn.Module):
    """A perfect generator of one picture: it returns the true pieces."""

    def __init__(self, rgb):
        super().__init__()
        self.recipe, self.image_size = TINY, min(rgb.shape[-2:])
        self.rgb = rgb

    def forward(self, planes):
        return 2 * paper.cut(self.rgb, paper.lattice(*self.rgb.shape[-2:])) - 1


def test_colorize_with_a_perfect_generator_is_the_picture_itself():
    target = scene(96, 120, seed=5)
    rgb = as_rgb(target)
    post = paper.Post(sigma=0, segment="none")
    painted = paper.colorize(Copyist(rgb), color.lightness_of(target), post=post)
    assert (painted - rgb).abs().max() < 0.01


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


@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_centres_as_asked_for(count):
    centres = paper.random_centres(torch.tensor([count, 3]), 20, 30)
    assert centres.flatten(1).sum(1).tolist() == [count, 3]


def test_training_sees_few_dabs_often_and_many_sometimes():
    torch.manual_seed(0)
    _, dabs = paper.simulate_hints(torch.rand(64, 3, 64, 64))
    count = dabs[:, 0].flatten(1).sum(1) / 9
    assert count.min() == 0 and count.max() > 20 and count.median() < 8


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


def test_a_dab_glows_near_it_where_lightness_is_alike_and_nowhere_else():
    dabs, grey = torch.zeros(1, 3, 90, 90), torch.full((1, 1, 90, 90), 0.2)
    grey[..., 55:] = -0.8
    dabs[0, :, 44:47, 44:47] = torch.tensor([1.0, 0.3, -0.2]).view(3, 1, 1)
    glow = paper.glow(dabs, grey)[0]
    assert glow[1, 45, 40] > 0.7 and glow[2, 45, 40] < -0.4 and glow[0, 45, 40] > 0.5
    for y, x in ((45, 57), (0, 0)):  # over the edge, and far away
        assert glow[0, y, x] == -1 and glow[1:, y, x].abs().max() == 0


def test_levin_gets_the_very_same_dabs():
    pair = paper.make_pair("flat", scene(), np.full((70, 70, 3), (200, 60, 50), np.uint8), 70)
    hints = paper.place_hints(pair, 3, seed=0)
    painted = paper.paint_levin(pair, hints)
    assert metrics.ciede2000(painted[None], pair.target[None])[0] < 2


# --- pairs ----------------------------------------------------------------------------------------


def asked(**more):
    defaults = {"data": "photos", "pairs": [], "source": "", "target": "", "image_size": 80}
    return SimpleNamespace(**(defaults | {"show": []} | more))


def write_pair(folder, name, seed=0):
    for half in ("source", "target"):
        Image.fromarray(scene(90, 120, seed)).save(folder / f"{name}_{half}.png")


def test_pairs_keep_their_shapes():
    (flower, motorcycle), problems = paper.load_pairs(asked(pairs=["flower", "motorcycle"]))
    assert problems == [] and flower.has_truth and motorcycle.has_truth
    sizes = [p.shape[:2] for pair in (flower, motorcycle) for p in (pair.reference, pair.target)]
    assert {min(size) for size in sizes} == {80} and max(map(max, sizes)) > 100


def test_a_copy_is_known_as_one_and_other_pictures_are_not():
    rgb = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    copy = paper.make_pair("copy", rgb, rgb[:, 20:], 96)
    other = paper.make_pair("other", rgb, rgb[::-1, ::-1].copy(), 96)
    assert paper.copied_share(copy) > 0.9 and paper.copied_share(other) < 0.1


def test_the_stereo_pair_is_found_without_being_told():
    found, _ = paper.load_pairs(asked(pairs=["flower", "china", "motorcycle"], image_size=128))
    shares = {p.name: paper.copied_share(paper.replace(p, stereo=False)) for p in found}
    assert shares["motorcycle"] > paper.COPY > max(shares["flower"], shares["china"]) + 0.1


def test_a_coloured_target_too_small_to_score_is_refused_in_one_line():
    with pytest.raises(notebooks.ParameterError, match="10 x 40 pixels") as caught:
        paper.make_pair("small", scene(), scene(10, 40), 72)
    assert "\n" not in str(caught.value)
    assert not paper.make_pair("grey", scene(), np.full((10, 40, 3), 90, np.uint8), 72).has_truth


def test_a_pair_too_small_costs_a_line_and_not_the_run(tmp_path):
    write_pair(tmp_path, "good")
    write_pair(tmp_path, "small")
    Image.fromarray(scene(10, 40)).save(tmp_path / "small_target.png")
    found, problems = paper.load_pairs(asked(data=str(tmp_path)))
    assert [p.name for p in found] == ["good"]
    assert len(problems) == 1 and "10 x 40 pixels" in problems[0]


def test_two_files_of_your_own_replace_the_pairs(tmp_path):
    write_pair(tmp_path, "mine")
    source, target = (str(tmp_path / f"mine_{half}.png") for half in ("source", "target"))
    (own,), _ = paper.load_pairs(asked(source=source, target=target, pairs=["flower"]))
    assert own.name == "mine_target" and min(own.reference.shape[:2]) == 80


def test_a_grey_source_has_no_colours_to_give():
    with pytest.raises(notebooks.ParameterError, match="reference is grey"):
        paper.make_pair("x", np.full((80, 80, 3), 120, np.uint8), scene(), 72)


# --- scores, causes, verdicts ---------------------------------------------------------------------


def test_partial_rank_correlation_agrees_with_scipy_and_takes_the_third_out():
    from scipy.stats import rankdata, spearmanr

    random = np.random.default_rng(0)
    third = random.normal(size=200)
    one, other = third + 0.3 * random.normal(size=200), third + 0.3 * random.normal(size=200)
    none = np.zeros(200)
    assert paper.partial_rank_correlation(one, other, none) == pytest.approx(
        spearmanr(one, other).statistic
    )
    assert abs(paper.partial_rank_correlation(one, other, third)) < 0.25 < 0.8
    assert paper.partial_rank_correlation(one, one + 1, third) == pytest.approx(1)
    assert paper.partial_rank_correlation(one[:4], other[:4], third[:4]) is None
    assert paper.partial_rank_correlation(none, one, third) is None
    fourth = random.normal(size=200)
    two = (
        third + fourth + random.normal(size=200),
        third + fourth + random.normal(size=200),
    )
    assert paper.partial_rank_correlation(*two, third) > 0.5
    assert abs(paper.partial_rank_correlation(*two, third, fourth)) < 0.3
    tied = random.integers(0, 5, 200).astype(float)
    assert np.allclose(paper.ranks(tied), rankdata(tied) - 100.5)


def test_a_piece_of_the_source_itself_has_a_near_neighbour():
    source = scene(96, 96, 3)
    pair = paper.make_pair("same", source, source, 96)
    far = paper.make_pair("far", source, 255 - scene(96, 96, 9), 96)
    torch.manual_seed(0)
    model, pieces = paper.build_generator(TINY).eval(), paper.Pieces(source, 400, 8, 0, ())
    facts = [paper.piece_facts(p, model, pieces, HERE, paper.Post()) for p in (pair, far)]
    assert facts[0]["distance"].mean() < 0.5 * facts[1]["distance"].mean()
    measures = ("error", "distance", "ambiguity", "chroma")
    assert {len(facts[0][m]) for m in measures} == {len(paper.lattice(96, 96))}
    alike, own = (facts[0]["pictures"][k] for k in ("most alike in the source", "truth"))
    assert (alike - own).abs().mean() < 20 and torch.equal(
        own[:1], paper.cut(color.rgb_to_lab(as_rgb(source)), [(0, 0)])
    )


def gap(mean, low, high, seeds=None):
    return {"mean": mean, "low": low, "high": high, "seeds": seeds or [mean]}


@pytest.mark.parametrize(
    ("delta_e", "psnr", "pairs", "verdict"),
    [
        (gap(-1, -1.5, -0.5), gap(0.5, 0.2, 0.8), 12, "held"),
        (gap(-1, -1.5, -0.5), gap(0.5, 0.2, 0.8), 2, "partly"),  # too few pairs
        (gap(-1, -1.5, -0.5), gap(-0.1, -0.4, 0.2), 12, "partly"),  # PSNR disagrees
        (gap(-1, -2.5, 0.5), gap(0.5, 0.2, 0.8), 12, "did not hold"),  # the interval holds zero
        (gap(-1, -1.5, -0.5, [-2.2, 0.2]), gap(0.5, 0.2, 0.8), 12, "partly"),  # a seed disagrees
        (gap(0.3, 0.1, 0.5), gap(0.5, 0.2, 0.8), 12, "did not hold"),
    ],
)
def test_a_row_is_better_only_if_eye_noise_and_seeds_agree(delta_e, psnr, pairs, verdict):
    assert paper.better(delta_e, psnr, pairs) == verdict


def test_claims_of_studies_that_were_not_run_say_so():
    facts = paper.training_facts({}, ())
    claims = paper.claims_on_quality({}, []) + paper.claims_on_training(facts)
    claims += paper.claims_on_objective(None) + paper.claims_on_post(None, {}, {}, {})
    claims += paper.claims_on_failure({}, None) + paper.claims_on_outlook(None, None, None)
    assert len(claims) == 19 and {c["verdict"] for c in claims} == {"not run yet"}
    assert {c["number"] for c in claims} == {None}


def result(ours, one, grey, pairs=8):
    judged = [SimpleNamespace(name=str(i)) for i in range(pairs)]
    rows = zip(("dcgan", "mean_ab", "grey_floor"), (ours, one, grey), strict=True)
    made = {row: np.broadcast_to(values, pairs) for row, values in rows}
    return {
        p.name: {r: {"delta_e": float(v[i])} for r, v in made.items()} for i, p in enumerate(judged)
    }, judged


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        (result(8, 12, 20), "held"),
        (result(8, 12, 20, pairs=3), "partly"),  # too few
        (result(15, 16, 20), "partly"),  # better than nothing is not very well
        (result(8, 7, 20), "did not hold"),  # one mean colour does it too
        (result([5, 12] * 4, [10, 11] * 4, 20), "did not hold"),  # nearer on half of the pairs
    ],
)
def test_very_well_is_more_than_better_than_nothing(scores, verdict):
    assert paper.claim_on_result(*scores)["verdict"] == verdict


def history(mse, **more):
    losses = {"mse": mse} | {k: [1.0] * len(mse) for k in paper.LOSSES} | more
    validation = [{"CIEDE2000": e} for e in (20.0, 15.0, 14.9)]
    smooth = lambda key, over: np.array(losses[key])  # noqa: E731
    return SimpleNamespace(
        losses=losses, steps=list(range(len(mse))), smooth=smooth, validation=validation
    )


def test_an_even_fall_is_no_sharp_decline():
    def verdict(mse):
        facts = paper.training_facts(
            {str(i): history(mse) for i in range(6)}, {str(i) for i in range(6)}
        )
        return paper.claims_on_training(facts)

    even = verdict(np.linspace(1, 0, 41).tolist())
    sharp = verdict([1.0] + [0.05] * 39 + [0.0])
    assert even[0]["verdict"] == "did not hold" and sharp[0]["verdict"] == "held"
    assert sharp[1]["verdict"] == "held"  # three flat losses
    assert sharp[2]["verdict"] == "partly"  # half of the epochs move it, and the last is nearer
    assert verdict([1.0])[0]["verdict"] == "not run yet"  # one step has no quarters


@pytest.mark.parametrize(
    ("merged", "smoothed", "verdict"),
    [
        ([1.5, 1.4, 1.6, 1.5, 1.4], [1.0, 1.0, 1.1, 1.0, 1.0], "held"),
        ([1.5, 1.4, 1.6, 1.5, 1.4], [1.3, 1.3, 1.3, 1.3, 1.3], "partly"),
        ([1.0, 1.05, 1.0, 1.1, 1.0], [0.9, 0.9, 0.9, 0.9, 0.9], "not testable here"),
        ([1.5, 1.4, 1.6, 1.5, 1.4], [1.6, 1.5, 1.7, 1.6, 1.5], "did not hold"),
        ([None], [None], "not testable here"),
    ],
)
def test_no_seam_is_no_proof_that_seams_are_hidden(merged, smoothed, verdict):
    assert paper.claim_on_seams({"merged": merged, "smoothed": smoothed})["verdict"] == verdict


def hint_study(levin, spread, pairs=6):
    counts = {
        "5": {"against_levin": gap(levin, levin - 0.2, levin + 0.2)},
        "20": {
            "against_none": gap(-2, -2.5, -1.5),
            "against_none_psnr": gap(1, 0.5, 1.5),
            "against_spread": gap(spread, spread - 0.2, spread + 0.2),
        },
    }
    return {"counts": counts, "pairs": ["p"] * pairs, "origin": "here"}


@pytest.mark.parametrize(
    ("study", "verdict"),
    [
        (hint_study(-1, -1), "held"),
        (hint_study(1, -1), "partly"),  # Levin needs no network
        (hint_study(-1, 0.5), "partly"),  # and spreading needs none either
        (hint_study(-1, -1, pairs=2), "partly"),
        (hint_study(-1, -1) | {"copies": True}, "not run yet"),
    ],
)
def test_scribbles_must_beat_what_needs_no_network(study, verdict):
    assert paper.claim_on_scribbles(study)["verdict"] == verdict


def test_the_spread_dabs_alone_paint_near_the_dabs():
    pair = paper.make_pair("flat", scene(), np.full((70, 70, 3), (200, 60, 50), np.uint8), 70)
    painted = paper.paint_spread(pair, paper.place_hints(pair, 60, seed=0))
    grey = color.grey_of(pair.target)
    errors = [metrics.ciede2000(p[None], pair.target[None])[0] for p in (painted, grey)]
    assert errors[0] < 0.3 * errors[1]


def test_a_perfect_generator_loses_nothing_without_gaussian_and_segments():
    pair = tiny_pair()
    bare = paper.perfect_stages(pair, paper.Post(sigma=0, segment="none"))
    whole = paper.perfect_stages(pair, paper.Post(sigma=4))
    assert max(bare.values()) < 0.05 < whole["smoothed"] and whole["segmented"] > 0.05


def test_pictures_of_a_hint_study_are_of_its_first_seed(monkeypatch):
    monkeypatch.setattr(paper, "train", lambda *a: (paper.build_generator(a[1]).eval(), None, None))
    P = SimpleNamespace(
        hint_ways=["recolored"], study_seeds=[3, 4], hint_counts=[2, 9], resume=False, image_size=72
    )
    pair, model = tiny_pair(), paper.build_generator(TINY).eval()
    post = paper.Post(sigma=0, segment="none")
    study, paintings, scores = paper.run_hints(
        P, [pair], TINY, BUDGET, HERE, Path(), post, {"tiny": model}
    )
    for count in (2, 9):
        dabs = paper.place_hints(pair, count, 3)
        assert torch.equal(paintings["tiny", count]["hints"], dabs)
        assert np.array_equal(paintings["tiny", count]["levin"], paper.paint_levin(pair, dabs))
    assert study["steps"] == 6 and {r for r, _ in scores} >= {"recolored", "spread", "levin"}
    rows = [scores["levin", 9][seed, "tiny"]["delta_e"] for seed in (3, 4)]
    assert study["counts"]["9"]["levin"] == pytest.approx(np.mean(rows))
    assert paper.mean_of_seeds([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}


def test_a_study_is_paired_by_pair_and_seed():
    def row(delta_e):
        fixed = {"psnr": 20.0, "gain_over_grey": 1.0, "colourfulness": 1.0}
        return fixed | {"delta_e": delta_e, "true_colourfulness": 2.0}

    scores = {
        "first": [[row(10), row(20)], [row(12), row(18)]],
        "other": [[row(9), row(18)], [row(10), row(19)]],
    }
    pairs = [SimpleNamespace(name="a"), SimpleNamespace(name="b")]
    study = paper.compare_variants(scores, pairs, steps=1)
    found = study["variants"]["other"]["delta_e_paired"]
    assert found["mean"] == -1 and found["seeds"] == [-1.5, -0.5]
    assert study["variants"]["other"]["cf_ratio"] == 0.5
