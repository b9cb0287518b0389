"""The definitions of notebook 03, as the notebook itself uses them."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from learning import overfits
from torch import nn
from torchvision.models import resnet18

from colorlib import adversarial, color, datasets, machine, notebooks, training

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


@pytest.fixture
def no_imagenet(monkeypatch):
    """Neither a cache nor a network."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(paper.ResNet18_Weights, "get_state_dict", refuse)
    paper.imagenet_weights.cache_clear()
    yield
    paper.imagenet_weights.cache_clear()


def test_without_imagenets_weights_auto_is_random_and_imagenet_a_line(no_imagenet):
    assert paper.find_weights("auto") == "none" and paper.find_weights("a.pth") == "a.pth"
    with pytest.raises(training.WeightsError, match=r"no network.*give a file"):
        paper.load_resnet18("imagenet")


def test_resnet_unet_paints_ab_within_tanh(no_imagenet):
    net = paper.resnet_unet("auto", image_size=64)
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
    torch.manual_seed(1)
    donor = resnet18(weights=None)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in donor.state_dict().items()}
    torch.save(halves, tmp_path / "r.pth")
    recipe = paper.replace(TINY, generator="resnet", encoder_weights=str(tmp_path / "r.pth"))
    net = paper.build_generator(recipe)
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


def test_a_row_starts_with_l1_what_paints_is_the_moving_average_and_it_comes_back(
    flowers, tmp_path
):
    P = paper.notebooks.parameters("03_cgan_flowers")
    P = SimpleNamespace(**{key: known.default for key, known in P.items()})
    recipe, budget = TINY, paper.Budget(4, 2, 4)
    watch = paper.watcher(
        "row", flowers.validation, flowers.pictures[0], HERE, tmp_path / "weights"
    )
    given = ("row", recipe, budget, P, HERE, tmp_path, flowers.train, watch)
    painter, critic, stages = paper.train_or_load(*given)
    assert [set(h.losses) for h in stages] == [{"l1"}, {"critic", "l1", "generator"}]
    frames = [file.stem for file in sorted((tmp_path / "weights" / "frames").iterdir())]
    assert frames[0] == "row-0-000001" and frames[-1] == "row-1-000002" and len(frames) == 6
    last, *_ = paper.train("row", recipe, paper.replace(budget, average=0.0), flowers.train, HERE)
    assert not painter.training
    pairs = zip(painter.parameters(), last.parameters(), strict=True)
    assert any(not torch.equal(mean, step) for mean, step in pairs)

    P.weights = str(tmp_path / "weights")
    again = paper.train_or_load("row", recipe, budget, P, HERE, tmp_path / "b", flowers.train, None)
    for one, other in zip((painter, critic), again[:2], strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert [h.losses for h in again[2]] == [h.losses for h in stages]


def test_the_rows_of_the_authors_follow_their_code():
    P = paper.notebooks.parameters("03_cgan_flowers")
    P = SimpleNamespace(**{key: known.default for key, known in P.items()} | {"batch_size": 10})
    rows = paper.plan_rows(P, 86)
    _, unet = rows["unet_gan_authors"]
    recipe, resnet = rows["resnet_gan_authors"]
    assert (unet.l1_steps, unet.steps) == (0, 2250) and (resnet.l1_steps, resnet.steps) == (
        900,
        4500,
    )
    assert recipe.objective == "both" and recipe.lambda_l1 == 100 and resnet.average == 0
    assert (resnet.rate, resnet.gan_rate, resnet.schedule) == (1e-4, 2e-4, "constant")
    ours = rows["resnet_gan"][1]
    assert (ours.l1_steps, ours.steps) == tuple(86 * epochs for epochs in P.resnet_epochs)


@pytest.mark.parametrize(("norms", "learning"), [("all", 25), ("last", 1)])
def test_norms_learn_where_they_should(norms, learning):
    net = paper.build_generator(paper.replace(TINY, generator="resnet", norms=norms))
    assert sum(norm.training for norm in layers(net, nn.BatchNorm2d)) == learning
    assert training.norms_that_sleep(net) == []


def test_verdicts_are_probabilities_at_every_pixel(flowers):
    found = paper.verdicts(paper.PatchDiscriminator(width=4), flowers.pictures[:2], HERE)
    assert found.shape == (2, 32, 32) and 0 < found.min() <= found.max() < 1


def test_l1_hardly_minds_what_lies_between_two_truths_and_the_critic_does():
    l1, minded = paper.expected_losses(np.array([-1.0, 0.0, 1.0]))
    assert l1[0] > l1[1] > l1[2] and np.ptp(l1) < 0.25
    assert minded[1] > 5 + max(minded[0], minded[2])


def test_another_exposure_keeps_the_range_and_the_truth_of_each_picture():
    grey = torch.linspace(-1, 1, 32 * 32).view(1, 1, 32, 32).repeat(8, 1, 1, 1)
    torch.manual_seed(0)
    other = paper.exposed(grey, 1.0)
    assert other.min() >= -1 and other.max() <= 1 and torch.equal(paper.exposed(grey, 0.0), grey)
    assert (other.mean((1, 2, 3)).std() > 0.05) and (other.diff(dim=-1) >= 0).all()


def test_one_cycle_rises_and_falls():
    factors = [paper.one_cycle(i, 100) for i in range(100)]
    top = factors.index(1.0)
    assert top == 25 and factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert all(0 < paper.one_cycle(i, n) <= 1 for n in (1, 2, 3) for i in range(n))


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
