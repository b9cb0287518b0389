"""The definitions of notebook 01, as the notebook itself uses them."""

from __future__ import annotations

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
    pair = paper.PatchwisePair(paper.replace(TINY, width=width, **changes)).eval()
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
    rows = paper.layer_rows(paper.on_paper())
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
    assert rows[0]["parameters"] == 121 * 512 + 512


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


@pytest.mark.parametrize(("height", "width"), [(112, 168), (130, 75)])
def test_the_patch_loop_equals_the_whole_picture_on_the_inner_49(height, width):
    pair, y = networks(), greys(2, height, width)
    inside, outside, share = paper.compare_assemblies(pair, y, 64)
    assert inside < 1e-5 < outside
    assert paper.clean_centre(56, 56).sum() == 49 * 49
    if height % 56 == width % 56 == 0:
        assert share == pytest.approx(1 - (49 / 56) ** 2)


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
    found = paper.guided_filter(*tensors, radius, epsilon)[0]
    for plane in (0, 1):
        gap = np.abs(found[plane].numpy() - reference_filter(guide, p[plane], radius, epsilon))
        assert gap.max() < 1e-4


def test_edge_agreement_tells_aligned_colour_from_shifted_colour():
    rgb = np.full((1, 32, 32, 3), 90, np.uint8)
    rgb[:, :, 16:] = (200, 60, 60)
    lab = color.rgb_to_lab(color.as_rgb(rgb))
    lab[:, 1:] = lab[:, 1:].roll(6, 3)
    shifted = color.to_pictures(color.lab_to_rgb(color.fit_gamut(lab)).clamp(0, 1))
    assert paper.edge_agreement(rgb)[0] > 0.95
    assert paper.edge_agreement(shifted)[0] < 0.6


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


def pictures(count=6, size=40, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 255, (count, size, size, 3), np.uint8)


SPEC = paper.PairSpec("x", patch=16, files=3, count=5)


def test_a_pair_holds_the_colour_of_the_centre_of_its_patch(tmp_path):
    rgb = pictures()
    maps = paper.write_pairs(tmp_path, SPEC, rgb[:5], rgb[5:])
    assert len(maps) == 3 and all(isinstance(m, np.memmap) and len(m) == 5 for m in maps)
    planes = paper.planes_of(rgb[:5], SPEC)
    pair = maps[0][0]
    places = [
        (n, r, c)
        for n in range(5)
        for r in range(25)
        for c in range(25)
        if np.array_equal(planes[n, 0, r : r + 16, c : c + 16], pair["y"])
    ]
    ((n, r, c),) = places
    assert np.array_equal(planes[n, 1:, r + 4 : r + 12, c + 4 : c + 12], pair["uv"])


def test_the_last_file_is_cut_from_validation_pictures(tmp_path):
    train, validation = np.zeros((2, 20, 20, 3), np.uint8), np.full((2, 20, 20, 3), 255, np.uint8)
    maps = paper.write_pairs(tmp_path, SPEC, train, validation)
    assert [int(m["y"].min()) for m in maps] == [0, 0, 255]


def test_pair_files_are_written_once_and_an_interrupted_writing_goes_on(tmp_path, monkeypatch):
    rgb = pictures()
    whole = paper.write_pairs(tmp_path / "a", SPEC, rgb, rgb)
    with monkeypatch.context() as patch:
        cut = paper.cut_pairs
        patch.setattr(paper, "cut_pairs", lambda p, s, n: [] if n == 2 else cut(p, s, n))
        paper.write_pairs(tmp_path / "b", SPEC, rgb, rgb)
        (last,) = (tmp_path / "b").glob("*/pairs_02.npy")
        last.unlink()  # the third file was not written
    first = sorted((tmp_path / "b").glob("*/*.npy"))[0].stat().st_mtime_ns
    again = paper.write_pairs(tmp_path / "b", SPEC, rgb, rgb)
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    assert sorted((tmp_path / "b").glob("*/*.npy"))[0].stat().st_mtime_ns == first


def test_a_batch_depends_on_seed_and_step_only_and_an_epoch_holds_every_pair_once(tmp_path):
    spec = paper.replace(SPEC, count=8, files=4)
    maps = paper.write_pairs(tmp_path, spec, pictures(), pictures())
    batches = paper.PairBatches(maps, 4, seed=1)
    assert batches.steps_per_file == 2
    seen = [batches.batch(step, "cpu") for step in range(6)]
    again = paper.PairBatches(maps, 4, seed=1).batch(3, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(again, seen[3], strict=True))
    patches = {tuple(y.flatten().tolist()) for ys, _ in seen for y in ys}
    truth = {tuple((m / 255).flatten().tolist()) for f in maps[:-1] for m in f["y"].astype("f4")}
    assert len(patches) == len({tuple(map(float, t)) for t in truth}) == 24


@pytest.mark.parametrize("style", list(paper.STYLES))
def test_styles_change_colours_and_not_lightness(style):
    rgb = color.as_rgb(datasets.load("scenes", 32, count=8).pictures)
    dressed = paper.STYLES[style](rgb)
    lightness = [color.rgb_to_lab(p)[:, :1] for p in (rgb, dressed)]
    assert (lightness[0] - lightness[1]).abs().max() < 0.5
    moved = (color.rgb_to_lab(rgb) - color.rgb_to_lab(dressed))[:, 1:].norm(dim=1).mean()
    assert moved < 1e-3 if style == "none" else moved > 5


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


def budget(**changes):
    return paper.Budget(2, 2, 4, l1_rate=1.0, l2_rate=0.5, schedule="constant", **changes)


