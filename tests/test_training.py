"""Training: an interrupted run equals an undisturbed one, bit by bit; bad files end in one line."""

from __future__ import annotations

import json
import math
import random
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from fastai.vision.models.unet import DynamicUnet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet18
from toy import Stub, Toy, checkpoints, network, series

from colorlib import color, machine, training
from colorlib.training import Batches, History, NonFiniteLoss


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 9))
def test_an_epoch_shows_each_picture_at_most_once(count, size, seed):
    batches = Batches(Stub(count), size, seed)
    seen = [i for step in range(batches.steps_per_epoch) for i in batches.indices(step)]
    assert len(seen) == len(set(seen)) and set(seen) <= set(range(count))
    assert len(seen) > count - min(size, count)
    assert len(batches.indices(10**6)) == min(size, count)


@pytest.mark.parametrize("options", [{}, {"crop": 0.5}])
def test_batches_depend_on_seed_and_step_only(options):
    first, again, other = (Batches(Stub(side=16), 4, seed, **options) for seed in (0, 0, 1))
    again.batch(0, "cpu")
    assert torch.equal(first.batch(5, "cpu"), again.batch(5, "cpu"))
    assert not torch.equal(first.batch(5, "cpu"), other.batch(5, "cpu"))
    assert first.indices(0) != first.indices(first.steps_per_epoch)
    with pytest.raises(ValueError, match="0 pictures"):
        Batches(Stub(0), 4, 0, **options)


def test_half_of_the_pictures_are_mirrored():
    batches, kept = Batches(Stub(50), 50, 0), []
    for step in (0, 1):
        plain = batches.pictures.tensor(batches.indices(step))
        pairs = list(zip(plain, batches.batch(step, "cpu"), strict=True))
        kept.append([torch.equal(before, after) for before, after in pairs])
        mirrored = [torch.equal(before, after.flip(-1)) for before, after in pairs]
        assert sum(mirrored) + sum(kept[-1]) == 50 and 10 < sum(mirrored) < 40
    assert kept[0] != kept[1], "each step tosses its own coins"


def test_two_stages_become_one_history():
    first = training.History("l1", [1, 2], {"l1": [3.0, 2.0]}, [{"step": 2, "error": 0.5}], 5.0)
    second = training.History(
        "both", [1], {"l1": [1.0], "critic": [0.7]}, [{"step": 1, "error": 0.4}], 2.0
    )
    whole = first.then(second)
    assert (
        whole.seconds == 7.0
        and whole.steps == [1, 2, 3]
        and whole.losses == {"l1": [3.0, 2.0, 1.0]}
    )
    assert whole.validation == [{"step": 2, "error": 0.5}, {"step": 3, "error": 0.4}]
    assert first.validation[0]["step"] == 2 and second.validation[0]["step"] == 1


def test_pictures_grow_on_schedule_and_crops_keep_their_share():
    growing = Batches(Stub(6, side=16), 4, seed=0, side={0: 8, 3: 12, 5: 0})
    sides = [growing.batch(step, "cpu").shape[-1] for step in (0, 2, 3, 4, 5, 9)]
    assert sides == [8, 8, 12, 12, 16, 16]
    flat = Stub(4, side=16)
    flat.rgb[:] = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1) * 60
    shrunk = Batches(flat, 4, seed=0, side=8)
    assert shrunk.batch(0, "cpu")[:, 0, 0, 0].tolist() == [60 * i for i in shrunk.indices(0)]
    ramp = Stub(1, 16)
    ramp.rgb[:] = torch.arange(16, dtype=torch.uint8).repeat(16, 1)
    crops = [Batches(ramp, 1, 0, crop=0.5).batch(step, "cpu") for step in range(20)]
    spans = [crop.amax() - crop.amin() for crop in crops]
    assert {crop.shape for crop in crops} == {(1, 3, 16, 16)}
    assert 6 <= min(spans) < max(spans) <= 15, "a crop shows at least half of the columns"


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_resumed_run_is_bit_identical_its_rates_too(tmp_path, optimizer):
    options = {"schedule": lambda index: 1 / (1 + index)}
    whole, broken, resumed = Toy(optimizer), Toy(optimizer), Toy(optimizer)
    expected = whole.run(**options)
    broken.fail_at = 7
    with pytest.raises(RuntimeError, match="power cut"):
        broken.run(tmp_path, checkpoint_seconds=0, **options)
    history = resumed.run(tmp_path, **options)
    assert history.resumed_at == 7 and history.steps == list(range(1, 13))
    assert series(history) == series(expected) and resumed.after == whole.after
    assert whole.rates == broken.rates + resumed.rates
    assert whole.rates == pytest.approx([1e-2 / n for n in range(1, 13)])


