"""The scoring protocol against scikit-image and published reference values."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio

from colorlib import color, metrics

# Sharma, Wu, Dalal (2005), Table 1, the pairs at the edges of hue: Lab, Lab, CIEDE2000 | ...
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425 | 50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412 | 50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000 | 50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669 | 50 -1 2 50 0 0 2.3669 | 50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792 | 50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195 | 50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045 | 50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065 | 50 2.5 0 73 25 -18 27.1492 | 50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030 | 50 2.5 0 58 24 15 19.4535 | 50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000 | 50 2.5 0 50 1.8634 0.5757 1.0000 | 50 2.5 0 50 3.2592 0.3350 1.0000
"""


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Return two real pictures and noisy versions, not square: (2, 60, 72, 3) each."""
    astronaut, coffee = skimage.data.astronaut(), skimage.data.coffee()
    truth = np.stack((astronaut[20:80, 180:252], coffee[100:160, 200:272]))
    noise = np.random.default_rng(0).normal(0, 12, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def test_ssim_is_wangs(pair):
    """Written out at one place: the whole Gaussian window of 11 px, RGB, mean of the channels."""
    noisy, true = (p[:1, 10:21, 20:31] for p in pair)  # one window fits
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line)[..., None] / line.sum() ** 2
    x, y = noisy[0].astype(float), true[0].astype(float)
    mean_x, mean_y, xx, yy, xy = ((window * v).sum((0, 1)) for v in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * (xy - mean_x * mean_y) + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (xx - mean_x**2 + yy - mean_y**2 + c2)
    assert metrics.ssim(noisy, true)[0] == pytest.approx(expected.mean(), abs=1e-9)


def test_ciede2000_gives_the_reference_pairs():
    pairs = re.split(r"[|\n]", SHARMA.strip())
    lines = [list(map(float, pair.split())) for pair in pairs]
    assert len(lines) == 24
    table = torch.tensor(lines, dtype=torch.float64).T[None, :, :, None]
    ours = metrics.delta_e_2000(table[:, :3], table[:, 3:6])
    back = metrics.delta_e_2000(table[:, 3:6], table[:, :3])
    assert (ours - table[:, 6]).abs().max() < 1e-4
    assert torch.allclose(ours, back, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint8, (2, 1, 6, 6, 3)))
def test_ciede2000_agrees_with_skimage(pictures):
    one, other = (skimage.color.rgb2lab(p) for p in pictures)
    expected = skimage.color.deltaE_ciede2000(one, other).mean()
    assert metrics.ciede2000(*pictures)[0] == pytest.approx(expected, abs=2e-3)


def test_colourfulness_mean_chroma_and_mean_ab_by_hand():
    # half red, half green: rg = +-255, yb = 127.5 everywhere
    flag = np.zeros((1, 4, 4, 3), np.uint8)
    flag[:, :2, :, 0] = flag[:, 2:, :, 1] = 255
    assert metrics.colourfulness(flag)[0] == pytest.approx(255 + 0.3 * 127.5)
    red = np.zeros((3, 5, 5, 3), np.uint8)
    red[..., 0] = 255
    a, b = metrics.mean_ab(red)
    assert (a, b) == pytest.approx((80.09, 67.2), abs=0.02)
    assert metrics.mean_chroma(red) == pytest.approx([math.hypot(a, b)] * 3, abs=1e-3)
    grey = np.full((1, 3, 3, 3), 77, np.uint8)
    assert metrics.mean_chroma(grey)[0] < 0.01 and metrics.colourfulness(grey)[0] == 0


@settings(deadline=None, max_examples=40)
@given(arrays(np.uint8, (2, 2, 4, 5, 3)))
def test_true_lightness_is_kept_up_to_rounding(pictures):
    predicted, truth = pictures
    scored = metrics.with_true_lightness(predicted, truth)
    # half a level of each channel moves L* by at most about 0.5 near black, far less elsewhere
    error = np.abs(skimage.color.rgb2lab(scored) - skimage.color.rgb2lab(truth))[..., 0]
    assert error.max() < 0.6
    assert np.abs(metrics.with_true_lightness(truth, truth).astype(int) - truth).max() == 0


def test_bootstrap_covers_the_mean_at_the_nominal_rate_and_repeats():
    generator = np.random.default_rng(2)
    draws = generator.exponential(1, (60, 80))
    intervals = [metrics.bootstrap(d, seed=i) for i, d in enumerate(draws)]
    assert 50 <= sum(low <= 1 <= high for low, high in intervals) < 60
    assert metrics.bootstrap(draws[5], seed=5) == intervals[5]
    assert metrics.bootstrap(draws[5], seed=6) != intervals[5]
    low, high = metrics.bootstrap(generator.normal(3, 1, 400))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    with pytest.raises(ValueError, match="one number per picture"):
        metrics.bootstrap(np.array([]))


@pytest.fixture(scope="module")
def evaluation(pair) -> metrics.Evaluation:
    noisy, truth = pair
    grey = np.repeat(truth[:1, :, :, :1], 3, axis=3)
    truth = np.concatenate((truth, grey))
    predictions = {"noisy": np.concatenate((noisy, grey // 2)), "perfect": truth}
    return metrics.evaluate(predictions, truth, (5.0, 8.0), seed=3)


def test_evaluation_has_the_agreed_shape_and_leaves_true_grey_pictures_out(evaluation):
    keys = {
        "psnr",
        "psnr_pooled",
        "ssim",
        "cf_ratio",
        "delta_e",
        "gain_over_grey",
        "n",
        "ci95",
        "each",
    }
    assert list(evaluation.rows) == ["grey_floor", "mean_ab", "noisy", "perfect"]
    for row in evaluation.rows.values():
        assert set(row) == keys and row["n"] == 2
        assert set(row["ci95"]) == set(metrics.SCORES)
        assert all(low <= row[name] <= high for name, (low, high) in row["ci95"].items())
    assert json.loads(json.dumps(evaluation.rows, allow_nan=False)) == evaluation.rows
    assert evaluation.excluded_grey == 1
    for scores in evaluation.per_picture.values():
        for values in scores.values():
            assert np.isnan(values).tolist() == [False, False, True]


def test_evaluation_agrees_with_the_single_scores_and_skimage(evaluation, pair):
    noisy, truth = pair
    row, each = evaluation.rows["noisy"], evaluation.per_picture["noisy"]
    by_skimage = [peak_signal_noise_ratio(t, n, data_range=255) for n, t in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.psnr(noisy, truth), by_skimage, rtol=1e-6)
    single = {"psnr": metrics.psnr, "ssim": metrics.ssim, "delta_e": metrics.ciede2000}
    assert row["each"]["delta_e"] == pytest.approx(each["delta_e"][:2], abs=1e-3)
    for name, function in single.items():
        np.testing.assert_allclose(each[name][:2], function(noisy, truth), rtol=1e-5)
        assert row[name] == pytest.approx(function(noisy, truth).mean(), rel=1e-5)
    mse = np.square(noisy.astype(float) - truth).mean()
    assert row["psnr_pooled"] == pytest.approx(10 * np.log10(255**2 / mse))
    ratio = metrics.colourfulness(noisy).mean() / metrics.colourfulness(truth).mean()
    assert row["cf_ratio"] == pytest.approx(ratio)


def test_floors_are_what_they_say(evaluation, pair):
    floor = evaluation.rows["grey_floor"]
    assert floor["gain_over_grey"] == 0
    assert floor["ci95"]["gain_over_grey"] == [0, 0]
    assert floor["cf_ratio"] < 0.01
    lightness = skimage.color.rgb2lab(pair[1])[..., :1]
    grey = skimage.color.lab2rgb(np.concatenate((lightness, 0 * lightness, 0 * lightness), -1))
    grey = (grey * 255).round().astype(np.uint8)
    assert floor["psnr"] == pytest.approx(metrics.psnr(grey, pair[1]).mean(), abs=0.01)
    tinted = color.with_lightness(
        np.full((*pair[1].shape[1:3], 2), (5.0, 8.0)), color.lightness_of(pair[1][0])
    )
    expected = metrics.psnr(tinted[None], pair[1][:1])[0]
    assert evaluation.per_picture["mean_ab"]["psnr"][0] == pytest.approx(expected)
    perfect = evaluation.rows["perfect"]
    assert perfect["psnr"] == perfect["psnr_pooled"] == metrics.HIGHEST_PSNR
    assert perfect["gain_over_grey"] == pytest.approx(metrics.HIGHEST_PSNR - floor["psnr"])
    assert perfect["cf_ratio"] == pytest.approx(1) == perfect["ssim"] and perfect["delta_e"] == 0


def test_chunks_do_not_change_scores(pair, monkeypatch):
    noisy, truth = (np.concatenate([p] * 3) for p in pair)
    whole = metrics.evaluate({"row": noisy}, truth, (0, 0)).rows
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", 1)
    single = metrics.evaluate({"row": noisy}, truth, (0, 0)).rows
    for name in whole:
        for score in metrics.SCORES:
            assert single[name][score] == pytest.approx(whole[name][score], abs=1e-5)


def test_bad_input_is_one_clear_line(pair):
    noisy, truth = pair
    grey = np.full_like(truth, 120)
    for arguments, words in (
        (({"a": noisy}, grey, (0, 0)), "all 2 test pictures are grey"),
        (({"a": noisy[:1]}, truth, (0, 0)), "row 'a' has shape"),
        (({"a": noisy / 255}, truth, (0, 0)), "row 'a': must be uint8"),
        (({"grey_floor": noisy}, truth, (0, 0)), "belongs to a floor"),
        (({}, truth[:0], (0, 0)), "the truth: must be uint8"),
        (({}, truth[:, :8], (0, 0)), "SSIM needs 11 px"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            metrics.evaluate(*arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="must be uint8"):
        metrics.psnr([1, 2], truth)


def test_rows_for_a_table_carry_the_interval_in_brackets():
    scores = {"psnr": 20.0, "ssim": 0.9, "cf_ratio": 0.5, "delta_e": 12.0, "gain_over_grey": 1.5}
    results = {"unet": scores | {"ci95": {"gain_over_grey": [1.25, 1.75]}, "n": 7}}
    (row,) = metrics.table_rows(results, {"unet": "U-Net"}, "pairs")
    assert row["row"] == "U-Net" and row["pairs"] == 7
    assert row["gain over grey, dB"] == "+1.50 [+1.25, +1.75]"
    (plain,) = metrics.table_rows(results, {})
    assert plain["row"] == "unet" and "pairs" not in plain
