"""The definitions of notebook 01, as the notebook itself uses them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from colorlib import color, datasets, files, machine, metrics, notebooks, training

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


def test_vectorizing_11_by_11_holds_every_inner_pixel_121_times():
    x = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    columns = paper.vectorize(x, 11)
    assert columns.shape == (1, 121, 22 * 22)
    assert (columns == x[0, 0, 16, 16]).sum() == 121


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


@pytest.mark.parametrize("borders", [paper.MIXED, ("same",) * 4])
def test_both_readings_give_56_from_64(borders):
    assert paper.PatchwiseNet(4, borders=borders)(greys(2, 64, 64)).shape == (2, 1, 56, 56)


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


def test_an_untrained_network_paints_about_the_mean_colour():
    torch.manual_seed(0)
    pair = paper.PatchwisePair(paper.Recipe(width=32, mean=(0.45, 0.52)))
    painted = torch.sigmoid(pair(greys(2, 64, 64))).mean((0, 2, 3))
    assert (painted - torch.tensor([0.45, 0.52])).abs().max() < 0.03


def test_vectorized_and_library_networks_are_one():
    torch.manual_seed(0)
    one = paper.PatchwisePair(TINY)
    other = paper.PatchwisePair(TINY, paper.VectorizedConv2d)
    other.load_state_dict(one.state_dict())
    y = greys(1, 64, 64)
    torch.testing.assert_close(one(y), other(y), atol=1e-5, rtol=1e-5)


def test_the_two_networks_share_nothing():
    pair = networks()
    pair(greys(1, 32, 32))[:, 0].sum().backward()
    assert all(p.grad.abs().sum() == 0 for p in pair.nets[1].parameters())
    assert any(p.grad.abs().sum() > 0 for p in pair.nets[0].parameters())


def test_a_constant_divisor_is_absorbed_by_the_weights():
    torch.manual_seed(0)
    layer = paper.LibraryConv2d(3, 4, 3, "full").double()
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    divided = F.conv2d(x, 9 * layer.weight, padding=2) / 9
    assert (layer(x) - divided).abs().max() < 1e-12


@pytest.mark.parametrize("shape", ["mixed", "same"])
def test_no_layer_is_left_behind_by_the_others(shape):
    """Within a network, relative weight changes after some SGD lie within a factor of ten."""
    budget = paper.Budget(4, 4, 8, 0.1, 0.1, schedule="constant")
    trainer = paper.PatchTraining(paper.Recipe(width=24, shape=shape), budget, HERE, 5)
    weights = [c.weight for net in trainer.network.nets for c in net.convolutions]
    before = [w.detach().clone() for w in weights]
    rgb = color.as_rgb(datasets.load("garden", 64, count=16, kind="landscapes").pictures)
    y = paper.grey_level(color.rgb_to_lab(rgb)[:, :1])
    chroma = paper.chroma_of(rgb)[..., 4:-4, 4:-4]
    for index in range(30):
        half = slice(0, 8) if index % 2 else slice(8, 16)
        trainer.step((y[half], chroma[half]), index)
    moved = [((w - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]
    for net in (moved[:4], moved[4:]):
        assert min(net) > 1e-4 and max(net) < 10 * min(net), moved


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


@pytest.mark.parametrize(("height", "width"), [(1, 1), (56, 56), (57, 113), (200, 31)])
def test_the_patch_loop_covers_every_pixel_once(height, width):
    seen = torch.zeros(1, 1, height, width)

    class Ramp(torch.nn.Module):  # paints what it is given, so that places can be told apart
        def forward(self, y):
            centre = y[..., 4:-4, 4:-4]
            return torch.logit(centre.clamp(1e-4, 1 - 1e-4)).repeat(1, 2, 1, 1)

    seen = torch.linspace(0.1, 0.9, height * width).view(1, 1, height, width)
    painted = paper.paint_by_patches(Ramp(), seen)
    assert painted.shape == (1, 2, height, width)
    assert (painted - seen).abs().max() < 1e-5


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (33, 64), (150, 100)])
def test_colorize_keeps_size_and_lightness(height, width, refine):
    grey = 100 * greys(2, height, width)
    rgb = paper.colorize(networks(), grey, refine=refine)
    assert rgb.shape == (2, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_a_large_picture_is_painted_at_the_side_it_was_trained_at():
    model, grey = networks(), 100 * greys(1, 200, 320)
    sizes = []
    paint = model.paint
    model.paint = lambda y: sizes.append(tuple(y.shape[-2:])) or paint(y)
    paper.colorize(model, grey)
    paper.colorize(model, grey, side=10**6)
    assert sizes == [(32, 51), (200, 320)]


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


def test_guided_filter_keeps_a_shared_edge_and_removes_what_the_guide_does_not_have():
    guide = torch.zeros(1, 1, 40, 40)
    guide[..., 20:] = 1.0
    noise = 0.1 * torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    edge = 0.3 + 0.4 * guide
    out = paper.guided_filter(guide, edge + noise, 8)
    assert (out - edge).abs().max() < 0.06 and (out - edge).std() < 0.2 * noise.std()


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
    rgb = datasets.load("garden", 32, count=12, seed=3, kind="landscapes").pictures
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
    maps = paper.read_pairs(paper.write_pairs(tmp_path, SPEC, rgb[:5], rgb[5:]), SPEC)
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
    maps = paper.read_pairs(paper.write_pairs(tmp_path, SPEC, train, validation), SPEC)
    assert [int(m["y"].min()) for m in maps] == [0, 0, 255]


def test_pair_files_are_written_once_and_resumed(tmp_path, monkeypatch):
    rgb, cut, written = pictures(), paper.cut_pairs, []

    def counted(planes, spec, number):
        if number == 2 and len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        return cut(planes, spec, number)

    monkeypatch.setattr(paper, "cut_pairs", counted)
    with pytest.raises(KeyboardInterrupt):
        paper.write_pairs(tmp_path / "a", SPEC, rgb, rgb)
    with pytest.raises(paper.PairError, match="missing or damaged"):
        (folder,) = (tmp_path / "a").iterdir()
        paper.read_pairs(folder, SPEC)
    written.append("again")
    paper.write_pairs(tmp_path / "a", SPEC, rgb, rgb)
    paper.write_pairs(tmp_path / "a", SPEC, rgb, rgb)
    assert written == [0, 1, "again", 2]
    monkeypatch.setattr(paper, "cut_pairs", cut)
    undisturbed = paper.write_pairs(tmp_path / "b", SPEC, rgb, rgb)
    for file in undisturbed.glob("*.npy"):
        assert file.read_bytes() == (folder / file.name).read_bytes()


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "pickle"])
def test_a_damaged_pair_file_is_noticed_and_written_anew(tmp_path, harm):
    rgb = pictures()
    folder = paper.write_pairs(tmp_path, SPEC, rgb, rgb)
    file = folder / "pairs_01.npy"
    good = file.read_bytes()
    harmed = {
        "truncate": good[:-7],
        "flip": good[:-1] + bytes([good[-1] ^ 1]),
        "pickle": b"\x80\x04.",
    }
    file.unlink() if harm == "remove" else file.write_bytes(harmed[harm])
    with pytest.raises(paper.PairError) as caught:
        paper.read_pairs(folder, SPEC)
    assert "pairs_01.npy" in str(caught.value) and "\n" not in str(caught.value)
    paper.write_pairs(tmp_path, SPEC, rgb, rgb)
    assert file.read_bytes() == good


def test_a_place_that_takes_no_files_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(paper.PairError, match="name another pairs_dir"):
        paper.write_pairs(tmp_path / "file", SPEC, pictures(), pictures())


def test_a_batch_depends_on_seed_and_step_only_and_an_epoch_holds_every_pair_once(tmp_path):
    spec = paper.replace(SPEC, count=8, files=4)
    maps = paper.read_pairs(paper.write_pairs(tmp_path, spec, pictures(), pictures()), spec)
    batches = paper.PairBatches(maps, 4, seed=1)
    assert batches.steps_per_file == 2
    seen = [batches.batch(step, "cpu") for step in range(6)]
    again = paper.PairBatches(maps, 4, seed=1).batch(3, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(again, seen[3], strict=True))
    patches = {tuple(y.flatten().tolist()) for ys, _ in seen for y in ys}
    truth = {tuple((m / 255).flatten().tolist()) for f in maps[:-1] for m in f["y"].astype("f4")}
    assert len(patches) == len({tuple(map(float, t)) for t in truth}) == 24


def test_changed_code_never_reads_old_pair_files(tmp_path, monkeypatch):
    rgb = pictures()
    before = paper.described(SPEC, rgb)
    assert before == paper.described(SPEC, rgb) and before.content
    monkeypatch.setitem(paper.STYLES, "none", lambda x: 1 - x)
    after = paper.described(SPEC, rgb)
    assert paper.pairs_place(tmp_path, before) != paper.pairs_place(tmp_path, after)


def test_leftovers_of_a_killed_writer_are_removed_and_a_full_disk_is_named(tmp_path, monkeypatch):
    rgb, place = pictures(), paper.pairs_place(tmp_path, SPEC)
    place.mkdir()
    (place / ".pairs_00.npy.abc").write_bytes(b"half")
    usage = SimpleNamespace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(paper.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(paper.PairError, match="free; name another pairs_dir") as caught:
            paper.write_pairs(tmp_path, SPEC, rgb, rgb)
    assert "\n" not in str(caught.value)
    paper.write_pairs(tmp_path, SPEC, rgb, rgb)
    assert not list(place.glob(".*"))


def test_a_bench_removes_a_studys_pair_files_and_keeps_the_bases(tmp_path):
    rgb = datasets.load("garden", 32, count=40, kind="landscapes")
    spec = paper.PairSpec(rgb.hash, patch=24, files=2, count=4)
    base = paper.Variant(TINY, paper.Budget(1, 0, 4, 0.1, 0.1), spec)
    parameters = SimpleNamespace(resume=False, study_seeds=[0], image_size=32, study_width=6)
    sets = (rgb.train, rgb.validation, rgb.test)
    bench = paper.Bench(parameters, HERE, tmp_path, sets, tmp_path / "pairs", (0.0, 0.0), base)
    bench.train(base, 0)
    bench.train(paper.replace(base, spec=paper.replace(spec, style="retro")), 0)
    assert len(list((tmp_path / "pairs").iterdir())) == 2
    bench.tidy()
    assert len(list((tmp_path / "pairs").iterdir())) == 1
    bench.tidy(everything=True)
    assert not list((tmp_path / "pairs").iterdir())


def test_the_last_file_is_what_pairs_error_reads(tmp_path):
    rgb = pictures()
    maps = paper.read_pairs(paper.write_pairs(tmp_path, SPEC, rgb, rgb), SPEC)
    model = networks().eval()
    y, chroma = paper.to_tensors(maps[-1])
    wanted = paper.norm_loss(model(y), chroma).item()
    assert paper.pairs_error(model, maps[-1], HERE) == pytest.approx(wanted, rel=1e-4)
    plan = paper.Budget(1, 0, 5, 0.1, 0.1)
    look = {"validate": lambda model: {}, "looks": 1}
    model, history = paper.train("t", TINY, plan, maps, HERE, tmp_path / "w", **look)
    last = history.validation[-1]["pairs_error"]
    assert last == pytest.approx(paper.pairs_error(model, maps[-1], HERE), rel=1e-4)


@pytest.mark.parametrize("style", list(paper.STYLES))
def test_styles_change_colours_and_not_lightness(style):
    rgb = color.as_rgb(datasets.load("garden", 32, count=8, kind="landscapes").pictures)
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


def test_each_loss_has_its_rate():
    trainer = paper.PatchTraining(TINY, budget(), HERE, 3)
    rates = []
    for index in (0, 6):
        trainer.step((greys(2, 16, 16), torch.full((2, 2, 8, 8), 0.5)), index)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 0.5]


def test_training_learns_a_colour_that_follows_the_grey_level(tmp_path):
    rgb = np.zeros((8, 32, 32, 3), np.uint8) + np.array([240, 160, 60], np.uint8)
    rgb[np.random.default_rng(0).random((8, 4, 4)).repeat(8, 1).repeat(8, 2) < 0.5] = (20, 30, 120)
    spec = paper.PairSpec("two", patch=24, files=3, count=32)
    maps = paper.read_pairs(paper.write_pairs(tmp_path, spec, rgb, rgb), spec)
    plan = paper.Budget(8, 8, 8, 0.01, 0.01, "adam")
    _, history = paper.train("two", TINY, plan, maps, HERE)
    assert history.losses["error"][-1] < 0.7 * history.losses["error"][0]
    assert np.isnan(history.losses["second"][:32]).all()
    assert np.isnan(history.losses["first"][32:]).all()


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path):
    spec = paper.PairSpec("x", patch=16, files=3, count=8)
    maps = paper.read_pairs(paper.write_pairs(tmp_path, spec, pictures(), pictures()), spec)
    plan = budget(switch="plateau")
    whole, history = paper.train("whole", TINY, plan, maps, HERE, tmp_path / "a")

    class Stop(Exception):
        pass

    def stop(model):
        raise Stop

    with pytest.raises(Stop):
        paper.train("whole", TINY, plan, maps, HERE, tmp_path / "b", validate=stop, looks=2)
    again, second = paper.train("whole", TINY, plan, maps, HERE, tmp_path / "b")
    assert history.losses["error"] == second.losses["error"]
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


# ----------------------------------------------------------------------- models and claims


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


def test_whole_pictures_come_in_a_batch_of_eight_whatever_the_patches_are():
    for reduce in (1, 2):
        spec, plan = paper.PairSpec("x", patch=48, count=384, reduce=reduce), paper.Budget(1, 1, 16)
        whole, budget = paper.whole_pictures(spec, plan, 128)
        assert budget.batch_size >= 8 and whole.reduce == 1 and whole.patch == 128
        assert whole.count // budget.batch_size == 384 // 16


def test_multiply_adds_are_those_of_the_table():
    pair = paper.PatchwisePair(paper.Recipe(width=8))
    inside = 64 - 2 * (paper.MARGIN + paper.HALO)  # a picture whose padded version is 64 x 64
    rows = paper.layer_rows(pair.nets[0], 64)
    wanted = 2 * sum(row["multiply-adds, millions"] for row in rows)
    assert paper.multiply_adds(pair, inside) == pytest.approx(wanted)


def test_one_cooling_whatever_the_losses():
    plan = paper.Budget(2, 2, 4, 1.0, 1.0)
    rates = {}
    for switch in ("after", "alternate", "plateau"):
        trainer = paper.PatchTraining(TINY, paper.replace(plan, switch=switch), HERE, 5)
        rates[switch] = [trainer.rate(i, trainer.switch.is_second(i)) for i in range(20)]
    assert rates["after"] == rates["alternate"] == rates["plateau"]
    assert all(a >= b for a, b in zip(rates["after"][1:], rates["after"][2:], strict=False))


def test_the_global_network_sees_the_whole_picture():
    torch.manual_seed(0)
    network = paper.GlobalLocal(paper.Recipe("global_local", 4)).eval()
    torch.nn.init.normal_(network.out[2].weight)
    y = greys(1, 64, 64)
    moved = y.clone()
    moved[..., 56:, 56:] = 0
    gap = (network.paint(y) - network.paint(moved)).abs()
    assert gap[..., :8, :8].max() > 0
    local = (paper.paint_whole(networks(), y) - paper.paint_whole(networks(), moved)).abs()
    assert local[..., :40, :40].max() == 0 < local[..., 56:, 56:].max()


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


def test_claims_of_studies_that_were_not_run_say_so():
    claims = paper.claims_on_network(None, None, None, None, None)
    assert {c["verdict"] for c in claims} == {"not run yet"}
    assert {c["number"] for c in claims} == {None}


def gap(mean, low, high, seeds, psnr=-1.0):
    delta_e = {"mean": mean, "low": low, "high": high, "seeds": seeds}
    of_psnr = {"mean": psnr, "low": psnr, "high": psnr, "seeds": [psnr] * len(seeds)}
    return {"delta_e_paired": delta_e, "psnr_paired": of_psnr}


def study_of(others, seeds=3):
    """A study whose variants v0, v1 ... are compared with its first."""
    rows = {f"v{i}": {"against": {"first": other}} for i, other in enumerate(others)}
    return {"variants": {"first": {}, **rows}, "origin": "x", "seeds": list(range(seeds))}


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ([gap(1, 0.5, 1.5, [1, 1, 1]), gap(2, 1, 3, [2, 2, 2])], "held"),
        ([gap(1, 0.5, 1.5, [1, 1]), gap(2, 1, 3, [2, 2])], "partly"),  # too few trainings
        ([gap(1, 0.5, 1.5, [2, 1, -0.1]), gap(2, 1, 3, [2, 2, 2])], "partly"),  # a seed disagrees
        ([gap(1, 0.5, 1.5, [1, 1, 1], 0.1), gap(2, 1, 3, [2, 2, 2])], "partly"),  # PSNR does
        ([gap(1, -0.5, 2, [1, 1, 1]), gap(2, 1, 3, [2, 2, 2])], "did not hold"),  # one is not sure
    ],
)
def test_a_variant_is_best_only_if_eye_noise_and_seeds_agree(others, verdict):
    pairs = [(f"v{i}", "first") for i in range(len(others))]
    assert paper.all_worse("text", study_of(others), pairs)["verdict"] == verdict


def test_a_study_without_the_variants_is_not_testable():
    claim = paper.all_worse("text", study_of([]), [("16 × 16", "64 × 64")])
    assert claim["verdict"] == "not testable here"
    size = {"variants": {"16 × 16": {"seams": 3.0}}, "origin": "x", "seeds": [0, 1]}
    assert paper.claim_on_seams(size)["verdict"] == "not testable here"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (gap(0.05, -0.1, 0.15, [0.1, 0.0, 0.0]), "held"),
        (gap(0.05, -0.1, 0.15, [0.3, -0.1, 0.0]), "partly"),
        (gap(0.05, -0.1, 0.25, [0.1, 0.0, 0.0]), "did not hold"),
        (gap(-0.3, -0.4, -0.2, [-0.3, -0.3]), "did not hold"),
    ],
)
def test_alike_means_an_interval_within_a_fifth(found, verdict):
    assert paper.alike("text", study_of([found]), ("v0", "first"))["verdict"] == verdict


@pytest.mark.parametrize(
    ("seams", "verdict"),
    [((3.0, 1.0), "held"), ((1.5, 1.0), "partly"), ((0.9, 0.1), "did not hold")],
)
def test_seams_must_be_seen(seams, verdict):
    rows = dict(zip(("16 × 16", "64 × 64"), ({"seams": s} for s in seams), strict=True))
    study = {"variants": rows, "origin": "x", "seeds": [0, 1, 2]}
    assert paper.claim_on_seams(study)["verdict"] == verdict


@pytest.mark.parametrize(
    ("low", "seeds", "verdict"),
    [
        (-0.1, [0, 0, 0.1], "held"),
        (-0.1, [0.3, 0, -0.3], "partly"),
        (-0.4, [0, 0, 0], "did not hold"),
    ],
)
def test_more_kernels_must_not_help(low, seeds, verdict):
    study = study_of([gap(0, low, 0.4, seeds)])
    study["variants"]["v0"] |= gap(0, low, 0.4, seeds)
    assert paper.claim_on_width(study)["verdict"] == verdict


@pytest.mark.parametrize(
    ("refined", "blurred", "left", "verdict"),
    [
        (4.0, 4.5, 0.9, "partly"),
        (4.0, 4.5, 0.5, "did not hold"),
        (4.0, 3.5, 0.9, "did not hold"),
        (5.5, 5.2, 0.9, "did not hold"),
    ],
)
def test_refinement_is_judged_against_a_blur_and_on_one_training(refined, blurred, left, verdict):
    means = {"patchwise": 5.0, "patchwise_refined": refined, "patchwise_blurred": blurred}
    edges = {
        row: {"near edges": np.full(9, m), "edge agreement": np.full(9, 1 - m / 10)}
        for row, m in (means | {"truth": 0.0}).items()
    }
    colourful = {"patchwise": 1.0, "patchwise_refined": left}
    claims = paper.claims_on_refinement(edges, colourful)
    assert [c["verdict"] for c in claims] == [verdict, verdict]


def test_the_parameter_files_name_no_folder_of_a_machine():
    for profile in ("smoke", "evening", "paper"):
        text = (files.root() / "notebooks/params" / profile / f"{paper.NAME}.yml").read_text()
        assert "/" not in text.replace("# ", "")


def test_the_reader_may_paint_own_pictures_and_bad_ones_are_named(tmp_path, capsys):
    from PIL import Image

    Image.fromarray(pictures(1, 30)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    found, credit = paper.own_pictures(sorted(tmp_path.iterdir()))
    assert list(found) == ["good.png (1)"] and credit == ""
    assert "bad.png" in capsys.readouterr().out
    parameters = SimpleNamespace(radius=8, epsilon=1e-4)
    coloured, grey = paper.paint_one(networks(), found["good.png (1)"], HERE, parameters)
    assert coloured.shape == grey.shape == (30, 30, 3)


def test_the_fingerprint_of_pair_files_is_plain_data():
    assert json.loads(json.dumps(paper.asdict(SPEC))) == paper.asdict(SPEC)
