"""The definitions of notebook 01, as the notebook itself uses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import overfits
from torch.nn import functional as F

from colorlib import color, datasets, machine, metrics, notebooks, training

paper = notebooks.load("01_patchwise_cnn")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=6, image_size=32)


def greys(count, height, width, seed=0):
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def networks(width=6, seed=0, **changes):
    """A pair that paints something: the mapping layer's weights are not small."""
    torch.manual_seed(seed)
    pair = paper.PatchwisePair(replace(TINY, width=width, **changes)).eval()
    for net in pair.nets:
        torch.nn.init.normal_(net.mapping.weight, 0, 0.3)
    return pair


# ---------------------------------------------------------------------- the convolution


@given(
    border=st.sampled_from(["valid", "same", "full"]),
    k=st.integers(1, 6),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    size=st.tuples(st.integers(6, 11), st.integers(6, 11)),
    seed=st.integers(0, 1000),
)
def test_vectorized_convolution_equals_conv2d_forward_and_backward(border, k, channels, size, seed):
    torch.manual_seed(seed)
    layer = paper.VectorizedConv2d(*channels, k, border).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, channels[0], *size, dtype=torch.float64, requires_grad=True)
    # torch's own words for the three borders: padding by hand where it has none
    if border == "same":
        before = (k - 1) // 2
        padded = F.pad(x, (before, k - 1 - before, before, k - 1 - before))
        expected = F.conv2d(padded, layer.weight, layer.bias)
        assert expected.shape[2:] == size
    else:
        padding = k - 1 if border == "full" else 0
        expected = F.conv2d(x, layer.weight, layer.bias, padding=padding)
    out = layer(x)
    assert (out - expected).abs().max() < 1e-10
    weights = torch.randn_like(expected)
    inputs = [x, layer.weight, layer.bias]
    ours = torch.autograd.grad((out * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    assert all((a - b).abs().max() < 1e-10 for a, b in zip(ours, theirs, strict=True))


def test_loops_equal_conv2d():
    torch.manual_seed(1)
    x, w, b = torch.randn(9, 7).double(), torch.randn(3, 4, 4).double(), torch.randn(3).double()
    found = paper.convolve_by_loops(x.tolist(), w.tolist(), b.tolist())
    found = torch.tensor(found, dtype=torch.float64)
    expected = F.conv2d(x[None, None], w[:, None], b)[0]
    assert (found - expected).abs().max() < 1e-10


# -------------------------------------------------------------------------- the network


def test_the_network_is_the_papers():
    rows = paper.layer_rows()
    assert [r["kernel"] for r in rows] == [
        "11 × 11 × 512",
        "4 × 4 × 512",
        "3 × 3 × 512",
        "1 × 1 × 256",
        "1 × 1 × 1",
    ]
    sides = [int(r["output"].split(" × ")[1]) for r in rows]
    assert sides == [54, 54, 56, 56, 56]
    wanted = [
        54**2 * 121 * 512,
        54**2 * 16 * 512**2,
        56**2 * 9 * 512**2,
        56**2 * 512 * 256,
        56**2 * 256,
    ]
    assert [round(1e6 * r["multiply-adds, millions"]) for r in rows] == wanted
    network = paper.PatchwiseNet()
    held = [sum(p.numel() for p in layer.parameters()) for layer in network.convolutions]
    assert [r["parameters"] for r in rows] == [*held, 257]
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 56, 56)


@pytest.mark.parametrize(
    "kernels", [(11, 4, 3, 1), (16, 1, 1), (11, 6, 1), (14, 3, 1), (11, 6), (11, 2, 2, 2, 2, 2, 1)]
)
@pytest.mark.parametrize("side", [16, 64])
def test_every_studied_network_sees_16_pixels_and_paints_8_less(kernels, side):
    net = paper.PatchwiseNet(4, kernels=kernels, borders=("same",) * len(kernels))
    assert net.field == 16
    assert net(greys(1, side, side)).shape == (1, 1, side - 8, side - 8)


@pytest.mark.parametrize("borders", [paper.MIXED, ("same",) * 4])
def test_the_field_is_16_pixels_around_its_output(borders):
    torch.manual_seed(0)
    seen, middle = paper.measure_field(paper.PatchwiseNet(16, borders=borders))
    for first, last in seen:
        assert last - first + 1 == 16 and first < middle < last
        assert abs((first + last) / 2 - middle) <= 0.5


# ------------------------------------------------------------------------------ assembly


@pytest.mark.parametrize("shape", ["mixed", "same"])
@pytest.mark.parametrize(("height", "width"), [(150, 61), (64, 200), (33, 90)])
def test_tiles_equal_the_whole_picture(shape, height, width):
    pair, y = networks(shape=shape), greys(1, height, width)
    whole = paper.paint_whole(pair, y, tile=10**6)
    assert whole.shape == (1, 2, height, width)
    assert (paper.paint_whole(pair, y, tile=37) - whole).abs().max() < 1e-5


def test_the_patch_loop_lays_every_centre_in_its_place():
    pair, y = networks(shape="same"), greys(2, 112, 75)
    loop, whole = paper.paint_by_patches(pair, y), paper.paint_whole(pair, y)
    assert loop.shape == whole.shape == (2, 2, 112, 75)
    assert (loop - whole)[..., 8:48, 8:48].abs().max() < 1e-5


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (33, 64), (150, 100)])
def test_colorize_keeps_size_and_lightness(height, width, refine):
    grey = 100 * greys(2, height, width)
    rgb = paper.colorize(networks(), grey, refine=refine)
    assert rgb.shape == (2, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_twelve_megapixels_are_painted_in_bounded_memory():
    shapes = []

    def centre(y):  # as large and as small as a network's in- and output, at no cost
        shapes.append(y.shape[-2:].numel())
        logits = torch.logit(y[..., 4:-4, 4:-4].clamp(0.01, 0.99))
        return logits.expand(-1, 2, -1, -1)

    y = torch.linspace(0.1, 0.9, 3000 * 4000).view(1, 1, 3000, 4000)
    chroma = paper.paint_whole(centre, y)
    assert (chroma - y).abs().max() < 1e-5
    assert max(shapes) <= (256 + 2 * 12) ** 2  # whatever the picture's size


# --------------------------------------------------------------------------- refinement


def reference_filter(guide, p, radius, epsilon):
    """The guided filter window by window: a ridge regression in each, then means of the lines."""
    height, width = guide.shape
    lines = np.zeros((2, height, width))

    def window(row, column):
        rows = slice(max(0, row - radius), row + radius + 1)
        return rows, slice(max(0, column - radius), column + radius + 1)

    for row in range(height):
        for column in range(width):
            x, y = guide[window(row, column)].ravel(), p[window(row, column)].ravel()
            design = np.stack([x, np.ones_like(x)], 1)
            penalty = np.diag([epsilon * len(x), 0.0])
            lines[:, row, column] = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            slope, offset = (line[window(row, column)].mean() for line in lines)
            out[row, column] = slope * guide[row, column] + offset
    return out


@pytest.mark.parametrize(
    ("size", "radius", "epsilon"), [((23, 31), 4, 1e-4), ((12, 20), 40, 1e-4), ((20, 20), 2, 1e-2)]
)
def test_guided_filter_equals_a_regression_in_every_window(size, radius, epsilon):
    random = np.random.default_rng(0)
    guide, p = random.random(size), random.random((2, *size))
    tensors = torch.from_numpy(guide)[None, None], torch.from_numpy(p)[None]
    a, b = paper.guided_lines(*tensors, radius, epsilon)
    found = (a * tensors[0] + b)[0]
    for plane in (0, 1):
        gap = np.abs(found[plane].numpy() - reference_filter(guide, p[plane], radius, epsilon))
        assert gap.max() < 1e-4


# ------------------------------------------------------------------------ colour and pairs


def test_true_chroma_gives_the_true_picture_back():
    rgb = datasets.load("scenes", 32, count=12, seed=3).pictures
    true = paper.chroma_of(color.as_rgb(rgb))
    back = color.to_pictures(paper.join(paper.lightness_of(rgb), true))
    natively = color.to_pictures(paper.join_natively(paper.lightness_of(rgb), true))
    ours, theirs = (metrics.ciede2000(p, rgb).mean() for p in (back, natively))
    assert ours < 0.4 and ours < theirs


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_chroma_lies_in_the_unit_square_with_grey_in_its_middle(rgb):
    pixel = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1) / 255
    chroma = paper.chroma_of(pixel)
    assert chroma.min() >= 0 and chroma.max() <= 1
    if len(set(rgb)) == 1:
        assert (chroma - 0.5).abs().max() < 1e-5