def test_a_finished_run_returns_at_once_and_a_longer_one_goes_on(tmp_path):
    first, again, longer, whole = Toy(), Toy(), Toy(), Toy()
    expected = first.run(tmp_path)
    again.fail_at = 0
    history = again.run(tmp_path)
    assert history.resumed_at == 12 and history.seconds == expected.seconds
    assert series(history) == series(expected) and again.after == first.after
    extended = longer.run(tmp_path, steps=15)
    assert extended.resumed_at == 12 and series(extended) == series(whole.run(steps=15))
    assert longer.after == whole.after


def test_validation_does_not_disturb_training(tmp_path):
    plain, watched = Toy(), Toy()

    def validate(done):
        torch.rand(done), np.random.rand(3), random.random()
        assert not watched.net[1].training and not torch.is_grad_enabled()
        watched.net.eval(), watched.average.module.train()  # what a careless painter leaves
        time.sleep(0.05)
        return {"psnr": torch.tensor(20.0 + done), "n": np.int64(3)}

    expected = plain.run()
    began = time.perf_counter()
    history = watched.run(tmp_path, validate=validate, validate_every=5)
    passed = time.perf_counter() - began
    assert [entry["step"] for entry in history.validation] == [5, 10, 12]
    assert history.validation[0] == {**history.validation[0], "psnr": 25.0, "n": 3}
    assert history.seconds < passed - 0.15, "the callback's time must not count"
    assert series(history) == series(expected) and watched.after == plain.after
    assert all(part.training for part in watched.net.modules())


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": {"data": "b"}}, {"define": "other code"}, {"optimizer": "AdamW"}, "shape"],
)
def test_a_changed_run_leaves_the_checkpoint_of_the_other_one(tmp_path, capfd, change):
    whole = Toy()
    whole.run(tmp_path, fingerprint={"data": "a"})
    (before,) = checkpoints(tmp_path)
    content, change = before.read_bytes(), dict(change) if change != "shape" else {"shape": 1}
    other = Toy(change.pop("optimizer", "Adam"))
    if change.pop("shape", 0):
        other.net[3].bias = nn.Parameter(torch.zeros(1))  # as many parameters, another shape
        other.step = lambda batch, index: {"l1": 1.0}
    assert other.run(tmp_path, **{"fingerprint": {"data": "a"}, **change}).resumed_at is None
    assert "toy: other settings, data or code than before: training anew" in capfd.readouterr().err
    assert before.read_bytes() == content and len(checkpoints(tmp_path)) == 2
    corrected = Toy()
    assert corrected.run(tmp_path, fingerprint={"data": "a"}).resumed_at == 12
    assert corrected.after == whole.after


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_single_number_is_resumed_on_a_gpu(tmp_path):
    here, places = machine.prepare("cuda", "fp32", "small"), []
    for steps in (3, 6):
        number = nn.ParameterList([torch.tensor(1.0, device="cuda")])
        adam = torch.optim.Adam(number.parameters(), lr=0.1)

        def step(batch, index, number=number, adam=adam):
            number[0].grad = torch.ones_like(number[0])
            adam.step()
            return {"value": number[0]}

        parts = {"modules": {"number": number}, "optimizers": {"one": adam}, "machine": here}
        training.run("one", step, batches=None, steps=steps, folder=tmp_path, **parts)
        places.append({key: str(value.device) for key, value in adam.state[number[0]].items()})
    assert places[0] == places[1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, value):
    toy = Toy()
    toy.poison = {8: value}
    with pytest.raises(NonFiniteLoss, match=r"toy: the loss 'l1' is (nan|inf) at step 9"):
        toy.run(tmp_path, checkpoint_seconds=0)
    spoilt = Toy()
    spoilt.spoil_at = 9
    with pytest.raises(NonFiniteLoss, match="weights of 'net' not finite at step 10"):
        spoilt.run(tmp_path, checkpoint_seconds=0)
    assert Toy().run(tmp_path).resumed_at == 9


def test_a_loss_that_is_no_number_is_refused_and_a_step_may_report_none():
    toy = Toy()
    toy.step = lambda batch, index: {"map": torch.zeros(2, 2)}
    with pytest.raises(RuntimeError, match="size 4"):
        toy.run()
    toy.step = lambda batch, index: {} if batch is None else {"wrong": 1.0}
    history = toy.run(batches=None)
    assert history.steps[-1] == 12 and history.losses == {}


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """The U-Net that fastai builds, as it comes."""
    body = nn.Sequential(*list(resnet18(weights=None).children())[:-2])
    return DynamicUnet(body, 2, (32, 32))


def test_a_network_of_sleeping_norms_is_refused_until_it_is_awake(unet):
    norms = [part for part in unet.modules() if isinstance(part, nn.BatchNorm2d)]
    assert (len(training.norms_that_sleep(unet)), len(norms)) == (24, 25)
    parts = {"batches": None, "steps": 1, "optimizers": {}, "machine": Toy().machine}

    def train(**options):
        return training.run("unet", lambda *_: {}, modules={"net": unet}, **parts, **options)

    with pytest.raises(ValueError, match=r"unet: 24 batch norms sleep in eval mode \(net\.layers"):
        train()
    assert training.norms_that_sleep(unet.train()) == []
    train(validate=lambda done: {"asleep": len(training.norms_that_sleep(unet))})
    assert training.norms_that_sleep(unet) == [], "a validation leaves all awake"
    unet.eval().requires_grad_(False)
    assert training.norms_that_sleep(unet) == [], "a frozen network may sleep"


