"""The definitions of notebook 07, as the notebook itself uses them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colorlib import color, machine, notebooks, pictures, training

lesson = notebooks.load("07_together")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = lesson.Recipe(image_size=32)


def scene(height=48, width=64, seed=0):
    """A smooth coloured picture, uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return pictures.resize(coarse, (height, width), "squash")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return lesson.Painter(TINY).eval()


# --- networks ----------------------------------------------------------------------------------


def test_the_encoder_has_the_shapes_and_size_of_efficientnet_lite0():
    encoder = lesson.Encoder().eval()
    with torch.no_grad():
        found = encoder(torch.zeros(1, 1, 96, 64))
    strides, channels = (4, 8, 16, 32), lesson.TAPPED.values()
    shapes = [(1, c, 96 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(x.shape) for x in found] == shapes
    # the whole network has 4,652,008: the head (320 to 1280, its norm) and the classes are left out
    rest = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in encoder.parameters()) == 4_652_008 - rest


def test_weights_are_taken_in_the_order_of_the_network_and_others_refused(tmp_path):
    encoder, other = lesson.Encoder(), lesson.Encoder()
    state = {f"_theirs.{i}": value for i, value in enumerate(encoder.state_dict().values())}
    torch.save(state | {"_fc.weight": torch.zeros(1000, 1280)}, tmp_path / "lite0.pth")
    lesson.load_encoder(other, tmp_path / "lite0.pth")
    assert all(
        (a == b).all() for a, b in zip(encoder.parameters(), other.parameters(), strict=True)
    )
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(training.WeightsError, match=r"other\.pth"):
        lesson.load_encoder(other, tmp_path / "other.pth")