# -------------------------------------------------------------------------------- patches


def planes(count=5, size=40):
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 255, (count, 3, size, size), np.uint8))


def test_a_pair_holds_the_colour_of_the_centre_of_its_patch():
    known = planes()
    y, chroma = paper.Patches(known, 16, 8, seed=1).batch(0, "cpu")
    assert y.shape == (8, 1, 16, 16) and chroma.shape == (8, 2, 8, 8)
    windows = known.unfold(2, 16, 1).unfold(3, 16, 1).float() / 255  # (N, 3, R, C, 16, 16)
    sides = set()
    for grey, colour in zip(y[:, 0], chroma, strict=True):
        for flip in (False, True):
            wanted = grey.flip(-1) if flip else grey
            n, r, c = ((windows[:, 0] - wanted).abs().amax((-2, -1)) < 1e-6).nonzero().T.tolist()
            if n:
                sides.add(flip)
                found = windows[n[0], 1:, r[0], c[0]][:, 4:-4, 4:-4]
                assert torch.equal(found.flip(-1) if flip else found, colour)
                break
        else:
            pytest.fail("a patch of no picture")
    assert sides == {False, True}, "some patches are mirrored, some are not"


def test_a_batch_depends_on_seed_and_step_only():
    first, again, other = (paper.Patches(planes(), 16, 4, seed) for seed in (1, 1, 2))
    same = zip(first.batch(3, "cpu"), again.batch(3, "cpu"), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(first.batch(3, "cpu")[0], first.batch(4, "cpu")[0])
    assert not torch.equal(first.batch(3, "cpu")[0], other.batch(3, "cpu")[0])


def test_shrunk_planes_are_means():
    rgb = datasets.load("scenes", 32, count=8).pictures
    full, half = paper.planes_of(rgb).float(), paper.planes_of(rgb, 2).float()
    assert half.shape[2:] == (16, 16) and (F.avg_pool2d(full, 2) - half).abs().max() <= 1


def test_twins_are_alike_in_grey_and_apart_in_colour():
    greys, colours = planes(20, 16)[:, :1].repeat(2, 1, 1, 1), torch.tensor([40, 200]).byte()
    known = torch.cat(
        [greys, colours.repeat_interleave(20).view(-1, 1, 1, 1).expand(-1, 2, 16, 16)], 1
    )
    y, uv, seen = paper.find_twins(known, 16, count=3, tries=400)
    assert y.shape == (2, 3, 1, 16, 16) and uv.shape == (2, 3, 2, 16, 16)
    assert len(seen) == 6 and len({picture % 20 for picture in seen}) == 3, "whom to credit"
    assert torch.equal(y[0], y[1]) and ((uv[0] - uv[1]).abs() * 255 - 160).abs().max() < 1e-3


def test_a_smooth_picture_has_no_twins():
    y, _, seen = paper.find_twins(torch.full((3, 3, 32, 32), 90).byte(), 16, tries=50)
    assert y.shape[1] == 0 and seen == []


def test_a_frame_shows_the_field_where_it_is():
    rgb = datasets.load("scenes", 64, count=8).pictures[0]
    frame = paper.draw_field(rgb, 30, 50, 32, side=96)
    assert frame.shape == (96, 315, 3)
    assert (frame[:, 210:306] == rgb[30, 47]).all(), "the field is held inside the picture"


# ----------------------------------------------------------------------------- objective


def test_the_printed_loss_wants_a_bound_and_the_cross_entropy_wants_the_truth():
    for truth in (0.3, 0.6):
        guess = torch.linspace(0.01, 0.99, 99)
        logits, u = torch.logit(guess), torch.full((99,), truth)
        printed = torch.stack([paper.literal_loss(z, t) for z, t in zip(logits, u, strict=True)])
        ours = torch.stack([paper.log_loss(z, t) for z, t in zip(logits, u, strict=True)])
        assert guess[printed.argmin()] == guess.min()
        assert guess[ours.argmin()] == pytest.approx(truth, abs=1e-6)


def test_the_first_loss_is_the_norm_of_each_patch():
    torch.manual_seed(0)
    logits, chroma = torch.randn(3, 2, 5, 5), torch.rand(3, 2, 5, 5)
    error = (torch.sigmoid(logits) - chroma).numpy()
    expected = np.linalg.norm(error.reshape(6, 25), axis=1).mean() / 5
    assert paper.norm_loss(logits, chroma).item() == pytest.approx(expected, rel=1e-5)


def test_the_two_readings_of_the_switch():
    def used(**changes):
        trainer = paper.PatchTraining(TINY, paper.Budget(3, 3, 2, 16, **changes), HERE)
        return [trainer.is_second(i) for i in range(6)]

    assert used() == [False] * 3 + [True] * 3
    assert used(switch="alternate") == [False, True] * 3


def test_the_rate_warms_up_and_cools_down():
    factors = [paper.cooling(i, 100) for i in range(100)]
    top = factors.index(max(factors))
    assert top <= 5 and factors[top:] == sorted(factors[top:], reverse=True)
    assert 0 < factors[-1] < 0.03 < 0.9 < factors[top] <= 1
    assert all(0 < paper.cooling(i, n) <= 1 for n in (1, 2, 3) for i in range(n))


# -------------------------------------------------------------------- learning-----------


def test_four_pictures_are_overfitted():
    """To an error of ab below 0.02 (|ab|/110): the network can learn, its gradients arrive."""
    rgb = color.as_rgb(datasets.load("scenes", 32).train.spread(4).pictures)
    y, chroma = paper.grey_level(color.rgb_to_lab(rgb)[:, :1]), paper.chroma_of(rgb)
    recipe = paper.Recipe(24, image_size=32, mean=tuple(chroma.mean((0, 2, 3)).tolist()))
    trainer = paper.PatchTraining(recipe, paper.Budget(9999, 0, 4, 32), HERE)
    inner = slice(paper.MARGIN, 32 - paper.MARGIN)
    true = chroma[..., inner, inner]

    def step(batch, index):
        trainer.step(batch, index)
        if index % 20:
            return {"l1": torch.tensor(1.0)}
        ways = torch.sigmoid(trainer.network(y).detach()), true
        lab = [color.rgb_to_lab(paper.to_rgb(y[..., inner, inner], way)) for way in ways]
        return {"l1": (lab[0] - lab[1])[:, 1:].abs().mean() / 110}

    assert overfits(step, (y, true), trainer.network, most=600) < 0.02


def test_watching_a_training_changes_nothing():
    scenes = datasets.load("scenes", 32, count=24)
    budget = paper.Budget(2, 2, 4, 16)
    rest = (scenes.train, HERE, None, True)
    whole, history = paper.train("row", TINY, budget, *rest, scenes.validation)
    assert [entry["step"] for entry in history.validation] == [1, 2, 3, 4]
    assert all(0 < entry["error"] < 1 for entry in history.validation) and not whole.training
    again, _ = paper.train("row", TINY, budget, *rest)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True)
    )


def test_detail_changes_how_the_first_layer_learns_not_what_it_can_say():
    plain, detailed = (paper.PatchwiseNet(4, detail=d) for d in (1.0, 5.0))
    first, second = plain.convolutions[0], detailed.convolutions[0]
    detailed.load_state_dict(plain.state_dict())
    mean = first.weight.detach().mean((2, 3), keepdim=True)
    second.weight.data = mean + (first.weight.detach() - mean) / 5
    y = greys(1, 32, 32)
    torch.testing.assert_close(plain(y), detailed(y), atol=1e-5, rtol=1e-5)


def test_weights_come_back_as_the_same_model(tmp_path):
    torch.manual_seed(0)
    recipe = paper.Recipe(6, image_size=32, mean=(0.48, 0.51))
    network = paper.PatchwisePair(recipe).eval()
    about = {"notebook": paper.NAME, "image_size": 32, "build": paper.asdict(recipe)}
    training.save_weights(tmp_path / "w.safetensors", network, about)
    again, grey = paper.load_model(tmp_path / "w.safetensors"), 100 * greys(1, 48, 32)
    assert again.image_size == 32
    assert torch.equal(paper.colorize(network, grey), paper.colorize(again, grey))
