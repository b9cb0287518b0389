"""The definitions of notebook 03, as the notebook itself uses them."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from colorlib import adversarial, color, machine, notebooks, training

paper = notebooks.load("03_cgan_flowers")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, critic_width=4, image_size=32)


def layers(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


def greys(count, height, width, seed=0):
    return 100 * torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def test_unet_is_the_papers_eight_and_eight_blocks():
    unet = paper.UNet()
    assert len(unet.encoder) == len(unet.decoder) == 8
    assert unet.eval()(torch.zeros(1, 1, 256, 256)).shape == (1, 2, 256, 256)
    outer, inner = unet.encoder[0], unet.encoder[-1]
    assert [type(m) for m in outer] == [nn.Conv2d, nn.LeakyReLU]
    assert [type(m) for m in inner] == [nn.Conv2d, nn.ReLU]
    between = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert all([type(m) for m in block] == between for block in unet.encoder[1:-1])
    assert [type(m) for m in unet.decoder[-1]] == [nn.ConvTranspose2d, nn.Tanh]


def test_dropout_is_in_the_three_blocks_after_the_innermost():
    rates = [[m.p for m in block if isinstance(m, nn.Dropout)] for block in paper.UNet().decoder]
    assert rates == [[], [0.2], [0.2], [0.2], [], [], [], []]


def test_parameters_of_the_papers_size():
    counts = {
        s: round(1e6 * training.count_parameters(paper.UNet(skips=s)))
        for s in ("added", "concatenated")
    }
    ladder = [1, 64, 128, 256, 512, 512, 512, 512, 512]
    encoder = sum(16 * a * b for a, b in pairwise(ladder))
    down = [512, 512, 512, 512, 256, 128, 64]
    added = sum(16 * a * b for a, b in zip([512, *down[:-1]], down, strict=True)) + 16 * 64 * 2
    doubled = added + sum(16 * a * b for a, b in pairwise(down)) + 16 * 64 * 2
    norms = 2 * (sum(ladder[2:-1]) + sum(down))
    biases = 64 + 512 + 2  # blocks without a batch norm
    assert counts == {
        "added": encoder + added + norms + biases,
        "concatenated": encoder + doubled + norms + biases,
    }


@pytest.mark.parametrize("skips", ["added", "concatenated"])
def test_skips_reach_the_output(skips):
    unet = paper.UNet(blocks=3, width=4, skips=skips).eval()
    x = torch.randn(1, 1, 8, 8)
    seen = {}
    unet.decoder[-1].register_forward_hook(lambda m, args, out: seen.update(into=args[0]))
    unet.decoder[-2].register_forward_hook(lambda m, args, out: seen.update(decoded=out))
    unet.encoder[0].register_forward_hook(lambda m, args, out: seen.update(encoded=out))
    unet(x)
    if skips == "added":
        assert torch.equal(seen["into"], seen["decoded"] + seen["encoded"])
    else:
        assert torch.equal(seen["into"], torch.cat([seen["decoded"], seen["encoded"]], 1))


def test_resnet_unet_paints_ab_within_tanh_and_downloads_nothing(monkeypatch):
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("network")
    )
    net = paper.resnet_unet(image_size=64).eval()
    with torch.inference_mode():
        out = net(torch.randn(2, 1, 64, 64))
    assert out.shape == (2, 2, 64, 64) and out.abs().max() <= 1
    assert 30 < training.count_parameters(net) < 33


def test_encoder_weights_from_a_file_reach_the_encoder(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    donor = resnet18(weights=None)
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in donor.state_dict().items()},
        tmp_path / "r.pth",
    )
    net = paper.resnet_unet(str(tmp_path / "r.pth"), image_size=32)
    first = layers(net, nn.Conv2d)[0].weight
    assert first.shape[1] == 1
    torch.testing.assert_close(first, donor.conv1.weight.half().float().sum(1, keepdim=True))


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_bad_encoder_weights_end_in_one_line(tmp_path, content):
    file = tmp_path / "r.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(training.WeightsError) as caught:
        paper.load_resnet18(str(file))
    assert "r.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_critic_has_a_field_of_70_and_a_map_of_30():
    critic = paper.PatchDiscriminator()
    assert adversarial.receptive_field(critic) == 70
    assert critic(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert len(layers(critic, nn.Conv2d)) == 5
    assert len(layers(critic, nn.BatchNorm2d)) == 3
    assert len(layers(critic, nn.LeakyReLU)) == 4


@pytest.mark.parametrize("size", [(70, 70), (86, 134)])
def test_chopped_patches_equal_the_convolution(size):
    torch.manual_seed(0)
    critic = paper.PatchDiscriminator(width=8)
    for norm in layers(critic, nn.BatchNorm2d):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    bare, picture = paper.without_padding(critic), torch.randn(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(
            bare(picture), paper.score_by_chopping(bare, picture), atol=1e-5, rtol=1e-5
        )
    assert critic.layers[0].padding == (1, 1)  # the critic itself is untouched


def test_a_critic_of_constant_scores_has_a_loss_of_ln_2():
    gan = paper.ColourGAN(TINY, HERE, 1e-3)
    last = layers(gan.modules["critic"], nn.Conv2d)[-1]
    nn.init.zeros_(last.weight)
    losses = gan.step(torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8), 0)
    assert losses["critic"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_critic_loss_does_not_reach_the_generator():
    gan = paper.ColourGAN(TINY, HERE, 1e-3)
    before = [p.clone() for p in gan.modules["generator"].parameters()]
    lightness, ab = color.to_network(torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8))
    painted = gan.modules["generator"](lightness)
    gan.update_critic(lightness, ab, painted.detach())
    assert all(p.grad is None for p in gan.modules["generator"].parameters())
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, gan.modules["generator"].parameters(), strict=True)
    )


def test_the_unconditional_critic_does_not_see_lightness():
    gan = paper.ColourGAN(paper.replace(TINY, conditional=False), HERE, 1e-3)
    gan.modules["critic"].eval()
    ab = torch.rand(1, 2, 32, 32)
    scores = [gan.score(torch.full((1, 1, 32, 32), v), ab) for v in (-1.0, 1.0)]
    assert torch.equal(*scores)


def test_l1_training_learns_one_colour():
    orange = np.zeros((8, 32, 32, 3), np.uint8) + np.array([230, 140, 40], np.uint8)
    gan = paper.ColourGAN(paper.replace(TINY, objective="l1", dropout=0.0), HERE, 3e-3)
    batch = color.as_batch(orange)
    errors = [gan.step(batch, i)["l1"].item() for i in range(40)]
    assert errors[-1] < 0.25 * errors[0]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (33, 64), (150, 100)])
def test_colorize_keeps_size_and_lightness(height, width):
    torch.manual_seed(0)
    model = paper.build_generator(TINY).eval()
    grey = greys(2, height, width)
    rgb = paper.colorize(model, grey)
    assert rgb.shape == (2, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_a_model_that_paints_rgb_is_read_as_ab():
    rgb = torch.rand(1, 3, 4, 4)
    expected = color.normalise(color.rgb_to_lab(rgb))[1]
    torch.testing.assert_close(paper.to_ab(rgb * 2 - 1), expected, atol=1e-5, rtol=1e-5)


def test_cyclegan_cycles_back_on_an_identity():
    cycle = paper.CycleGAN(TINY, HERE, 1e-3, "lab")

    class Grey(nn.Module):  # Lab -> L and L -> Lab that undo each other on grey pictures
        multiple = 1

        def forward(self, x):
            return x[:, :1] if x.shape[1] == 3 else torch.cat([x, 0 * x, 0 * x], 1)

    cycle.modules["paint"], cycle.modules["unpaint"] = Grey(), Grey()
    cycle.update = lambda name, loss: None
    levels = torch.randint(0, 255, (4, 1, 32, 32), dtype=torch.uint8)
    losses = cycle.step(levels.repeat(1, 3, 1, 1), 0)
    assert (
        losses["cycle_grey"].item() + losses["cycle_colour"].item() < 1e-3
    )  # ab of a grey picture is zero but for rounding


def test_cyclegan_never_pairs_a_picture_with_itself():
    cycle = paper.CycleGAN(TINY, HERE, 1e-3, "ab")
    batch = torch.randint(0, 255, (6, 3, 32, 32), dtype=torch.uint8)
    grey, colour = cycle.split(batch)
    lightness, ab = color.to_network(batch)
    assert torch.equal(grey, lightness[:3]) and torch.equal(colour, ab[3:])


def test_weights_come_back_as_the_same_model(tmp_path):
    torch.manual_seed(0)
    model = paper.build_generator(TINY).eval()
    info = {
        "notebook": paper.NAME,
        "row": "unet_gan",
        "image_size": 32,
        "build": paper.asdict(TINY),
    }
    training.save_weights(tmp_path / "unet_gan.safetensors", model, info)
    again = paper.load_model(tmp_path / "unet_gan.safetensors")
    grey = greys(1, 32, 32)
    assert again.image_size == 32
    assert torch.equal(paper.colorize(model, grey), paper.colorize(again, grey))


def test_one_cycle_rises_and_falls():
    factors = [paper.one_cycle(i, 100) for i in range(100)]
    top = factors.index(max(factors))
    assert max(factors) == 1.0 and top == 25
    assert factors[:top] == sorted(factors[:top]) and factors[top:] == sorted(
        factors[top:], reverse=True
    )
    assert all(0 < paper.one_cycle(i, n) <= 1 for n in (1, 2, 3) for i in range(n))


def picture_of_halves(left, right, flip=False):
    rgb = np.zeros((1, 32, 32, 3), np.uint8)
    rgb[:, :, :16], rgb[:, :, 16:] = left, right
    return rgb[:, :, ::-1] if flip else rgb


def test_spill_tells_colour_that_follows_lightness_from_colour_that_does_not():
    follows = picture_of_halves((60, 20, 20), (120, 160, 255))
    lightness = color.to_network(color.as_batch(picture_of_halves((90, 90, 90), (90, 90, 90))))[0]
    ab = torch.zeros(1, 2, 32, 32)
    ab[..., 16:] = 0.3
    strays = color.to_pictures(color.from_network(lightness, ab))
    assert paper.spill(follows)[0] < 0.05 and paper.spill(strays)[0] > 0.95


def test_blobs_tell_patches_from_fine_colour():
    fine = np.zeros((1, 32, 32, 3), np.uint8) + 40
    fine[:, ::2, ::2, 0] = 200
    broad = picture_of_halves((200, 40, 40), (40, 40, 200))
    assert paper.blobs(fine)[0] < 0.2 < 0.6 < paper.blobs(broad)[0]


def test_hues_are_named_as_people_name_them():
    colours = {
        "red": (200, 60, 40),
        "yellow": (250, 220, 40),
        "blue": (40, 120, 230),
        "green": (60, 140, 40),
    }
    for name, rgb in colours.items():
        ab = 110 * color.to_network(color.as_batch(np.full((1, 1, 1, 3), rgb, np.uint8)))[1]
        assert paper.HUES[paper.hue_of(ab).item()] == name
    assert paper.hue_of(torch.zeros(1, 2, 1, 1)).item() == -1


@pytest.fixture(scope="module")
def anemones():
    return paper.two_coloured_set(SimpleNamespace(study_size=32, pictures=64, seed=3))


def painted_in(pictures, ab):
    lightness, true = color.to_network(color.as_batch(pictures.pictures))
    constant = torch.zeros_like(true) + torch.tensor(ab).view(1, 2, 1, 1) / 110
    return color.to_pictures(color.from_network(lightness, constant))


def test_petals_are_sorted_into_red_blue_between_and_elsewhere(anemones):
    _, truth = paper.petal_colours(anemones, anemones.pictures)
    assert truth["neither"] < 0.2 and min(truth["red"], truth["blue"]) > 0.2
    _, purple = paper.petal_colours(anemones, painted_in(anemones, [32.0, -14.0]))
    assert purple["between"] > 0.9 and purple["neither"] > 0.9
    _, red = paper.petal_colours(anemones, painted_in(anemones, [49.0, 23.0]))
    assert red["red"] > 0.7 and red["blue"] == 0
    _, green = paper.petal_colours(anemones, painted_in(anemones, [-40.0, 40.0]))
    assert green["between"] == green["red"] == green["blue"] == 0


def test_no_paint_and_random_paint_are_not_mistaken_for_a_painter(anemones):
    shares = {
        k: paper.petal_colours(anemones, rgb)[1] for k, rgb in paper.controls(anemones, 0).items()
    }
    assert shares["no paint"]["neither"] == 1.0 and shares["no paint"]["between"] < 0.1
    assert shares["random paint"]["between"] < 0.5
    assert shares["random paint"]["red"] + shares["random paint"]["blue"] < 0.5


def test_spill_ignores_rounding_and_sees_blurred_colour(anemones):
    grey = paper.controls(anemones, 0)["no paint"]
    assert paper.spill(grey).max() == 0
    truth, blurred = anemones.pictures, paper.with_blurred_colour(anemones.pictures)
    assert paper.spill(blurred).mean() > 1.5 * paper.spill(truth).mean()


def test_claims_of_studies_that_were_not_run_say_so():
    claims = paper.claims_on_losses(None, None) + paper.claims_on_others(None, None, None)
    claims += paper.claims_on_generators(None, {}, {}) + paper.claims_on_unet({}, [], {})
    assert {c["verdict"] for c in claims} == {"not run yet"}
    assert {c["number"] for c in claims} == {None}


def history(errors, seconds, steps=10):
    points = [
        {"step": i, "seconds": seconds * (i + 1) / len(errors), "error": e}
        for i, e in enumerate(errors)
    ]
    return training.History("x", list(range(steps)), {"l1": [0.0] * steps}, points, seconds)


def test_times_are_taken_to_the_worse_of_the_best_errors():
    times = paper.compare_times(
        {
            "unet_gan": [history([9, 8, 7, 6], 40)],
            "resnet_gan": [history([9, 8], 20), history([7, 5], 60)],
            "loaded": [],
        }
    )
    assert set(times) == {"unet_gan", "resnet_gan"}
    assert times["unet_gan"]["seconds_to_shared_error"] == 40
    assert times["resnet_gan"]["seconds_to_shared_error"] == 20 + 60
    assert times["resnet_gan"]["seconds_per_step"] == 6


def test_ab_explains_lightness_where_a_colour_has_one_lightness():
    flat = np.zeros((4, 32, 32, 3), np.uint8) + np.array([200, 30, 30], np.uint8)
    flat[:, :, 16:] = (30, 30, 200)
    assert paper.lightness_explained_by_ab(flat) > 0.99
    greys = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 1), np.uint8).repeat(3, 3)
    assert paper.lightness_explained_by_ab(greys) < 0.1


@pytest.mark.parametrize(
    ("size", "blocks"), [(256, 8), (512, 8), (96, 5), (64, 6), (100, 6), (33, 5), (24, 4)]
)
def test_blocks_follow_the_size_and_every_size_trains(size, blocks):
    assert paper.count_blocks(size) == blocks
    if size <= 100:
        gan = paper.ColourGAN(paper.replace(TINY, image_size=size), HERE, 1e-3)
        losses = gan.step(torch.randint(0, 255, (2, 3, size, size), dtype=torch.uint8), 0)
        assert all(torch.isfinite(loss) for loss in losses.values())