def test_what_is_kept_has_frozen_norms_that_stay_asleep(tmp_path):
    torch.save(dict(lesson.Encoder().state_dict()), tmp_path / "lite0.pth")
    kept = lesson.build(lesson.Recipe(encoder_weights=str(tmp_path / "lite0.pth"), image_size=32))
    norms = [m for m in kept.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert training.norms_that_sleep(kept) == []
    assert lesson.build(TINY).encoder.training  # nothing to keep: they learn


@pytest.mark.parametrize("answer", ["odds", "colour"])
def test_every_row_overfits_four_pictures(answer):
    torch.manual_seed(0)
    game = lesson.Painting(lesson.Recipe(answer, "none", False, 32), HERE)
    batch = color.as_batch(np.stack([scene(32, 32, seed) for seed in range(4)]))
    first, *_, last = (game.step(batch, index)["loss"].item() for index in range(60))
    assert last < 0.5 * first


# --- odds and colours --------------------------------------------------------------------------


def test_every_colour_of_the_palette_can_be_shown_and_neighbours_are_a_step_apart():
    palette = lesson.palette()
    assert 150 < len(palette) < 320 and (palette % lesson.STEP == 0).all()
    apart = torch.cdist(palette, palette) + 1e3 * torch.eye(len(palette))
    assert apart.amin(1).max() == lesson.STEP


def test_soft_targets_are_odds_whose_mean_is_near_the_true_colour():
    ab = color.to_network(color.as_batch(scene()[None]))[1] * color.AB_RANGE
    odds = lesson.soft_targets(ab)
    assert odds.shape == (1, len(lesson.palette()), *ab.shape[2:])
    assert torch.allclose(odds.sum(1), torch.ones(()), atol=1e-5)
    mean = lesson.colours_at(odds.clamp(min=1e-9).log()) * color.AB_RANGE
    assert (mean - ab).norm(dim=1).mean() < 3


def test_temperature_leads_from_the_mean_to_the_likeliest():
    logits = torch.full((1, len(lesson.palette()), 1, 1), -20.0)
    logits[0, 3], logits[0, 90] = 1.0, 0.5
    ends = lesson.palette()[[3, 90]] / color.AB_RANGE
    cold, warm = (lesson.colours_at(logits, t)[0, :, 0, 0] for t in (0.02, 1.0))
    share = torch.softmax(torch.tensor([1.0, 0.5]), 0)
    assert torch.allclose(cold, ends[0], atol=1e-4)
    assert torch.allclose(warm, share @ ends, atol=1e-4)


def test_doubt_is_zero_for_one_colour_and_one_for_all_alike():
    sure = torch.full((1, 10, 1, 1), -1e4)
    sure[0, 4] = 0.0
    assert lesson.doubt_of(sure).item() == pytest.approx(0, abs=1e-5)
    assert lesson.doubt_of(torch.zeros(1, 10, 1, 1)).item() == pytest.approx(1)


class Two:
    """Pictures of two kinds that look unlike: stripes and blotches."""

    names = tuple(f"{kind}/{i}" for i in range(8) for kind in ("stripes", "blotches"))
    kinds = ("stripes", "blotches")

    def __init__(self):
        stripes = np.broadcast_to(np.arange(32)[:, None, None] // 2 % 2 * 150 + 50, (32, 32, 3))
        made = [stripes if i % 2 == 0 else scene(32, 32, i) for i in range(16)]
        self.pictures = np.stack(made).astype(np.uint8)

    def __len__(self):
        return len(self.names)

    def spread(self, most):
        return self


def awake(pictures):
    """An untrained painter whose norms know some pictures: its features are not all nearly zero."""
    torch.manual_seed(0)
    model = lesson.Painter(lesson.Recipe(image_size=32, kinds=Two.kinds)).train()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        model(color.to_network(color.as_batch(pictures.pictures))[0])
    return model.eval()


def test_the_kind_is_read_off_the_features():
    pictures = Two()
    model = awake(pictures)
    assert lesson.kinds_of(pictures, Two.kinds).tolist() == [0, 1] * 8
    odds = lesson.kind_odds(model.reading, lesson.features_of(model, pictures, HERE))
    assert odds.eq(0.5).all()  # nothing is known yet
    lesson.learn_kinds(model, pictures, HERE)
    odds = lesson.kind_odds(model.reading, lesson.features_of(model, pictures, HERE))
    assert (odds[::2, 0] > 0.8).all() and (odds[1::2, 1] > 0.8).all()
    assert torch.allclose(odds.sum(1), torch.ones(()))


def test_a_kind_whose_colours_are_wrong_dares_least():
    pictures = Two()
    model = awake(pictures)
    torch.nn.init.zeros_(model.answer.weight)  # the same strong colour everywhere ...
    bias = -((lesson.palette() - torch.tensor([40.0, 40.0])) ** 2).sum(1) / 50
    model.answer.bias.data = bias
    lesson.learn_kinds(model, pictures, HERE)
    lightness = color.lightness_of(pictures.pictures[1])
    painted = color.to_picture(lesson.colorize(model, lightness))
    pictures.pictures[1::2] = painted  # ... which is the truth of blotches, while stripes are grey
    lesson.calibrate(model, pictures, HERE)
    assert model.daring[0] == lesson.FACTORS[0] and model.daring[1] > 0.6


# --- painting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (33, 64), (150, 100)])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"seed": 1}, {"side": 64}])
def test_colorize_keeps_size_and_lightness(model, height, width, options):
    lightness = color.lightness_of(scene(height, width))
    rgb = lesson.colorize(model, lightness, **options)
    assert rgb.shape == (1, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - lightness).abs().max() < 0.01


def test_draws_repeat_by_seed_and_differ_between_seeds(model):
    lightness = color.lightness_of(scene())
    draws = lesson.colorize(model, lightness, draws=3, seed=5)
    assert draws.shape == (3, 1, 3, 48, 64)
    assert torch.equal(draws[1], lesson.colorize(model, lightness, seed=6))
    assert (draws[0] - draws[1]).abs().mean() > 1e-3


def test_a_mirrored_picture_is_painted_as_the_mirrored_painting(model):
    lightness = color.lightness_of(scene(64, 64))
    one, other = (lesson.colorize(model, x) for x in (lightness, lightness.flip(-1)))
    assert (one - other.flip(-1)).abs().max() < 1e-3


def test_weights_come_back_as_the_same_painter(model, tmp_path):
    file, about = tmp_path / "together.safetensors", {"notebook": lesson.NAME, "data": "x"}
    model.daring[2] = 0.25
    training.save_weights(file, model, about | {"build": lesson.asdict(TINY)})
    again, lightness = lesson.load_model(file), color.lightness_of(scene())
    assert again.daring[2] == 0.25
    # saved as float16 or 32: the painting is the same to the eye
    assert (
        lesson.colorize(again, lightness) - lesson.colorize(model, lightness)
    ).abs().max() < 0.02
