"""The definitions of notebook 03, as the notebook itself uses them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from learning import overfits
from torch import nn

from colorlib import adversarial, color, datasets, machine, metrics, notebooks, training

paper = notebooks.load("03_cgan_flowers")
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
TINY = paper.Recipe(width=4, critic_width=4, image_size=32)


def layers(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


def noise(count, *shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3, *shape), dtype=torch.uint8, generator=random)


@pytest.fixture(scope="module")
def flowers():
    return datasets.load("flowers", 32, count=60, seed=3)


# ------------------------------------------------------------------------------------ generators


def test_unet_is_the_papers_eight_and_eight_blocks():
    unet = paper.UNet()
    assert len(unet.encoder) == len(unet.decoder) == 8
    assert unet.eval()(torch.zeros(1, 1, 256, 256)).shape == (1, 2, 256, 256)
    assert [type(m) for m in unet.encoder[0]] == [nn.Conv2d, nn.LeakyReLU]
    assert [type(m) for m in unet.encoder[-1]] == [nn.Conv2d, nn.ReLU]
    between = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert all([type(m) for m in block] == between for block in unet.encoder[1:-1])
    assert [type(m) for m in unet.decoder[-1]] == [nn.ConvTranspose2d, nn.Tanh]
    rates = [[m.p for m in block if isinstance(m, nn.Dropout)] for block in unet.decoder]
    assert rates == [[], [0.2], [0.2], [0.2], [], [], [], []]  # the three after the innermost


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
    rest = encoder + norms + 64 + 512 + 2  # biases stand in blocks without a batch norm
    assert counts == {"added": rest + added, "concatenated": rest + doubled}


@pytest.mark.parametrize("skips", ["added", "concatenated"])
def test_skips_reach_the_output(skips):
    unet = paper.UNet(blocks=3, width=4, skips=skips).eval()
    seen = {}
    unet.decoder[-1].register_forward_hook(lambda m, args, out: seen.update(into=args[0]))
    unet.decoder[-2].register_forward_hook(lambda m, args, out: seen.update(decoded=out))
    unet.encoder[0].register_forward_hook(lambda m, args, out: seen.update(encoded=out))
    unet(torch.randn(1, 1, 8, 8))
    parts = [seen["decoded"], seen["encoded"]]
    assert torch.equal(seen["into"], sum(parts) if skips == "added" else torch.cat(parts, 1))


@pytest.mark.parametrize(
    ("size", "blocks"), [(256, 8), (512, 8), (96, 5), (64, 6), (100, 6), (33, 5), (24, 4)]
)
def test_blocks_follow_the_size_and_every_size_trains(size, blocks):
    assert paper.count_blocks(size) == blocks
    if size <= 100:
        losses = paper.ColourGAN(paper.replace(TINY, image_size=size), HERE, 1e-3).step(
            noise(2, size, size), 0
        )
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_resnet_unet_paints_ab_within_tanh_and_downloads_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("net"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # an empty cache
    net = paper.resnet_unet("auto", image_size=64)
    assert paper.origin_of("auto") == "ResNet18 encoder: random weights"
    out = net(torch.randn(2, 1, 64, 64))
    assert out.shape == (2, 2, 64, 64) and out.abs().max() <= 1
    assert 30 < training.count_parameters(net) < 33


def test_all_25_batch_norms_of_the_resnet_unet_learn_also_after_a_validation():
    torch.manual_seed(0)
    gan = paper.ColourGAN(paper.replace(TINY, generator="resnet", objective="l1"), HERE, 1e-2)
    net = gan.modules["generator"]
    norms = layers(net, nn.BatchNorm2d)
    before = [(norm.weight.clone(), norm.running_mean.clone()) for norm in norms]

    class Same:
        def batch(self, step, device):
            return noise(4, 32, 32)

    training.run(
        "norms",
        gan.step,
        batches=Same(),
        steps=2,
        modules=gan.modules,
        optimizers=gan.optimizers,
        machine=HERE,
        validate=lambda done: {"error": float(net.training)},
        validate_every=1,
    )
    assert len(norms) == 25 and training.norms_that_sleep(net) == []
    moved = [
        not torch.equal(norm.weight, weight) and not torch.equal(norm.running_mean, mean)
        for norm, (weight, mean) in zip(norms, before, strict=True)
    ]
    assert sum(moved) == 25


def test_encoder_weights_from_a_file_reach_the_encoder(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    donor = resnet18(weights=None)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in donor.state_dict().items()}
    torch.save(halves, tmp_path / "r.pth")
    net = paper.resnet_unet(str(tmp_path / "r.pth"), image_size=32)
    first = layers(net, nn.Conv2d)[0].weight
    assert first.shape[1] == 1
    torch.testing.assert_close(first, donor.conv1.weight.half().float().sum(1, keepdim=True))


@pytest.mark.parametrize("content", [b"not weights", None])
def test_bad_encoder_weights_end_in_one_line(tmp_path, content):
    file = tmp_path / "r.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(training.WeightsError) as caught:
        paper.load_resnet18(str(file))
    assert "r.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_the_unet_overfits_four_pictures(flowers):
    torch.manual_seed(0)
    recipe = paper.Recipe(objective="l1", width=32, dropout=0.0, image_size=32)
    gan = paper.ColourGAN(recipe, HERE, 2e-3)
    batch = flowers.tensor(np.arange(4))
    assert overfits(gan.step, batch, *gan.modules.values()) < 0.02


# ---------------------------------------------------------------------------- critic and losses


def test_critic_has_a_field_of_70_and_a_map_of_30():
    critic = paper.PatchDiscriminator()
    assert adversarial.receptive_field(critic) == 70
    assert critic(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU)
    assert [len(layers(critic, kind)) for kind in kinds] == [5, 3, 4]


@pytest.mark.parametrize("size", [(70, 70), (86, 134)])
def test_chopped_patches_equal_the_convolution(size):
    torch.manual_seed(0)
    critic = paper.PatchDiscriminator(width=8)
    for norm in layers(critic, nn.BatchNorm2d):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    bare, picture = paper.without_padding(critic), torch.randn(1, 3, *size)
    with torch.no_grad():
        chopped = paper.score_by_chopping(bare, picture)
        torch.testing.assert_close(bare(picture), chopped, atol=1e-5, rtol=1e-5)
    assert critic.layers[0].padding == (1, 1)  # the critic itself is untouched


def test_a_critic_of_constant_scores_has_a_loss_of_ln_2():
    gan = paper.ColourGAN(TINY, HERE, 1e-3)
    nn.init.zeros_(layers(gan.modules["critic"], nn.Conv2d)[-1].weight)
    assert gan.step(noise(2, 32, 32), 0)["critic"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_critic_loss_does_not_reach_the_generator():
    gan = paper.ColourGAN(TINY, HERE, 1e-3)
    lightness, ab = color.to_network(noise(2, 32, 32))
    gan.update_critic(lightness, ab, gan.modules["generator"](lightness).detach())
    assert all(p.grad is None for p in gan.modules["generator"].parameters())


def test_the_unconditional_critic_does_not_see_lightness():
    gan = paper.ColourGAN(paper.replace(TINY, conditional=False), HERE, 1e-3)
    gan.modules["critic"].eval()
    ab = torch.rand(1, 2, 32, 32)
    scores = [gan.score(torch.full((1, 1, 32, 32), v), ab) for v in (-1.0, 1.0)]
    assert torch.equal(*scores)


def test_a_row_starts_with_l1_and_what_paints_is_the_moving_average(flowers):
    recipe, budget = TINY, paper.Budget(2, 1, 4, 1e-3, 1e-3, average=0.9)
    painter, stages = paper.train("row", recipe, budget, flowers.train, HERE)
    assert [set(h.losses) for h in stages] == [{"l1"}, {"critic", "l1", "generator"}]
    last, _ = paper.train("row", recipe, paper.replace(budget, average=0.0), flowers.train, HERE)
    assert not painter.training and training.norms_that_sleep(painter) == []
    pairs = zip(painter.parameters(), last.parameters(), strict=True)
    assert any(not torch.equal(mean, step) for mean, step in pairs)


def test_one_cycle_rises_and_falls():
    factors = [paper.one_cycle(i, 100) for i in range(100)]
    top = factors.index(1.0)
    assert top == 25 and factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert all(0 < paper.one_cycle(i, n) <= 1 for n in (1, 2, 3) for i in range(n))


def test_cyclegan_cycles_back_on_an_identity_and_never_pairs_a_picture_with_itself():
    cycle = paper.CycleGAN(TINY, HERE, 1e-3, "lab")

    class Grey(nn.Module):  # Lab -> L and L -> Lab that undo each other on grey pictures
        multiple = 1

        def forward(self, x):
            return x[:, :1] if x.shape[1] == 3 else torch.cat([x, 0 * x, 0 * x], 1)

    cycle.modules["paint"], cycle.modules["unpaint"] = Grey(), Grey()
    cycle.update = lambda name, loss: None
    losses = cycle.step(noise(4, 32, 32)[:, :1].repeat(1, 3, 1, 1), 0)
    assert losses["cycle_grey"].item() + losses["cycle_colour"].item() < 1e-3
    batch = noise(6, 32, 32)
    grey, colour = paper.CycleGAN(TINY, HERE, 1e-3, "ab").split(batch)
    lightness, ab = color.to_network(batch)
    assert torch.equal(grey, lightness[:3]) and torch.equal(colour, ab[3:])


# ---------------------------------------------------------------------------- pictures and scores


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (33, 64), (150, 100)])
def test_colorize_keeps_size_and_lightness(height, width):
    torch.manual_seed(0)
    grey = 100 * torch.rand(2, 1, height, width)
    rgb = paper.colorize(paper.build_generator(TINY).eval(), grey)
    assert rgb.shape == (2, 3, height, width) and rgb.min() >= 0 and rgb.max() <= 1
    assert (color.rgb_to_lab(rgb)[:, :1] - grey).abs().max() < 0.01


def test_a_model_that_paints_rgb_is_read_as_ab():
    rgb = torch.rand(1, 3, 4, 4)
    expected = color.normalise(color.rgb_to_lab(rgb))[1]
    torch.testing.assert_close(paper.to_ab(rgb * 2 - 1), expected, atol=1e-5, rtol=1e-5)


def test_weights_come_back_as_the_same_model(tmp_path):
    torch.manual_seed(0)
    model, file = paper.build_generator(TINY).eval(), tmp_path / "unet_gan.safetensors"
    training.save_weights(file, model, {"image_size": 32, "build": paper.asdict(TINY)})
    again, grey = paper.load_model(file), 100 * torch.rand(1, 1, 32, 32)
    assert again.image_size == 32
    assert torch.equal(paper.colorize(model, grey), paper.colorize(again, grey))


def test_the_audit_counts_copies_mirrors_and_grey_pictures(flowers):
    few = flowers.subset(np.arange(6))
    grey = np.stack([color.grey_of(few.pictures[1])])
    pictures = np.concatenate([few.pictures, few.pictures[:1], few.pictures[2:3, :, ::-1], grey])
    again = {key: getattr(few, key) for key in ("names", "digests", "shapes")}
    more = {key: [*kept, kept[0], f"{key} m", f"{key} g"] for key, kept in again.items()}
    more["shapes"][-2:] = [(40, 30)] * 2
    roles = np.array([*few.roles, *few.roles[:1], *few.roles[2:3] * 2, *few.roles[1:2]])
    found = paper.audit(paper.replace(few, pictures=pictures, roles=roles, **more))
    numbers = [row["found"] for row in found]
    assert numbers[3:] == [1, "1, 1", 1, 1] and numbers[2].startswith("30 / ")


def painted(pictures, ab):
    return paper.repainted(pictures, lambda true: 0 * true + torch.tensor(ab).view(1, 2, 1, 1))


def test_spill_sees_blurred_colour_and_neither_rounding_nor_half_the_chroma(flowers):
    controls = paper.control_paintings(flowers.pictures, metrics.mean_ab(flowers.pictures))
    share = {name: paper.spill(rgb).mean() for name, rgb in controls.items()}
    assert share["truth, blurred colour"] > 1.3 * share["truth"]
    assert share["truth, half chroma"] == pytest.approx(share["truth"], abs=0.03)
    assert paper.spill(painted(flowers.pictures, [0.0, 0.0])).max() == 0


def test_blobs_tell_patches_from_fine_colour():
    fine = np.full((1, 32, 32, 3), 40, np.uint8)
    broad = fine.copy()
    fine[:, ::2, ::2, 0] = 200
    broad[:, :, :16, 0], broad[:, :, 16:, 2] = 200, 200
    assert paper.blobs(fine)[0] < 0.2 < 0.6 < paper.blobs(broad)[0]


def test_hues_are_named_as_people_name_them_and_the_mean_colour_shuns_the_rare(flowers):
    colours = {"red": (200, 60, 40), "yellow": (250, 220, 40), "blue": (40, 120, 230)}
    for name, rgb in (colours | {"green": (60, 140, 40)}).items():
        ab = 110 * color.to_network(color.as_batch(np.full((1, 1, 1, 3), rgb, np.uint8)))[1]
        assert paper.HUES[paper.hue_of(ab).item()] == name
    assert paper.hue_of(torch.zeros(1, 2, 1, 1)).item() == -1
    mean = np.array(metrics.mean_ab(flowers.pictures)) / 110
    constant = {"mean": painted(flowers.pictures, mean.astype(np.float32))}
    hues = paper.error_by_hue(constant, flowers.pictures, flowers.pictures)
    assert paper.rank_correlation([r["share"] for r in hues], [r["mean"] for r in hues]) < -0.5


def test_the_coin_sorts_paint_into_heads_tails_between_and_neither(flowers):
    both, coin = paper.tossed(flowers, 0)
    assert len(both) == 120 and torch.equal(
        both.tensor([0, 60]), color.as_batch(np.stack([coin.heads[0], coin.tails[0]]))
    )
    middle = np.round((coin.heads.astype(float) + coin.tails) / 2).astype(np.uint8)
    tests = {"near heads": coin.heads, "near tails": coin.tails, "between": middle}
    for where, rgb in tests.items():
        assert paper.where_it_lands(rgb, coin)[where] > 0.9, where
    controls = paper.coin_controls(coin, metrics.mean_ab(both.pictures))
    landed = {name: paper.where_it_lands(rgb, coin) for name, rgb in controls.items()}
    truth = landed["the truth"]
    assert truth["near heads"] > 0.2 < truth["near tails"] and truth["between"] < 0.05
    assert landed["no paint"]["neither"] > 0.95
    other = landed["another picture's colours"]
    assert other["near heads"] + other["near tails"] < 0.5


def test_costs_are_counted_to_the_worse_of_the_best_errors():
    def history(errors, key="l1"):
        points = [{"step": 5 * (i + 1), "seconds": i, "error": e} for i, e in enumerate(errors)]
        return training.History("x", list(range(10)), {key: [0.0] * 10}, points, 9.0)

    first, second = history([0.9, 0.8]), history([0.7, 0.5], "critic")
    each = {"l1": 2.0, "both": 3.0}
    assert paper.spent_until([first, second], 0.7, each, 4) == (10 * 8 + 5 * 12, 9.0)
    assert paper.spent_until([first], 0.7, each, 4) is None
    small, wide = (paper.operations(paper.replace(TINY, width=w), HERE) for w in (4, 8))
    assert small["both"] > small["l1"] and 2 < wide["l1"] / small["l1"] < 4


def test_ab_explains_lightness_where_a_colour_has_one_lightness():
    flat = np.full((4, 32, 32, 3), [200, 30, 30], np.uint8)
    flat[:, :, 16:] = (30, 30, 200)
    assert paper.lightness_explained_by_ab(flat) > 0.99
    greys = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 1), np.uint8).repeat(3, 3)
    assert paper.lightness_explained_by_ab(greys) < 0.1