def test_the_three_readings_of_the_switch():
    after, alternate, plateau = (
        paper.Switch(budget(switch=s), 3) for s in ("after", "alternate", "plateau")
    )
    assert [after.is_second(i) for i in range(12)] == [False] * 6 + [True] * 6
    assert [alternate.is_second(i) for i in range(12)] == ([False] * 3 + [True] * 3) * 2
    used = []
    for i, error in enumerate([1.0] * 3 + [0.5] * 3 + [0.499] * 9):
        used.append(plateau.is_second(i))
        plateau.note(i, torch.tensor(error))
    assert used == [False] * 12 + [True] * 3


# -------------------------------------------------------------------- learning and claims


@pytest.mark.parametrize("model", ["patchwise", "global_local"])
def test_four_pictures_are_overfitted(model):
    """To an error of ab below 0.02 (|ab|/110): the network can learn, its gradients arrive."""
    rgb = color.as_rgb(datasets.load("scenes", 32).train.spread(4).pictures)
    y, chroma = paper.grey_level(color.rgb_to_lab(rgb)[:, :1]), paper.chroma_of(rgb)
    recipe = paper.Recipe(model, 24, image_size=32, mean=tuple(chroma.mean((0, 2, 3)).tolist()))
    trainer = paper.PatchTraining(recipe, paper.Budget(1, 0, schedule="constant"), HERE, 600)
    cut = paper.MARGIN if model == "patchwise" else 0
    true = chroma[..., cut : 32 - cut, cut : 32 - cut]

    def step(batch, index):
        trainer.step(batch, index)
        if index % 20:
            return {"l1": torch.tensor(1.0)}
        painted = [torch.sigmoid(trainer.network(y).detach()), true]
        grey = y[..., cut : 32 - cut, cut : 32 - cut]
        rgb = [color.yuv_to_rgb(paper.to_yuv(grey, c)).clamp(0, 1) for c in painted]
        lab = [color.rgb_to_lab(picture) for picture in rgb]
        return {"l1": (lab[0] - lab[1])[:, 1:].abs().mean() / 110}

    assert overfits(step, (y, true), trainer.network, most=600) < 0.02


@pytest.mark.parametrize("model", ["patchwise", "global_local"])
def test_every_norm_learns_after_building_and_after_a_validation(model):
    recipe = paper.Recipe(model, 4, image_size=32)
    trainer = paper.PatchTraining(recipe, paper.Budget(1, 0), HERE, 2)
    assert training.norms_that_sleep(trainer.network) == []
    look = paper.look_at(datasets.load("scenes", 32).validation, HERE, most=4)
    assert np.isfinite(look(trainer.average.module)["ab error"])
    assert training.norms_that_sleep(trainer.network) == []


def test_detail_changes_how_the_first_layer_learns_not_what_it_can_say():
    plain, detailed = (paper.PatchwiseNet(4, detail=d) for d in (1.0, 5.0))
    first, second = plain.convolutions[0], detailed.convolutions[0]
    detailed.load_state_dict(plain.state_dict())
    mean = first.weight.detach().mean((2, 3), keepdim=True)
    second.weight.data = mean + (first.weight.detach() - mean) / 5
    y = greys(1, 32, 32)
    torch.testing.assert_close(plain(y), detailed(y), atol=1e-5, rtol=1e-5)


def test_claims_without_their_evidence_are_not_run_yet():
    claims = [*paper.DESIGN_CLAIMS, *paper.METHOD_CLAIMS, *paper.RESULT_CLAIMS]
    rows = paper.evidence.judge(claims, {"measures": {}, "studies": {}}, paper.NAME)
    assert {row["verdict"] for row in rows} == {"not run yet"}


def test_operations_and_parameters_are_those_of_the_papers():
    work, parameters = paper.against_iizuka()
    assert 70 < work < 80 and 0.25 < parameters < 0.35


# -------------------------------------------------------------------------------- models


@pytest.mark.parametrize("model", ["patchwise", "global_local"])
def test_weights_come_back_as_the_same_model(tmp_path, model):
    torch.manual_seed(0)
    recipe = paper.Recipe(model, 6, image_size=32, mean=(0.48, 0.51))
    network = paper.build_model(recipe).eval()
    info = {
        "notebook": paper.NAME,
        "row": model,
        "image_size": 32,
        "build": paper.asdict(recipe),
    }
    training.save_weights(tmp_path / "w.safetensors", network, info)
    again = paper.load_model(tmp_path / "w.safetensors")
    grey = 100 * greys(1, 48, 32)
    assert again.image_size == 32 and again.recipe == recipe
    assert torch.equal(paper.colorize(network, grey), paper.colorize(again, grey))


@pytest.mark.parametrize("size", [(30, 33), (64, 64), (5, 7)])
def test_the_global_network_takes_any_size(size):
    torch.manual_seed(0)
    network = paper.GlobalLocal(paper.Recipe("global_local", 4)).eval()
    assert network(greys(2, *size)).shape == (2, 2, *size)


def test_equalizing_a_bilevel_picture_leaves_two_levels():
    lightness = paper.bilevel(100 * greys(1, 20, 20))
    assert lightness.unique().tolist() == [0.0, 100.0]
    assert len(paper.equalise(lightness).unique()) == 2
    assert len(paper.equalise(torch.full((1, 1, 4, 4), 30.0)).unique()) == 1


def test_patches_of_another_side_come_with_as_many_steps_and_pixels():
    spec, plan = paper.PairSpec("x", count=100), paper.Budget(1, 1, 16)
    for side in (16, 32, 128):
        other, scaled = paper.scaled(spec, plan, side)
        pixels = scaled.batch_size * (side - 8) ** 2
        assert pixels == pytest.approx(16 * 56**2, rel=0.2)
        assert other.count // scaled.batch_size == 100 // 16 and other.patch == side