def test_an_average_of_a_unet_stands_on_its_own(unet):
    mean, grey = training.EMA(unet), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = mean.module(grey)
        for parameter in unet.parameters():
            parameter.add_(0.1)
        assert torch.equal(mean.module(grey), before)
        assert not torch.equal(unet.eval()(grey), before)


def test_an_average_follows_weights_and_statistics_quickly_at_first():
    net = nn.BatchNorm2d(1)
    mean = training.EMA(net, decay=0.5)
    expected = 1.0
    for step in range(20):
        value = float(step)
        with torch.no_grad():
            net.weight.fill_(value), net.running_mean.fill_(value + 1)
        net.num_batches_tracked += 1
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
        mean.update(net)
    assert mean.module.weight.item() == pytest.approx(expected)
    assert mean.module.running_mean.item() == pytest.approx(expected + 1, abs=1e-4)
    assert mean.module.num_batches_tracked == 20
    assert not mean.module.training and not mean.module.weight.requires_grad


def test_the_constant_line_is_fitted_in_training_and_measured_in_validation():
    pictures, other = Stub(9), Stub(5)
    other.rgb = other.rgb // 2
    seen, met = (
        color.to_network(each.rgb)[1].transpose(0, 1).flatten(1) for each in (pictures, other)
    )
    apart = (met - seen.median(1, keepdim=True)[0]).abs().mean().item()
    by_hand = {"grey": met.abs().mean().item(), "constant": apart}
    assert training.constant_lines(pictures, on=other) == pytest.approx(by_hand)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50), st.integers(1, 50))
def test_a_smoothed_series_is_the_mean_around_each_step(values, over):
    smooth = History("a", losses={"l": values}).smooth("l", over)
    half = over // 2
    around = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    assert smooth == pytest.approx([sum(part) / len(part) for part in around], abs=1e-9)


def test_history_is_plain_data_of_the_wanted_length():
    history = History("a", list(range(1, 101)), {"l": [math.nan, *range(99)]})
    assert math.isnan(history.smooth("l", 1)[0]) and history.smooth("l", 3)[0] == 0
    thin = json.loads(json.dumps(history.to_dict(points=10)))
    assert thin["steps"] == list(range(10, 101, 10)) and thin["losses"]["l"] == [*range(8, 99, 10)]
    assert history.to_dict()["losses"]["l"][1:] == list(range(99))


def test_a_training_ends_in_one_line(capfd):
    Toy().run()
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("toy: 12 steps in ")
    assert shown.err.rstrip().endswith(" a step)")


def test_in_a_notebook_one_line_is_updated(monkeypatch, capfd):
    display = MagicMock()
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr("IPython.display.display", display)
    began = time.perf_counter()
    Toy(pause=0.05).run(steps=20)
    passed = time.perf_counter() - began
    display.assert_called_once()
    calls = [display.call_args, *display.return_value.update.call_args_list]
    lines = [call.args[0]["text/plain"] for call in calls]
    assert lines[0].startswith("toy: step 1 of 20, ") and lines[-1].startswith("toy: 20 steps in ")
    assert 3 <= len(lines) <= 4 + passed / 0.4, "a few updates a second, not one a step"
    shown = capfd.readouterr()
    assert shown.out == shown.err == ""


@pytest.mark.parametrize("half", [False, True])
def test_weights_come_back_in_single_precision_with_their_info(tmp_path, half):
    path, saved, loaded = tmp_path / "weights" / "unet.safetensors", network(), network()
    saved[1].running_var.fill_(1e6)  # does not fit float16
    info = {"row": "unet", "build": {"width": 64}, "origin": "laptop"}
    training.save_weights(path, saved, info, half=half)
    training.load_weights(path, loaded)
    assert training.read_info(path) == info and loaded[0].weight.dtype == torch.float32
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, saved.state_dict()[key], atol=1e-3 * half, rtol=0)


def test_foreign_weights_are_read_and_old_ones_without_counts_of_batches_load(tmp_path):
    saved, loaded = network(), network()
    saved[1].running_mean.fill_(5.0)
    loaded[1].num_batches_tracked.fill_(9)
    state = {k: v for k, v in saved.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    training.load_weights(tmp_path / "old.pth", loaded)
    assert torch.equal(loaded[0].weight, saved[0].weight)
    assert loaded[1].running_mean[0] == 5 and loaded[1].num_batches_tracked == 9
    torch.save({"backbone": {"a": torch.ones(2).half()}}, tmp_path / "nested.pth")
    assert training.read_file(tmp_path / "nested.pth")[0]["backbone"]["a"].sum() == 2
